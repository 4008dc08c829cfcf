"""MobileNet V1: Howard and others, MobileNets: Efficient convolutional neural networks, arXiv:1704.04861.

Default size 224x224, inputs in [-1, 1] (preprocessing `inception`). The published weights (1001 classes, class 0 is
background) reach on ImageNet 70.9% top-1 and 89.9% top-5 at full width; 59.1% and 81.9% at half, for 160x160 pixels;
41.5% and 66.3% at a quarter, for 128x128.
"""
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.atrous import Size, fixed_padding, strides_and_rates
from nets.mobilenet.mobilenet import safe_arg_scope, wrapped_partial
from nets.scopes import Net, Scope, network_scope


class Conv(NamedTuple):
    """A convolution: its kernel, stride and number of outputs."""

    kernel: Size
    stride: int
    depth: int


class DepthSepConv(NamedTuple):
    """A depthwise convolution with this kernel and stride, then a 1x1 convolution with `depth` outputs."""

    kernel: Size
    stride: int
    depth: int


MOBILENETV1_CONV_DEFS = [                                   # arXiv:1704.04861, Table 1; output for 224x224
    Conv(kernel=[3, 3], stride=2, depth=32),                # 112x112x32
    DepthSepConv(kernel=[3, 3], stride=1, depth=64),        # 112x112x64
    DepthSepConv(kernel=[3, 3], stride=2, depth=128),       # 56x56x128
    DepthSepConv(kernel=[3, 3], stride=1, depth=128),       # 56x56x128
    DepthSepConv(kernel=[3, 3], stride=2, depth=256),       # 28x28x256
    DepthSepConv(kernel=[3, 3], stride=1, depth=256),       # 28x28x256
    DepthSepConv(kernel=[3, 3], stride=2, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=1, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=1, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=1, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=1, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=1, depth=512),       # 14x14x512
    DepthSepConv(kernel=[3, 3], stride=2, depth=1024),      # 7x7x1024
    DepthSepConv(kernel=[3, 3], stride=1, depth=1024),      # 7x7x1024
]


def _strides_and_rates(conv_defs, output_stride):
    return strides_and_rates([row.stride for row in conv_defs], output_stride)


def _rows(conv_defs, output_stride, use_explicit_padding, depth):
    for number, (row, (stride, rate)) in enumerate(
            zip(conv_defs, _strides_and_rates(conv_defs, output_stride), strict=True)):
        layer = functools.partial(_spatial, kernel=row.kernel, stride=stride, rate=rate,
                                  use_explicit_padding=use_explicit_padding)
        if isinstance(row, Conv):
            yield f'Conv2d_{number}', functools.partial(layer, num_outputs=depth(row.depth))
        else:
            yield f'Conv2d_{number}_depthwise', functools.partial(layer, num_outputs=None)
            yield f'Conv2d_{number}_pointwise', table.conv(depth(row.depth), 1)


def _spatial(net, scope, kernel, stride, rate, use_explicit_padding, num_outputs):
    if use_explicit_padding:
        net = fixed_padding(net, kernel, rate)
    layer = slim.conv2d if num_outputs else functools.partial(slim.separable_conv2d, depth_multiplier=1)
    return layer(net, num_outputs, kernel_size=kernel, stride=stride, rate=rate,
                 padding='VALID' if use_explicit_padding else 'SAME', scope=scope)


