"""What the networks of videos, I3D and S3D-G, are made of: Inception V1's layers, with kernels that span frames."""
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import inception_v1, names, table

# What batch norm and branches call the layouts: to them it only matters where the channels are.
_CHANNELS = {'NDHWC': 'NHWC', 'NCDHW': 'NCHW'}


def layout(data_format: str) -> dict:
    """Returns an arg scope for layers on videos in the order `data_format`: `NDHWC` or `NCDHW`.

    Raises:
      ValueError: it is neither.
    """
    if data_format not in _CHANNELS:
        raise names.unknown('data_format', data_format, _CHANNELS)
    with slim.arg_scope([slim.batch_norm], data_format=_CHANNELS[data_format]), \
            slim.arg_scope([slim.conv3d, slim.max_pool3d, slim.avg_pool3d, conv3d_spatiotemporal],
                           data_format=data_format) as scope:
        return scope


def arg_scope_3d(weight_decay: float, batch_norm_decay: float, batch_norm_epsilon: float, use_renorm: bool = False,
                 separable: bool = False) -> dict:
    """Returns the arg scope of I3D (`nets.i3d.i3d_arg_scope`) and of S3D-G, whose convolutions are `separable`."""
    collections = {'beta': None, 'gamma': None, 'moving_mean': ['moving_vars'], 'moving_variance': ['moving_vars']}
    normalizer = dict(decay=batch_norm_decay, epsilon=batch_norm_epsilon, fused=False, renorm=use_renorm,
                      variables_collections=collections)
    with slim.arg_scope([slim.conv3d, conv3d_spatiotemporal], activation_fn=tf.nn.relu,
                        weights_regularizer=slim.l2_regularizer(weight_decay),
                        normalizer_fn=slim.batch_norm, normalizer_params=normalizer):
        with slim.arg_scope([conv3d_spatiotemporal], separable=separable) as scope:
            return scope


