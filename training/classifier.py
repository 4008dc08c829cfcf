"""A trained network as its users see it: images go in, and classes with names and probabilities come out."""
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from datasets import dataset_factory, dataset_utils
from datasets.registry import DATASETS
from nets import checkpoints, inference, registry
from nets.weights import published
from preprocessing import preprocessing_factory
from training import losses, restoring
from training.classifier_config import ClassifierConfig, folder_of
from training.config import ConfigError, TrainConfig
from training.saved_classifier import SavedClassifier

CHANNELS = 3    # that image files are decoded to; a network for grey images turns them to one


class Classifier:
    """A network with its weights, the preprocessing of its images, and the names of its classes.

    Attributes:
      path: where the weights were read from.
      model: the `nets.model.Model`.
      class_names: of the classes, in the order of the probabilities.
      names_from: where they are from, in words.
      class_mode: `categorical`, `binary` or `multilabel`, see `training.config`.
      size: height and width of the network's input.
      preprocessing: its name.
    """

    def __init__(self, config: ClassifierConfig):
        """Reads the weights that a config names, and makes the network that they fit.

        Raises:
          ConfigError: the preprocessing or the network cannot be so, or the names are not as many as the classes.
          nets.checkpoints.CheckpointError: the weights cannot be had, or are of another network.
          datasets.DatasetError: the names cannot be read.
        """
        row, trained = registry.get(config.model_name), config.trained_in
        # Weights of other origin are best at the size at which the published ones were evaluated.
        self.size = config.image_size or (None if trained else row.eval_image_size) or row.default_image_size
        self.preprocessing = config.preprocessing_name or row.preprocessing
        self.class_mode, self._fraction = config.class_mode, config.eval_crop_fraction
        self._precision = getattr(config, 'precision', 'float32')
        self._run: Callable[[np.ndarray], tf.Tensor] | None = None
        try:
            preprocessing_factory.get_views(self.preprocessing, crop_fraction=self._fraction)
        except ValueError as error:
            raise ConfigError(f'--preprocessing_name, --eval_crop_fraction: {error}') from None
        self.model, self.path = _restored(config, row, self.size)
        count = 2 if self.class_mode == 'binary' else int(self.model.num_classes or 0)
        self.class_names, self.names_from = _class_names(config, trained, count)
        self._views = preprocessing_factory.get_views(self.preprocessing, self.model.channels < CHANNELS,
                                                      self._fraction)

    def preprocess(self, image: tf.Tensor) -> tf.Tensor:
        """The network's input, float32 [size, size, channels], of an image uint8 [height, width, 3]."""
        return self._views(image, self.size, self.size)[0]

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Float32 [batch, classes] of logits: they add up to one, except where an image has any number of classes."""
        return losses.probabilities(logits, self.class_mode)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The probabilities, float32 [batch, classes], of prepared images, float32 [batch, size, size, channels]."""
        if self._run is None:   # its graph, with constant weights, is made when it is first needed
            folded = inference.Folded(self.model, tf.as_dtype(self._precision))
            self._run = tf.function(lambda images: self.probabilities(folded(images)), input_signature=[
                tf.TensorSpec([None, self.size, self.size, self.model.channels])], autograph=False)
        return self._run(images).numpy()


def open_classifier(config: ClassifierConfig) -> Classifier | SavedClassifier:
    """The classifier that a config names: a SavedModel, or a network made for weights; see those for the errors."""
    if config.is_saved_model:
        return SavedClassifier(config, lambda count: _class_names(config, None, count))
    return Classifier(config)


def _restored(config, row, size):
    source = published.of(row) if config.pretrained else str(config.checkpoint_path)
    reader = restoring.read_weights(source, row, config.moving_average_decay is not None)
    own = bool(config.final_endpoint or config.pool or config.hidden_units)
    head = dict(final_endpoint=config.final_endpoint, pool=config.pool, hidden_units=config.hidden_layers()) if own \
        else {}
    if 'Head/Logits/weights' in reader.shapes and not own:
        raise checkpoints.CheckpointError(f'{reader.path} has a classifier of its own: say how it was made, by '
                                          '--final_endpoint, --pool and --hidden_units as in the training.')
    channels = 1 if config.use_grayscale else row.channels
    model = restoring.build(config, row.num_classes, size, channels, **head)
    fitting = restoring.fitting(model.by_name, reader.shapes, row.num_classes, channels)
    if fitting != (row.num_classes, channels):
        model = restoring.build(config, fitting[0], size, fitting[1], **head)
    # The accuracies of published weights are those of their averages, where they have some.
    averages = config.moving_average_decay is not None or config.pretrained and any(
        name.endswith(checkpoints.AVERAGE) for name in reader.shapes)
    restoring.restore(reader, model, averages, f'It must be a checkpoint of {config.model_name}, at {size}x{size}.')
    return model, reader.path


def _class_names(config, trained, count):
    """The names of so many classes, and where they are from."""
    if config.labels_file:
        folder, name = os.path.split(config.labels_file)
        names = dataset_utils.read_label_file(folder, name)
        if max(names) < count - 1:
            background = "; TF-Slim's have a class 0, background, before all others" if max(names) == count - 2 else ''
            raise ConfigError(f'--labels_file={config.labels_file} names the classes 0 to {max(names)}, but the '
                              f'network has {count}{background}.')
        return _checked(names, count, config.labels_file), config.labels_file
    folder = '' if config.pretrained else folder_of(str(config.checkpoint_path))
    if folder and dataset_utils.has_labels(folder):
        path = os.path.join(folder, dataset_utils.LABELS_FILENAME)
        return _checked(dataset_utils.read_label_file(folder), count, path), path
    names = _of_dataset(trained) if trained else DATASETS['imagenet'].class_names
    if names and len(names) - count in (0, 1):      # 1000 classes of ImageNet are those without background
        return list(names[len(names) - count:]), trained.dataset_name if trained else 'ImageNet'
    return [f'class {label}' for label in range(count)], ''


def _of_dataset(trained: TrainConfig):
    names = dataset_factory.find_row(trained.dataset_name).class_names
    return names[trained.labels_offset:] if names else None


def _checked(names, count, path):
    if len(names) == count + 1 and names.get(0, '').lower() == 'background':
        names = {label - 1: name for label, name in names.items() if label}
    if max(names) >= count:
        raise ConfigError(f'{path} names the classes 0 to {max(names)}, but the network has {count}: give the file '
                          'that fits it, by --labels_file.')
    return [names.get(label, f'class {label}') for label in range(count)]
