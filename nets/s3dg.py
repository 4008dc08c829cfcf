"""S3D-G: Xie and others, Rethinking spatiotemporal feature learning, arXiv:1712.04851.

Inception V1 over videos: its 3x3 convolutions are one over height and width, then one over frames, and self-gating
weighs the maps of a video by their averages. Default size 224x224, any number of frames, inputs in [-1, 1]
(preprocessing `inception`). TF-Slim published no weights; the paper reports 74.7% top-1 and 93.4% top-5 on Kinetics.
"""
import functools
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, i3d_utils, inception_v1, names, table
from nets.i3d_utils import layer_3d, module_3d
from nets.scopes import Net, Scope, network_scope


def s3dg_arg_scope(weight_decay: float = 1e-7, batch_norm_decay: float = 0.999,
                   batch_norm_epsilon: float = 0.001) -> dict:
    """Returns the arg scope that S3D-G is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0.0 adds none.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: added to the variance.
    """
    return i3d_utils.arg_scope_3d(weight_decay, batch_norm_decay, batch_norm_epsilon, separable=True)


def self_gating(input_tensor: tf.Tensor, scope: str, data_format: str = 'NDHWC') -> tf.Tensor:
    """Weighs each map by the sigmoid of a linear function of the averages of all maps: the paper's feature gating.

    Args:
      input_tensor: maps [batch, frames, height, width, maps].
      scope: variable scope; the weights are in `self_gating/transformer_W` within it.
      data_format: `NDHWC`, or `NCDHW` for channels before frames.

    Returns:
      Maps of the same shape.

    Raises:
      ValueError: the data format is unknown.
    """
    input_tensor = tf.convert_to_tensor(input_tensor)
    shape, channels = input_tensor.shape.as_list(), data_format.index('C')
    others = [axis for axis in range(1, 5) if axis != channels]
    with slim.arg_scope(i3d_utils.layout(data_format)), tf.compat.v1.variable_scope(f'{scope}/self_gating'):
        if None in (shape[axis] for axis in others):
            net = tf.reduce_mean(input_tensor, others, keepdims=True)
        else:
            net = slim.avg_pool3d(input_tensor, [shape[axis] for axis in others], stride=1, scope='avg_pool3d')
        net = slim.conv3d(net, shape[channels], 1, activation_fn=None, normalizer_fn=None,
                          biases_initializer=None, scope='transformer_W')
    return tf.multiply(tf.sigmoid(net), input_tensor)


