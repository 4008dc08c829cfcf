"""ResNet V2: He and others, Identity mappings in deep residual networks, arXiv:1603.05027.

Default size 224x224, inputs in [-1, 1] (preprocessing `inception`). The published weights (2017_04_14, 1001 classes,
class 0 is background) reach on ImageNet, at 299x299:

    resnet_v2_50     75.6% top-1, 92.8% top-5
    resnet_v2_101    77.0%        93.7%
    resnet_v2_152    77.8%        94.1%

Those of `resnet_v2_200` were not published. A block strides in its last unit, where the paper's do in their first.
"""
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import resnet_utils
from nets.resnet_utils import Block, conv2d_same, subsample
from nets.scopes import Net, Scope

resnet_arg_scope = resnet_utils.resnet_arg_scope


@slim.add_arg_scope
def bottleneck(inputs: tf.Tensor, depth: int, depth_bottleneck: int, stride: int, rate: int = 1,
               outputs_collections: Any = None, scope: Scope = None) -> tf.Tensor:
    """The unit of ResNet V2: norm and activation stand before each convolution. Figure 4 (e) of the paper.

    Args:
      inputs: [batch, height, width, maps].
      depth: number of output maps.
      depth_bottleneck: number of maps between the convolutions.
      stride: of the output.
      rate: of the atrous convolution.
      outputs_collections: graph collections that the output is put into.
      scope: variable scope.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    with tf.compat.v1.variable_scope(scope, 'bottleneck_v2', [inputs]) as opened:
        net = slim.batch_norm(inputs, activation_fn=tf.nn.relu, scope='preact')
        if depth == inputs.shape[-1]:
            shortcut = subsample(inputs, stride, 'shortcut')
        else:
            shortcut = slim.conv2d(net, depth, 1, stride=stride, normalizer_fn=None, activation_fn=None,
                                   scope='shortcut')
        net = slim.conv2d(net, depth_bottleneck, 1, scope='conv1')
        net = conv2d_same(net, depth_bottleneck, 3, stride, rate=rate, scope='conv2')
        net = slim.conv2d(net, depth, 1, normalizer_fn=None, activation_fn=None, scope='conv3')
        return slim.utils.collect_named_outputs(outputs_collections, opened.name, shortcut + net)


resnet_v2_block = functools.partial(resnet_utils.bottleneck_block, bottleneck)


def resnet_v2(inputs: tf.Tensor, blocks: Sequence[Block], num_classes: int | None = None,
              is_training: bool | tf.Tensor | None = True, global_pool: bool = True, output_stride: int | None = None,
              include_root_block: bool = True, spatial_squeeze: bool = True, reuse: bool | None = None,
              scope: Scope = None) -> Net:
    """Builds a ResNet V2 of any blocks: `resnet_v2_block` makes one. See `nets.resnet_utils.resnet`."""
    return resnet_utils.resnet(bottleneck, 2, inputs, blocks, num_classes, is_training, global_pool, output_stride,
                               include_root_block, spatial_squeeze, reuse=reuse, scope=scope)


resnet_v2.default_image_size = 224


def _at_depth(depth: int) -> tuple[Callable[..., Net], Callable[..., Net]]:
    """Returns the ResNet of that depth, and its base function."""
    name, blocks = f'resnet_v2_{depth}', resnet_utils.blocks_at_depth(resnet_v2_block, depth)

    def network(inputs: tf.Tensor, num_classes: int | None = None, is_training: bool | tf.Tensor | None = True,
                global_pool: bool = True, output_stride: int | None = None, spatial_squeeze: bool = True,
                reuse: bool | None = None, scope: Scope = name) -> Net:
        """Builds a ResNet V2 with its classifier: see `nets.resnet_utils.resnet`."""
        return resnet_v2(inputs, blocks, num_classes, is_training, global_pool, output_stride, True, spatial_squeeze,
                         reuse, scope)

    def base(inputs: tf.Tensor, final_endpoint: str | None = None, output_stride: int | None = None,
             scope: Scope = name) -> Net:
        """Builds a ResNet V2 up to an endpoint: see `nets.resnet_utils.resnet_base`.

        Without the norm and activation that follow the last block.
        """
        return resnet_utils.resnet_base(bottleneck, 2, inputs, blocks, final_endpoint, output_stride, scope=scope)

    network.default_image_size = 224
    network.__name__, base.__name__ = name, f'{name}_base'
    return network, base


resnet_v2_50, resnet_v2_50_base = _at_depth(50)
resnet_v2_101, resnet_v2_101_base = _at_depth(101)
resnet_v2_152, resnet_v2_152_base = _at_depth(152)
resnet_v2_200, resnet_v2_200_base = _at_depth(200)
