"""LeNet: LeCun and others, Gradient-based learning applied to document recognition, doi:10.1109/5.726791.

TF-Slim's variant: two convolutions and two fully connected layers with ReLU. Default size 28x28x1, inputs in [-1, 1]
(preprocessing `lenet`). There are no published weights.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.scopes import Net, Scope, network_scope
from nets.table import conv, max_pool

ROWS: table.Table = [                                                                   # output for 28x28
    ('conv1', conv(32, 5)),                                                             # 28x28x32
    ('pool1', max_pool(2, stride=2, padding='VALID')),                                  # 14x14x32
    ('conv2', conv(64, 5)),                                                             # 14x14x64
    ('pool2', max_pool(2, stride=2, padding='VALID')),                                  # 7x7x64
    ('Flatten', lambda net, scope: slim.flatten(net, scope=scope)),                     # 3136
    ('fc3', lambda net, scope: slim.fully_connected(net, 1024, scope=scope)),           # 1024
]


def build(rows: table.Table, images: tf.Tensor, final_endpoint: str, scope: Scope, default_name: str) -> Net:
    """Builds the rows; those of fully connected layers, `fc...`, need images of a known size."""
    with network_scope(scope, default_name, images):
        if final_endpoint.startswith('fc') and None in tf.TensorShape(images.shape).as_list()[1:3]:
            raise ValueError(f'{default_name} is fully connected: it takes images of a known height and width.')
        return table.build(rows, images, final_endpoint, '', default_name)


def lenet_base(images: tf.Tensor, final_endpoint: str = 'fc3', scope: Scope = 'LeNet') -> Net:
    """Builds LeNet up to an endpoint.

    Args:
      images: float images [batch, height, width, channels] in [-1, 1], at least 4x4; the batch may be unknown, height
        and width only up to `Flatten`.
      final_endpoint: where to stop: a name of `ROWS`.
      scope: variable scope.

    Returns:
      The last output, and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return build(ROWS, images, final_endpoint, scope, 'LeNet')


def lenet(images: tf.Tensor, num_classes: int | None = 10, is_training: bool | tf.Tensor = False,
          dropout_keep_prob: float = 0.5, prediction_fn: Callable = slim.softmax, scope: Scope = 'LeNet',
          reuse: bool | None = None) -> Net:
    """Builds LeNet with its classifier.

    Args:
      images: float images [batch, height, width, channels] in [-1, 1], at least 4x4; only the batch may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out.
      dropout_keep_prob: share of the features that dropout keeps.
      prediction_fn: `(logits, scope=...) -> predictions`.
      scope: variable scope.
      reuse: whether to take the variables that are there.

    Returns:
      Logits [batch, classes], or without classes the features [batch, 1024]; and a dictionary endpoint -> output.

    Raises:
      ValueError: the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with network_scope(scope, 'LeNet', images, reuse):
        net, end_points = lenet_base(images, scope='')
        if not num_classes:
            return net, end_points
        net = end_points['dropout3'] = slim.dropout(net, dropout_keep_prob, is_training=is_training, scope='dropout3')
        logits = slim.fully_connected(net, num_classes, activation_fn=None, scope='fc4')
        end_points['Logits'] = logits
    end_points['Predictions'] = prediction_fn(heads.in_float32(logits), scope='Predictions')
    return logits, end_points


lenet.default_image_size = 28


def lenet_arg_scope(weight_decay: float = 0.0) -> dict:
    """Returns the arg scope that LeNet is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
    """
    with slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=slim.l2_regularizer(weight_decay),
                        weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.1),
                        activation_fn=tf.nn.relu) as scope:
        return scope
