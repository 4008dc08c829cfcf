"""What the Inception networks share."""
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401


def inception_arg_scope(weight_decay: float = 0.00004, use_batch_norm: bool = True, batch_norm_decay: float = 0.9997,
                        batch_norm_epsilon: float = 0.001, activation_fn: Callable | None = tf.nn.relu,
                        batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
                        batch_norm_scale: bool = False) -> dict:
    """Returns the arg scope that the Inception networks are built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
      use_batch_norm: whether batch norm follows each convolution, in place of biases.
      batch_norm_decay: decay of the moving statistics. The default is right for runs of 100,000 steps and more.
      batch_norm_epsilon: added to the variance.
      activation_fn: what follows each convolution.
      batch_norm_updates_collections: graph collection for the updates of the moving statistics; None applies them
        in the forward pass.
      batch_norm_scale: whether batch norm has a factor gamma; the published weights have none.
    """
    normalizer = dict(normalizer_fn=slim.batch_norm, normalizer_params=dict(
        decay=batch_norm_decay, epsilon=batch_norm_epsilon, scale=batch_norm_scale, fused=None,
        updates_collections=batch_norm_updates_collections)) if use_batch_norm else {}
    with slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=slim.l2_regularizer(weight_decay)):
        with slim.arg_scope([slim.conv2d], weights_initializer=slim.variance_scaling_initializer(),
                            activation_fn=activation_fn, **normalizer) as scope:
            return scope
