"""Formats of other runtimes: ONNX, and OpenVINO's own."""
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nets import inference
from training.exporting_network import INPUT, Images, Network, batches

_OPSET = 18     # of ONNX, from December 2022
_OUTPUTS = {'outputs': 'logits', 'probabilities': 'probabilities'}


class Onnx:
    """A file for ONNX Runtime and all else that reads ONNX; the number of images in a batch is free."""

    @staticmethod
    def write(network: Network, path: str) -> dict[str, Any]:
        """Writes the file; returns what is to be told of it."""
        import onnx
        import tf2onnx

        names = {INPUT: INPUT, **_OUTPUTS}
        model, _ = tf2onnx.convert.from_graph_def(
            network.graph(*_OUTPUTS), name=network.description['model_name'], input_names=[f'{INPUT}:0'],
            output_names=[f'{name}:0' for name in _OUTPUTS], opset=_OPSET,
            tensors_to_rename={f'{old}:0': new for old, new in names.items()})
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = 'batch'
        onnx.helper.set_model_props(model, {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in network.description.items()})
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return {'input': INPUT, **{name: name for name in _OUTPUTS.values()}}

    @staticmethod
    def run(path: str, images: Images, told: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the probabilities, by ONNX Runtime."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        yield '', np.concatenate([session.run([told['probabilities']], {INPUT: batch})[0]
                                  for batch in batches(images.prepared)])


class OpenVino:
    """A pair of files, `.xml` and `.bin`; float32, which OpenVINO may compute in less (INFERENCE_PRECISION_HINT)."""

    @staticmethod
    def write(network: Network, path: str) -> dict[str, Any]:
        """Writes the files; returns what is to be told of them."""
        import openvino

        model = inference.convert_to_openvino(network.graph(*_OUTPUTS))
        model.inputs[0].get_tensor().set_names({INPUT})
        for output in model.outputs:
            old = next(name for name in _OUTPUTS for known in output.get_names() if known.partition(':')[0] == name)
            output.get_tensor().set_names({_OUTPUTS[old]})
        model.set_rt_info(json.dumps(network.description), 'classifier')
        openvino.save_model(model, path, compress_to_fp16=False)
        return {'input': INPUT, **{name: name for name in _OUTPUTS.values()}}

    @staticmethod
    def run(path: str, images: Images, told: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the probabilities, by OpenVINO."""
        import openvino

        compiled = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        yield '', np.concatenate([compiled(batch)[told['probabilities']] for batch in batches(images.prepared)])
