"""Networks for serving alone: batch norm folded into the convolutions, all weights constants; also through OpenVINO.

In inference a batch norm is a factor and an offset for each map, so the factor can go into the kernels before it and
the offset become their bias; TensorFlow then runs convolution, bias and ReLU as one. What is left of the network is a
graph without variables. Batch norms that follow no 2-D convolution directly (the pre-activations of ResNet V2) stay as
they are, and so do those of the networks of videos.
"""
import copy
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from nets import heads
from nets.model import Model

_CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative')


class Folded(tf.Module):
    """A model as it is now, for inference alone; later changes of its weights do not reach it.

    A call takes float32 images [batch, image_size, image_size, channels] (networks of videos with frames after the
    batch) and returns what the model's call does. `tf.saved_model.save(folded, path, folded.signatures())` writes what
    can be loaded without this project.

    Args:
      model: the network, with its weights.
      dtype: what is computed in: `tf.float32`, or `tf.bfloat16` for processors that have it.
      also: from the outputs and the end points to further tensors that `graph_def` is to give, for those who export it.

    Raises:
      ValueError: the type is not a float type of TensorFlow's.

    Attributes:
      graph_def: the frozen graph, from `images` to `outputs`, and to what `also` returned.
      folded, left: how many batch norms were folded, and the names of the ops of those that were not.
    """

    def __init__(self, model: Model, dtype: tf.DType = tf.float32,
                 also: Callable[[tf.Tensor, Mapping[str, tf.Tensor]], Iterable[tf.Tensor]] = lambda outputs, ends: ()):
        super().__init__(name=model.name)
        dtype = tf.as_dtype(dtype)
        if dtype not in (tf.float32, tf.bfloat16, tf.float16):
            raise ValueError(f'dtype must be float32, bfloat16 or float16; it is {dtype.name}.')
        frames = [None] if model.takes_videos else []
        shape = [None, *frames, model.image_size, model.image_size, model.channels]
        values = {name: variable.numpy() for name, variable in model.by_name.items()}
        with tf.Graph().as_default() as graph:
            constant = copy.copy(model)
            constant.by_name = {name: tf.constant(value) for name, value in values.items()}
            images = tf.compat.v1.placeholder(tf.float32, shape, 'images')
            outputs, end_points = constant.build(tf.cast(images, dtype), False)
            outputs = tf.identity(tf.cast(outputs, tf.float32), name='outputs')
            ends = [outputs.op, *(tensor.op for tensor in also(outputs, end_points))]
        # Objects that TensorFlow does not track: they are no part of a SavedModel.
        self.graph_def, self.folded, left = _fold(graph.as_graph_def(), ends)
        self.left = tuple(left)
        self._images = tf.TensorSpec(shape, name='images')
        self._probabilities = bool(model.num_classes)
        self._traced = tf.function(self._run, input_signature=[self._images], autograph=False)

    def _run(self, images):
        return tf.graph_util.import_graph_def(self.graph_def, {'images': images}, ['outputs:0'], name='')[0]

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Logits [batch, num_classes], float32; without classes the network's last output."""
        return self._traced(images)

    def signatures(self) -> dict[str, Callable]:
        """What SavedModels serve: `serving_default`, with the outputs of `nets.model.Model.signatures`."""
        def serve(images):
            outputs = self._run(images)
            return {'logits': outputs, 'probabilities': heads.predictions(outputs)} if self._probabilities else \
                {'features': outputs}

        return {'serving_default': tf.function(serve, input_signature=[self._images], autograph=False)}


def to_openvino(model: Model, dtype: tf.DType = tf.float32, hint: str = 'THROUGHPUT', device: str = 'CPU') -> Any:
    """Compiles a model for OpenVINO (`pip install slim-zoo[openvino]`), whose layout of maps suits processors best.

    Args:
      model: the network, with its weights.
      dtype: what OpenVINO computes in; what comes in and goes out is float32.
      hint: what it is tuned for: `THROUGHPUT` (several requests at a time, see `openvino.AsyncInferQueue`), `LATENCY`.
      device: of OpenVINO's.

    Returns:
      An `openvino.CompiledModel`: `compiled(images)[0]` are the outputs of `Folded`. `openvino.save_model` keeps what
      `convert_to_openvino` returns.

    Raises:
      ImportError: OpenVINO is not installed.
    """
    openvino = _openvino()
    return openvino.Core().compile_model(convert_to_openvino(model), device, {
        'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}[tf.as_dtype(dtype).name],
        'PERFORMANCE_HINT': hint})


