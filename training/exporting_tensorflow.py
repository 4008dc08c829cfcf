"""TensorFlow's own formats: a SavedModel that takes image files, and a frozen graph as TF-Slim's users had it."""
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from datasets import decode_image
from training.classifier import CHANNELS
from training.exporting_network import INPUT, Images, Network, batches, with_variables

ASSET, LABELS = 'classifier.json', 'labels.txt'
_BEST = 5       # classes that are named
# How files begin that TensorFlow of any version decodes. WebP needs 2.20, which no server may have.
_FORMATS = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF87a', b'GIF89a', b'BM')


def labels_text(names: Sequence[str]) -> str:
    """The content of TF-Slim's `labels.txt`: a line `label:name` for each class."""
    return ''.join(f'{label}:{" ".join(name.splitlines())}\n' for label, name in enumerate(names))


class _Served(tf.Module):
    """What is saved: the signatures, and two functions for programs that load it."""

    def __init__(self, network: Network, folder: str):
        super().__init__(name='classifier')
        classifier, model = network.classifier, network.classifier.model
        names, size, channels = classifier.class_names, classifier.size, model.channels
        self.labels = tf.saved_model.Asset(os.path.join(folder, LABELS))
        self.description = tf.saved_model.Asset(os.path.join(folder, ASSET))
        prepared = tf.TensorSpec([size, size, channels])
        graph_def, self.weights = with_variables(network.graph('outputs'))

        def answer(images):
            inputs = {INPUT: images, **{name: tf.convert_to_tensor(value) for name, value in self.weights.items()}}
            logits, = tf.graph_util.import_graph_def(graph_def, inputs, ['outputs:0'], name='')
            logits = tf.ensure_shape(logits, [None, model.num_classes])
            probabilities = classifier.probabilities(logits)
            scores, labels = tf.math.top_k(probabilities, min(_BEST, len(names)))
            return {'classes': tf.gather(tf.constant(names), labels), 'scores': scores,
                    'probabilities': probabilities, 'logits': logits}

        def of_pixels(images):
            return answer(tf.map_fn(classifier.preprocess, images, fn_output_signature=prepared))

        def of_files(image_bytes):
            known = tf.reduce_any([tf.equal(tf.strings.substr(image_bytes, 0, len(start)), start)
                                   for start in _FORMATS], 0)
            check = tf.debugging.Assert(tf.reduce_all(known), [
                'image_bytes must be JPEG, PNG, GIF or BMP files; these of the batch (from 0) are none:',
                tf.where(~known)[:, 0]])
            with tf.control_dependencies([check]):
                checked = tf.identity(image_bytes)
            return answer(tf.map_fn(lambda encoded: classifier.preprocess(_decoded(encoded)), checked,
                                    fn_output_signature=prepared))

        files = _traced(of_files, tf.TensorSpec([None], tf.string, 'image_bytes'))
        self.served = {
            'serving_default': files, 'serving_bytes': files,
            'uint8': _traced(of_pixels, tf.TensorSpec([None, None, None, CHANNELS], tf.uint8, INPUT)),
            'tensor': _traced(answer, tf.TensorSpec([None, size, size, channels], tf.float32, INPUT))}
        self.preprocess = _traced(classifier.preprocess, tf.TensorSpec([None, None, CHANNELS], tf.uint8, 'image'))
        self.probabilities = _traced(lambda images: answer(images)['probabilities'],
                                     tf.TensorSpec([None, size, size, channels], tf.float32, INPUT))


def _traced(function, spec):
    return tf.function(function, input_signature=[spec], autograph=False)


def _decoded(encoded):
    image = tf.io.decode_image(encoded, CHANNELS, expand_animations=False)
    image.set_shape([None, None, CHANNELS])
    return image


class SavedModel:
    """Image files in, names of classes out; loads with TensorFlow alone, in TensorFlow Serving too."""

    @staticmethod
    def write(network: Network, path: str) -> dict[str, Any]:
        """Writes the folder; returns what is to be told of it."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, LABELS), 'w', encoding='utf-8') as file:
                file.write(labels_text(network.description['class_names']))
            with open(os.path.join(folder, ASSET), 'w', encoding='utf-8') as file:
                json.dump(network.description, file, indent=1)
            served = _Served(network, folder)
            tf.saved_model.save(served, path, signatures=served.served)
        return {'signatures': {'serving_default': 'image_bytes', 'serving_bytes': 'image_bytes', 'uint8': INPUT,
                               'tensor': INPUT}}

    @staticmethod
    def run(path: str, images: Images, told: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the name of each signature, and the probabilities that it answers."""
        signatures = tf.saved_model.load(path).signatures
        yield 'tensor', np.concatenate([signatures['tensor'](**{INPUT: tf.constant(batch)})['probabilities']
                                        for batch in batches(images.prepared)])
        yield 'serving_default', np.concatenate([
            signatures['serving_default'](image_bytes=tf.constant(list(batch)))['probabilities']
            for batch in batches(images.encoded)])
        yield 'uint8', np.concatenate([
            signatures['uint8'](**{INPUT: decode_image(encoded, CHANNELS)[tf.newaxis]})['probabilities']
            for encoded in images.encoded])


class FrozenGraph:
    """One file as TF-Slim's export_inference_graph.py and TensorFlow's freeze_graph made it, with its names."""

    @staticmethod
    def write(network: Network, path: str) -> dict[str, Any]:
        """Writes the file; returns what is to be told of it."""
        graph_def = network.graph(network.logits, network.predictions)
        for node in graph_def.node:
            if node.name == INPUT:
                node.name = 'input'
            for number, name in enumerate(node.input):
                if name.partition(':')[0] == INPUT:
                    node.input[number] = 'input'
        with open(path, 'wb') as file:
            file.write(graph_def.SerializeToString())
        return {'input': 'input', 'logits': network.logits, 'probabilities': network.predictions}

    @staticmethod
    def run(path: str, images: Images, told: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the probabilities, by a session of TensorFlow's."""
        with open(path, 'rb') as file:
            graph_def = tf.compat.v1.GraphDef.FromString(file.read())
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(graph_def, name='')
            with tf.compat.v1.Session() as session:
                answers = [session.run(f'{told["probabilities"]}:0', {'input:0': batch})
                           for batch in batches(images.prepared)]
        yield '', np.concatenate(answers)
