"""NASNet-A: Zoph and others, Learning transferable architectures for scalable image recognition, arXiv:1707.07012.

| network | default size | preprocessing | published weights (2017_10_04, 1001 classes, 0 is background) |
|---|---|---|---|
| `build_nasnet_cifar`  | 32x32   | `cifarnet`  | none |
| `build_nasnet_mobile` | 224x224 | `inception` | 74.0% top-1, 91.6% top-5 on ImageNet |
| `build_nasnet_large`  | 331x331 | `inception` | 82.7% top-1, 96.2% top-5 |

The variables have no common root: `conv0`, `cell_stem_0`, `cell_0`, `reduction_cell_0`, `final_layer`.
"""
import copy
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, recompute, table
from nets.nasnet import nasnet_utils
from nets.nasnet.nasnet_utils import HParams, Step
from nets.scopes import Net, Scope, network_scope


class Family(NamedTuple):
    """What sets networks of cells apart beside their config.

    Attributes:
      name: what errors call it.
      normal_cell: the class of its cells.
      reduction_cell: the class of the cells that stand between them and halve the maps; None where every now and then
        a normal cell does so.
      num_stem_cells: cells with stride 2 in the stem, for large images.
    """

    name: str
    normal_cell: type[nasnet_utils.TableCell]
    reduction_cell: type[nasnet_utils.TableCell] | None
    num_stem_cells: int


CIFAR = Family('NASNet', nasnet_utils.NasNetANormalCell, nasnet_utils.NasNetAReductionCell, 0)
IMAGENET = CIFAR._replace(num_stem_cells=2)


def imagenet_config(**changes: Any) -> HParams:
    """Returns the settings that the networks for ImageNet share, with some changed."""
    return HParams(**{**dict(
        stem_multiplier=1.0,            # factor of the first convolution's channels
        num_cells=12,                   # normal cells
        num_conv_filters=44,            # channels of an operation in the first of them
        filter_scaling_rate=2.0,        # factor of these, where maps are halved
        num_reduction_layers=2,         # how often that is
        skip_reduction_layer_input=0,   # whether the cell after a reduction cell also passes over the one before that
        drop_path_keep_prob=1.0,        # see nasnet_utils.NasNetABaseCell
        total_training_steps=250000,
        dense_dropout_keep_prob=0.5,    # dropout before the logits
        use_aux_head=1,                 # whether training has an auxiliary classifier
        use_bounded_activation=False,   # whether maps are kept between -6 and 6, for 8-bit arithmetic
        data_format='NHWC',             # or NCHW, in which the network then computes; images are NHWC
    ), **changes})


def cifar_config() -> HParams:
    """Returns the settings of `build_nasnet_cifar`: 6 cells at each of three sizes, 32 channels."""
    return imagenet_config(stem_multiplier=3.0, num_cells=18, num_conv_filters=32, drop_path_keep_prob=0.6,
                           total_training_steps=937500, dense_dropout_keep_prob=1.0)


def mobile_imagenet_config() -> HParams:
    """Returns the settings of `build_nasnet_mobile`: 4 cells at each of three sizes, 44 channels."""
    return imagenet_config()


def large_imagenet_config() -> HParams:
    """Returns the settings of `build_nasnet_large`: 6 cells at each of three sizes, 168 channels."""
    return imagenet_config(stem_multiplier=3.0, num_cells=18, num_conv_filters=168, skip_reduction_layer_input=1,
                           drop_path_keep_prob=0.7)


def nasnet_mobile_arg_scope(weight_decay: float = 4e-5, batch_norm_decay: float = 0.9997,
                            batch_norm_epsilon: float = 1e-3) -> dict:
    """Returns the arg scope that a network is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: added to the variance.
    """
    with slim.arg_scope([slim.fully_connected, slim.conv2d, slim.separable_conv2d], activation_fn=None,
                        weights_regularizer=slim.l2_regularizer(weight_decay),
                        weights_initializer=slim.variance_scaling_initializer(mode='FAN_OUT')), \
            slim.arg_scope([slim.fully_connected], scope='FC'), \
            slim.arg_scope([slim.conv2d, slim.separable_conv2d], biases_initializer=None), \
            slim.arg_scope([slim.batch_norm], decay=batch_norm_decay, epsilon=batch_norm_epsilon, scale=True,
                           fused=True) as scope:
        return scope