def s3dg_base(inputs: tf.Tensor, first_temporal_kernel_size: int = 3,
              temporal_conv_startat: str | None = 'Conv2d_2c_3x3', gating_startat: str | None = 'Conv2d_2c_3x3',
              final_endpoint: str | None = 'Mixed_5c', min_depth: int = 16, depth_multiplier: float = 1.0,
              data_format: str = 'NDHWC', scope: Scope = 'InceptionV1') -> Net:
    """Builds S3D-G up to an endpoint.

    Args:
      inputs: float videos [batch, frames, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      first_temporal_kernel_size: frames that the kernels of `Conv2d_1a_7x7` span.
      temporal_conv_startat: the endpoint from which on 3x3 kernels span 3 frames, and 1 before it: `Conv2d_2c_3x3` or
        a module, `Mixed_*`; None for never.
      gating_startat: the endpoint from which on there is self-gating: one of the same, or None.
      final_endpoint: where to stop: a name of `inception_v1.ROOT_BLOCK` or `inception_v1.modules()`.
      min_depth: least width of a layer.
      depth_multiplier: factor of the widths of all layers.
      data_format: `NDHWC`, or `NCDHW` for channels before frames.
      scope: variable scope.

    Returns:
      The last output, [batch, frames, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: an endpoint is unknown, the multiplier is not positive, or the videos do not fit; nothing has been
        built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    rows = inception_v1.ROOT_BLOCK + inception_v1.modules()
    starts = [name for name, item in rows if name == 'Conv2d_2c_3x3' or isinstance(item, tuple)]

    def has_started(argument, start):
        if start is not None and start not in starts:
            raise names.unknown(argument, start, starts)
        return starts[starts.index(start):] if start else []

    temporal = has_started('temporal_conv_startat', temporal_conv_startat)
    gated = has_started('gating_startat', gating_startat)
    gate = functools.partial(self_gating, data_format=data_format)

    def in_3d(name, item):
        frames, gating = (3 if name in temporal else 1), (gate if name in gated else None)
        if isinstance(item, tuple):
            return module_3d(item, frames, gating, data_format)
        if name == 'Conv2d_1a_7x7':
            return layer_3d(item, first_temporal_kernel_size, separable=False)
        if name == 'Conv2d_2c_3x3':
            return layer_3d(item, frames, self_gating_fn=gating)
        if name in ('MaxPool_2a_3x3', 'MaxPool_3a_3x3'):        # they keep the frames
            return layer_3d(item, frames=1, step=1)
        return layer_3d(item)

    # For 64x224x224: 32x112x112 at first, 32x28x28 from MaxPool_3a on, 16x14x14 from MaxPool_4a, 8x7x7 from MaxPool_5a.
    rows = [(name, in_3d(name, item)) for name, item in table.scale_widths(rows, depth_multiplier, min_depth)]
    with slim.arg_scope(i3d_utils.layout(data_format)), \
            slim.arg_scope([slim.conv3d], weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.01)):
        return table.build(rows, inputs, final_endpoint, scope, default_name='InceptionV1', data_format=data_format)


def s3dg(inputs: tf.Tensor, num_classes: int | None = 1000, first_temporal_kernel_size: int = 3,
         temporal_conv_startat: str | None = 'Conv2d_2c_3x3', gating_startat: str | None = 'Conv2d_2c_3x3',
         final_endpoint: str | None = 'Mixed_5c', min_depth: int = 16, depth_multiplier: float = 1.0,
         dropout_keep_prob: float = 0.8, is_training: bool | tf.Tensor = True, prediction_fn: Callable = slim.softmax,
         spatial_squeeze: bool = True, reuse: bool | None = None, data_format: str = 'NDHWC',
         scope: Scope = 'InceptionV1', global_pool: bool = False) -> Net:
    """Builds S3D-G with its classifier, whose logits are averaged over the frames.

    Args:
      inputs: float videos [batch, frames, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      first_temporal_kernel_size, temporal_conv_startat, gating_startat, min_depth, depth_multiplier: see `s3dg_base`.
      final_endpoint: the endpoint that the classifier stands on.
      dropout_keep_prob: share of the features that dropout keeps.
      is_training: whether to drop out, and to normalise by the batch's own statistics.
      prediction_fn: `(logits, scope=...) -> predictions`.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      reuse: whether to take the variables that are there.
      data_format: `NDHWC`, or `NCDHW` for channels before frames.
      scope: variable scope.
      global_pool: whether to average over the whole map, whatever its size, rather than over 2x7x7. The 2x7x7 shrinks
        to the map for small or short videos; those above 224 pixels need `global_pool` (or `spatial_squeeze=False`).

    Returns:
      Logits, or without classes the last map, with `global_pool` its average [batch, 1, 1, 1, 1024]; and a dictionary
      endpoint -> output, with `Logits` and `Predictions`. Outputs have the videos' type, predictions at least float32.

    Raises:
      ValueError: an endpoint is unknown, or the videos do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    i3d_utils.layout(data_format)       # refuses those of images
    with network_scope(scope, 'InceptionV1', inputs, reuse, data_format=data_format) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if num_classes and spatial_squeeze and not global_pool:
            shape = tf.TensorShape(inputs.shape).as_list()
            frame = tf.TensorSpec([shape[data_format.index(axis)] for axis in 'NHWC'])
            largest = table.least_size(inception_v1.ROOT_BLOCK + inception_v1.modules(), 8) - 1
            heads.check_single_logits(frame, largest, 'InceptionV1')
        net, end_points = s3dg_base(inputs, first_temporal_kernel_size, temporal_conv_startat, gating_startat,
                                    final_endpoint, min_depth, depth_multiplier, data_format, scope)
        if data_format == 'NCDHW':
            net = tf.transpose(net, [0, 2, 3, 4, 1])
        with tf.compat.v1.variable_scope('Logits'):
            if global_pool:
                net = end_points['global_pool'] = tf.reduce_mean(net, [1, 2, 3], keepdims=True, name='global_pool')
            if not num_classes:
                return net, end_points
            if not global_pool:
                kernel = i3d_utils.reduced_kernel_size_3d(net, [2, 7, 7])
                net = slim.avg_pool3d(net, kernel, stride=1, scope='AvgPool_0a_7x7')
            net = slim.dropout(net, dropout_keep_prob, scope='Dropout_0b')
            logits = slim.conv3d(net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope='Conv2d_0c_1x1')
            logits = tf.reduce_mean(logits, 1)
            if spatial_squeeze:
                logits = heads.squeeze(logits)
            end_points['Logits'] = logits
            end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


s3dg.default_image_size = 224
