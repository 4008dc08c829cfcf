"""What a network costs: parameters, multiply-adds and output shape of each endpoint. `python -m nets inception_v1`."""
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import tensorflow as tf

from nets import names, nets_factory, registry
from nets.table import Table, build


class Row(NamedTuple):
    """An endpoint, and what it adds to those before it.

    Attributes:
      endpoint: its name.
      shape: its shape without the batch.
      parameters: number of trainable parameters.
      statistics: number of values that are kept but not trained (moving means and variances).
      multiply_adds: multiplications with a following addition, for one image or video, in convolutions and matrix
        products; biases, normalisation, activations and pooling are left out, as in the papers.
    """

    endpoint: str
    shape: tuple[int, ...]
    parameters: int
    statistics: int
    multiply_adds: int


def summarize(network: Callable | Table, input_shape: tuple[int, ...]) -> list[Row]:
    """Counts parameters and multiply-adds, endpoint by endpoint; nothing is computed, no variable is made.

    Args:
      network: a function `images -> (net, end_points)`, or a table of rows (see `nets.table`).
      input_shape: shape of one image, [height, width, channels], or video, [frames, height, width, channels].

    Returns:
      A row for each endpoint, in the order of the network. What feeds several endpoints counts for the first.
    """
    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [1, *input_shape])
        _, end_points = network(images) if callable(network) else build(network, images)
        return summarize_endpoints(end_points)


def summarize_endpoints(end_points: Mapping[str, tf.Tensor]) -> list[Row]:
    """Counts what `summarize` does in a network that stands in a graph, for the batch that it was built for."""
    rows, seen = [], set()
    graph = next(iter(end_points.values())).graph
    variables = {v.op: v for v in graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)}
    trainable = {v.op for v in graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)}
    for name, tensor in end_points.items():
        new, stack = [], [tensor.op]
        while stack:
            op = stack.pop()
            if op not in seen:
                seen.add(op)
                new.append(op)
                stack.extend(x.op for x in op.inputs)
        sizes = {op: variables[op].shape.num_elements() for op in new if op in variables}
        parameters = sum(size for op, size in sizes.items() if op in trainable)
        rows.append(Row(name, tuple(tensor.shape[1:]), parameters, sum(sizes.values()) - parameters,
                        sum(_multiply_adds(op) for op in new)))
    return rows


def _multiply_adds(op: tf.Operation) -> int:
    if op.type in ('Conv2D', 'Conv3D'):
        for_each_value = math.prod(op.inputs[1].shape[:-1])
    elif op.type == 'DepthwiseConv2dNative':
        for_each_value = math.prod(op.inputs[1].shape[:2])
    elif op.type == 'MatMul':       # whichever side is transposed
        for_each_value = op.inputs[0].shape.num_elements() // op.outputs[0].shape[0]
    else:
        return 0
    return op.outputs[0].shape.num_elements() * for_each_value


def format_rows(rows: list[Row]) -> str:
    """Returns the rows as lines of text, with a line of totals."""
    total = Row('total', (), *(sum(column) for column in list(zip(*rows, strict=True))[2:]))
    lines: list[tuple[str, ...]] = [('endpoint', 'output', 'parameters', 'statistics', 'multiply-adds')]
    for row in [*rows, total]:
        lines.append((row.endpoint, 'x'.join(map(str, row.shape)), *(f'{count:,}' for count in row[2:])))
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return '\n'.join(name.ljust(first) + ''.join(cell.rjust(size + 2) for cell, size in zip(cells, others, strict=True))
                     for name, *cells in lines)


def summarize_network(name: str, image_size: int | None = None, num_classes: int | None = None,
                      switches: Iterable[str] = ()) -> list[Row]:
    """Summarizes a network of the registry, as it is in evaluation; one of videos, for its row's number of frames.

    Args:
      name: a name of `nets.registry.NETWORKS`.
      image_size: height and width in pixels; None is the network's default.
      num_classes: None is that of its published weights.
      switches: arguments of the network to set to True, such as `global_pool`.

    Raises:
      ValueError: the name or a switch is unknown, or the images do not fit.
    """
    network = registry.get(name)
    parameters = inspect.signature(network.build).parameters
    known = [key for key, value in parameters.items() if value.default is False and key != 'is_training']
    for switch in switches:
        if switch not in known:
            raise names.unknown(f'switch of {name}', switch, known)
    size = image_size or network.default_image_size
    network_fn = nets_factory.get_network_fn(name, num_classes or network.num_classes)
    network_fn = functools.partial(network_fn, **dict.fromkeys(switches, True))
    frames = (network.frames,) if network.frames else ()
    return summarize(network_fn, (*frames, size, size, network.channels))
