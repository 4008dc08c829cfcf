"""Where on an image a network sees a class: Grad-CAM and occlusion, as pictures."""
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nets import names
from training.classifier import Classifier
from training.config import ConfigError
from training.console import RunError
from training.extract_shards import whole_file, writing
from training.predict_config import PredictConfig
from training.saved_classifier import SavedClassifier

_PATCHES = 6        # along a side, of what covers the image
_STEPS = 3          # a patch moves by this part of its size
_DOTS = 100         # an inch
_LONGEST = 150      # bytes of the image's name in that of a picture


class Explainer:
    """Draws, for each image, the parts of it that speak for a class."""

    def __init__(self, config: PredictConfig, network: Classifier | SavedClassifier):
        """Finds out what is explained, and how.

        Raises:
          ConfigError: there is no such class or endpoint, or no endpoint with a map.
          RunError: matplotlib is missing.
        """
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError:
            raise RunError("--explain needs matplotlib: pip install 'slim-zoo[plot]'.") from None
        self._config, self._network = config, network
        self._label = None if config.explain_class is None else _label_of(config.explain_class, network.class_names)
        self._gradcam = GradCam(network, config.explain_endpoint) if config.explain == 'gradcam' else None
        self._taken: set[str] = set()

    def draw(self, images: Sequence[str], prepared: np.ndarray, probabilities: np.ndarray) -> None:
        """Writes a picture of each image.

        Args:
          images: their names, of which the pictures' are made.
          prepared: what the network saw of them, float32 [batch, size, size, channels].
          probabilities: float32 [batch, classes].

        Raises:
          RunError: a picture cannot be written.
        """
        labels = probabilities.argmax(1) if self._label is None else np.full(len(images), self._label)
        heats = self._gradcam(prepared, labels) if self._gradcam else \
            occlusion(self._network, prepared, labels, self._config.batch_size)
        by = f'Grad-CAM at {self._gradcam.endpoint}' if self._gradcam else 'occlusion'
        for image, seen, heat, label, row in zip(images, prepared, heats, labels, probabilities, strict=True):
            title = f'{self._network.class_names[label]}: {row[label]:.1%}\n{by}'
            path = self._path(image)
            with writing(path, then=''):
                os.makedirs(self._config.explain_dir, exist_ok=True)
                with whole_file(path) as part:
                    overlay(seen, heat, title).savefig(part, format='png', dpi=_DOTS)

    def _path(self, image):
        """A name of its own for each image: that of the file, and where several have it, of its folders too."""
        words = [word for word in os.path.splitext(image)[0].split('/') if word.strip('.-')] or ['image']
        for count in range(1, len(words) + 1):
            name = os.fsencode('_'.join(words[-count:]))[-_LONGEST:].decode('utf-8', 'ignore')
            if name not in self._taken:
                break
        else:
            name = f'{name}-{len(self._taken)}'
        self._taken.add(name)
        # What was asked for is told, so that no answer replaces another's.
        asked = [self._config.explain_class, self._config.explain_endpoint, self._config.explain]
        kind = '.'.join(word.replace('/', '_')[:30] for word in asked if word)
        return os.path.join(self._config.explain_dir, f'{name}.{kind}.png')


def _label_of(word, class_names):
    if word in class_names:
        return class_names.index(word)
    if word.isdecimal() and int(word) < len(class_names):
        return int(word)
    raise ConfigError(f'--explain_class: {names.unknown("class", word, class_names)}')


