"""LeNet: LeCun and others, Gradient-based learning applied to document recognition, doi:10.1109/5.726791.

TF-Slim's variant: two convolutions and two fully connected layers with ReLU. Default size 28x28x1, inputs in [-1, 1]
(preprocessing `lenet`). There are no published weights.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads
from nets.scopes import network_scope


def lenet(images: tf.Tensor, num_classes: int | None = 10, is_training: bool | tf.Tensor = False,
          dropout_keep_prob: float = 0.5, prediction_fn: Callable = slim.softmax,
          scope: str | tf.compat.v1.VariableScope | None = 'LeNet',
          reuse: bool | None = None) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Builds LeNet.

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
    end_points = {}
    with network_scope(scope, 'LeNet', images, reuse, min_size=4):
        images = tf.convert_to_tensor(images)
        if None in images.shape.as_list()[1:3]:
            raise ValueError('LeNet is fully connected: it takes images of a known height and width.')
        net = end_points['conv1'] = slim.conv2d(images, 32, 5, scope='conv1')       # 28x28x32
        net = end_points['pool1'] = slim.max_pool2d(net, 2, stride=2, scope='pool1')  # 14x14x32
        net = end_points['conv2'] = slim.conv2d(net, 64, 5, scope='conv2')          # 14x14x64
        net = end_points['pool2'] = slim.max_pool2d(net, 2, stride=2, scope='pool2')  # 7x7x64
        net = end_points['Flatten'] = slim.flatten(net)                             # 3136
        net = end_points['fc3'] = slim.fully_connected(net, 1024, scope='fc3')
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
