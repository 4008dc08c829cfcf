"""What every format is made of: a trained network as one folded graph, and what is to be told of it."""
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from datasets import decode_image
from nets import inference
from training.classifier import CHANNELS, Classifier

INPUT = 'images'
_LARGE = 64     # numbers of a constant that becomes a variable


class Images(NamedTuple):
    """Images to compare on."""

    names: list[str]
    encoded: list[bytes]    # their files
    prepared: np.ndarray    # as the network takes them, float32 [images, size, size, channels]


class Network:
    """A classifier to export.

    Attributes:
      classifier: see `training.classifier`.
      folded: the network with batch norm folded; its graph has `outputs`, the logits, and `probabilities`.
      logits, predictions: the nodes of that graph that have TF-Slim's names for the logits and the probabilities.
      description: what a user of an export must know, for JSON.
    """

    def __init__(self, classifier: Classifier, crop_fraction: float | None = None):
        """Folds the network; `crop_fraction` is the one that the classifier was opened with."""
        self.classifier, self._crop_fraction = classifier, crop_fraction

        def also(outputs, end_points):
            self.logits, self.predictions = outputs.op.inputs[0].op.name, 'probabilities'
            ends = [tf.identity(classifier.probabilities(outputs), 'probabilities')]
            for name in ('Predictions', 'predictions'):
                if classifier.class_mode == 'categorical' and name in end_points:
                    self.predictions = end_points[name].op.name
                    ends.append(end_points[name])
            return ends

        self.folded = inference.Folded(classifier.model, also=also)
        self.description = self._describe()

    def graph(self, *outputs: str) -> tf.compat.v1.GraphDef:
        """The graph from `images` to these nodes."""
        return inference.part(self.folded.graph_def, outputs)

    def prepare(self, encoded: bytes) -> np.ndarray:
        """An image file as the network takes it; raises what TensorFlow does for one that cannot be read."""
        return self.classifier.preprocess(decode_image(encoded, CHANNELS)).numpy()

    def _describe(self) -> dict[str, Any]:
        network = self.classifier
        extremes = [network.preprocess(tf.fill([network.size, network.size, CHANNELS], tf.constant(value, tf.uint8)))
                    for value in (0, 255)]
        low, high = float(tf.reduce_min(extremes)), float(tf.reduce_max(extremes))
        return {
            'version': 1,
            'model_name': network.model.network,
            'class_mode': network.class_mode,
            'class_names': list(network.class_names),
            'image_size': network.size,
            'channels': network.model.channels,
            'decoded_channels': CHANNELS,
            'preprocessing': network.preprocessing,
            'crop_fraction': self._crop_fraction,       # None: the preprocessing's own, if it has one
            # Of a black and a white image; None where each image is brought to the same mean and deviation.
            'input_range': [round(low, 4), round(high, 4)] if low < high else None,
            'weights': os.path.basename(network.path),
        }


def batches(rows: Any, size: int = 16) -> Iterator[Any]:
    """The first row alone, then the others in groups of a size that fits into memory: each export takes both."""
    yield rows[:1]
    for start in range(1, len(rows), size):
        yield rows[start:start + size]


def with_variables(graph_def: tf.compat.v1.GraphDef) -> tuple[tf.compat.v1.GraphDef, dict[str, tf.Variable]]:
    """A graph with placeholders for its large constants; and variables of these names, for `import_graph_def`.

    Constants are copied with each function that has them, again and again while it is saved: VGG's took 19 GB.
    """
    light, variables = tf.compat.v1.GraphDef(versions=graph_def.versions), {}
    for node in graph_def.node:
        value = node.attr['value'].tensor if node.op == 'Const' else None
        if value is None or math.prod(dim.size for dim in value.tensor_shape.dim) < _LARGE:
            light.node.append(node)
            continue
        variables[node.name] = tf.Variable(tf.make_ndarray(value), trainable=False)
        placeholder = light.node.add(name=node.name, op='Placeholder')
        placeholder.attr['dtype'].type = value.dtype
    return light, variables
