"""ResNet V1: He and others, Deep residual learning for image recognition, arXiv:1512.03385.

Default size 224x224, inputs with the mean colour subtracted (preprocessing `vgg`). The published weights
(2016_08_28, 1000 classes, from Caffe) reach on ImageNet:

    resnet_v1_50     75.2% top-1, 92.2% top-5
    resnet_v1_101    76.4%        92.9%
    resnet_v1_152    76.8%        93.2%

Those of `resnet_v1_200` were not published. A block strides in its last unit, where the paper's do in their first.
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

NoOpScope = resnet_utils.NoOpScope
resnet_arg_scope = resnet_utils.resnet_arg_scope


@slim.add_arg_scope
def bottleneck(inputs: tf.Tensor, depth: int, depth_bottleneck: int, stride: int, rate: int = 1,
               outputs_collections: Any = None, scope: Scope = None,
               use_bounded_activations: bool = False) -> tf.Tensor:
    """The unit of ResNet V1: three convolutions, and a shortcut past them. Figure 5 of the paper, right.

    Args:
      inputs: [batch, height, width, maps].
      depth: number of output maps.
      depth_bottleneck: number of maps between the convolutions.
      stride: of the output.
      rate: of the atrous convolution.
      outputs_collections: graph collections that the output is put into.
      scope: variable scope.
      use_bounded_activations: whether to keep the sum in [0, 6], for inference in integers.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    with tf.compat.v1.variable_scope(scope, 'bottleneck_v1', [inputs]) as opened:
        if depth == inputs.shape[-1]:
            shortcut = subsample(inputs, stride, 'shortcut')
        else:
            shortcut = slim.conv2d(inputs, depth, 1, stride=stride, scope='shortcut',
                                   activation_fn=tf.nn.relu6 if use_bounded_activations else None)
        net = slim.conv2d(inputs, depth_bottleneck, 1, scope='conv1')
        net = conv2d_same(net, depth_bottleneck, 3, stride, rate=rate, scope='conv2')
        net = slim.conv2d(net, depth, 1, activation_fn=None, scope='conv3')
        if use_bounded_activations:
            output = tf.nn.relu6(shortcut + tf.clip_by_value(net, -6.0, 6.0))
        else:
            output = tf.nn.relu(shortcut + net)
        return slim.utils.collect_named_outputs(outputs_collections, opened.name, output)


resnet_v1_block = functools.partial(resnet_utils.bottleneck_block, bottleneck)


def resnet_v1(inputs: tf.Tensor, blocks: Sequence[Block], num_classes: int | None = None,
              is_training: bool | tf.Tensor | None = True, global_pool: bool = True, output_stride: int | None = None,
              include_root_block: bool = True, spatial_squeeze: bool = True,
              store_non_strided_activations: bool = False, reuse: bool | None = None, scope: Scope = None) -> Net:
    """Builds a ResNet V1 of any blocks: `resnet_v1_block` makes one. See `nets.resnet_utils.resnet`."""
    return resnet_utils.resnet(bottleneck, 1, inputs, blocks, num_classes, is_training, global_pool, output_stride,
                               include_root_block, spatial_squeeze, store_non_strided_activations, reuse, scope)


resnet_v1.default_image_size = 224


def _at_depth(depth: int) -> tuple[Callable[..., Net], Callable[..., Net]]:
    """Returns the ResNet of that depth, and its base function."""
    name = f'resnet_v1_{depth}'

    def network(inputs: tf.Tensor, num_classes: int | None = None, is_training: bool | tf.Tensor | None = True,
                global_pool: bool = True, output_stride: int | None = None, spatial_squeeze: bool = True,
                store_non_strided_activations: bool = False, min_base_depth: int = 8, depth_multiplier: float = 1,
                reuse: bool | None = None, scope: Scope = name) -> Net:
        """Builds a ResNet V1 with its classifier.

        `depth_multiplier` is a factor of the blocks' widths, `min_base_depth` the least base depth of a block; the
        other arguments, what is returned and what is raised: see `nets.resnet_utils.resnet`.
        """
        blocks = resnet_utils.blocks_at_depth(resnet_v1_block, depth, depth_multiplier, min_base_depth)
        return resnet_v1(inputs, blocks, num_classes, is_training, global_pool, output_stride, True, spatial_squeeze,
                         store_non_strided_activations, reuse, scope)

    def base(inputs: tf.Tensor, final_endpoint: str | None = None, output_stride: int | None = None,
             store_non_strided_activations: bool = False, min_base_depth: int = 8, depth_multiplier: float = 1,
             scope: Scope = name) -> Net:
        """Builds a ResNet V1 up to an endpoint: see `nets.resnet_utils.resnet_base`."""
        blocks = resnet_utils.blocks_at_depth(resnet_v1_block, depth, depth_multiplier, min_base_depth)
        return resnet_utils.resnet_base(bottleneck, 1, inputs, blocks, final_endpoint, output_stride,
                                        store_non_strided_activations=store_non_strided_activations, scope=scope)

    def with_two_swapped(inputs: tf.Tensor, num_classes: int | None = None, is_training: bool | tf.Tensor | None = True,
                         global_pool: bool = True, output_stride: int | None = None,
                         store_non_strided_activations: bool = False, spatial_squeeze: bool = True,
                         min_base_depth: int = 8, depth_multiplier: float = 1, reuse: bool | None = None,
                         scope: Scope = name) -> Net:
        return network(inputs, num_classes, is_training, global_pool, output_stride, spatial_squeeze,
                       store_non_strided_activations, min_base_depth, depth_multiplier, reuse, scope)

    with_two_swapped.__doc__ = network.__doc__
    # TF-Slim's two deepest take their arguments in another order.
    published: Callable[..., Net] = with_two_swapped if depth > 101 else network
    published.default_image_size = 224
    published.__name__, base.__name__ = name, f'{name}_base'
    return published, base


resnet_v1_50, resnet_v1_50_base = _at_depth(50)
resnet_v1_101, resnet_v1_101_base = _at_depth(101)
resnet_v1_152, resnet_v1_152_base = _at_depth(152)
resnet_v1_200, resnet_v1_200_base = _at_depth(200)
