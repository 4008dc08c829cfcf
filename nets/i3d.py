"""I3D: Carreira and Zisserman, Quo vadis, action recognition? A new model and the Kinetics dataset, arXiv:1705.07750.

Inception V1 over videos, its kernels inflated to cubes. Default size 224x224, any number of frames, inputs in [-1, 1]
(preprocessing `inception`). TF-Slim published no weights; the paper reports 71.1% top-1 and 89.3% top-5 on Kinetics,
for RGB frames alone and with weights that were pretrained on ImageNet.
"""
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import i3d_utils
from nets.s3dg import s3dg, s3dg_base
from nets.scopes import Net, Scope

# I3D as a variant of S3D-G; the arg scope leaves its convolutions whole.
_I3D: dict[str, Any] = dict(first_temporal_kernel_size=7, temporal_conv_startat='Conv2d_2c_3x3', gating_startat=None)


def i3d_arg_scope(weight_decay: float = 1e-7, batch_norm_decay: float = 0.999, batch_norm_epsilon: float = 0.001,
                  use_renorm: bool = False, separable_conv3d: bool = False) -> dict:
    """Returns the arg scope that I3D is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0.0 adds none.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: added to the variance.
      use_renorm: whether to use batch renormalization, arXiv:1702.03275.
      separable_conv3d: whether 3x3x3 convolutions are one over height and width, then one over frames, as in S3D.
    """
    return i3d_utils.arg_scope_3d(weight_decay, batch_norm_decay, batch_norm_epsilon, use_renorm, separable_conv3d)


def i3d_base(inputs: tf.Tensor, final_endpoint: str | None = 'Mixed_5c',
             scope: Scope = 'InceptionV1') -> Net:
    """Builds I3D up to an endpoint.

    Args:
      inputs: float videos [batch, frames, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      final_endpoint: where to stop: a name of `inception_v1.ROOT_BLOCK` or `inception_v1.modules()`.
      scope: variable scope.

    Returns:
      The last output, [batch, frames, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, or the videos do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return s3dg_base(inputs, final_endpoint=final_endpoint, scope=scope, **_I3D)


def i3d(inputs: tf.Tensor, num_classes: int | None = 1000, dropout_keep_prob: float = 0.8,
        is_training: bool | tf.Tensor = True, prediction_fn: Callable = slim.softmax, spatial_squeeze: bool = True,
        reuse: bool | None = None, scope: Scope = 'InceptionV1',
        global_pool: bool = False) -> Net:
    """Builds I3D with its classifier, whose logits are averaged over the frames.

    Args:
      inputs: float videos [batch, frames, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes, dropout_keep_prob, is_training, prediction_fn, spatial_squeeze, reuse, scope, global_pool: see
        `nets.s3dg.s3dg`.

    Returns:
      Logits, or without classes the last map, with `global_pool` its average [batch, 1, 1, 1, 1024]; and a dictionary
      endpoint -> output, with `Logits` and `Predictions`. Outputs have the videos' type, predictions at least float32.

    Raises:
      ValueError: the videos do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return s3dg(inputs, num_classes, dropout_keep_prob=dropout_keep_prob, is_training=is_training,
                prediction_fn=prediction_fn, spatial_squeeze=spatial_squeeze, reuse=reuse, scope=scope,
                global_pool=global_pool, **_I3D)


i3d.default_image_size = 224
