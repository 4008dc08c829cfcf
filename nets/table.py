"""Networks as tables: the rows, the rule that names their scopes, and `build`.

A table is a list of rows `(endpoint, item)`. An item is a layer; or a module: a tuple of branches that stand side by
side on the same input and are concatenated, each a list of layers; or any function `(net, scope) -> net`. Where layers
of a branch stand side by side themselves, they are a tuple within it.

    table = [('Conv2d_1a_7x7', conv(64, 7, stride=2)),
             ('Mixed_2a', ([conv(64, 1)], [conv(96, 1), conv(128, 3)], [max_pool(3), conv(32, 1)])),
             ('Mixed_2b', ([conv(64, 1), (conv(96, (1, 3)), conv(96, (3, 1)))], [avg_pool(3), conv(32, 1)]))]
    net, end_points = build(table, images, final_endpoint='Mixed_2b')

A row named None is no endpoint: a function that knows its own scopes. This is the only place that cuts a network short.
"""
import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import names, recompute
from nets.scopes import Net, Scope, network_scope

Kernel = int | tuple[int, int]
Padding = str | tuple[int, int]         # `SAME`, `VALID`, or how many rows and columns go before and after


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or a pooling; `conv`, `max_pool` and `avg_pool` make one."""

    kind: str
    kernel: Kernel
    stride: int
    padding: Padding
    width: int | None
    scope: str | None
    op: Callable

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel

    def scope_at(self, position: int) -> str:
        """Returns its scope as the layer of a branch at `position`: `Conv2d_0b_3x3` is the second, a 3x3.

        A layer that makes the map smaller is `1a` wherever it stands.
        """
        smaller = self.stride > 1 or self.padding == 'VALID'
        place = '1a' if smaller else '0' + chr(ord('a') + position)
        return self.scope or f'{self.kind}_{place}_{self.size[0]}x{self.size[1]}'

    def build(self, net: tf.Tensor, scope: str | None, data_format: str = 'NHWC') -> tf.Tensor:
        """Applies the layer to `net`, images in the order of `data_format`."""
        padding = self.padding
        if not isinstance(padding, str):
            around = {'N': (0, 0), 'H': padding, 'W': padding, 'C': (0, 0)}
            # By hand: a zero that an average counts, and what no maximum is taken from.
            value = net.dtype.min if self.kind == 'MaxPool' else 0
            net, padding = tf.pad(net, [around[axis] for axis in data_format], constant_values=value), 'VALID'
        width = [] if self.width is None else [self.width]
        return self.op(net, *width, self.kernel, stride=self.stride, padding=padding, scope=scope)


Branch = Sequence[Layer | tuple[Layer, ...]]
Module = tuple[Branch, ...]
Item = Layer | Module | Callable[[tf.Tensor, str | None], tf.Tensor]
Table = list[tuple[str | None, Item]]


def conv(width: int, kernel: Kernel, stride: int = 1, padding: Padding = 'SAME', scope: str | None = None,
         op: Callable = slim.conv2d) -> Layer:
    """A convolution to `width` maps by `op`, under whatever `slim.arg_scope` sets for it.

    A `scope` is given only where the published name breaks the naming rule.
    """
    return Layer('Conv2d', kernel, stride, padding, width, scope, op)


def max_pool(kernel: Kernel, stride: int = 1, padding: Padding = 'SAME', scope: str | None = None) -> Layer:
    """A max pooling."""
    return Layer('MaxPool', kernel, stride, padding, None, scope, slim.max_pool2d)


def avg_pool(kernel: Kernel, stride: int = 1, padding: Padding = 'SAME', scope: str | None = None) -> Layer:
    """An average pooling."""
    return Layer('AvgPool', kernel, stride, padding, None, scope, slim.avg_pool2d)


def depth(multiplier: float, min_depth: int) -> Callable[[int], int]:
    """Returns the function that multiplies a width by `multiplier`, but not to below `min_depth`.

    Raises:
      ValueError: the multiplier is not positive.
    """
    if multiplier <= 0:
        raise ValueError(f'depth_multiplier must be greater than zero; it is {multiplier}.')
    return lambda width: max(int(width * multiplier), min_depth)


def scale_widths(table: Table, depth_multiplier: float, min_depth: int) -> Table:
    """Returns the table with every layer's width changed as `depth` says, which has the arguments."""
    scaled = depth(depth_multiplier, min_depth)
    return _with_layers(table, lambda layer: dataclasses.replace(layer, width=layer.width and scaled(layer.width)))


