"""Inception-ResNet-v2: Szegedy and others, Inception-v4, Inception-ResNet and the impact of residual connections.

arXiv:1602.07261. Default size 299x299, inputs in [-1, 1] (preprocessing `inception`). The published weights
(2016_08_30, 1001 classes, class 0 is background) reach 80.4% top-1 and 95.3% top-5 on ImageNet. They are wider than
the paper's network.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.scopes import Net, Scope, network_scope
from nets.table import avg_pool, conv, max_pool


def _first(width):
    return conv(width, 1, scope='Conv2d_1x1')                       # published name


# Figures 10, 11 and 13 of the paper: the branches, before the 1x1 convolution to the width of the trunk.
BLOCK_35 = ([_first(32)], [conv(32, 1), conv(32, 3)], [conv(32, 1), conv(48, 3), conv(64, 3)])
BLOCK_17 = ([_first(192)], [conv(128, 1), conv(160, (1, 7)), conv(192, (7, 1))])
BLOCK_8 = ([_first(192)], [conv(192, 1), conv(224, (1, 3)), conv(256, (3, 1))])


def _residual(name, branches):
    default_name = name.capitalize()

    def block(net: tf.Tensor, scale: float = 1.0, activation_fn: Callable | None = tf.nn.relu,
              scope: Scope = None, reuse: bool | None = None) -> tf.Tensor:
        with network_scope(scope, default_name, net, reuse):
            net = tf.convert_to_tensor(net)
            mixed = table.build_branches(branches, net)
            trunk = net.shape.as_list()[3]
            up = slim.conv2d(mixed, trunk, 1, activation_fn=None, normalizer_fn=None, scope='Conv2d_1x1') * scale
            if activation_fn is tf.nn.relu6:
                up = tf.clip_by_value(up, -6.0, 6.0)                # TF-Slim's: what is added is bounded too
            net += up
            return activation_fn(net) if activation_fn else net

    block.__name__ = block.__qualname__ = name                      # which slim.repeat makes scopes of
    block.__doc__ = (f'Builds {default_name} in a scope of its own: adds `scale` times its branches to `net`, a map '
                     '[batch, height, width, maps] of any size and width, and applies `activation_fn`.')
    return block


block35 = _residual('block35', BLOCK_35)
block17 = _residual('block17', BLOCK_17)
block8 = _residual('block8', BLOCK_8)


def rows(output_stride: int = 16, align_feature_maps: bool = False,
         activation_fn: Callable | None = tf.nn.relu) -> table.Table:
    """Returns the table; `inception_resnet_v2_base` has its arguments."""
    padding = 'SAME' if align_feature_maps else 'VALID'
    # Where the map is not halved, the blocks after it look as far with holes in their kernels.
    stride, rate = (1, 2) if output_stride == 8 else (2, 1)

    def repeat(scope, block, times, scale, rate=1):
        def build(net, _):
            with tf.compat.v1.variable_scope(scope), slim.arg_scope([slim.conv2d], rate=rate):
                for number in range(1, times + 1):
                    net = block(net, scale, activation_fn, scope=f'{block.__name__}_{number}')
            return net
        return build

    return [                                                        # output for 299x299
        ('Conv2d_1a_3x3', conv(32, 3, 2, padding)),                 # 149x149x32
        ('Conv2d_2a_3x3', conv(32, 3, 1, padding)),                 # 147x147x32
        ('Conv2d_2b_3x3', conv(64, 3)),                             # 147x147x64
        ('MaxPool_3a_3x3', max_pool(3, 2, padding)),                # 73x73x64
        ('Conv2d_3b_1x1', conv(80, 1, 1, padding)),                 # 73x73x80
        ('Conv2d_4a_3x3', conv(192, 3, 1, padding)),                # 71x71x192
        ('MaxPool_5a_3x3', max_pool(3, 2, padding)),                # 35x35x192
        ('Mixed_5b', ([_first(96)], [conv(48, 1), conv(64, 5)],     # 35x35x320
                      [conv(64, 1), conv(96, 3), conv(96, 3)], [avg_pool(3), conv(64, 1)])),
        (None, repeat('Repeat', block35, 10, 0.17)),                # 35x35x320
        ('Mixed_6a', ([conv(384, 3, stride, padding, 'Conv2d_1a_3x3')],     # 17x17x1088, the names also at stride 1
                      [conv(256, 1), conv(256, 3), conv(384, 3, stride, padding, 'Conv2d_1a_3x3')],
                      [max_pool(3, stride, padding, 'MaxPool_1a_3x3')])),
        ('PreAuxLogits', repeat('Repeat_1', block17, 20, 0.1, rate)),   # 17x17x1088
        ('Mixed_7a', ([conv(256, 1), conv(384, 3, 2, padding)],     # 8x8x2080
                      [conv(256, 1), conv(288, 3, 2, padding)],
                      [conv(256, 1), conv(288, 3), conv(320, 3, 2, padding)], [max_pool(3, 2, padding)])),
        (None, repeat('Repeat_2', block8, 9, 0.2)),                 # 8x8x2080
        (None, lambda net, _: block8(net, activation_fn=None, scope='Block8')),     # 8x8x2080
        ('Conv2d_7b_1x1', conv(1536, 1)),                           # 8x8x1536
    ]


def inception_resnet_v2_base(inputs: tf.Tensor, final_endpoint: str = 'Conv2d_7b_1x1', output_stride: int = 16,
                             align_feature_maps: bool = False,
                             scope: Scope = None,
                             activation_fn: Callable | None = tf.nn.relu) -> Net:
    """Builds Inception-ResNet-v2 up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1], at least 75x75 for all endpoints; all but the
        channels may be unknown.
      final_endpoint: where to stop: a name of `rows()`.
      output_stride: size of the images over that of `PreAuxLogits`: 16, or 8, which is as far as 8 goes.
      align_feature_maps: whether to pad everywhere, so that maps are the images' size over their stride, rounded up,
        and of images of any size.
      scope: variable scope; None is `InceptionResnetV2`.
      activation_fn: what follows each residual block; the arg scope has that of the convolutions.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, the stride not possible, or the images do not fit; nothing has been built
        then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    if output_stride not in (8, 16):
        raise ValueError(f'output_stride must be 8 or 16; it is {output_stride!r}.')
    if output_stride == 8 and final_endpoint in ('Mixed_7a', 'Conv2d_7b_1x1'):
        raise ValueError("With output_stride=8 InceptionResnetV2 ends at PreAuxLogits: pass "
                         "final_endpoint='PreAuxLogits', or one before it.")
    return table.build(rows(output_stride, align_feature_maps, activation_fn), inputs, final_endpoint, scope,
                       default_name='InceptionResnetV2')


