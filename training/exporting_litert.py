"""TFLite files, for LiteRT: float32, float16 weights, and int8 throughout.

TensorFlow has the converter still; its interpreter is to leave it, so the files are run by LiteRT's, `ai_edge_litert`.
"""
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from training.exporting_network import INPUT, Images, Network, batches, with_variables


class TFLite:
    """A file of one input, `images`, and one output, `probabilities`.

    Args:
      kind: `float32`; `float16`, half the size; or `int8`: weights, maps, input and output.
      calibration: gives prepared images [1, size, size, channels], which show what range the values have; for int8.
    """

    def __init__(self, kind: str, calibration: Callable[[], Iterable[np.ndarray]] = tuple):
        self._kind, self._calibration = kind, calibration

    def write(self, network: Network, path: str) -> dict[str, Any]:
        """Writes the file; returns what is to be told of it."""
        size, channels = network.classifier.size, network.classifier.model.channels
        module = tf.Module()
        graph_def, module.weights = with_variables(network.graph('probabilities'))

        def answer(images):
            inputs = {INPUT: images, **{name: tf.convert_to_tensor(value) for name, value in module.weights.items()}}
            return {'probabilities': tf.graph_util.import_graph_def(graph_def, inputs, ['probabilities:0'], name='')[0]}

        module.answer = tf.function(answer, autograph=False, input_signature=[
            tf.TensorSpec([None, size, size, channels], tf.float32, INPUT)])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.answer.get_concrete_function()], module)
        if self._kind != 'float32':
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if self._kind == 'float16':
            converter.target_spec.supported_types = [tf.float16]
        if self._kind == 'int8':
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            converter.representative_dataset = lambda: ([images] for images in self._calibration())
        with open(path, 'wb') as file:
            file.write(converter.convert())
        # As TFLite's own metadata has it: files in a zip archive behind the model, which the interpreter passes over.
        with zipfile.ZipFile(path, 'a') as archive:
            archive.writestr('labels.txt', ''.join(f'{name}\n' for name in network.description['class_names']))
            archive.writestr('classifier.json', json.dumps(network.description, indent=1))
        told: dict[str, Any] = {'input': INPUT, 'probabilities': 'probabilities'}
        if self._kind == 'int8':
            interpreter = _interpreter(path)
            for name, details in (('input', interpreter.get_input_details()),
                                  ('output', interpreter.get_output_details())):
                scale, zero_point = details[0]['quantization']
                told[f'{name}_quantization'] = {'scale': float(scale), 'zero_point': int(zero_point)}
        return told

    @staticmethod
    def run(path: str, images: Images, told: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the probabilities, by LiteRT's interpreter."""
        interpreter = _interpreter(path)
        taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        answers = []
        for batch in batches(images.prepared):
            interpreter.resize_tensor_input(taken['index'], batch.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(taken['index'], _quantized(batch, taken))
            interpreter.invoke()
            answers.append(_real(interpreter.get_tensor(given['index']), given))
        yield '', np.concatenate(answers)


def _interpreter(path):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=path)


def _quantized(values, details):
    if details['dtype'] != np.int8:
        return values
    scale, zero_point = details['quantization']
    return np.clip(np.round(values / scale) + zero_point, -128, 127).astype(np.int8)


def _real(values, details):
    if details['dtype'] != np.int8:
        return values
    scale, zero_point = details['quantization']
    return (values.astype(np.float32) - zero_point) * np.float32(scale)
