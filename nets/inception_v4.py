"""Inception V4: Szegedy and others, Inception-v4, Inception-ResNet and the impact of residual connections on learning.

arXiv:1602.07261. Default size 299x299, inputs in [-1, 1] (preprocessing `inception`). The published weights
(2016_09_09, 1001 classes, class 0 is background) reach 80.2% top-1 and 95.2% top-5 on ImageNet.
"""
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.inception_utils import inception_arg_scope
from nets.scopes import Net, Scope, network_scope
from nets.table import avg_pool, conv, max_pool

inception_v4_arg_scope = inception_arg_scope

# Figures 4 to 8 of the paper.
INCEPTION_A = ([conv(96, 1)], [conv(64, 1), conv(96, 3)], [conv(64, 1), conv(96, 3), conv(96, 3)],
               [avg_pool(3), conv(96, 1)])
REDUCTION_A = ([conv(384, 3, 2, 'VALID')], [conv(192, 1), conv(224, 3), conv(256, 3, 2, 'VALID')],
               [max_pool(3, 2, 'VALID')])
INCEPTION_B = ([conv(384, 1)], [conv(192, 1), conv(224, (1, 7)), conv(256, (7, 1))],
               [conv(192, 1), conv(192, (7, 1)), conv(224, (1, 7)), conv(224, (7, 1)), conv(256, (1, 7))],
               [avg_pool(3), conv(128, 1)])
REDUCTION_B = ([conv(192, 1), conv(192, 3, 2, 'VALID')],
               [conv(256, 1), conv(256, (1, 7)), conv(320, (7, 1)), conv(320, 3, 2, 'VALID')],
               [max_pool(3, 2, 'VALID')])
INCEPTION_C: table.Module = (
    [conv(256, 1)], [conv(384, 1), (conv(256, (1, 3)), conv(256, (3, 1)))],
    [conv(384, 1), conv(448, (3, 1)), conv(512, (1, 3)), (conv(256, (1, 3)), conv(256, (3, 1)))],
    [avg_pool(3), conv(256, 1)])

TABLE: table.Table = [                                              # output for 299x299
    ('Conv2d_1a_3x3', conv(32, 3, 2, 'VALID')),                     # 149x149x32
    ('Conv2d_2a_3x3', conv(32, 3, 1, 'VALID')),                     # 147x147x32
    ('Conv2d_2b_3x3', conv(64, 3)),                                 # 147x147x64
    ('Mixed_3a', ([max_pool(3, 2, 'VALID', 'MaxPool_0a_3x3')],      # 73x73x160, published names
                  [conv(96, 3, 2, 'VALID', 'Conv2d_0a_3x3')])),
    ('Mixed_4a', ([conv(64, 1), conv(96, 3, 1, 'VALID')],           # 71x71x192
                  [conv(64, 1), conv(64, (1, 7)), conv(64, (7, 1)), conv(96, 3, 1, 'VALID')])),
    ('Mixed_5a', ([conv(192, 3, 2, 'VALID')], [max_pool(3, 2, 'VALID')])),  # 35x35x384
    *((f'Mixed_5{letter}', INCEPTION_A) for letter in 'bcde'),      # 35x35x384
    ('Mixed_6a', REDUCTION_A),                                      # 17x17x1024
    *((f'Mixed_6{letter}', INCEPTION_B) for letter in 'bcdefgh'),   # 17x17x1024
    ('Mixed_7a', REDUCTION_B),                                      # 8x8x1536
    *((f'Mixed_7{letter}', INCEPTION_C) for letter in 'bcd'),       # 8x8x1536
]


def _block(name, module, maps):
    default_name = name.title().replace('_', '')

    def block(inputs: tf.Tensor, scope: Scope = None,
              reuse: bool | None = None) -> tf.Tensor:
        with network_scope(scope, default_name, inputs, reuse, min_size=table.least_size([('', module)])):
            return table.build_branches(module, tf.convert_to_tensor(inputs))

    block.__name__ = block.__qualname__ = name
    block.__doc__ = f'Builds {default_name} in a scope of its own: [batch, height, width, any] -> {maps}.'
    return block


block_inception_a = _block('block_inception_a', INCEPTION_A, '[batch, height, width, 384]')
block_reduction_a = _block(
    'block_reduction_a', REDUCTION_A, '[batch, (height - 1) // 2, (width - 1) // 2, any + 640]')
block_inception_b = _block('block_inception_b', INCEPTION_B, '[batch, height, width, 1024]')
block_reduction_b = _block(
    'block_reduction_b', REDUCTION_B, '[batch, (height - 1) // 2, (width - 1) // 2, any + 512]')
block_inception_c = _block('block_inception_c', INCEPTION_C, '[batch, height, width, 1536]')


def inception_v4_base(inputs: tf.Tensor, final_endpoint: str = 'Mixed_7d', scope: Scope = None) -> Net:
    """Builds Inception V4 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1], at least 75x75 for all endpoints; all but the
        channels may be unknown.
      final_endpoint: where to stop: a name of `TABLE`.
      scope: variable scope; None is `InceptionV4`.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return table.build(TABLE, inputs, final_endpoint, scope, default_name='InceptionV4')


def inception_v4(inputs: tf.Tensor, num_classes: int | None = 1001, is_training: bool | tf.Tensor = True,
                 dropout_keep_prob: float = 0.8, reuse: bool | None = None,
                 scope: Scope = 'InceptionV4', create_aux_logits: bool = True) -> Net:
    """Builds Inception V4 with its classifier, which averages over the whole map, whatever its size.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1], at least 75x75; all but the channels may be
        unknown, height and width only without auxiliary logits.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out, and to normalise by the batch's own statistics.
      dropout_keep_prob: share of the features that dropout keeps.
      reuse: whether to take the variables that are there.
      scope: variable scope.
      create_aux_logits: whether to build the auxiliary classifier, endpoint `AuxLogits`. It serves training only; its
        weights belong to one image size.

    Returns:
      Logits [batch, classes], or without classes the pooled features [batch, 1, 1, 1536]; and a dictionary endpoint ->
      output, with `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'InceptionV4', inputs, reuse) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if create_aux_logits and num_classes:
            heads.check_aux_logits(inputs)
        net, end_points = inception_v4_base(inputs, scope=scope)
        if create_aux_logits and num_classes:
            with tf.compat.v1.variable_scope('AuxLogits'):
                aux = slim.flatten(heads.aux_features(end_points['Mixed_6h'], 'AvgPool_1a_5x5', 'Conv2d_2a'))
                end_points['AuxLogits'] = slim.fully_connected(aux, num_classes, activation_fn=None, scope='Aux_logits')
        with tf.compat.v1.variable_scope('Logits'):
            net = end_points['global_pool'] = heads.global_pool(net, 'AvgPool_1a')
            if not num_classes:
                return net, end_points
            net = slim.dropout(net, dropout_keep_prob, scope='Dropout_1b')
            net = end_points['PreLogitsFlatten'] = slim.flatten(net, scope='PreLogitsFlatten')
            logits = slim.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
            end_points['Logits'] = logits
            end_points['Predictions'] = tf.nn.softmax(heads.in_float32(logits), name='Predictions')
    return logits, end_points


inception_v4.default_image_size = 299