def nasnet_cifar_arg_scope(weight_decay: float = 5e-4, batch_norm_decay: float = 0.9,
                           batch_norm_epsilon: float = 1e-5) -> dict:
    """Returns the arg scope for CIFAR; see `nasnet_mobile_arg_scope`."""
    return nasnet_mobile_arg_scope(weight_decay, batch_norm_decay, batch_norm_epsilon)


def nasnet_large_arg_scope(weight_decay: float = 5e-5, batch_norm_decay: float = 0.9997,
                           batch_norm_epsilon: float = 1e-3) -> dict:
    """Returns the arg scope of the large network; see `nasnet_mobile_arg_scope`."""
    return nasnet_mobile_arg_scope(weight_decay, batch_norm_decay, batch_norm_epsilon)


def rows(family: Family, config: HParams, current_step: Step = None, num_aux_classes: int | None = None) -> table.Table:
    """Returns the rows of a network for one build: a cell's row remembers the outputs of the cells before it.

    Args:
      family: its cells.
      config: its settings.
      current_step: see `nasnet_utils.NasNetABaseCell`.
      num_aux_classes: classes of the auxiliary classifier; None leaves it out.
    """
    reductions = nasnet_utils.calc_reduction_layers(config.num_cells, config.num_reduction_layers)
    reduction_cell = family.reduction_cell or family.normal_cell
    num_cells = family.num_stem_cells + config.num_cells + (len(reductions) if family.reduction_cell else 0)
    activation = tf.nn.relu6 if config.use_bounded_activation else tf.nn.relu
    outputs: list[tuple[tf.Tensor, int]] = []       # of the first convolution and of each cell; its stride

    def cell(make, filter_scaling, stride, back=2):
        def build(_, endpoint):
            net, net_stride = outputs[-1]
            prev, prev_stride = outputs[-back] if len(outputs) >= back else (None, net_stride)
            built = make(config.num_conv_filters, config.drop_path_keep_prob, num_cells, config.total_training_steps,
                         config.use_bounded_activation)
            net = built(net, endpoint.lower(), filter_scaling, stride, prev, len(outputs) - 1, current_step,
                        net_stride // prev_stride)
            outputs.append((net, net_stride * stride))
            return net
        return build

    def stem(net, _):
        if config.data_format == nasnet_utils.DATA_FORMAT_NCHW:
            net = tf.transpose(net, [0, 3, 1, 2])
        if family.num_stem_cells:
            net = slim.conv2d(net, int(32 * config.stem_multiplier), 3, stride=2, padding='VALID', scope='conv0')
            net = slim.batch_norm(net, scope='conv0_bn')
        else:
            net = slim.conv2d(net, int(config.num_conv_filters * config.stem_multiplier), 3, scope='l1_stem_3x3')
            net = slim.batch_norm(net, scope='l1_stem_bn')
        outputs.append((net, 1))
        for number in range(family.num_stem_cells):
            filter_scaling = config.filter_scaling_rate ** (number - family.num_stem_cells)
            net = cell(reduction_cell, filter_scaling, 2)(net, f'cell_stem_{number}')
        return net

    def aux_logits(net, _):
        net = activation(net)
        with tf.compat.v1.variable_scope(f'aux_{reductions[1] - 1}/aux_logits'):
            kernel = [min(5, size) for size in nasnet_utils.get_sizes(net)]
            net = slim.avg_pool2d(net, kernel, stride=3, padding='VALID')
            net = slim.conv2d(net, 128, 1, scope='proj')
            net = activation(slim.batch_norm(net, scope='aux_bn0'))
            net = slim.conv2d(net, 768, nasnet_utils.get_sizes(net), padding='VALID')
            net = activation(slim.batch_norm(net, scope='aux_bn1'))
            return slim.fully_connected(slim.flatten(net), num_aux_classes)

    result: table.Table = [('Stem', stem)]
    filter_scaling = 1.0
    for number in range(config.num_cells):
        stride, back = 1, 2
        if number in reductions:
            filter_scaling *= config.filter_scaling_rate
            if family.reduction_cell:
                endpoint = f'Reduction_Cell_{reductions.index(number)}'
                result.append((endpoint, cell(reduction_cell, filter_scaling, 2)))
                back = 3 if config.skip_reduction_layer_input else 2
            else:
                stride = 2
        result.append((f'Cell_{number}', cell(family.normal_cell, filter_scaling, stride, back)))
        if num_aux_classes and reductions[1:2] == [number + 1]:
            result.append(('AuxLogits', aux_logits))
    return result


def _layout(data_format):
    return slim.arg_scope([slim.conv2d, slim.separable_conv2d, slim.avg_pool2d, slim.max_pool2d, slim.batch_norm,
                           nasnet_utils.get_channel_index, nasnet_utils.get_channel_dim, nasnet_utils.global_avg_pool,
                           nasnet_utils.factorized_reduction, nasnet_utils.pool], data_format=data_format)


def build_base(family: Family, images: tf.Tensor, final_endpoint: str | None, config: HParams,
               current_step: Step = None, scope: Scope = None,
               num_aux_classes: int | None = None) -> Net:
    """Builds a network of cells up to an endpoint.

    Args:
      family: its cells.
      images: float images [batch, height, width, channels]; all but the channels may be unknown.
      final_endpoint: where to stop: `Stem`, or a cell; None builds all.
      config: its settings.
      current_step: the training's step, with which drop path grows; None takes the graph's global step, or, without
        one, the last of `config.total_training_steps`.
      scope: variable scope; None adds none to the current one.
      num_aux_classes: classes of the auxiliary classifier; None leaves it out.

    Returns:
      The last output, and a dictionary endpoint -> output, in the order of `config.data_format`.

    Raises:
      ValueError: the endpoint is unknown (nothing has been built then), or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    nasnet_utils.get_channel_index(data_format=config.data_format)      # refuses an unknown one
    # The first convolution for ImageNet is not padded.
    with network_scope(scope or '', family.name, images, min_size=3 if family.num_stem_cells else 1), \
            _layout(config.data_format), recompute.recomputed(False):       # a cell reads the one before the last
        return table.build(rows(family, config, current_step, num_aux_classes), images, final_endpoint, scope='',
                           default_name=family.name)


def build(family: Family, images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor,
          final_endpoint: str | None, config: HParams, current_step: Step, reuse: bool | None,
          scope: Scope) -> Net:
    """Builds a network of cells with its classifier; see `build_nasnet_large`."""
    training = tf.is_tensor(is_training) or bool(is_training)
    if not training:
        config = copy.copy(config)
        config.drop_path_keep_prob = 1.0
    if final_endpoint == 'global_pool':
        final_endpoint = num_classes = None
    num_aux_classes = num_classes if training and config.use_aux_head else None
    with network_scope(scope or '', family.name, images, reuse), \
            slim.arg_scope([slim.batch_norm, slim.dropout, nasnet_utils.drop_path], is_training=is_training):
        if num_aux_classes and None in tf.TensorShape(images.shape).as_list()[1:3]:
            raise ValueError(f'The auxiliary classifier of {family.name} is fully connected: give images of a known '
                             'height and width, or a config with use_aux_head=0.')
        net, end_points = build_base(family, images, final_endpoint, config, current_step,
                                     num_aux_classes=num_aux_classes)
        if final_endpoint is not None:
            return net, end_points
        with _layout(config.data_format), tf.compat.v1.variable_scope('final_layer'):
            net = tf.nn.relu6(net) if config.use_bounded_activation else tf.nn.relu(net)
            net = end_points['global_pool'] = nasnet_utils.global_avg_pool(net)
            if not num_classes:
                return net, end_points
            net = slim.dropout(net, config.dense_dropout_keep_prob, scope='dropout')
            logits = end_points['Logits'] = slim.fully_connected(net, num_classes)
            end_points['Predictions'] = tf.nn.softmax(heads.in_float32(logits), name='predictions')
    return logits, end_points


def nasnet_cifar_base(inputs: tf.Tensor, final_endpoint: str | None = None, config: HParams | None = None,
                      current_step: Step = None, scope: Scope = None) -> Net:
    """Builds NASNet-A for CIFAR up to an endpoint; see `build_base`."""
    return build_base(CIFAR, inputs, final_endpoint, config or cifar_config(), current_step, scope)


def nasnet_mobile_base(inputs: tf.Tensor, final_endpoint: str | None = None, config: HParams | None = None,
                       current_step: Step = None, scope: Scope = None, keras_padding: bool = False) -> Net:
    """Builds NASNet-A Mobile up to an endpoint; see `build_base`."""
    with slim.arg_scope([nasnet_utils.pool], keras_padding=keras_padding):
        return build_base(IMAGENET, inputs, final_endpoint, config or mobile_imagenet_config(), current_step, scope)


def nasnet_large_base(inputs: tf.Tensor, final_endpoint: str | None = None, config: HParams | None = None,
                      current_step: Step = None, scope: Scope = None, keras_padding: bool = False) -> Net:
    """Builds NASNet-A Large up to an endpoint; see `build_base`."""
    with slim.arg_scope([nasnet_utils.pool], keras_padding=keras_padding):
        return build_base(IMAGENET, inputs, final_endpoint, config or large_imagenet_config(), current_step, scope)


def build_nasnet_cifar(images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor = True,
                       config: HParams | None = None, current_step: Step = None, reuse: bool | None = None,
                       scope: Scope = None, final_endpoint: str | None = None) -> Net:
    """Builds NASNet-A (6 @ 768) for CIFAR; see `build_nasnet_large`."""
    return build(CIFAR, images, num_classes, is_training, final_endpoint, config or cifar_config(), current_step, reuse,
                 scope)


def build_nasnet_mobile(images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor = True,
                        final_endpoint: str | None = None, config: HParams | None = None, current_step: Step = None,
                        reuse: bool | None = None, scope: Scope = None, keras_padding: bool = False) -> Net:
    """Builds NASNet-A (4 @ 1056), also called Mobile; see `build_nasnet_large`."""
    with slim.arg_scope([nasnet_utils.pool], keras_padding=keras_padding):
        return build(IMAGENET, images, num_classes, is_training, final_endpoint, config or mobile_imagenet_config(),
                     current_step, reuse, scope)


def build_nasnet_large(images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor = True,
                       final_endpoint: str | None = None, config: HParams | None = None, current_step: Step = None,
                       reuse: bool | None = None, scope: Scope = None, keras_padding: bool = False) -> Net:
    """Builds NASNet-A (6 @ 4032), also called Large, with its classifier.

    Args:
      images: float images [batch, height, width, channels] in [-1, 1], of 3x3 pixels or more; all but the channels may
        be unknown (with the auxiliary classifier only the batch).
      num_classes: number of classes; 0 or None leaves the classifiers out.
      is_training: whether to drop paths and features, to normalise by the batch's own statistics, and to have the
        auxiliary classifier, endpoint `AuxLogits`.
      final_endpoint: where to stop, without the classifier: `Stem`, a cell or `global_pool`; None builds all.
      config: the settings; None takes this network's own, `large_imagenet_config()`.
      current_step: the training's step, with which drop path grows; None takes the graph's global step, or, without
        one, the last of `config.total_training_steps`.
      reuse: whether to take the variables that are there.
      scope: variable scope; None adds none to the current one, as in the published weights.
      keras_padding: whether reduction cells pool zeros around the map too, as in Keras Applications, for weights
        from there.

    Returns:
      Logits [batch, classes], or without classes the pooled features [batch, channels], or the final endpoint; and a
      dictionary endpoint -> output. Outputs have the images' type, predictions at least float32; maps are in the order
      of `config.data_format`.

    Raises:
      ValueError: the endpoint is unknown (nothing has been built then), or the images or the config do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    with slim.arg_scope([nasnet_utils.pool], keras_padding=keras_padding):
        return build(IMAGENET, images, num_classes, is_training, final_endpoint, config or large_imagenet_config(),
                     current_step, reuse, scope)


build_nasnet_cifar.default_image_size = 32
build_nasnet_mobile.default_image_size = 224
build_nasnet_large.default_image_size = 331
