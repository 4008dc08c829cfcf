"""Inception V1 (GoogLeNet): Szegedy and others, Going deeper with convolutions, arXiv:1409.4842.

Default size 224x224, inputs in [-1, 1] (preprocessing `inception`). The published weights (2016_08_28, 1001 classes,
class 0 is background) reach 69.8% top-1 and 89.6% top-5 on ImageNet. In them the paper's 5x5 convolutions are 3x3,
batch norm follows each convolution, and there are no auxiliary classifiers: for the paper's network set `true_5x5` and
`create_aux_logits`.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.inception_utils import inception_arg_scope
from nets.scopes import Net, Scope, network_scope
from nets.table import conv, max_pool

inception_v1_arg_scope = inception_arg_scope

ROOT_BLOCK: table.Table = [                                         # output for 224x224
    ('Conv2d_1a_7x7', conv(64, 7, stride=2)),                       # 112x112x64
    ('MaxPool_2a_3x3', max_pool(3, stride=2)),                      # 56x56x64
    ('Conv2d_2b_1x1', conv(64, 1)),                                 # 56x56x64
    ('Conv2d_2c_3x3', conv(192, 3)),                                # 56x56x192
    ('MaxPool_3a_3x3', max_pool(3, stride=2)),                      # 28x28x192
]


def modules(true_5x5: bool = False) -> table.Table:
    """Returns the rows after the root block: Table 1 of the paper, where "#3x3 reduce" and "#3x3" are a pair."""
    def v1(a, b, c, d, scope=None):
        k = 5 if true_5x5 else 3
        return ([conv(a, 1)], [conv(b[0], 1), conv(b[1], 3)], [conv(c[0], 1), conv(c[1], k, scope=scope)],
                [max_pool(3), conv(d, 1)])

    published_name = None if true_5x5 else 'Conv2d_0a_3x3'
    return [
        #                1x1   3x3         "5x5"      pool            output for 224x224
        ('Mixed_3b', v1(  64, ( 96, 128), (16,  32),  32)),         # 28x28x256
        ('Mixed_3c', v1( 128, (128, 192), (32,  96),  64)),         # 28x28x480
        ('MaxPool_4a_3x3', max_pool(3, stride=2)),                  # 14x14x480
        ('Mixed_4b', v1( 192, ( 96, 208), (16,  48),  64)),         # 14x14x512
        ('Mixed_4c', v1( 160, (112, 224), (24,  64),  64)),         # 14x14x512
        ('Mixed_4d', v1( 128, (128, 256), (24,  64),  64)),         # 14x14x512
        ('Mixed_4e', v1( 112, (144, 288), (32,  64),  64)),         # 14x14x528
        ('Mixed_4f', v1( 256, (160, 320), (32, 128), 128)),         # 14x14x832
        ('MaxPool_5a_2x2', max_pool(2, stride=2)),                  # 7x7x832
        ('Mixed_5b', v1( 256, (160, 320), (32, 128), 128, scope=published_name)),  # 7x7x832
        ('Mixed_5c', v1( 384, (192, 384), (48, 128), 128)),         # 7x7x1024
    ]


def _rows(true_5x5, torch_padding, include_root_block=True):
    rows = (ROOT_BLOCK if include_root_block else []) + modules(true_5x5)
    return table.pad_as_torch(rows) if torch_padding else rows


def inception_v1_base(inputs: tf.Tensor, final_endpoint: str = 'Mixed_5c', include_root_block: bool = True,
                      scope: Scope = 'InceptionV1', true_5x5: bool = False, torch_padding: bool = False) -> Net:
    """Builds Inception V1 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown. Without
        the root block, the map that takes its output's place (28x28x192 for 224x224).
      final_endpoint: where to stop: a name of `ROOT_BLOCK` or `modules()`.
      include_root_block: whether to build the layers before the first module.
      scope: variable scope.
      true_5x5: whether the 5x5 convolutions are 5x5, as in the paper; the published weights have 3x3.
      torch_padding: whether maps are padded as in torchvision's `googlenet`, for weights from there: the first
        convolution alike on all sides, the max poolings with a stride at the end alone. Images whose size is one less
        than a multiple of 16, such as 223x223, are padded so in any case.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown (nothing has been built then), or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    rows = _rows(true_5x5, torch_padding, include_root_block)
    with slim.arg_scope([slim.conv2d], weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.01)):
        return table.build(rows, inputs, final_endpoint, scope, default_name='InceptionV1')


def inception_v1(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
                 dropout_keep_prob: float = 0.8, prediction_fn: Callable = slim.softmax, spatial_squeeze: bool = True,
                 reuse: bool | None = None, scope: Scope = 'InceptionV1',
                 global_pool: bool = False, create_aux_logits: bool = False,
                 true_5x5: bool = False, torch_padding: bool = False) -> Net:
    """Builds Inception V1 with its classifier.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out, and to normalise by the batch's own statistics.
      dropout_keep_prob: share of the features that dropout keeps.
      prediction_fn: `(logits, scope=...) -> predictions`.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      reuse: whether to take the variables that are there.
      scope: variable scope.
      global_pool: whether to average over the whole map, whatever its size, rather than over 7x7. The 7x7 shrinks to
        the map for images below 224 pixels; larger images need `global_pool` (or `spatial_squeeze=False`).
      create_aux_logits: whether to build the paper's two auxiliary classifiers, endpoints `AuxLogits_4b` and
        `AuxLogits_4e`. They serve training only, with weight 0.3; the published weights have none.
      true_5x5, torch_padding: see `inception_v1_base`.

    Returns:
      Logits, or without classes the pooled features [batch, 1, 1, 1024]; and a dictionary endpoint -> output, with
      `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'InceptionV1', inputs, reuse) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if num_classes and create_aux_logits:
            heads.check_aux_logits(inputs)
        if num_classes and spatial_squeeze and not global_pool:
            heads.check_single_logits(inputs, table.least_size(_rows(true_5x5, torch_padding), 8) - 1, 'InceptionV1')
        net, end_points = inception_v1_base(inputs, scope=scope, true_5x5=true_5x5, torch_padding=torch_padding)
        if create_aux_logits and num_classes:
            for module in ('4b', '4e'):                             # 4a and 4d of the paper
                name = f'AuxLogits_{module}'
                end_points[name] = heads.aux_logits(end_points[f'Mixed_{module}'], num_classes, name)
        with tf.compat.v1.variable_scope('Logits'):
            logits = heads.conv_logits(net, end_points, num_classes, 7, dropout_keep_prob, spatial_squeeze, global_pool,
                                       'AvgPool_0a_7x7', dropout='Dropout_0b', pre_logits=None, conv='Conv2d_0c_1x1')
            if num_classes:
                end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


inception_v1.default_image_size = 224