def inception_resnet_v2(inputs: tf.Tensor, num_classes: int | None = 1001, is_training: bool | tf.Tensor = True,
                        dropout_keep_prob: float = 0.8, reuse: bool | None = None,
                        scope: Scope = 'InceptionResnetV2',
                        create_aux_logits: bool = True,
                        activation_fn: Callable | None = tf.nn.relu) -> Net:
    """Builds Inception-ResNet-v2 with its classifier, which averages over the whole map, whatever its size.

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
      activation_fn: see `inception_resnet_v2_base`.

    Returns:
      Logits [batch, classes], or without classes the pooled features [batch, 1, 1, 1536]; and a dictionary endpoint ->
      output, with `Logits` and `Predictions`. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'InceptionResnetV2', inputs, reuse) as scope, \
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        if create_aux_logits and num_classes:
            heads.check_aux_logits(inputs)
        net, end_points = inception_resnet_v2_base(inputs, scope=scope, activation_fn=activation_fn)
        if create_aux_logits and num_classes:
            with tf.compat.v1.variable_scope('AuxLogits'):          # the pooling's is the published name
                aux = slim.flatten(heads.aux_features(end_points['PreAuxLogits'], 'Conv2d_1a_3x3', 'Conv2d_2a_5x5'))
                end_points['AuxLogits'] = slim.fully_connected(aux, num_classes, activation_fn=None, scope='Logits')
        with tf.compat.v1.variable_scope('Logits'):
            net = end_points['global_pool'] = heads.global_pool(net, 'AvgPool_1a_8x8')
            if not num_classes:
                return net, end_points
            net = slim.dropout(slim.flatten(net), dropout_keep_prob, scope='Dropout')
            end_points['PreLogitsFlatten'] = net
            logits = slim.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
            end_points['Logits'] = logits
            end_points['Predictions'] = tf.nn.softmax(heads.in_float32(logits), name='Predictions')
    return logits, end_points


inception_resnet_v2.default_image_size = 299


def inception_resnet_v2_arg_scope(
        weight_decay: float = 0.00004, batch_norm_decay: float = 0.9997, batch_norm_epsilon: float = 0.001,
        activation_fn: Callable | None = tf.nn.relu,
        batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
        batch_norm_scale: bool = False) -> dict:
    """Returns the arg scope that Inception-ResNet-v2 is built under; unlike its family's, it also decays biases.

    Args:
      weight_decay: factor of the L2 loss of the weights and biases; 0 adds none.
      batch_norm_decay: decay of the moving statistics. The default is right for runs of 100,000 steps and more.
      batch_norm_epsilon: added to the variance.
      activation_fn: what follows each convolution.
      batch_norm_updates_collections: graph collection for the updates of the moving statistics; None applies them
        in the forward pass.
      batch_norm_scale: whether batch norm has a factor gamma; the published weights have none.
    """
    decay = slim.l2_regularizer(weight_decay)
    normalizer_params = dict(decay=batch_norm_decay, epsilon=batch_norm_epsilon, scale=batch_norm_scale, fused=None,
                             updates_collections=batch_norm_updates_collections)
    with slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=decay, biases_regularizer=decay):
        with slim.arg_scope([slim.conv2d], activation_fn=activation_fn, normalizer_fn=slim.batch_norm,
                            normalizer_params=normalizer_params) as scope:
            return scope
