"""What the two versions of ResNet share: units in blocks, output strides, the network around them, the four depths.

A ResNet is a list of `Block`s, each a list of units. `resnet` and `resnet_base` build one of either version;
`nets.resnet_v1` and `nets.resnet_v2` hold their bottlenecks and their networks.
"""
import contextlib
import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, table
from nets.atrous import fixed_padding, strides_and_rates
from nets.scopes import Net, Scope, network_scope

NoOpScope = contextlib.nullcontext

UNITS = {                   # of each block; arXiv:1512.03385, Table 1, and arXiv:1603.05027, section 4
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BLOCKS = (                  # base depth; stride, which is its last unit's; output for 224x224
    ('block1', 64, 2),      # 28x28x256
    ('block2', 128, 2),     # 14x14x512
    ('block3', 256, 2),     # 7x7x1024
    ('block4', 512, 1),     # 7x7x2048
)


class Block(NamedTuple):
    """A ResNet block.

    Attributes:
      scope: its variable scope.
      unit_fn: builds a unit: `(net, rate=..., **arguments) -> net`.
      args: the arguments of each unit, a dictionary; `stride` is 1 where it is not among them.
    """

    scope: str
    unit_fn: Callable[..., tf.Tensor]
    args: Sequence[Mapping[str, Any]]


def bottleneck_block(bottleneck: Callable[..., tf.Tensor], scope: str, base_depth: int, num_units: int,
                     stride: int) -> Block:
    """Returns a block of `num_units` bottlenecks of `base_depth` maps, 4 * `base_depth` at their ends.

    The last one has the `stride`, where in the papers the first has it: the published weights are of such blocks.
    """
    strides = [1] * (num_units - 1) + [stride]
    return Block(scope, bottleneck, [
        dict(depth=base_depth * 4, depth_bottleneck=base_depth, stride=stride) for stride in strides])


def blocks_at_depth(resnet_block: Callable[..., Block], depth: int, depth_multiplier: float = 1,
                    min_base_depth: int = 8) -> list[Block]:
    """Returns the four blocks of the ResNet with `depth` layers.

    Args:
      resnet_block: `(scope, base_depth, num_units, stride) -> Block`.
      depth: a key of `UNITS`.
      depth_multiplier: factor of the blocks' widths; the first convolution keeps its 64 maps.
      min_base_depth: least base depth of a block.

    Raises:
      ValueError: no maps would be left.
    """
    def scaled(base_depth):
        return max(int(base_depth * depth_multiplier), min_base_depth)

    if scaled(BLOCKS[0][1]) < 1:
        raise ValueError(f'A depth_multiplier of {depth_multiplier} with a min_base_depth of {min_base_depth} leaves '
                         'no maps.')
    return [resnet_block(scope, base_depth=scaled(base_depth), num_units=num_units, stride=stride)
            for (scope, base_depth, stride), num_units in zip(BLOCKS, UNITS[depth], strict=True)]


def subsample(inputs: tf.Tensor, factor: int, scope: str | None = None) -> tf.Tensor:
    """Takes every `factor`-th row and column of [batch, height, width, channels]."""
    return inputs if factor == 1 else slim.max_pool2d(inputs, 1, stride=factor, scope=scope)


def conv2d_same(inputs: tf.Tensor, num_outputs: int, kernel_size: int, stride: int, rate: int = 1,
                scope: str | None = None) -> tf.Tensor:
    """A convolution that gives `subsample(slim.conv2d(stride=1), stride)`, whether the size is odd or even.

    With a stride, the padding `SAME` of TensorFlow depends on the size of the map, and so do the pixels that are taken.

    Args:
      inputs: [batch, height, width, channels].
      num_outputs: number of output maps.
      kernel_size: height and width of the kernel.
      stride: of the output.
      rate: of the atrous convolution; one of stride and rate is 1.
      scope: variable scope.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), num_outputs].
    """
    if stride == 1:
        return slim.conv2d(inputs, num_outputs, kernel_size, rate=rate, padding='SAME', scope=scope)
    inputs = fixed_padding(inputs, kernel_size, rate)
    return slim.conv2d(inputs, num_outputs, kernel_size, stride=stride, rate=rate, padding='VALID', scope=scope)


def block_rows(blocks: Sequence[Block], output_stride: int | None = None, store_non_strided_activations: bool = False,
               outputs_collections: Any = None, unit_scope: str = 'unit_fn', input_stride: int = 1) -> table.Table:
    """Returns the rows (see `nets.table`) of ResNet blocks in the current scope: one for each unit and for each block.

    Once the `output_stride` is reached, units stride no more: they see as far by atrous convolutions instead.

    Args:
      blocks: the blocks.
      output_stride: of the last map; None keeps all strides.
      store_non_strided_activations: whether the endpoint of a block has the size from before its stride.
      outputs_collections: graph collections that the outputs of the blocks are put into.
      unit_scope: the scope that the units' function opens, to name their rows.
      input_stride: of the first block's input.

    Raises:
      ValueError: the strides of the blocks do not reach `output_stride`.
    """
    strides = [input_stride, *_strides(blocks)]
    reached = sorted(set(itertools.accumulate(strides, operator.mul)))
    if output_stride is not None and output_stride not in reached:
        raise ValueError(f'output_stride must be one of {", ".join(map(str, reached))}, or None; it is '
                         f'{output_stride}.')
    dense = iter(list(strides_and_rates(strides, output_stride))[1:])
    prefix = f'{tf.compat.v1.get_variable_scope().name}/'.lstrip('/')
    rows: table.Table = []
    for block in blocks:
        after = 1       # a stride that is left to do after the block
        for number, unit in enumerate(block.args, 1):
            stride, rate = next(dense)
            if store_non_strided_activations and number == len(block.args):
                stride, after = 1, stride
            arguments = dict(unit, rate=rate) | ({} if stride == unit.get('stride', 1) else {'stride': stride})
            scope = f'{block.scope}/unit_{number}'
            rows.append((f'{prefix}{scope}/{unit_scope}', _unit(block.unit_fn, scope, arguments)))
        rows.append((f'{prefix}{block.scope}', functools.partial(_collect, outputs_collections)))
        if after > 1:
            rows.append((None, functools.partial(_subsample, after)))
    return rows


def _name(scope, version):
    return scope if scope and isinstance(scope, str) else f'resnet_v{version}'


def _strides(blocks):
    return [unit.get('stride', 1) for block in blocks for unit in block.args]


def _unit(unit_fn, scope, arguments):
    def build(net, _):
        with tf.compat.v1.variable_scope(scope, values=[net]):
            return unit_fn(net, **arguments)
    return build


def _collect(collections, net, name):
    return slim.utils.collect_named_outputs(collections, name, net)


def _subsample(factor, net, _):
    return subsample(net, factor)


@slim.add_arg_scope
def stack_blocks_dense(net: tf.Tensor, blocks: Sequence[Block], output_stride: int | None = None,
                       store_non_strided_activations: bool = False, outputs_collections: Any = None) -> tf.Tensor:
    """Builds ResNet blocks one after the other: see `block_rows`.

    Args:
      net: [batch, height, width, channels].
      blocks: the blocks.
      output_stride: see `block_rows`.
      store_non_strided_activations: see `block_rows`.
      outputs_collections: see `block_rows`.

    Returns:
      The output of the last block.

    Raises:
      ValueError: the strides of the blocks do not reach `output_stride`; nothing has been built then.
    """
    for name, item in block_rows(blocks, output_stride, store_non_strided_activations, outputs_collections):
        net = table.build_item(item, net, name)
    return net


def resnet_base(bottleneck: Callable[..., tf.Tensor], version: int, inputs: tf.Tensor, blocks: Sequence[Block],
                final_endpoint: str | None = None, output_stride: int | None = None, include_root_block: bool = True,
                store_non_strided_activations: bool = False, scope: Scope = None) -> Net:
    """Builds a ResNet up to an endpoint, without what follows the last block.

    Args:
      bottleneck: the unit of the version.
      version: 1 or 2; in 2 norm and activation stand before the convolutions, so that the first one has none.
      inputs: float images [batch, height, width, channels].
      blocks: the blocks.
      final_endpoint: where to stop: the first convolution, a unit or a block, with the scope; None builds all.
      output_stride: see `resnet`.
      include_root_block: see `resnet`.
      store_non_strided_activations: see `block_rows`.
      scope: variable scope.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output: that of each convolution,
      unit and block.

    Raises:
      ValueError: the endpoint is unknown, the output stride out of reach, or the images do not fit; nothing has been
        built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    def root(net, _):
        unnormalized = dict(activation_fn=None, normalizer_fn=None) if version == 2 else {}
        with slim.arg_scope([slim.conv2d], **unnormalized):
            return conv2d_same(net, 64, 7, stride=2, scope='conv1')                     # 112x112x64 for 224x224

    def pool(net, _):
        return slim.max_pool2d(net, 3, stride=2, scope='pool1')                         # 56x56x64

    name, collection = _name(scope, version), [object()]    # a key of this call alone: builders run side by side
    with network_scope(scope, name, inputs) as opened, \
            slim.arg_scope([slim.conv2d, bottleneck], outputs_collections=collection):
        rows: table.Table = [(f'{opened.name}/conv1', root), (None, pool)] if include_root_block else []
        rows += block_rows(blocks, output_stride, store_non_strided_activations, collection, f'bottleneck_v{version}',
                           input_stride=4 if include_root_block else 1)
        net, _ = table.build(rows, inputs, final_endpoint, '', name)
    return net, slim.utils.convert_collection_to_dict(collection[0], clear_collection=True)


def resnet(bottleneck: Callable[..., tf.Tensor], version: int, inputs: tf.Tensor, blocks: Sequence[Block],
           num_classes: int | None = None, is_training: bool | tf.Tensor | None = True, global_pool: bool = True,
           output_stride: int | None = None, include_root_block: bool = True, spatial_squeeze: bool = True,
           store_non_strided_activations: bool = False, reuse: bool | None = None, scope: Scope = None) -> Net:
    """Builds a ResNet with its classifier.

    Args:
      bottleneck: the unit of the version.
      version: 1 or 2; in 2 norm and activation stand before the convolutions, so that the last block has them after it.
      inputs: float images [batch, height, width, channels]; all but the channels may be unknown. Without the root
        block, the map that takes its output's place.
      blocks: the blocks.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to normalise by the batch's own statistics; None leaves that to `slim.arg_scope`.
      global_pool: whether to average over the last map; without it there are answers all over the map.
      output_stride: how many pixels the last map strides by, with respect to the images. From there on the units see
        as far by atrous convolutions instead. For the four depths: 4, 8, 16, 32, or None for 32.
      include_root_block: whether to build the first convolution and pooling, which stride by 4.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      store_non_strided_activations: whether the endpoint of a block has the size from before its stride.
      reuse: whether to take the variables that are there.
      scope: variable scope.

    Returns:
      Logits, or without classes the features [batch, 1, 1, maps] (without `global_pool` the map); and a dictionary
      endpoint -> output. Outputs have the images' type, predictions at least float32.

    Raises:
      ValueError: the output stride is out of reach, or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    training = NoOpScope() if is_training is None else slim.arg_scope([slim.batch_norm], is_training=is_training)
    name, root_stride = _name(scope, version), 4 if include_root_block else 1
    with network_scope(scope, name, inputs, reuse) as opened, training:
        if num_classes and spatial_squeeze and not global_pool:
            heads.check_single_logits(inputs, output_stride or root_stride * math.prod(_strides(blocks)), name)
        net, end_points = resnet_base(
            bottleneck, version, inputs, blocks, output_stride=output_stride, include_root_block=include_root_block,
            store_non_strided_activations=store_non_strided_activations, scope='')
        if version == 2:
            net = slim.batch_norm(net, activation_fn=tf.nn.relu, scope='postnorm')
        if global_pool:
            net = end_points['global_pool'] = tf.reduce_mean(net, [1, 2], keepdims=True, name='pool5')
        if not num_classes:
            return net, end_points
        logits = slim.conv2d(net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope='logits')
        end_points[f'{opened.name}/logits'] = logits
        if spatial_squeeze:
            logits = end_points[f'{opened.name}/spatial_squeeze'] = heads.squeeze(logits)
        end_points['predictions'] = slim.softmax(heads.in_float32(logits), scope='predictions')
    return logits, end_points


def resnet_arg_scope(weight_decay: float = 0.0001, batch_norm_decay: float = 0.997, batch_norm_epsilon: float = 1e-5,
                     batch_norm_scale: bool = True, activation_fn: Callable | None = tf.nn.relu,
                     use_batch_norm: bool = True,
                     batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS) -> dict:
    """Returns the arg scope that ResNets are built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: added to the variance.
      batch_norm_scale: whether batch norm has a factor gamma; the published weights have one.
      activation_fn: what follows each convolution.
      use_batch_norm: whether batch norm follows each convolution, in place of biases.
      batch_norm_updates_collections: graph collection for the updates of the moving statistics; None applies them
        in the forward pass.
    """
    batch_norm = dict(decay=batch_norm_decay, epsilon=batch_norm_epsilon, scale=batch_norm_scale, fused=None,
                      updates_collections=batch_norm_updates_collections)
    with slim.arg_scope([slim.batch_norm], **batch_norm), slim.arg_scope([slim.max_pool2d], padding='SAME'), \
            slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay),
                           weights_initializer=slim.variance_scaling_initializer(), activation_fn=activation_fn,
                           normalizer_fn=slim.batch_norm if use_batch_norm else None,
                           normalizer_params=batch_norm) as scope:
        return scope
