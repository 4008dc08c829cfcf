"""CifarNet: Krizhevsky, code.google.com/archive/p/cuda-convnet, the network of 18% error on CIFAR-10.

Default size 32x32, images standardised one by one (preprocessing `cifarnet`). There are no published weights.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, lenet, table
from nets.scopes import Net, Scope, network_scope
from nets.table import conv, max_pool


def local_norm(name: str) -> Callable:
    """Returns a row of local response normalisation, over the four maps on each side."""
    def build(net, _):
        # TensorFlow has it for float32, and on GPUs for float16, but not for bfloat16.
        values = tf.cast(net, tf.float32)
        values = tf.nn.local_response_normalization(values, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name=name)
        return tf.cast(values, net.dtype)
    return build


ROWS: table.Table = [                                                                   # output for 32x32
    ('conv1', conv(64, 5)),                                                             # 32x32x64
    ('pool1', max_pool(2, stride=2, padding='VALID')),                                  # 16x16x64
    (None, local_norm('norm1')),
    ('conv2', conv(64, 5)),                                                             # 16x16x64
    (None, local_norm('norm2')),
    ('pool2', max_pool(2, stride=2, padding='VALID')),                                  # 8x8x64
    ('Flatten', lambda net, scope: slim.flatten(net, scope=scope)),                     # 4096
    ('fc3', lambda net, scope: slim.fully_connected(net, 384, scope=scope)),            # 384
    (None, lambda net, _: slim.dropout(net, scope='dropout3')),
    ('fc4', lambda net, scope: slim.fully_connected(net, 192, scope=scope)),            # 192
]


def cifarnet_base(images: tf.Tensor, final_endpoint: str = 'fc4', scope: Scope = 'CifarNet') -> Net:
    """Builds CifarNet up to an endpoint; there is dropout before `fc4` unless `slim.arg_scope` sets it otherwise.

    Args:
      images: float images [batch, height, width, channels], at least 4x4; the batch may be unknown, height and width
        only up to `Flatten`.
      final_endpoint: where to stop: a name of `ROWS`.
      scope: variable scope.

    Returns:
      The last output, and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return lenet.build(ROWS, images, final_endpoint, scope, 'CifarNet')


def cifarnet(images: tf.Tensor, num_classes: int | None = 10, is_training: bool | tf.Tensor = False,
             dropout_keep_prob: float = 0.5, prediction_fn: Callable = slim.softmax, scope: Scope = 'CifarNet',
             reuse: bool | None = None) -> Net:
    """Builds CifarNet with its classifier.

    Args:
      images: float images [batch, height, width, channels], at least 4x4; only the batch may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out.
      dropout_keep_prob: share of the features that dropout keeps.
      prediction_fn: `(logits, scope=...) -> predictions`.
      scope: variable scope.
      reuse: whether to take the variables that are there.

    Returns:
      Logits [batch, classes], or without classes the features [batch, 192]; and a dictionary endpoint -> output.

    Raises:
      ValueError: the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'CifarNet', images, reuse), \
            slim.arg_scope([slim.dropout], is_training=is_training, keep_prob=dropout_keep_prob):
        net, end_points = cifarnet_base(images, scope='')
        if not num_classes:
            return net, end_points
        logits = slim.fully_connected(
            net, num_classes, activation_fn=None, weights_regularizer=None, scope='logits',
            weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=1 / 192),
            biases_initializer=tf.compat.v1.zeros_initializer())
        end_points['Logits'] = logits
        end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


cifarnet.default_image_size = 32


def cifarnet_arg_scope(weight_decay: float = 0.004) -> dict:
    """Returns the arg scope that CifarNet is built under.

    Args:
      weight_decay: factor of the L2 loss of the fully connected layers' weights, but the last; 0 adds none.
    """
    def normal(stddev):
        return tf.compat.v1.truncated_normal_initializer(stddev=stddev)

    with slim.arg_scope([slim.conv2d], weights_initializer=normal(0.05), activation_fn=tf.nn.relu), \
            slim.arg_scope([slim.fully_connected], weights_regularizer=slim.l2_regularizer(weight_decay),
                           weights_initializer=normal(0.04), activation_fn=tf.nn.relu,
                           biases_initializer=tf.compat.v1.constant_initializer(0.1)) as scope:
        return scope