def center_initializer() -> Callable:
    """Returns an initializer of temporal kernels, [frames, 1, 1, maps, maps], with which they are the identity.

    It raises ValueError for kernels of another shape, and for an even number of frames.
    """
    def initializer(shape, dtype=tf.float32, partition_info=None):
        frames, height, width, inputs, outputs = map(int, shape)
        if (height, width) != (1, 1) or inputs != outputs or frames % 2 == 0:
            raise ValueError('The identity over frames is a kernel [frames, 1, 1, maps, maps], where frames is odd; '
                             f'this one is {[frames, height, width, inputs, outputs]}.')
        return tf.pad(tf.eye(inputs, batch_shape=[1, 1, 1], dtype=dtype), [[frames // 2] * 2, *[[0, 0]] * 4])
    return initializer


@slim.add_arg_scope
def conv3d_spatiotemporal(inputs: tf.Tensor, num_outputs: int, kernel_size: int | Sequence[int],
                          stride: int | Sequence[int] = 1, padding: str = 'SAME',
                          activation_fn: Callable | None = None, normalizer_fn: Callable | None = None,
                          normalizer_params: dict | None = None, weights_regularizer: Callable | None = None,
                          separable: bool = False, data_format: str = 'NDHWC', scope: str = '') -> tf.Tensor:
    """A convolution over frames, height and width; separable, one over height and width, then one over frames.

    Args:
      inputs: videos or maps [batch, frames, height, width, channels].
      num_outputs: number of output maps.
      kernel_size: frames, height and width of the kernel; one number is all three.
      stride: the same of its strides.
      padding: `SAME` or `VALID`.
      activation_fn: follows the convolution; both, where it is separable.
      normalizer_fn: follows the convolution; where it is separable the first, and the second has biases.
      normalizer_params: arguments of `normalizer_fn`.
      weights_regularizer: regularizer of the weights.
      separable: whether a kernel of several frames is split. Its second half begins as the identity, and needs an odd
        number of frames.
      data_format: `NDHWC`, or `NCDHW` for channels before frames.
      scope: variable scope; the second convolution has `temporal` within it.

    Returns:
      The maps, [batch, frames, height, width, num_outputs].

    Raises:
      ValueError: kernel or stride are not one number or three, or the data format is unknown.
    """
    (frames, *size), (step, *steps) = _triple('kernel_size', kernel_size), _triple('stride', stride)
    with slim.arg_scope(layout(data_format)):
        conv3d = functools.partial(slim.conv3d, num_outputs=num_outputs, padding=padding, activation_fn=activation_fn,
                                   weights_regularizer=weights_regularizer)
        if not separable or frames == 1:
            return conv3d(inputs, kernel_size=[frames, *size], stride=[step, *steps], normalizer_fn=normalizer_fn,
                          normalizer_params=normalizer_params, scope=scope)
        net = conv3d(inputs, kernel_size=[1, *size], stride=[1, *steps], normalizer_fn=normalizer_fn,
                     normalizer_params=normalizer_params, scope=scope)
        return conv3d(net, kernel_size=[frames, 1, 1], stride=[step, 1, 1], normalizer_fn=None,
                      weights_initializer=center_initializer(), scope=f'{scope}/temporal' if scope else 'temporal')


def _triple(argument, value):
    triple = [value] * 3 if isinstance(value, int) else list(value)
    if len(triple) != 3:
        raise ValueError(f'{argument} must be one number, or three for frames, height and width; it is {value}.')
    return triple


def layer_3d(layer: table.Layer, frames: int | None = None, step: int | None = None,
             self_gating_fn: Callable | None = None, **kwargs) -> table.Layer:
    """Returns a layer of images as one of videos, under its name by the rule.

    Args:
      layer: a convolution or a max pooling.
      frames: how many its kernel spans; as many as it is wide if None, as in a cube.
      step: its stride over frames; that over pixels if None.
      self_gating_fn: `(net, scope=...) -> net`, applied to its output; or None.
      **kwargs: further arguments of the layer's function.
    """
    pooling = layer.width is None
    function = slim.max_pool3d if pooling else slim.conv3d if layer.kernel == 1 else conv3d_spatiotemporal

    def op(net, *width_and_kernel, stride, padding, scope):
        *width, kernel = width_and_kernel
        net = function(net, *width, [kernel if frames is None else frames, kernel, kernel],
                       stride=[step or stride, stride, stride], padding=padding, scope=scope, **kwargs)
        return self_gating_fn(net, scope=scope) if self_gating_fn else net

    return dataclasses.replace(layer, op=op, scope=None)


def module_3d(module: table.Module, temporal_kernel_size: int = 3, self_gating_fn: Callable | None = None,
              data_format: str = 'NDHWC') -> Callable[[tf.Tensor, str], tf.Tensor]:
    """Returns a module of Inception V1 as one of videos, `(net, scope) -> net`: see `inception_block_v1_3d`."""
    def in_3d(layer, last):
        frames = temporal_kernel_size if layer.width and layer.kernel > 1 else None
        return layer_3d(layer, frames, self_gating_fn=self_gating_fn if last else None)

    module = tuple([in_3d(layer, layer is branch[-1]) for layer in branch] for branch in module)

    def build(net, scope):
        with tf.compat.v1.variable_scope(scope), slim.arg_scope(layout(data_format)):
            return table.build_branches(module, net, _CHANNELS[data_format])
    return build


def inception_block_v1_3d(inputs: tf.Tensor, num_outputs_0_0a: int, num_outputs_1_0a: int, num_outputs_1_0b: int,
                          num_outputs_2_0a: int, num_outputs_2_0b: int, num_outputs_3_0b: int,
                          temporal_kernel_size: int = 3, self_gating_fn: Callable | None = None,
                          data_format: str = 'NDHWC', scope: str = '') -> tf.Tensor:
    """A module of Inception V1 in three dimensions.

    Args:
      inputs: maps [batch, frames, height, width, channels].
      num_outputs_0_0a, ..., num_outputs_3_0b: widths of its convolutions; `1_0b` is the second of branch 1.
      temporal_kernel_size: frames that the kernels of its two 3x3 convolutions span; its pooling spans 3.
      self_gating_fn: `(net, scope=...) -> net`, applied to the last convolution of each branch; or None.
      data_format: `NDHWC`, or `NCDHW` for channels before frames.
      scope: variable scope.

    Returns:
      The maps, as many as `0_0a`, `1_0b`, `2_0b` and `3_0b` together.

    Raises:
      ValueError: the data format is unknown.
    """
    widths = iter([num_outputs_0_0a, num_outputs_1_0a, num_outputs_1_0b, num_outputs_2_0a, num_outputs_2_0b,
                   num_outputs_3_0b])
    first: Any = inception_v1.modules()[0][1]
    module = tuple([dataclasses.replace(layer, width=layer.width and next(widths)) for layer in branch]
                   for branch in first)
    return module_3d(module, temporal_kernel_size, self_gating_fn, data_format)(inputs, scope)


def reduced_kernel_size_3d(input_tensor: tf.Tensor, kernel_size: Sequence[int]) -> list[int]:
    """Returns a kernel of frames, height and width, reduced to the map [batch, frames, height, width, channels].

    An unknown size counts as large.
    """
    sizes = tf.TensorShape(input_tensor.shape).as_list()[1:4]
    return [kernel if size is None else min(size, kernel) for size, kernel in zip(sizes, kernel_size, strict=True)]
