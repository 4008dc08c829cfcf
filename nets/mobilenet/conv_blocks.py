"""The blocks that MobileNet V2 and V3 are made of: arXiv:1801.04381, Figure 3, and arXiv:1905.02244, Figure 4."""
import contextlib
import functools
import itertools
import math
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import names
from nets.atrous import Size, fixed_padding


def make_divisible(value: float, divisor: int, min_value: int | None = None) -> int:
    """Rounds a number of channels to a multiple of `divisor`, at least `min_value`, and not down by more than 10%."""
    rounded = max(divisor if min_value is None else min_value, int(value + divisor / 2) // divisor * divisor)
    return int(rounded if rounded >= 0.9 * value else rounded + divisor)


def expand_input_by_factor(n: float, divisible_by: int = 8) -> Callable[..., int]:
    """Returns a function of `num_inputs` for `expanded_conv`'s expansion_size: about `n` times as many channels."""
    return lambda num_inputs, **unused: make_divisible(num_inputs * n, divisible_by)


def split_conv(input_tensor: tf.Tensor, num_outputs: int, num_ways: int, scope: str, divisible_by: int = 8,
               **kwargs) -> tf.Tensor:
    """A 1x1 convolution in groups: each sees a part of the channels and makes a part of the outputs.

    Args:
      input_tensor: [batch, height, width, channels].
      num_outputs: number of outputs of all groups together.
      num_ways: number of groups. Where that would leave one less than `divisible_by` channels, there is one group.
      scope: variable scope; that of a group is `{scope}_part_{number}`.
      divisible_by: what the groups' sizes are multiples of, but for the last one's.
      **kwargs: of `slim.conv2d`.

    Returns:
      [batch, height, width, num_outputs].
    """
    channels = input_tensor.shape.as_list()[-1]
    if num_ways == 1 or min(channels, num_outputs) // num_ways < divisible_by:
        return slim.conv2d(input_tensor, num_outputs, 1, scope=scope, **kwargs)
    parts = tf.split(input_tensor, _split(channels, num_ways, divisible_by), axis=-1, name=f'split_{scope}')
    outputs = [slim.conv2d(part, size, 1, scope=f'{scope}_part_{number}', **kwargs)
               for number, (part, size) in enumerate(zip(parts, _split(num_outputs, num_ways, divisible_by),
                                                         strict=True))]
    return tf.concat(outputs, axis=-1, name=f'{scope}_part_{num_ways - 1}_concat')


def _split(total, num_ways, divisible_by):
    ends = [min(math.ceil(total * part / num_ways / divisible_by) * divisible_by, total)
            for part in range(num_ways + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


@slim.add_arg_scope
def expanded_conv(input_tensor: tf.Tensor, num_outputs: int,
                  expansion_size: int | Callable[..., int] = expand_input_by_factor(6),  # noqa: B008
                  stride: int = 1, rate: int = 1, kernel_size: Size = (3, 3), residual: bool | Callable = True,
                  normalizer_fn: Callable | None = None, split_projection: int = 1, split_expansion: int = 1,
                  split_divisible_by: int = 8, expansion_transform: Callable | None = None,
                  depthwise_location: str | None = 'expansion', depthwise_channel_multiplier: int = 1,
                  endpoints: dict[str, tf.Tensor] | None = None, use_explicit_padding: bool = False,
                  padding: str = 'SAME', inner_activation_fn: Callable | None = None,
                  depthwise_activation_fn: Callable | None = None,
                  project_activation_fn: Callable | None = tf.identity,
                  depthwise_fn: Callable = slim.separable_conv2d, expansion_fn: Callable = split_conv,
                  projection_fn: Callable = split_conv, scope: str | None = None) -> tf.Tensor:
    """The inverted residual of MobileNet V2: expansion (1x1), depthwise convolution, projection (1x1), and a shortcut.

    Args:
      input_tensor: [batch, height, width, channels].
      num_outputs: number of output channels.
      expansion_size: number of channels between; or a function of `num_inputs` that gives it. No more than there
        are channels leaves the expansion out.
      stride: of the depthwise convolution.
      rate: its dilation.
      kernel_size: its kernel.
      residual: whether to add the input where the shapes allow that; or a function of `input_tensor` and
        `output_tensor` that gives the output.
      normalizer_fn: what follows each convolution, in place of biases.
      split_projection, split_expansion: number of groups, see `split_conv`.
      split_divisible_by: see `split_conv`.
      expansion_transform: a function of `expansion_tensor` and `input_tensor` (`squeeze_excite` for one) that gives
        what is projected.
      depthwise_location: where the depthwise convolution stands: `input`, `expansion` (after it) or `output`; None
        leaves it out. Only after the expansion does an activation follow it.
      depthwise_channel_multiplier: number of outputs of the depthwise convolution for each channel.
      endpoints: a dictionary that takes in what there is of `expansion_output`, `depthwise_output`,
        `projection_output` and `output`.
      use_explicit_padding: whether the padding depends on the kernel alone, see `fixed_padding`.
      padding: of the depthwise convolution.
      inner_activation_fn: what follows expansion and depthwise convolution; None is what the arg scope says.
      depthwise_activation_fn: what follows the depthwise convolution, if it is to differ.
      project_activation_fn: what follows the projection.
      depthwise_fn: the depthwise convolution, called as `slim.separable_conv2d`.
      expansion_fn, projection_fn: `(net, num_outputs, scope=, normalizer_fn=, activation_fn=) -> net`.
      scope: variable scope; None makes one from `expanded_conv`.

    Returns:
      [batch, height / stride, width / stride, num_outputs].

    Raises:
      ValueError: the depthwise location is unknown, or explicit padding is asked for beside a padding of `VALID`.
    """
    locations = (None, 'input', 'expansion', 'output')
    if depthwise_location not in locations:
        raise names.unknown('depthwise_location', depthwise_location, map(str, locations))
    if use_explicit_padding and padding != 'SAME':
        raise ValueError(f'use_explicit_padding takes the place of padding SAME; padding is {padding!r}.')
    found: dict[str, tf.Tensor] = {} if endpoints is None else endpoints

    def depthwise(net, **activation):
        if use_explicit_padding:
            net = fixed_padding(net, kernel_size, rate)
        return depthwise_fn(net, None, kernel_size=kernel_size, depth_multiplier=depthwise_channel_multiplier,
                            stride=stride, rate=rate, normalizer_fn=normalizer_fn, scope='depthwise',
                            padding='VALID' if use_explicit_padding else padding, **activation)

    def pointwise(function, num_ways):
        if function is not split_conv:
            return function
        return functools.partial(split_conv, num_ways=num_ways, divisible_by=split_divisible_by)

    def activation(function):
        return {} if function is None else {'activation_fn': function}

    with tf.compat.v1.variable_scope(scope, 'expanded_conv', [input_tensor]):
        net = input_tensor = tf.identity(input_tensor, name='input')
        channels = input_tensor.shape.as_list()[-1]
        if depthwise_location == 'input':
            net = depthwise(net, activation_fn=None)
        size = expansion_size(num_inputs=channels) if callable(expansion_size) else expansion_size
        if size > net.shape.as_list()[-1]:
            net = pointwise(expansion_fn, split_expansion)(
                net, size, scope='expand', normalizer_fn=normalizer_fn, **activation(inner_activation_fn))
            net = found['expansion_output'] = tf.identity(net, name='expansion_output')
        if depthwise_location == 'expansion':
            net = depthwise(net, **activation(depthwise_activation_fn or inner_activation_fn))
            net = found['depthwise_output'] = tf.identity(net, name='depthwise_output')
        if expansion_transform is not None:
            net = expansion_transform(expansion_tensor=net, input_tensor=input_tensor)
        net = found['projection_output'] = pointwise(projection_fn, split_projection)(
            net, num_outputs, scope='project', normalizer_fn=normalizer_fn, activation_fn=project_activation_fn)
        if depthwise_location == 'output':
            net = depthwise(net, activation_fn=None)
        if callable(residual):
            net = residual(input_tensor=input_tensor, output_tensor=net)
        elif residual and stride == 1 and net.shape.as_list()[-1] == channels:
            net += input_tensor
        net = found['output'] = tf.identity(net, name='output')
    return net


@slim.add_arg_scope
def fused_conv(input_tensor: tf.Tensor, num_outputs: int, expansion_size: int | Callable[..., int], stride: int = 1,
               rate: int = 1, kernel_size: Size = (3, 3), use_explicit_padding: bool = False,
               endpoints: dict[str, tf.Tensor] | None = None, **kwargs) -> tf.Tensor:
    """An `expanded_conv` whose expansion and depthwise convolution are one full convolution, as in MobileNet-EdgeTPU.

    Args:
      input_tensor, num_outputs, expansion_size, endpoints: as there.
      stride, rate, kernel_size, use_explicit_padding: of the full convolution.
      **kwargs: further arguments of `expanded_conv`.
    """
    def expand(net, size, **layer):
        if use_explicit_padding:
            net = fixed_padding(net, kernel_size, rate)
        return slim.conv2d(net, size, kernel_size, stride=stride, rate=rate,
                           padding='VALID' if use_explicit_padding else 'SAME', **layer)

    return expanded_conv(input_tensor, num_outputs, expansion_size, stride=stride, depthwise_location=None,
                         expansion_fn=expand, endpoints=endpoints, **kwargs)


@slim.add_arg_scope
def split_separable_conv2d(input_tensor: tf.Tensor, num_outputs: int, scope: str | None = None,
                           normalizer_fn: Callable | None = None, stride: int = 1, rate: int = 1,
                           endpoints: dict[str, tf.Tensor] | None = None,
                           use_explicit_padding: bool = False) -> tf.Tensor:
    """A 3x3 depthwise and a 1x1 convolution, each with its normalization and activation, as in MobileNet V1.

    Args:
      input_tensor: [batch, height, width, channels].
      num_outputs: number of output channels.
      scope: variable scopes are `{scope}_depthwise` and `{scope}_pointwise`; without one, `depthwise` and `pointwise`
        in a scope made from `separable`.
      normalizer_fn: what follows each convolution, in place of biases.
      stride, rate: of the depthwise convolution.
      endpoints: a dictionary that takes in the output of each, under the name of its scope.
      use_explicit_padding: see `fixed_padding`.

    Returns:
      [batch, height / stride, width / stride, num_outputs].
    """
    with contextlib.nullcontext() if scope else tf.compat.v1.variable_scope(None, 'separable', [input_tensor]):
        prefix = f'{scope}_' if scope else ''
        if use_explicit_padding:
            input_tensor = fixed_padding(input_tensor, 3, rate)
        depthwise = slim.separable_conv2d(
            input_tensor, None, 3, depth_multiplier=1, stride=stride, rate=rate, normalizer_fn=normalizer_fn,
            padding='VALID' if use_explicit_padding else 'SAME', scope=f'{prefix}depthwise')
        pointwise = slim.conv2d(depthwise, num_outputs, 1, normalizer_fn=normalizer_fn, scope=f'{prefix}pointwise')
    if endpoints is not None:
        endpoints.update({f'{prefix}depthwise': depthwise, f'{prefix}pointwise': pointwise})
    return pointwise


def squeeze_excite(input_tensor: tf.Tensor, divisible_by: int = 8, squeeze_factor: float = 3,
                   inner_activation_fn: Callable | None = tf.nn.relu, gating_fn: Callable | None = tf.sigmoid,
                   squeeze_input_tensor: tf.Tensor | None = None, pool: Size | None = None) -> tf.Tensor:
    """Squeeze-and-excitation, arXiv:1709.01507: scales each channel by a gate that depends on all of them.

    Args:
      input_tensor: [batch, height, width, channels].
      divisible_by: what the number of squeezed channels is a multiple of.
      squeeze_factor: how many times fewer these are.
      inner_activation_fn: what follows the squeeze.
      gating_fn: what makes the gates.
      squeeze_input_tensor: what the gates depend on, [batch, height, width, any]; the input if None.
      pool: height and width of the windows that are averaged, each for gates of its own, which are then resized to
        the map (bilinearly); None averages over the whole map.

    Returns:
      A tensor of the input's shape.
    """
    channels = input_tensor.shape.as_list()[-1]
    with tf.compat.v1.variable_scope('squeeze_excite'):
        net = input_tensor if squeeze_input_tensor is None else squeeze_input_tensor
        if pool is None:
            net = tf.reduce_mean(net, [1, 2], keepdims=True)
        else:
            net = slim.avg_pool2d(net, pool, stride=1, padding='VALID')
        net = slim.conv2d(net, make_divisible(channels / squeeze_factor, divisible_by), 1, normalizer_fn=None,
                          activation_fn=inner_activation_fn)
        gates = slim.conv2d(net, channels, 1, normalizer_fn=None, activation_fn=gating_fn)
        if pool is not None:
            gates = tf.cast(tf.image.resize(gates, tf.shape(input_tensor)[1:3]), input_tensor.dtype)
        return input_tensor * gates