def convert_to_openvino(model: Model | tf.compat.v1.GraphDef) -> Any:
    """The folded network as an `openvino.Model`, which `openvino.save_model` writes; raises as `to_openvino` does.

    Args:
      model: the network, with its weights; or the graph of one that is folded already.
    """
    openvino = _openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'folded.pb')
        path.write_bytes((Folded(model).graph_def if isinstance(model, Model) else model).SerializeToString())
        return openvino.convert_model(path)


def part(graph_def: tf.compat.v1.GraphDef, outputs: Iterable[str]) -> tf.compat.v1.GraphDef:
    """The part of a graph that these nodes need, and themselves."""
    return _kept({node.name: node for node in graph_def.node}, outputs, graph_def.versions)


def _openvino():
    try:
        import openvino
    except ImportError:
        raise ImportError('OpenVINO is not installed: pip install openvino, or slim-zoo[openvino].') from None
    return openvino


def _fold(graph_def, outputs):
    """The nodes that `outputs` need, with constants cast and batch norms folded; and what became of the latter."""
    nodes, folded, left = {node.name: node for node in graph_def.node}, 0, []
    needed = _behind(outputs)

    def constant(name, value, dtype):
        nodes[name] = tf.compat.v1.NodeDef(name=name, op='Const')
        nodes[name].attr['dtype'].type = dtype.as_datatype_enum
        nodes[name].attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
        return name

    for op in needed.values():
        if op.type == 'Cast' and op.inputs[0].op.type == 'Const':
            constant(op.name, _value(op.inputs[0]), op.outputs[0].dtype)
        elif op.type == 'FusedBatchNormV3':
            convolution = op.inputs[0].op
            consumers = [user for user in op.inputs[0].consumers() if user.name in needed]
            if convolution.type not in _CONVOLUTIONS or consumers != [op]:
                left.append(op.name)
                continue
            gamma, beta, mean, variance = (_value(tensor) for tensor in op.inputs[1:])
            factor = gamma / np.sqrt(variance + op.get_attr('epsilon'))
            kernel = _value(convolution.inputs[1])
            maps = kernel.shape[2:] if convolution.type == 'DepthwiseConv2dNative' else kernel.shape[3:]
            dtype = op.inputs[0].dtype
            nodes[convolution.name].input[1] = constant(f'{op.name}/kernel', kernel * factor.reshape(maps), dtype)
            bias = constant(f'{op.name}/bias', beta - mean * factor, dtype)
            nodes[op.name] = tf.compat.v1.NodeDef(name=op.name, op='BiasAdd', input=[convolution.name, bias])
            nodes[op.name].attr['T'].type = dtype.as_datatype_enum
            nodes[op.name].attr['data_format'].s = op.get_attr('data_format')
            folded += 1
    return _kept(nodes, [op.name for op in outputs], graph_def.versions), folded, left


def _kept(nodes, outputs, versions):
    kept, asked = {}, list(outputs)
    while asked:
        name = asked.pop().lstrip('^').partition(':')[0]
        if name not in kept:
            kept[name] = nodes[name]
            asked += nodes[name].input
    return tf.compat.v1.GraphDef(node=kept.values(), versions=versions)


def _behind(outputs):
    """Name -> op, of all that these ops need and themselves."""
    found, asked = {}, list(outputs)
    while asked:
        op = asked.pop()
        if op.name not in found:
            found[op.name] = op
            asked += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return found


def _value(tensor):
    # Before a cast: kernels are folded, and only then rounded.
    source = tensor.op.inputs[0] if tensor.op.type == 'Cast' else tensor
    return tf.get_static_value(source).astype(np.float64)
