"""Networks as tables: the rows, the rule that names their scopes, and `build`.

A table is a list of rows `(endpoint, item)`. An item is a layer; or a module: a tuple of branches that stand side by
side on the same input and are concatenated, each a list of layers; or any function `(net, scope) -> net`.

    table = [('Conv2d_1a_7x7', conv(64, 7, stride=2)),
             ('Mixed_2a', ([conv(64, 1)], [conv(96, 1), conv(128, 3)], [max_pool(3), conv(32, 1)]))]
    net, end_points = build(table, images, final_endpoint='Mixed_2a')

This is the only place that cuts a network short.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import names
from nets.scopes import network_scope


class Layer(NamedTuple):
    """A convolution or a pooling; `conv` and `max_pool` make one."""

    kind: str
    kernel: int
    stride: int
    padding: str
    width: int | None = None
    scope: str | None = None

    def scope_at(self, position: int) -> str:
        """Returns its scope as the layer of a branch at `position`: `Conv2d_0b_3x3` is the second, a 3x3."""
        letter = chr(ord('a') + position)
        return self.scope or f'{self.kind}_0{letter}_{self.kernel}x{self.kernel}'

    def build(self, net: tf.Tensor, scope: str) -> tf.Tensor:
        """Applies the layer to `net`, [batch, height, width, channels]."""
        sizes = net.shape.as_list()[1:3]
        if self.padding == 'VALID' and any(size is not None and size < self.kernel for size in sizes):
            raise ValueError(f'{scope} needs a map of at least {self.kernel}x{self.kernel}; its input is '
                             f'{sizes[0]}x{sizes[1]}: give larger images.')
        if self.kind == 'MaxPool':
            return slim.max_pool2d(net, self.kernel, stride=self.stride, padding=self.padding, scope=scope)
        return slim.conv2d(net, self.width, self.kernel, stride=self.stride, padding=self.padding, scope=scope)


Branch = list[Layer]
Module = tuple[Branch, ...]
Item = Layer | Module | Callable[[tf.Tensor, str], tf.Tensor]
Table = list[tuple[str, Item]]


def conv(width: int, kernel: int, stride: int = 1, padding: str = 'SAME', scope: str | None = None) -> Layer:
    """A convolution to `width` maps, under whatever `slim.arg_scope` sets for `slim.conv2d`.

    A `scope` is given only where the published name breaks the naming rule.
    """
    return Layer('Conv2d', kernel, stride, padding, width, scope)


def max_pool(kernel: int, stride: int = 1, padding: str = 'SAME', scope: str | None = None) -> Layer:
    """A max pooling."""
    return Layer('MaxPool', kernel, stride, padding, scope=scope)


def build(table: Table, inputs: tf.Tensor, final_endpoint: str | None = None,
          scope: str | tf.compat.v1.VariableScope | None = None,
          default_name: str = 'Network', data_format: str = 'NHWC') -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Builds a table row by row, up to `final_endpoint`.

    Args:
      table: the rows.
      inputs: float images in the order of `data_format`; all but the channels may be unknown.
      final_endpoint: the last row to build; None builds all.
      scope: variable scope of the network; None makes one from `default_name`.
      default_name: the network's own scope, which also names it in errors.
      data_format: see `nets.scopes.network_scope`.

    Returns:
      The output of the last row built, and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown (nothing has been built then), or the images do not fit.
      TypeError: a row is neither a layer, nor a tuple of branches, nor a function.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    rows = dict(table)
    if final_endpoint is not None and final_endpoint not in rows:
        raise names.unknown(f'endpoint of {default_name}', final_endpoint, rows)
    for name, item in table:
        if not isinstance(item, tuple) and not callable(item):
            raise TypeError(f'Row {name!r} is neither a layer, nor a tuple of branches, each a list of layers, '
                            'nor a function.')
    end_points: dict[str, tf.Tensor] = {}
    with network_scope(scope, default_name, inputs, data_format=data_format):
        net = tf.convert_to_tensor(inputs)
        for name, item in rows.items():
            net = build_item(item, net, name)
            end_points[name] = net
            if name == final_endpoint:
                break
    return net, end_points


def build_item(item: Item, net: tf.Tensor, scope: str) -> tf.Tensor:
    """Applies what stands in a row to `net`."""
    if isinstance(item, Layer):
        return item.build(net, scope)
    return _build_module(item, net, scope) if isinstance(item, tuple) else item(net, scope)


def _build_module(branches: Module, inputs: tf.Tensor, scope: str) -> tf.Tensor:
    outputs = []
    with tf.compat.v1.variable_scope(scope):
        for number, branch in enumerate(branches):
            net = inputs
            with tf.compat.v1.variable_scope(f'Branch_{number}'):
                for position, layer in enumerate(branch):
                    net = layer.build(net, layer.scope_at(position))
            outputs.append(net)
        sizes = [tuple(net.shape.as_list()[1:3]) for net in outputs]
        if len(set(sizes)) > 1:
            raise ValueError(f'The branches of {scope} end in maps of different sizes, {sizes}: '
                             'give them the same strides and paddings.')
        return tf.concat(outputs, axis=-1)
