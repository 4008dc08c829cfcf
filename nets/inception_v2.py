"""Inception V2 (BN-Inception): Ioffe and Szegedy, Batch normalization, arXiv:1502.03167.

Default size 224x224, inputs in [-1, 1] (preprocessing `inception`). The published weights (2016_08_28, 1001 classes,
class 0 is background) reach 73.9% top-1 and 91.8% top-5 on ImageNet. The first convolution is separable and has biases
in place of batch norm.
"""
import functools
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, names, table
from nets.inception_utils import inception_arg_scope
from nets.scopes import Net, Scope, network_scope
from nets.table import avg_pool, conv, max_pool

inception_v2_arg_scope = inception_arg_scope


def _conv2d(stddev):
    initializer = tf.compat.v1.truncated_normal_initializer(stddev=stddev)
    return functools.partial(slim.conv2d, weights_initializer=initializer)


# Before a larger kernel, and after a pooling.
_REDUCE, _PROJECT = _conv2d(0.09), _conv2d(0.1)


def v2(a, b, c, pool, d):
    """Returns a module: the columns of the paper's figure 5."""
    return ([conv(a, 1)], [conv(b[0], 1, op=_REDUCE), conv(b[1], 3)],
            [conv(c[0], 1, op=_REDUCE), conv(c[1], 3), conv(c[1], 3)], [pool(3), conv(d, 1, op=_PROJECT)])


def v2_reduce(b, c):
    """Returns a module that halves the map; it has no 1x1 branch, and passes the pooling through."""
    return ([conv(b[0], 1, op=_REDUCE), conv(b[1], 3, stride=2)],
            [conv(c[0], 1, op=_REDUCE), conv(c[1], 3), conv(c[1], 3, stride=2)], [max_pool(3, stride=2)])


ROOT_BLOCK: table.Table = [                                         # output for 224x224
    ('Conv2d_1a_7x7', conv(64, 7, stride=2)),                       # 112x112x64
    ('MaxPool_2a_3x3', max_pool(3, stride=2)),                      # 56x56x64
    ('Conv2d_2b_1x1', conv(64, 1, op=_PROJECT)),                    # 56x56x64
    ('Conv2d_2c_3x3', conv(192, 3)),                                # 56x56x192
    ('MaxPool_3a_3x3', max_pool(3, stride=2)),                      # 28x28x192
]
MODULES: table.Table = [
    #                1x1   3x3         double 3x3  pool                     output for 224x224
    ('Mixed_3b', v2(  64, ( 64,  64), ( 64,  96), avg_pool,  32)),  # 28x28x256
    ('Mixed_3c', v2(  64, ( 64,  96), ( 64,  96), avg_pool,  64)),  # 28x28x320
    ('Mixed_4a', v2_reduce((128, 160), ( 64,  96))),                # 14x14x576
    ('Mixed_4b', v2( 224, ( 64,  96), ( 96, 128), avg_pool, 128)),  # 14x14x576
    ('Mixed_4c', v2( 192, ( 96, 128), ( 96, 128), avg_pool, 128)),  # 14x14x576
    ('Mixed_4d', v2( 160, (128, 160), (128, 160), avg_pool,  96)),  # 14x14x576
    ('Mixed_4e', v2(  96, (128, 192), (160, 192), avg_pool,  96)),  # 14x14x576
    ('Mixed_5a', v2_reduce((128, 192), (192, 256))),                # 7x7x1024
    ('Mixed_5b', v2( 352, (192, 320), (160, 224), avg_pool, 128)),  # 7x7x1024
    ('Mixed_5c', v2( 352, (192, 320), (192, 224), max_pool, 128)),  # 7x7x1024
]


def _separable(first):
    """Returns the first convolution with each channel's kernels apart, at most 8 of them."""
    op = functools.partial(slim.separable_conv2d, depth_multiplier=min(first.width // 3, 8),
                           weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=1.0))
    return conv(first.width, first.kernel, first.stride, op=op)


def inception_v2_base(inputs: tf.Tensor, final_endpoint: str = 'Mixed_5c', min_depth: int = 16,
                      depth_multiplier: float = 1.0, use_separable_conv: bool = True, data_format: str = 'NHWC',
                      include_root_block: bool = True, scope: Scope = None) -> Net:
    """Builds Inception V2 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown. Without
        the root block, the map that takes its output's place (28x28x192 for 224x224).
      final_endpoint: where to stop: a name of `ROOT_BLOCK` or `MODULES`.
      min_depth: least width of a layer that `depth_multiplier` changes.
      depth_multiplier: factor of the width of all layers.
      use_separable_conv: whether the first convolution is separable, as in the published weights.
      data_format: `NHWC`, or `NCHW` for [batch, channels, height, width], without a separable convolution.
      include_root_block: whether to build the layers before the first module.
      scope: variable scope; None is `InceptionV2`.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint or data format is unknown, the multiplier not positive, or the images do not fit;
        nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    if data_format not in ('NHWC', 'NCHW'):
        raise names.unknown('data_format', data_format, ('NHWC', 'NCHW'))
    if use_separable_conv and data_format == 'NCHW':
        raise ValueError('The separable convolution of InceptionV2 takes NHWC only: pass use_separable_conv=False.')
    rows = table.scale_widths((ROOT_BLOCK if include_root_block else []) + MODULES, depth_multiplier, min_depth)
    if use_separable_conv and include_root_block:
        rows[0] = (rows[0][0], _separable(rows[0][1]))
    return table.build(rows, inputs, final_endpoint, scope, 'InceptionV2', data_format)


def inception_v2(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
                 dropout_keep_prob: float = 0.8, min_depth: int = 16, depth_multiplier: float = 1.0,
                 prediction_fn: Callable = slim.softmax, spatial_squeeze: bool = True, reuse: bool | None = None,
                 scope: Scope = 'InceptionV2', global_pool: bool = False) -> Net:
    """Builds Inception V2 with its classifier.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out, and to normalise by the batch's own statistics.
      dropout_keep_prob: share of the features that dropout keeps.
      min_depth, depth_multiplier: see `inception_v2_base`.
      prediction_fn: `(logits, scope=...) -> predictions`.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      reuse: whether to take the variables that are there.
      scope: variable scope.
      global_pool: whether to average over the whole map, whatever its size, rather than over 7x7. The 7x7 shrinks to
        the map for images below 224 pixels; larger images need `global_pool` (or `spatial_squeeze=False`).

    Returns:
      Logits, or without classes the pooled features [batch, 1, 1, 1024]; and a dictionary endpoint -> output, with
      `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the multiplier is not positive, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'InceptionV2', inputs, reuse) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if num_classes and spatial_squeeze and not global_pool:
            heads.check_single_logits(inputs, table.least_size(ROOT_BLOCK + MODULES, 8) - 1, 'InceptionV2')
        net, end_points = inception_v2_base(inputs, min_depth=min_depth, depth_multiplier=depth_multiplier, scope=scope)
        with tf.compat.v1.variable_scope('Logits'):
            logits = heads.conv_logits(net, end_points, num_classes, 7, dropout_keep_prob, spatial_squeeze, global_pool)
        if num_classes:
            end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


inception_v2.default_image_size = 224
