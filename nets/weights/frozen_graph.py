"""Frozen graphs of TF-Slim (`.pb`): networks whose variables were turned into constants of the same names."""
import re
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from google.protobuf import message

from nets import nets_factory, registry
from nets.checkpoints import CheckpointError, Values

# What other programs put around a variable's name: those that import a graph before it, those that freeze it behind.
_AROUND = re.compile(r'^(?:import(?:_\d+)?/)*(.*?)(?:/(?:Read|ReadVariableOp|read|resource))*$')
_AUXILIARY = re.compile(r'(\w+/AuxLogits|aux_\d+)/')


def network_variables(network: registry.Network, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    """The variables of a network for training, name -> shape in creation order; nothing is computed.

    Args:
      network: its row.
      num_classes: number of classes; that of its published weights if None.
    """
    frames = (network.frames,) if network.frames else ()
    shape = (1, *frames, network.default_image_size, network.default_image_size, network.channels)
    with tf.Graph().as_default() as graph:
        network_fn = nets_factory.get_network_fn(network.name, num_classes or network.num_classes, is_training=True)
        network_fn(tf.compat.v1.placeholder(tf.float32, shape))
        variables = graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
        return {variable.op.name: tuple(variable.shape.as_list()) for variable in variables}


def auxiliary_scopes(names: Iterable[str]) -> list[str]:
    """The scopes of the auxiliary classifier among these names of variables; training alone needs it."""
    return sorted({match[1] for match in map(_AUXILIARY.match, names) if match})


def read(path: str, network: registry.Network) -> Values:
    """Reads the constants of a frozen graph that are variables of a network.

    Args:
      path: a GraphDef in binary form, as TF-Slim's `freeze_graph` writes it, with batch norm apart from the kernels.
        Names may begin with `import/`.
      network: the row of the network that they are for.

    Returns:
      The variables' values; `lacks` names the auxiliary classifier where the graph has none.

    Raises:
      CheckpointError: there is no such file, it is no frozen graph or is damaged, it is of another network, or its
        batch norm is folded into the kernels.
    """
    constants = {_AROUND.sub(r'\1', node.name): node.attr['value'].tensor
                 for node in _graph(path).node if node.op == 'Const'}
    wanted = network_variables(network)
    found = [name for name in wanted if name in constants]
    if not found:
        roots = sorted({name.split('/')[0] for name in constants if name.endswith(('/weights', '/biases'))})
        raise CheckpointError(
            f'{path} is not a frozen graph of {network.name}: none of its {len(constants)} constants is one of the '
            f'{len(wanted)} variables, {next(iter(wanted))} for one.'
            + (f' It seems to be of {", ".join(roots[:3])}.' if roots else ''))
    means = {name for name in wanted if name.endswith('/moving_mean')}
    if means and means.isdisjoint(found):
        raise CheckpointError(f'{path} cannot be read: its batch norm is folded into the kernels, which cannot be '
                              'undone. Freeze the graph before anything folds it.')
    lacks = auxiliary_scopes(name for name in wanted if name not in constants)
    return Values(path, {name: _value(path, name, constants[name]) for name in found}, lacks)


def _graph(path):
    graph = tf.compat.v1.GraphDef()
    try:
        with open(path, 'rb') as file:
            graph.ParseFromString(file.read())
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror}.') from None
    except message.DecodeError:
        raise CheckpointError(f'{path} is not a frozen graph (a GraphDef in binary form), or is damaged.') from None
    return graph


def _value(path, name, tensor):
    try:
        value = tf.make_ndarray(tensor)
    except (ValueError, TypeError):
        raise CheckpointError(f'{path} is damaged: {name} cannot be read.') from None
    if not tf.as_dtype(value.dtype).is_floating:
        raise CheckpointError(f'{path} cannot be read: {name} is quantized to {value.dtype}. Freeze it in float32.')
    return value.astype(np.float32)
