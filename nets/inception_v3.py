"""Inception V3: Szegedy and others, Rethinking the Inception architecture for computer vision, arXiv:1512.00567.

Default size 299x299, inputs in [-1, 1] (preprocessing `inception`). The published weights (2016_08_28, 1001 classes,
class 0 is background) reach 78.0% top-1 and 93.9% top-5 on ImageNet.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.inception_utils import inception_arg_scope
from nets.scopes import Net, Scope, network_scope
from nets.table import avg_pool, conv, max_pool

inception_v3_arg_scope = inception_arg_scope


def v3_35(pool, names_5x5=(None, None)):
    """Returns a module of the 35x35 maps, figure 5 of the paper, with a 5x5 convolution left whole."""
    return ([conv(64, 1)], [conv(48, 1, scope=names_5x5[0]), conv(64, 5, scope=names_5x5[1])],
            [conv(64, 1), conv(96, 3), conv(96, 3)], [avg_pool(3), conv(pool, 1)])


def v3_17(n):
    """Returns a module of the 17x17 maps, figure 6: 7x7 convolutions in factors."""
    return ([conv(192, 1)], [conv(n, 1), conv(n, (1, 7)), conv(192, (7, 1))],
            [conv(n, 1), conv(n, (7, 1)), conv(n, (1, 7)), conv(n, (7, 1)), conv(192, (1, 7))],
            [avg_pool(3), conv(192, 1)])


def v3_8(name_3x1=None):
    """Returns a module of the 8x8 maps, figure 7: 1x3 and 3x1 side by side."""
    return ([conv(320, 1)], [conv(384, 1), (conv(384, (1, 3)), conv(384, (3, 1), scope=name_3x1))],
            [conv(448, 1), conv(384, 3), (conv(384, (1, 3)), conv(384, (3, 1)))], [avg_pool(3), conv(192, 1)])


TABLE: table.Table = [                                              # output for 299x299
    ('Conv2d_1a_3x3', conv(32, 3, 2, 'VALID')),                     # 149x149x32
    ('Conv2d_2a_3x3', conv(32, 3, 1, 'VALID')),                     # 147x147x32
    ('Conv2d_2b_3x3', conv(64, 3)),                                 # 147x147x64
    ('MaxPool_3a_3x3', max_pool(3, 2, 'VALID')),                    # 73x73x64
    ('Conv2d_3b_1x1', conv(80, 1, 1, 'VALID')),                     # 73x73x80
    ('Conv2d_4a_3x3', conv(192, 3, 1, 'VALID')),                    # 71x71x192
    ('MaxPool_5a_3x3', max_pool(3, 2, 'VALID')),                    # 35x35x192
    ('Mixed_5b', v3_35(32)),                                        # 35x35x256
    ('Mixed_5c', v3_35(64, ('Conv2d_0b_1x1', 'Conv_1_0c_5x5'))),    # 35x35x288, published names
    ('Mixed_5d', v3_35(64)),                                        # 35x35x288
    ('Mixed_6a', ([conv(384, 3, 2, 'VALID', 'Conv2d_1a_1x1')],      # 17x17x768, published names
                  [conv(64, 1), conv(96, 3), conv(96, 3, 2, 'VALID', 'Conv2d_1a_1x1')],
                  [max_pool(3, 2, 'VALID')])),
    ('Mixed_6b', v3_17(128)),                                       # 17x17x768
    ('Mixed_6c', v3_17(160)),                                       # 17x17x768
    ('Mixed_6d', v3_17(160)),                                       # 17x17x768
    ('Mixed_6e', v3_17(192)),                                       # 17x17x768
    ('Mixed_7a', ([conv(192, 1), conv(320, 3, 2, 'VALID')],         # 8x8x1280
                  [conv(192, 1), conv(192, (1, 7)), conv(192, (7, 1)), conv(192, 3, 2, 'VALID')],
                  [max_pool(3, 2, 'VALID')])),
    ('Mixed_7b', v3_8('Conv2d_0b_3x1')),                            # 8x8x2048, published name
    ('Mixed_7c', v3_8()),                                           # 8x8x2048
]


def inception_v3_base(inputs: tf.Tensor, final_endpoint: str = 'Mixed_7c', min_depth: int = 16,
                      depth_multiplier: float = 1.0, scope: Scope = None, torch_padding: bool = False) -> Net:
    """Builds Inception V3 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1], at least 75x75 for all endpoints; all but the
        channels may be unknown.
      final_endpoint: where to stop: a name of `TABLE`.
      min_depth: least width of a layer that `depth_multiplier` changes.
      depth_multiplier: factor of the width of all layers.
      scope: variable scope; None is `InceptionV3`.
      torch_padding: whether the average poolings count the zeros around the map, as in the `inception_v3` of
        torchvision and timm, for weights from there.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, the multiplier not positive, or the images do not fit; nothing has been
        built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    rows = table.scale_widths(TABLE, depth_multiplier, min_depth)
    if torch_padding:
        rows = table.pad_as_torch(rows)
    return table.build(rows, inputs, final_endpoint, scope, default_name='InceptionV3')


