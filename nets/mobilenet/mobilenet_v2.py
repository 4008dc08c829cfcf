"""MobileNet V2: Sandler and others, Inverted residuals and linear bottlenecks, arXiv:1801.04381.

Default size 224x224, inputs in [-1, 1] (preprocessing `inception`). The published weights (1001 classes, class 0 is
background) reach 71.9% top-1 and 91.0% top-5 on ImageNet, those of 1.4 times the width 74.9% and 92.5%.
"""
import copy
from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.mobilenet import conv_blocks as ops
from nets.mobilenet import mobilenet as lib
from nets.mobilenet.mobilenet import op, wrapped_partial
from nets.scopes import Net, Scope

expand_input = ops.expand_input_by_factor
_LAYERS = (slim.conv2d, slim.fully_connected, slim.separable_conv2d)


def _defaults(normalizer_fn, **normalizer_params):
    return {
        (normalizer_fn,): normalizer_params,
        _LAYERS: {'normalizer_fn': normalizer_fn, 'activation_fn': tf.nn.relu6},
        (ops.expanded_conv,): {'expansion_size': expand_input(6), 'split_expansion': 1,
                               'normalizer_fn': normalizer_fn, 'residual': True},
        (slim.conv2d, slim.separable_conv2d): {'padding': 'SAME'},
    }


def _inverted_residuals(table):
    for t, c, n, s in table:
        for stride in (s, *[1] * (n - 1)):
            expansion = {} if t == 6 else {'expansion_size': expand_input(t, divisible_by=1)}   # 6 is the default
            yield op(ops.expanded_conv, stride=stride, num_outputs=c, **expansion)


V2_DEF = {
    'defaults': _defaults(slim.batch_norm, center=True, scale=True),
    'spec': [                                                           # output for 224x224
        op(slim.conv2d, stride=2, num_outputs=32, kernel_size=[3, 3]),  # 112x112x32
        *_inverted_residuals([      # arXiv:1801.04381, Table 2
            # t    c  n  s
            (1,   16, 1, 1),                                            # 112x112x16
            (6,   24, 2, 2),                                            # 56x56x24
            (6,   32, 3, 2),                                            # 28x28x32
            (6,   64, 4, 2),                                            # 14x14x64
            (6,   96, 3, 1),                                            # 14x14x96
            (6,  160, 3, 2),                                            # 7x7x160
            (6,  320, 1, 1),                                            # 7x7x320
        ]),
        op(slim.conv2d, stride=1, kernel_size=[1, 1], num_outputs=1280),  # 7x7x1280
    ],
}
V2_DEF_GROUP_NORM = {**copy.deepcopy(V2_DEF), 'defaults': _defaults(slim.group_norm, groups=8)}  # divides all widths


@slim.add_arg_scope
@lib.show_arguments
def mobilenet(input_tensor: tf.Tensor, num_classes: int | None = 1001, depth_multiplier: float = 1.0,
              scope: Scope = 'MobilenetV2', conv_defs: dict | None = None,
              finegrain_classification_mode: bool = False, min_depth: int | None = None,
              divisible_by: int | None = None, activation_fn: Callable | None = None,
              **kwargs) -> Net:
    """Builds MobileNet V2 with its classifier.

    Inference mode is created by default; under `slim.arg_scope(training_scope())`, training.

    Args:
      input_tensor: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      depth_multiplier: factor of all numbers of channels.
      scope: variable scope.
      conv_defs: the rows and their arg scopes; `V2_DEF` if None.
      finegrain_classification_mode: whether the last layer keeps its 1280 channels for multipliers below one, as in
        the paper.
      min_depth: least number of channels of a layer; 8 if None.
      divisible_by: what numbers of channels are multiples of; 8 if None.
      activation_fn: what follows the convolutions, other than ReLU6.
      **kwargs: of `nets.mobilenet.mobilenet.mobilenet`, and so of `mobilenet_base` there: is_training, prediction_fn,
        reuse, base_only, use_reduce_mean_for_pooling, final_endpoint, output_stride, use_explicit_padding.

    Returns:
      Logits [batch, num_classes], or without classes the pooled features [batch, 1, 1, 1280]; and a dictionary
      endpoint -> output.

    Raises:
      ValueError: an argument is not valid, or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    conv_defs = V2_DEF if conv_defs is None else conv_defs
    if activation_fn is not None:
        conv_defs = {**conv_defs, 'overrides': {_LAYERS: {'activation_fn': activation_fn},
                                                **conv_defs.get('overrides', {})}}
    if finegrain_classification_mode:
        conv_defs = lib.keep_last_layer(conv_defs)
    with lib.safe_arg_scope([lib.depth_multiplier], min_depth=min_depth, divisible_by=divisible_by):
        return lib.mobilenet(input_tensor, num_classes, multiplier=depth_multiplier, scope=scope,
                             conv_defs=conv_defs, **kwargs)


mobilenet.default_image_size = 224

# What the published checkpoints are: the thin ones keep their last layer.
mobilenet_v2_140 = wrapped_partial(mobilenet, depth_multiplier=1.4)
mobilenet_v2_050 = wrapped_partial(mobilenet, depth_multiplier=0.5, finegrain_classification_mode=True)
mobilenet_v2_035 = wrapped_partial(mobilenet, depth_multiplier=0.35, finegrain_classification_mode=True)


@slim.add_arg_scope
def mobilenet_base(input_tensor: tf.Tensor, depth_multiplier: float = 1.0,
                   **kwargs) -> Net:
    """Builds MobileNet V2 without pooling and classifier; `final_endpoint` and others are as for `mobilenet`."""
    return mobilenet(input_tensor, depth_multiplier=depth_multiplier, base_only=True, **kwargs)


mobilenet_v2_140_base = wrapped_partial(mobilenet_base, depth_multiplier=1.4)
mobilenet_v2_035_base = wrapped_partial(mobilenet_base, depth_multiplier=0.35, finegrain_classification_mode=True)


@slim.add_arg_scope
def mobilenet_base_group_norm(input_tensor: tf.Tensor, depth_multiplier: float = 1.0, groups: int = 8,
                              **kwargs) -> Net:
    """`mobilenet_base` with group normalization (arXiv:1803.08494), in `groups` groups, in place of batch norm."""
    conv_defs = {**V2_DEF_GROUP_NORM, 'overrides': {(slim.group_norm,): {'groups': groups}}}
    return mobilenet_base(input_tensor, depth_multiplier, conv_defs=conv_defs, **kwargs)


def training_scope(**kwargs) -> dict:
    """Returns the arg scope to train MobileNet V2 under; the arguments are those of `nets.mobilenet.mobilenet`'s."""
    return lib.training_scope(**kwargs)
