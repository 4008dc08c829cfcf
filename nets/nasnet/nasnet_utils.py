"""What NASNet and PNASNet share: the cell, what it is made of, and the settings of a network.

A cell (arXiv:1707.07012, section 3) takes two maps: the output of the cell before it, and that of the cell before that.
It adds the results of two operations on earlier maps, a number of times over, and concatenates the sums. The search
found which operations on which maps.
"""
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import names

DATA_FORMAT_NCHW = 'NCHW'
DATA_FORMAT_NHWC = 'NHWC'
INVALID = 'null'            # a data_format that neither the caller nor an arg scope has given
CLIP_BY_VALUE_CAP = 6

Step: TypeAlias = int | tf.Tensor | tf.Variable | None

_OPERATION = re.compile(r'none|(?P<kind>avg_pool|max_pool|separable)_(?P<kernel>\d)x(?P=kernel)(?:_(?P<layers>\d))?')
_POOL = {'avg_pool': slim.avg_pool2d, 'max_pool': slim.max_pool2d}


class HParams(types.SimpleNamespace):
    """Settings as attributes.

    Args:
      **values: name -> value.
    """

    def set_hparam(self, name: str, value: Any) -> None:
        """Changes a setting.

        Raises:
          ValueError: there is none of this name.
        """
        if name not in vars(self):
            raise names.unknown('hparam', name, vars(self))
        setattr(self, name, value)

    def values(self) -> dict[str, Any]:
        """Returns a dictionary name -> value."""
        return dict(vars(self))