def inception_v3(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
                 dropout_keep_prob: float = 0.8, min_depth: int = 16, depth_multiplier: float = 1.0,
                 prediction_fn: Callable = slim.softmax, spatial_squeeze: bool = True, reuse: bool | None = None,
                 create_aux_logits: bool = True, scope: Scope = 'InceptionV3',
                 global_pool: bool = False, torch_padding: bool = False) -> Net:
    """Builds Inception V3 with its classifier.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1], at least 75x75; all but the channels may be
        unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out, and to normalise by the batch's own statistics.
      dropout_keep_prob: share of the features that dropout keeps.
      min_depth, depth_multiplier: see `inception_v3_base`.
      prediction_fn: `(logits, scope=...) -> predictions`.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      reuse: whether to take the variables that are there.
      create_aux_logits: whether to build the auxiliary classifier, endpoint `AuxLogits`. It serves training only;
        of images of unknown size it takes 299x299 and larger.
      scope: variable scope.
      global_pool: whether to average over the whole map, whatever its size, rather than over 8x8. The 8x8 shrinks to
        the map for images below 299 pixels; images above 330 need `global_pool` (or `spatial_squeeze=False`).
      torch_padding: see `inception_v3_base`.

    Returns:
      Logits, or without classes the pooled features [batch, 1, 1, 2048]; and a dictionary endpoint -> output, with
      `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the multiplier is not positive, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'InceptionV3', inputs, reuse) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if num_classes and spatial_squeeze and not global_pool:
            heads.check_single_logits(inputs, table.least_size(TABLE, 9) - 1, 'InceptionV3')
        net, end_points = inception_v3_base(inputs, min_depth=min_depth, depth_multiplier=depth_multiplier, scope=scope,
                                            torch_padding=torch_padding)
        if create_aux_logits and num_classes:
            with tf.compat.v1.variable_scope('AuxLogits'):
                end_points['AuxLogits'] = _aux_logits(
                    end_points['Mixed_6e'], num_classes, table.depth(depth_multiplier, min_depth), spatial_squeeze,
                    global_pool)
        with tf.compat.v1.variable_scope('Logits'):
            logits = heads.conv_logits(net, end_points, num_classes, 8, dropout_keep_prob, spatial_squeeze, global_pool,
                                       mean='GlobalPool')
        if num_classes:
            end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


inception_v3.default_image_size = 299


def _aux_logits(net, num_classes, width, spatial_squeeze, global_pool):
    normal = tf.compat.v1.truncated_normal_initializer
    net = heads.aux_features(net, 'AvgPool_1a_5x5', 'Conv2d_2a_{}x{}', width, kernel=5,
                             weights_initializer=normal(stddev=0.01))
    logits = slim.conv2d(net, num_classes, 1, activation_fn=None, normalizer_fn=None,
                         weights_initializer=normal(stddev=0.001), scope='Conv2d_2b_1x1')
    if global_pool:
        logits = tf.reduce_mean(logits, [1, 2], keepdims=True)
    return heads.squeeze(logits) if spatial_squeeze else logits