def mobilenet_v1_base(inputs: tf.Tensor, final_endpoint: str | None = 'Conv2d_13_pointwise', min_depth: int = 8,
                      depth_multiplier: float = 1.0, conv_defs: list[Conv | DepthSepConv] | None = None,
                      output_stride: int | None = None, use_explicit_padding: bool = False,
                      scope: Scope = None) -> Net:
    """Builds MobileNet V1 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      final_endpoint: where to stop: `Conv2d_0`, `Conv2d_1_depthwise`, `Conv2d_1_pointwise`, ...; None builds all.
      min_depth: least number of channels, where a depth multiplier below one leaves less.
      depth_multiplier: factor of all numbers of channels.
      conv_defs: the rows; `MOBILENETV1_CONV_DEFS` if None.
      output_stride: where the product of the strides has reached this (1, 2, 4, 8, 16), layers are dilated in place
        of strided.
      use_explicit_padding: whether the padding depends on the kernels alone, and not on the size of the map.
      scope: variable scope; None is `MobilenetV1`.

    Returns:
      The last output, [batch, height, width, channels], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint or an argument is not valid (nothing has been built then), or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    if depth_multiplier <= 0:
        raise ValueError(f'The depth multiplier must be greater than zero; it is {depth_multiplier}.')
    rows = list(_rows(conv_defs or MOBILENETV1_CONV_DEFS, output_stride, use_explicit_padding,
                      lambda depth: max(int(depth * depth_multiplier), min_depth)))
    return table.build(rows, inputs, final_endpoint, scope, default_name='MobilenetV1')


def mobilenet_v1(inputs: tf.Tensor, num_classes: int | None = 1000, dropout_keep_prob: float = 0.999,
                 is_training: bool | tf.Tensor | None = True, min_depth: int = 8, depth_multiplier: float = 1.0,
                 conv_defs: list[Conv | DepthSepConv] | None = None, prediction_fn: Callable | None = slim.softmax,
                 spatial_squeeze: bool = True, reuse: bool | None = None,
                 scope: Scope = 'MobilenetV1', global_pool: bool = False,
                 output_stride: int | None = None,
                 use_explicit_padding: bool = False) -> Net:
    """Builds MobileNet V1 with its classifier.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      dropout_keep_prob: share of the features that dropout keeps.
      is_training: whether to drop out, and to normalize by the batch's own statistics; None leaves both to the arg
        scope.
      min_depth, depth_multiplier, conv_defs, output_stride, use_explicit_padding: see `mobilenet_v1_base`.
      prediction_fn: `(logits, scope=...) -> predictions`; None makes none.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      reuse: whether to take the variables that are there.
      scope: variable scope.
      global_pool: whether to average over the whole map, whatever its size, rather than over 7x7. The 7x7 shrinks to
        the map for images below 224 pixels; above 256 pixels, where the map is larger than 8x8 (as it is for less with
        an output stride), images need `global_pool` (or `spatial_squeeze=False`).

    Returns:
      Logits, or without classes the pooled features [batch, 1, 1, 1024]; and a dictionary endpoint -> output, with
      `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: an argument is not valid, or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'MobilenetV1', inputs, reuse) as scope, \
            safe_arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if num_classes and spatial_squeeze and not global_pool:
            strides = (stride for stride, _ in _strides_and_rates(conv_defs or MOBILENETV1_CONV_DEFS, output_stride))
            heads.check_single_logits(inputs, 8 * math.prod(strides), 'MobilenetV1')
        net, end_points = mobilenet_v1_base(
            inputs, None, min_depth, depth_multiplier, conv_defs, output_stride, use_explicit_padding, scope)
        with tf.compat.v1.variable_scope('Logits'):
            logits = heads.conv_logits(net, end_points, num_classes, 7, dropout_keep_prob, spatial_squeeze, global_pool,
                                       stride=2, pool='AvgPool_1a', pre_logits=None)
        if num_classes and prediction_fn:
            end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


mobilenet_v1.default_image_size = 224


def _variant(depth_multiplier):
    return (wrapped_partial(mobilenet_v1, depth_multiplier=depth_multiplier),
            wrapped_partial(mobilenet_v1_base, depth_multiplier=depth_multiplier))


mobilenet_v1_075, mobilenet_v1_075_base = _variant(0.75)
mobilenet_v1_050, mobilenet_v1_050_base = _variant(0.5)
mobilenet_v1_025, mobilenet_v1_025_base = _variant(0.25)


def mobilenet_v1_arg_scope(is_training: bool | tf.Tensor | None = True, weight_decay: float = 0.00004,
                           stddev: float = 0.09, regularize_depthwise: bool = False, batch_norm_decay: float = 0.9997,
                           batch_norm_epsilon: float = 0.001,
                           batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
                           normalizer_fn: Callable | None = slim.batch_norm) -> dict:
    """Returns the arg scope that MobileNet V1 is built under.

    Args:
      is_training: whether batch norm takes the batch's own statistics; None leaves that to other arg scopes.
      weight_decay: factor of the L2 loss of the weights.
      stddev: of the truncated normal that weights begin with.
      regularize_depthwise: whether depthwise weights are part of the L2 loss.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: added to the variance.
      batch_norm_updates_collections: graph collection for the updates of the moving statistics; None applies them
        in the forward pass.
      normalizer_fn: what follows each convolution, in place of biases.
    """
    regularizer = slim.l2_regularizer(weight_decay)
    with slim.arg_scope([slim.conv2d, slim.separable_conv2d], activation_fn=tf.nn.relu6, normalizer_fn=normalizer_fn,
                        weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=stddev)), \
            slim.arg_scope([slim.conv2d], weights_regularizer=regularizer), \
            slim.arg_scope([slim.separable_conv2d],
                           weights_regularizer=regularizer if regularize_depthwise else None), \
            safe_arg_scope([slim.batch_norm], is_training=is_training), \
            slim.arg_scope([slim.batch_norm], center=True, scale=True, decay=batch_norm_decay,
                           epsilon=batch_norm_epsilon,
                           updates_collections=batch_norm_updates_collections) as scope:
        return scope