def calc_reduction_layers(num_cells: int, num_reduction_layers: int) -> list[int]:
    """Returns the numbers of the cells before which, evenly spread, maps are halved."""
    return [num_cells * layer // (num_reduction_layers + 1) for layer in range(1, num_reduction_layers + 1)]


@slim.add_arg_scope
def get_channel_index(data_format: str = INVALID) -> int:
    """Returns the axis of the channels: 3 for `NHWC`, 1 for `NCHW`.

    Raises:
      ValueError: `data_format` is neither.
    """
    if data_format not in (DATA_FORMAT_NHWC, DATA_FORMAT_NCHW):
        raise names.unknown('data_format', data_format, (DATA_FORMAT_NHWC, DATA_FORMAT_NCHW))
    return 3 if data_format == DATA_FORMAT_NHWC else 1


@slim.add_arg_scope
def get_channel_dim(shape: Sequence[int | None], data_format: str = INVALID) -> int:
    """Returns the number of channels in a shape of four dimensions."""
    return tf.TensorShape(shape).as_list()[get_channel_index(data_format=data_format)]


def get_sizes(net: tf.Tensor) -> list[int | None]:
    """Returns height and width of a map, in the `data_format` of the arg scope."""
    first = 1 if get_channel_index() == 3 else 2
    return net.shape.as_list()[first:first + 2]


@slim.add_arg_scope
def global_avg_pool(x: tf.Tensor, data_format: str = INVALID) -> tf.Tensor:
    """Averages each channel over the map: rank 4 -> [batch, channels]."""
    return tf.reduce_mean(x, [1, 2] if get_channel_index(data_format=data_format) == 3 else [2, 3])


@slim.add_arg_scope
def factorized_reduction(net: tf.Tensor, output_filters: int, stride: int, data_format: str = INVALID) -> tf.Tensor:
    """Changes channels and size without an activation: half the channels see the even pixels, half the odd ones.

    Args:
      net: a map of rank 4.
      output_filters: number of channels of the result.
      stride: what height and width are divided by, rounded up; 1 makes it a 1x1 convolution.
      data_format: order of the axes.

    Returns:
      The map, batch-normalised.
    """
    axis = get_channel_index(data_format=data_format)

    def conv(net, filters, scope):
        return slim.conv2d(net, filters, 1, data_format=data_format, scope=scope)

    def pixels(net):
        return tf.nn.avg_pool2d(net, 1, stride, 'VALID', data_format, name='AvgPool')

    if stride == 1:
        return slim.batch_norm(conv(net, output_filters, 'path_conv'), data_format=data_format, scope='path_bn')
    half = output_filters // 2
    even = conv(pixels(net), half, 'path1_conv')
    padded = tf.pad(net, [[0, 0] if i in (0, axis) else [0, 1] for i in range(4)])
    shifted = padded[:, 1:, 1:, :] if axis == 3 else padded[:, :, 1:, 1:]
    odd = conv(pixels(shifted), output_filters - half, 'path2_conv')
    return slim.batch_norm(tf.concat([even, odd], axis), data_format=data_format, scope='final_path_bn')


@slim.add_arg_scope
def pool(net: tf.Tensor, kind: str, kernel: int, stride: int, keras_padding: bool = False,
         data_format: str = INVALID) -> tf.Tensor:
    """A pooling of a cell, whose map is the input's over its stride, rounded up.

    Args:
      net: a map of rank 4.
      kind: `avg_pool` or `max_pool`.
      kernel: its size; odd.
      stride: 1 or 2.
      keras_padding: whether a pooling with a stride also takes zeros around the map, as in Keras Applications.
      data_format: order of the axes.
    """
    if not keras_padding or stride == 1:
        return _POOL[kind](net, kernel, stride=stride, padding='SAME')
    half, sizes = kernel // 2, tf.shape(net)
    padding = [(0, 0) if axis in 'NC' else (half - 1 + (net.shape[i] or sizes[i]) % 2, half)
               for i, axis in enumerate(data_format)]
    return _POOL[kind](tf.pad(net, padding), kernel, stride=stride, padding='VALID')


@slim.add_arg_scope
def drop_path(net: tf.Tensor, keep_prob: float | tf.Tensor, is_training: bool | tf.Tensor = True) -> tf.Tensor:
    """Drops the whole map of an example at random, or scales it by 1 / `keep_prob` (arXiv:1605.07648).

    Args:
      net: a map of rank 4.
      keep_prob: how often it is kept.
      is_training: whether to drop at all. Where `slim.dropout` is switched off, so is this.
    """
    always = not tf.is_tensor(keep_prob) and keep_prob >= 1
    if always or not (tf.is_tensor(is_training) or is_training):
        return net
    switch = {'is_training': is_training} if tf.is_tensor(is_training) else {}
    # A dropout of ones, and not of the map: so it has the seed that dropouts are given, and a float32 probability.
    kept = slim.dropout(tf.ones([tf.shape(net)[0], 1, 1, 1]), keep_prob=keep_prob, scope='drop_path', **switch)
    return net * tf.cast(kept, net.dtype)


def _conv_bn(net, filters, scope, bn_scope, stride=1):
    return slim.batch_norm(slim.conv2d(net, filters, 1, stride=stride, scope=scope), scope=bn_scope)


class NasNetABaseCell:
    """A cell; calling it builds it, under the arg scope of its network.

    Args:
      num_conv_filters: the cell's channels, before `filter_scaling`.
      operations: two for each sum: `none`, `avg_pool_3x3`, `max_pool_3x3`, or `separable_5x5_2` (two layers of it).
      used_hiddenstates: for each state, 1 where the output leaves it out. States are the cell's input, the input of
        the cell before, and the sums.
      hiddenstate_indices: for each operation, the state that it takes.
      drop_path_keep_prob: how often `drop_path` keeps an operation of the last cell, at the last step; less is dropped
        in earlier cells and at earlier steps, in proportion.
      total_num_cells: number of cells of the network, stem and reduction cells included.
      total_training_steps: steps in which dropping grows to its full strength.
      use_bounded_activation: whether to keep every map between -6 and 6, for 8-bit arithmetic.

    Raises:
      ValueError: an operation is unknown.
    """

    def __init__(self, num_conv_filters: int, operations: Sequence[str], used_hiddenstates: Sequence[int],
                 hiddenstate_indices: Sequence[int], drop_path_keep_prob: float, total_num_cells: int,
                 total_training_steps: int, use_bounded_activation: bool = False):
        for operation in operations:
            if not _OPERATION.fullmatch(operation):
                raise ValueError(f'Unknown operation {operation!r}: valid are none, avg_pool_3x3, max_pool_3x3 and '
                                 'separable_3x3_2 (of 2 layers), each with any kernel of one digit.')
        self._num_conv_filters = num_conv_filters
        sides = list(zip(operations, hiddenstate_indices, strict=True))
        self._sums = list(zip(sides[::2], sides[1::2], strict=True))
        self._used_hiddenstates = used_hiddenstates
        self._drop_path_keep_prob = drop_path_keep_prob
        self._total_num_cells = total_num_cells
        self._total_training_steps = total_training_steps
        self._bounded = use_bounded_activation
        self._activation: Callable = tf.nn.relu6 if use_bounded_activation else tf.nn.relu

    def __call__(self, net: tf.Tensor, scope: str | None = None, filter_scaling: float = 1, stride: int = 1,
                 prev_layer: tf.Tensor | None = None, cell_num: int = -1, current_step: Step = None,
                 prev_stride: int | None = None) -> tf.Tensor:
        """Builds the cell.

        Args:
          net: output of the cell before, of rank 4.
          scope: variable scope.
          filter_scaling: factor of the cell's channels.
          stride: what height and width are divided by.
          prev_layer: output of the cell before that; None takes `net` for both.
          cell_num: number of the cell in its network, from 0; on this depends how much is dropped.
          current_step: the training's step; None takes the graph's global step, or, without one, the last step.
          prev_stride: by how much the map of `prev_layer` is larger than that of `net`; None looks at the sizes.

        Returns:
          The concatenated sums.

        Raises:
          ValueError: paths are dropped, and `cell_num` is not given.
        """
        filters = int(self._num_conv_filters * filter_scaling)
        keep_prob = self._keep_prob(cell_num, current_step)
        with tf.compat.v1.variable_scope(scope, 'cell', [net]):
            prev = net if prev_layer is None else self._like(net, prev_layer, filters, prev_stride)
            states = [_conv_bn(self._activation(net), filters, '1x1', 'beginning_bn'), prev]
            kept = self._draw(tf.shape(net)[0], keep_prob)
            for number, sides in enumerate(self._sums):
                with tf.compat.v1.variable_scope(f'comb_iter_{number}'):
                    results = []
                    for side, (operation, state) in zip(('left', 'right'), sides, strict=True):
                        with tf.compat.v1.variable_scope(side):
                            results.append(self._apply(operation, states[state], filters, stride if state < 2 else 1,
                                                       kept))
                    with tf.name_scope('combine'):
                        states.append(self._bound(results[0] + results[1]))
            with tf.compat.v1.variable_scope('cell_output'):
                for number in (0, 1):       # the inputs, where they go to the output, have to fit the sums
                    fits = stride == 1 and get_channel_dim(states[number].shape) == filters
                    if not self._used_hiddenstates[number] and not fits:
                        with tf.compat.v1.variable_scope(f'reduction_{number}'):
                            states[number] = factorized_reduction(states[number], filters, stride)
                unused = [state for state, used in zip(states, self._used_hiddenstates, strict=True) if not used]
                return tf.concat(unused, get_channel_index())

    def _keep_prob(self, cell_num, current_step):
        if self._drop_path_keep_prob >= 1:
            return 1.0
        if cell_num < 0:
            raise ValueError('How much a cell drops depends on its number: give it a cell_num.')
        drop_prob = (1 - self._drop_path_keep_prob) * (cell_num + 1) / self._total_num_cells
        step = tf.compat.v1.train.get_global_step() if current_step is None else current_step
        if step is not None:
            drop_prob *= tf.minimum(tf.cast(step, tf.float32) / self._total_training_steps, 1)
        return 1 - drop_prob

    def _draw(self, batch_size, keep_prob):
        # What to multiply with, for each operation and example: drawn at once, since a random op is slow to build.
        if not tf.is_tensor(keep_prob) and keep_prob >= 1:
            return None
        count = sum(operation != 'none' for sides in self._sums for operation, _ in sides)
        return iter(tf.split(drop_path(tf.ones([count * batch_size, 1, 1, 1]), keep_prob), count))

    def _bound(self, net):
        return tf.nn.relu6(net) if self._bounded else net

    def _like(self, net, prev, filters, prev_stride):
        if prev_stride is None:
            prev_stride = 1 if get_sizes(prev) == get_sizes(net) else 2
        if prev_stride > 1:
            return factorized_reduction(self._activation(prev), filters, prev_stride)
        if get_channel_dim(prev.shape) != filters:
            return _conv_bn(self._activation(prev), filters, 'prev_1x1', 'prev_bn')
        return prev

    def _apply(self, operation, net, filters, stride, kept):
        kind, kernel, layers = _OPERATION.fullmatch(operation).group('kind', 'kernel', 'layers')
        if kind == 'separable':
            for layer in range(1, int(layers or 1) + 1):
                net = slim.separable_conv2d(self._activation(net), filters, int(kernel), depth_multiplier=1,
                                            stride=stride, scope=f'separable_{kernel}x{kernel}_{layer}')
                net = slim.batch_norm(net, scope=f'bn_sep_{kernel}x{kernel}_{layer}')
                stride = 1
        elif kind:
            net = pool(self._bound(net), kind, int(kernel), stride)
            if get_channel_dim(net.shape) != filters:
                net = _conv_bn(net, filters, '1x1', 'bn_1')
        elif stride > 1 or get_channel_dim(net.shape) != filters:
            net = _conv_bn(self._activation(net), filters, '1x1', 'bn_1', stride)
        else:
            return self._bound(net)
        if self._bounded:
            net = tf.clip_by_value(net, -CLIP_BY_VALUE_CAP, CLIP_BY_VALUE_CAP)
        return net * tf.cast(next(kept), net.dtype) if kind and kept else net


class TableCell(NasNetABaseCell):
    """A cell that a table says.

    Args:
      (all): as of `NasNetABaseCell`.

    Attributes:
      sums: a row for each sum: two operations, each with the state that it takes. 0 is the cell's input, 1 the input of
        the cell before, 2 the first sum.
      outputs: the states that the output concatenates.
    """

    sums: Sequence[tuple[tuple[str, int], tuple[str, int]]] = ()
    outputs: Sequence[int] = ()

    def __init__(self, num_conv_filters: int, drop_path_keep_prob: float, total_num_cells: int,
                 total_training_steps: int, use_bounded_activation: bool = False):
        operations, states = zip(*(side for row in self.sums for side in row), strict=True)
        used = [int(state not in self.outputs) for state in range(2 + len(self.sums))]
        super().__init__(num_conv_filters, operations, used, states, drop_path_keep_prob, total_num_cells,
                         total_training_steps, use_bounded_activation)


class NasNetANormalCell(TableCell):
    """The normal cell of NASNet-A: arXiv:1707.07012, figure 4."""

    sums = (
        (('separable_5x5_2', 0), ('separable_3x3_2', 1)),
        (('separable_5x5_2', 1), ('separable_3x3_2', 1)),
        (('avg_pool_3x3',    0), ('none',            1)),
        (('avg_pool_3x3',    1), ('avg_pool_3x3',    1)),
        (('separable_3x3_2', 0), ('none',            0)),
    )
    outputs = (1, 2, 3, 4, 5, 6)


class NasNetAReductionCell(TableCell):
    """The reduction cell of NASNet-A, which halves height and width: arXiv:1707.07012, figure 4."""

    sums = (
        (('separable_5x5_2', 0), ('separable_7x7_2', 1)),
        (('max_pool_3x3',    0), ('separable_7x7_2', 1)),
        (('avg_pool_3x3',    0), ('separable_5x5_2', 1)),
        (('none',            3), ('avg_pool_3x3',    2)),
        (('separable_3x3_2', 2), ('max_pool_3x3',    0)),
    )
    outputs = (3, 4, 5, 6)
