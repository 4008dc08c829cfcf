"""AlexNet: Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997.

The one-column version, without local response normalisation. Default size 224x224, inputs with the mean colour
subtracted (preprocessing `vgg`). There are no published weights.
"""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import table, vgg
from nets.scopes import Net, Scope
from nets.table import conv, max_pool

NARROW = dict(weights_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.005))
FULLY_CONNECTED = dict(NARROW, biases_initializer=tf.compat.v1.constant_initializer(0.1))
ROWS = [                                                                # output for 224x224
    ('conv1', conv(64, 11, stride=4, padding='VALID')),                 # 54x54x64
    ('pool1', max_pool(3, stride=2, padding='VALID')),                  # 26x26x64
    ('conv2', conv(192, 5)),                                            # 26x26x192
    ('pool2', max_pool(3, stride=2, padding='VALID')),                  # 12x12x192
    ('conv3', conv(384, 3)),                                            # 12x12x384
    ('conv4', conv(384, 3)),                                            # 12x12x384
    ('conv5', conv(256, 3)),                                            # 12x12x256
    ('pool5', max_pool(3, stride=2, padding='VALID')),                  # 5x5x256
    *vgg.fully_connected_rows((4096, 4096), 5, **FULLY_CONNECTED),      # 1x1x4096
]


def network(name: str, rows: table.Table, default_image_size: int) -> tuple[Callable[..., Net], Callable[..., Net]]:
    """Returns the network of these rows, which end with `vgg.fully_connected_rows`, and its base function."""
    def base(inputs: tf.Tensor, final_endpoint: str | None = None, scope: Scope = name) -> Net:
        """Builds the network up to an endpoint; there is dropout before `fc7` unless `slim.arg_scope` says otherwise.

        Args:
          inputs: float images [batch, height, width, channels]; all but the channels may be unknown.
          final_endpoint: where to stop, with the scope: `alexnet_v2/pool5`; None is `fc7`.
          scope: variable scope.

        Returns:
          The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

        Raises:
          ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
          RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
        """
        return vgg.build(rows, inputs, final_endpoint, scope, name)

    def build(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
              dropout_keep_prob: float = 0.5, spatial_squeeze: bool = True, scope: Scope = name,
              global_pool: bool = False, reuse: bool | None = None) -> Net:
        """Builds the network with its classifier.

        Args:
          inputs: float images [batch, height, width, channels], from 195x195 for AlexNet and 231x231 for OverFeat; all
            but the channels may be unknown.
          num_classes: number of classes; 0 or None leaves the classifier out.
          is_training: whether to drop out.
          dropout_keep_prob: share of the features that dropout keeps.
          spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
          scope: variable scope.
          global_pool: whether to average over the whole map before the logits. Images from 32 pixels above the least
            size need it (or `spatial_squeeze=False`).
          reuse: whether to take the variables that are there.

        Returns:
          Logits, or without classes the features [batch, 1, 1, 4096]; and a dictionary endpoint -> output.

        Raises:
          ValueError: the images do not fit; nothing has been built then.
          RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
        """
        return vgg.classifier(rows, inputs, num_classes, is_training, dropout_keep_prob, spatial_squeeze, global_pool,
                              reuse, scope, name, **NARROW, biases_initializer=tf.compat.v1.zeros_initializer())

    build.default_image_size = default_image_size
    build.__name__, base.__name__ = name, f'{name}_base'
    return build, base


alexnet_v2, alexnet_v2_base = network('alexnet_v2', ROWS, 224)


def alexnet_v2_arg_scope(weight_decay: float = 0.0005) -> dict:
    """Returns the arg scope that AlexNet is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
    """
    with slim.arg_scope(vgg.vgg_arg_scope(weight_decay)), \
            slim.arg_scope([slim.conv2d, slim.fully_connected],
                           biases_initializer=tf.compat.v1.constant_initializer(0.1)) as scope:
        return scope