class GradCam:
    """Grad-CAM, arXiv:1610.02391: the maps of an endpoint, weighted by the mean gradient of the class's logit.

    Args:
      network: of which the maps are.
      endpoint: the name of one with maps; None for the last.

    Raises:
      ConfigError: there is no such endpoint, or it has no map.
    """

    def __init__(self, network: Classifier | SavedClassifier, endpoint: str | None = None):
        shapes = network.model.endpoint_shapes
        maps = [name for name, shape in shapes.items() if len(shape) == 4 and (shape[1] or 0) > 1]
        if endpoint is not None and endpoint not in maps:
            raise ConfigError(f'--explain_endpoint: {names.unknown("endpoint with a map", endpoint, maps)}')
        if not maps:
            raise ConfigError(f'--explain=gradcam: {network.model.network} has no endpoint with a map; '
                              '--explain=occlusion needs none.')
        self.endpoint = endpoint or maps[-1]
        binary = network.class_mode == 'binary'

        @tf.function(autograph=False, reduce_retracing=True)
        def heats(images, labels):
            logits, end_points = network.model.build(images, False)
            # Of binary's one logit, the first class is what speaks against it.
            scores = tf.where(labels > 0, logits[:, 0], -logits[:, 0]) if binary else \
                tf.gather(logits, labels, batch_dims=1)
            values = end_points[self.endpoint]
            slopes = tf.gradients(scores, values)[0]
            if slopes is None:
                raise ConfigError(f'--explain_endpoint={self.endpoint}: the classes do not depend on it.')
            found = tf.nn.relu(tf.reduce_sum(values * tf.reduce_mean(slopes, [1, 2], keepdims=True), -1))
            return tf.image.resize(found[..., tf.newaxis], images.shape[1:3])[..., 0]

        self._heats = heats

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The parts of images that speak for a class.

        Args:
          images: float32 [batch, size, size, channels], prepared.
          labels: integers [batch], the classes.

        Returns:
          Float32 [batch, size, size], from 0 to each image's own highest.
        """
        return self._heats(tf.constant(images), tf.constant(labels)).numpy()


def occlusion(network: Classifier | SavedClassifier, images: np.ndarray, labels: np.ndarray,
              batch_size: int = 32) -> np.ndarray:
    """By how much the probability of a class falls where a patch covers the image, arXiv:1311.2901, section 4.2.

    The patch has the image's mean colour, and a sixth of its side.

    Args:
      network: whose probabilities are looked at.
      images: float32 [batch, size, size, channels], prepared.
      labels: integers [batch], the classes.
      batch_size: covered images at a time.

    Returns:
      Float32 [batch, size, size]: the mean fall over all patches that cover a point, not below 0.
    """
    size = images.shape[1]
    patch = max(1, round(size / _PATCHES))
    starts = np.unique(np.linspace(0, size - patch, (_PATCHES - 1) * _STEPS + 1).round().astype(int))
    places = [(top, left) for top in starts for left in starts]
    found = np.zeros(images.shape[:3], np.float32)
    for image, label, heat in zip(images, labels, found, strict=True):
        before = network.predict(image[np.newaxis])[0, label]
        counts = np.zeros_like(heat)
        for first in range(0, len(places), batch_size):
            some = places[first:first + batch_size]
            covered = np.repeat(image[np.newaxis], len(some), 0)
            for copy, (top, left) in zip(covered, some, strict=True):
                copy[top:top + patch, left:left + patch] = image.mean((0, 1))
            for (top, left), after in zip(some, network.predict(covered)[:, label], strict=True):
                heat[top:top + patch, left:left + patch] += before - after
                counts[top:top + patch, left:left + patch] += 1
        np.maximum(heat / counts, 0, out=heat)
    return found


def overlay(image: np.ndarray, heat: np.ndarray, title: str) -> Any:
    """A `matplotlib.figure.Figure`: what the network saw, and the same with the heat over it.

    Args:
      image: [height, width, 1 or 3], in any range.
      heat: [height, width], not below 0.
      title: of the second.
    """
    from matplotlib.figure import Figure

    low, high = image.min(), image.max()
    picture = np.repeat((image - low) / max(high - low, 1e-6), 3 // image.shape[-1], -1)
    heat = heat / max(heat.max(), 1e-12)
    figure = Figure(figsize=(8, 4.4), layout='constrained')
    for axes, text in zip(figure.subplots(1, 2), ('what the network sees\n', title), strict=True):
        axes.imshow(picture)
        # A class's name may hold a dollar, which would begin a formula.
        axes.set_title(text, fontsize=10, parse_math=False, wrap=True)
        axes.axis('off')
    axes.imshow(heat, cmap='inferno', vmin=0, vmax=1, alpha=0.25 + 0.5 * heat)
    return figure