def pad_as_torch(table: Table) -> Table:
    """Returns the table with the paddings of PyTorch's ports of TF-Slim's networks where `SAME` is another.

    A convolution with a stride is padded alike on all sides; a max pooling with one begins at the first row and column,
    whatever the size; an average pooling counts the zeros around the map.
    """
    def pad(layer):
        half = max(layer.size) // 2
        paddings = {'Conv2d': (half, half), 'MaxPool': (0, half), 'AvgPool': (half, half)}
        same = layer.padding != 'SAME' or layer.stride == 1 and layer.kind != 'AvgPool'
        return layer if same else dataclasses.replace(layer, padding=paddings[layer.kind])

    return _with_layers(table, pad)


def _with_layers(table, change):
    def changed(item):
        if isinstance(item, Layer):
            return change(item)
        return type(item)(map(changed, item)) if isinstance(item, tuple | list) else item

    return [(name, changed(item)) for name, item in table]


def convolutions(module: Module) -> list[str]:
    """Returns the scopes of a module's convolutions within its own, in the order in which they are built."""
    scopes = []
    for number, branch in enumerate(module):
        layers = [layer for part in branch for layer in (part if isinstance(part, tuple) else (part,))]
        scopes += [f'Branch_{number}/{layer.scope_at(i)}' for i, layer in enumerate(layers) if layer.width]
    return scopes


def least_size(table: Table, output: int = 1) -> int:
    """Returns the least height and width of images that leave a map of at least `output`, in pixels.

    A function in a row counts as one that keeps the size.
    """
    def before(item, size):
        if isinstance(item, Layer):
            if isinstance(item.padding, str):
                return (size - 1) * item.stride + (max(item.size) if item.padding == 'VALID' else 1)
            return (size - 1) * item.stride + max(item.size) - sum(item.padding)
        if isinstance(item, tuple):
            return max(before(branch, size) for branch in item)
        if isinstance(item, list):
            for layer in reversed(item):
                size = before(layer, size)
        return size

    return before([item for _, item in table], output)


def build(table: Table, inputs: tf.Tensor, final_endpoint: str | None = None,
          scope: Scope = None,
          default_name: str = 'Network', data_format: str = 'NHWC') -> Net:
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
      ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
      TypeError: a row is neither a layer, nor a tuple of branches, nor a function.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    rows = [name for name, _ in table]
    if final_endpoint is not None:
        if final_endpoint not in rows:
            raise names.unknown(f'endpoint of {default_name}', final_endpoint, filter(None, rows))
        table = table[:rows.index(final_endpoint) + 1]
    for name, item in table:
        if not isinstance(item, Layer | tuple) and not callable(item):
            raise TypeError(f'Row {name!r} is neither a layer, nor a tuple of branches, each a list of layers, '
                            'nor a function.')
    end_points: dict[str, tf.Tensor] = {}
    in_order = [slim.conv2d, slim.max_pool2d, slim.avg_pool2d, slim.batch_norm] if data_format == 'NCHW' else []
    with network_scope(scope, default_name, inputs, min_size=least_size(table), data_format=data_format), \
            slim.arg_scope(in_order, data_format=data_format):
        net = tf.convert_to_tensor(inputs)
        for name, item in table:
            net = recompute.row(name, functools.partial(_built, item, name, data_format), net)
            if name is not None:
                end_points[name] = net
    return net, end_points


def _built(item, name, data_format, net):
    return build_item(item, net, name, data_format)


def build_item(item: Item, net: tf.Tensor, scope: str | None, data_format: str = 'NHWC') -> tf.Tensor:
    """Applies what stands in a row to `net`."""
    if isinstance(item, Layer):
        return item.build(net, scope, data_format)
    if isinstance(item, tuple):
        with tf.compat.v1.variable_scope(scope):
            return build_branches(item, net, data_format)
    return item(net, scope)


def build_branches(branches: Module, inputs: tf.Tensor, data_format: str = 'NHWC') -> tf.Tensor:
    """Builds a module in the current scope."""
    axis = 1 if data_format == 'NCHW' else -1
    outputs = []
    for number, branch in enumerate(branches):
        net, position = inputs, 0
        with tf.compat.v1.variable_scope(f'Branch_{number}'):
            for part in branch:
                layers = (part,) if isinstance(part, Layer) else part
                side_by_side = [layer.build(net, layer.scope_at(position + i), data_format)
                                for i, layer in enumerate(layers)]
                net = tf.concat(side_by_side, axis) if len(layers) > 1 else side_by_side[0]
                position += len(layers)
        outputs.append(net)
    sizes = [tuple(net.shape.as_list()[2:] if data_format == 'NCHW' else net.shape.as_list()[1:3]) for net in outputs]
    if len(set(sizes)) > 1:
        raise ValueError(f'The branches of {tf.compat.v1.get_variable_scope().name} end in maps of different sizes, '
                         f'{sizes}: give them the same strides and paddings.')
    return tf.concat(outputs, axis)
