"""The variables and endpoints of a network, from one build in a graph to throw away."""
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat
from nets import registry
from nets.scopes import Net

_AUXILIARY = re.compile(r'(\w+/AuxLogits\w*|aux_\d+)/')


class Spec(NamedTuple):
    """What a builder asked of `get_variable`."""

    shape: tuple[int, ...]
    initializer: Callable
    trainable: bool
    regularizer: Callable | None

    def make(self, name: str) -> tf.Variable:
        """A variable of this kind, with its initial value."""
        # Replicas see different batches: each keeps its own moving statistics, and whoever reads them gets the mean.
        moving = {} if self.trainable else {'aggregation': tf.VariableAggregation.MEAN,
                                            'synchronization': tf.VariableSynchronization.ON_READ}
        initializer = self.initializer() if isinstance(self.initializer, type) else self.initializer
        return tf.Variable(lambda: initializer(self.shape, dtype=tf.float32), trainable=self.trainable, name=name,
                           **moving)


class Blueprint(NamedTuple):
    """The variables of a network in creation order, and of each endpoint its shape and the variables behind it."""

    specs: dict[str, Spec]
    shapes: dict[str, list[int | None]]
    behind: dict[str, list[str]]


def draw(build: Callable[[tf.Tensor, bool], Net], input_shape: Iterable[int | None]) -> Blueprint:
    """Builds once, for training."""
    specs: dict[str, Spec] = {}
    made: dict[str, tf.Tensor] = {}

    def record(getter, name, shape=None, initializer=None, trainable=True, regularizer=None, **kwargs):
        if name in made:
            return made[name]
        if shape is None:
            raise ValueError(f'The variable {name} has no shape: give get_variable one, and an initializer of it.')
        if trainable:
            # A weight is only read, so that a placeholder will do: a real one has ten operations, and each layer
            # looks through all variables of the graph.
            with tf.name_scope(''):
                made[name] = tf.compat.v1.placeholder(tf.float32, shape, name)
        else:
            made[name] = getter(name, shape=shape, initializer=initializer, trainable=False,
                                **{**kwargs, 'collections': []})
        own = regularizer or tf_slim_compat.layer_regularizer()
        specs[name] = Spec(tuple(made[name].shape), initializer, trainable, own)
        return made[name]

    with tf.Graph().as_default() as graph, tf.compat.v1.variable_scope('', custom_getter=record):
        tf.compat.v1.set_random_seed(0)     # which a user's op determinism asks for; nothing is drawn here
        _, end_points = build(tf.compat.v1.placeholder(tf.float32, input_shape), True)
    return Blueprint(specs, {name: tensor.shape.as_list() for name, tensor in end_points.items()},
                     _behind(graph, end_points, made))


def network_variables(network: registry.Network, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    """The variables of a network for training, name -> shape in creation order.

    Args:
      network: its row.
      num_classes: number of classes; that of its published weights if None.
    """
    def build(images, training):
        with slim.arg_scope(network.make_arg_scope()):
            return network.build(images, num_classes or network.num_classes, is_training=training)

    frames = (network.frames,) if network.frames else ()
    size = network.default_image_size
    plan = draw(build, (1, *frames, size, size, network.channels))
    return {name: spec.shape for name, spec in plan.specs.items()}


def auxiliary_scopes(names: Iterable[str]) -> list[str]:
    """The scopes of the auxiliary classifier among these names of variables; training alone needs it."""
    return sorted({match[1] for match in map(_AUXILIARY.match, names) if match})


def _behind(graph, end_points, made):
    names = list(made)
    # A set of variables is an integer, a bit for each: a graph has tens of thousands of operations.
    bits = {name: 1 << number for number, name in enumerate(names)}
    layers: dict[str, int] = {}
    for name, bit in bits.items():      # moving statistics are not read in training: they go with their layer
        layers[_layer(name)] = layers.get(_layer(name), 0) | bit
    sets: dict[str, int] = {}
    of_operations = {tensor.op.name: name for name, tensor in made.items()}
    for operation in graph.get_operations():        # in an order in which inputs come first
        own = layers[_layer(of_operations[operation.name])] if operation.name in of_operations else 0
        for tensor in operation.inputs:
            own |= sets.get(tensor.op.name, 0)
        sets[operation.name] = own
    return {name: [variable for variable in names if sets[tensor.op.name] & bits[variable]]
            for name, tensor in end_points.items()}


def _layer(name):
    return name.rpartition('/')[0]
