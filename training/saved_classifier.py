"""A SavedModel as a classifier: those of `export_image_classifier.py`, which know all about themselves, and others."""
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nets import checkpoints
from preprocessing import preprocessing_factory
from training.classifier_config import ClassifierConfig
from training.config import ConfigError

_DESCRIPTION = os.path.join('assets', 'classifier.json')
_OUTPUTS = ('probabilities', 'predictions', 'scores', 'logits')     # that are looked for first, by these names
_CHANNELS = 3


class SavedClassifier:
    """A SavedModel with the preprocessing of its images and the names of its classes; see `classifier.Classifier`.

    One that this project did not export is asked by its signature `serving_default`: it must take a batch of square
    float images, [batch, size, size, 1 or 3], and give a row for each. Rows that are no probabilities are logits.
    """

    model: Any = None

    def __init__(self, config: ClassifierConfig, class_names: Callable[[int], tuple[list[str], str]]):
        """Loads the SavedModel `config.checkpoint_path`.

        Args:
          config: for others: the preprocessing, `inception` if not set.
          class_names: from the number of classes to their names, and where these are from, where the SavedModel has
            none.

        Raises:
          ConfigError: what it takes or gives is none of the above, or the names are not as many as its classes.
          nets.checkpoints.CheckpointError: it cannot be loaded.
        """
        self.path = str(config.checkpoint_path)
        try:
            self._loaded = tf.saved_model.load(self.path)
        except Exception as error:      # of many kinds
            raise checkpoints.CheckpointError(f'{self.path} is no SavedModel that can be loaded: '
                                              f'{" ".join(str(error).split())[:300]}') from None
        description = _read(os.path.join(self.path, _DESCRIPTION))
        if description:
            self.size, self.class_mode = int(description['image_size']), str(description['class_mode'])
            self.preprocessing = str(description['preprocessing'])
            self.class_names, self.names_from = list(description['class_names']), self.path
            self.preprocess, self._answer = self._loaded.preprocess, self._loaded.probabilities
            if config.labels_file:
                self.class_names, self.names_from = class_names(len(self.class_names))
        else:
            self._foreign(config)
            self.class_names, self.names_from = class_names(self._count)

    def _foreign(self, config):
        signature = self._loaded.signatures.get('serving_default')
        if signature is None:
            raise ConfigError(f'{self.path} has no signature serving_default; it has '
                              f'{", ".join(self._loaded.signatures) or "none"}.')
        inputs = signature.structured_input_signature[1]
        name, spec = next(iter(inputs.items()))
        shape = spec.shape.as_list() if spec.shape.rank is not None else []
        if len(inputs) > 1 or not spec.dtype.is_floating or len(shape) != 4 or shape[1] != shape[2] \
                or shape[1] is None or shape[3] not in (1, 3):
            taken = ', '.join(f'{key} {value.dtype.name} {value.shape}' for key, value in inputs.items())
            raise ConfigError(f'{self.path} takes {taken}, but should take a batch of square '
                              'images, [batch, size, size, 1 or 3], of a float type.')
        outputs = {key: value for key, value in signature.structured_outputs.items()
                   if value.shape.rank == 2 and value.dtype.is_floating and (value.shape[1] or 0) > 1}
        output = next((key for key in _OUTPUTS if key in outputs), next(iter(outputs), None))
        if output is None:
            raise ConfigError(f'{self.path} gives no row of probabilities or logits for each image.')
        self.size, self.class_mode, self._count = shape[1], config.class_mode, int(outputs[output].shape[1])
        self.preprocessing = config.preprocessing_name or 'inception'
        try:
            views = preprocessing_factory.get_views(self.preprocessing, shape[3] < _CHANNELS,
                                                    config.eval_crop_fraction)
        except ValueError as error:
            raise ConfigError(f'--preprocessing_name, --eval_crop_fraction: {error}') from None
        self.preprocess = lambda image: views(image, self.size, self.size)[0]

        # Where its name does not tell what the output is, the first batch does.
        as_they_are = {'probabilities': True, 'logits': False}.get(output)
        to_probabilities = tf.sigmoid if config.class_mode == 'multilabel' else tf.nn.softmax

        def answer(images):
            nonlocal as_they_are
            rows = tf.cast(signature(**{name: tf.cast(images, spec.dtype)})[output], tf.float32)
            if as_they_are is None:
                as_they_are = _are_probabilities(rows.numpy(), config.class_mode)
            return rows if as_they_are else to_probabilities(rows)

        self._answer = answer

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `classifier.Classifier.predict`."""
        return self._answer(tf.constant(images)).numpy()


def _are_probabilities(rows, class_mode):
    sums = class_mode == 'multilabel' or np.all(np.abs(rows.sum(-1) - 1) < 1e-2)
    return bool(np.all(rows >= 0) and np.all(rows <= 1.001) and sums)


def _read(path) -> dict[str, Any] | None:
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, 'rb') as file:
            found = json.loads(file.read())
        for name in ('image_size', 'class_mode', 'preprocessing', 'class_names'):
            found[name]
    except (ValueError, KeyError, TypeError, tf.errors.OpError):
        raise checkpoints.CheckpointError(f'{path} is damaged: export the SavedModel once more.') from None
    return found
