"""Frozen graphs of TF-Slim (`.pb`): networks whose variables were turned into constants of the same names."""
import math
import re

import numpy as np
import tensorflow as tf
from google.protobuf import message

from nets import registry
from nets.blueprint import auxiliary_scopes, network_variables
from nets.checkpoints import LARGEST, CheckpointError, Values

# What other programs put around a variable's name: those that import a graph before it, those that freeze it behind.
_AROUND = re.compile(r'^(?:import(?:_\d+)?/)*(.*?)(?:/(?:Read|ReadVariableOp|read|resource))*$')


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
            + (f' It seems to be of {", ".join(roots[:3])}.' if roots else
               ' An export has its weights folded, under other names: give the checkpoint that it was made of.'))
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
    # A constant may be one number that stands for all.
    count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
    if count > LARGEST:
        raise CheckpointError(f'{path} cannot be read: {name} has {count:,} numbers, and no network here has more than '
                              f'{LARGEST:,}.')
    try:
        value = tf.make_ndarray(tensor)
    except (ValueError, TypeError):
        raise CheckpointError(f'{path} is damaged: {name} cannot be read.') from None
    if not tf.as_dtype(value.dtype).is_floating:
        raise CheckpointError(f'{path} cannot be read: {name} is quantized to {value.dtype}. Freeze it in float32.')
    return value.astype(np.float32)
