"""MobileNet V3 and MobileNet-EdgeTPU.

Howard and others, Searching for MobileNetV3, arXiv:1905.02244; EdgeTPU:
ai.googleblog.com/2019/11/introducing-next-generation-on-device.html. Default size 224x224, inputs in [-1, 1]
(preprocessing `inception`). The published weights (1001 classes, class 0 is background) reach on ImageNet, top-1:
large 75.2%, small 67.5%, large minimalistic 72.3%, small minimalistic 61.9%, EdgeTPU 75.6%. The minimalistic forms have
no squeeze-and-excitation, no hard swish and no 5x5 kernels.
"""
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.mobilenet import conv_blocks as ops
from nets.mobilenet import mobilenet as lib
from nets.mobilenet.mobilenet import Op, op, training_scope
from nets.scopes import Net, Scope

__all__ = [
    'DEFAULTS', 'DEFAULTS_GROUP_NORM', 'V3_EDGETPU', 'V3_LARGE', 'V3_LARGE_DETECTION', 'V3_LARGE_MINIMALISTIC',
    'V3_SMALL', 'V3_SMALL_DETECTION', 'V3_SMALL_MINIMALISTIC', 'edge_tpu', 'edge_tpu_075', 'edge_tpu_075_base',
    'edge_tpu_base', 'hard_swish', 'large', 'large_base', 'large_minimalistic', 'large_minimalistic_base', 'mbv3_fused',
    'mbv3_op', 'mbv3_op_se', 'mobilenet', 'mobilenet_base', 'reduce_to_1x1', 'small', 'small_base',
    'small_minimalistic', 'small_minimalistic_base', 'squeeze_excite', 'training_scope', 'wrapped_partial',
]


def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """The activation x * relu6(x + 3) / 6, arXiv:1905.02244, section 5.2."""
    with tf.name_scope('hard_swish'):
        return x * tf.nn.relu6(x + 3.0) * (1 / 6)


def _hard_sigmoid(x):
    return tf.nn.relu6(x + 3.0) * 0.16667       # so rounded in the published networks


squeeze_excite = functools.partial(ops.squeeze_excite, squeeze_factor=4, inner_activation_fn=tf.nn.relu,
                                   gating_fn=_hard_sigmoid)


def _se(expansion_tensor, input_tensor):
    return squeeze_excite(expansion_tensor)


def reduce_to_1x1(input_tensor: tf.Tensor, default_size: int = 7, **kwargs) -> tf.Tensor:
    """Averages over the map: over all of it where it is square or its size unknown.

    Args:
      input_tensor: [batch, height, width, channels].
      default_size: height and width of the windows in a map that is not square (or its own, where they are smaller).
      **kwargs: of `slim.avg_pool2d`.

    Returns:
      [batch, 1, 1, channels], or larger where the map was not square.
    """
    sizes = input_tensor.shape.as_list()[1:3]
    if None in sizes:
        return tf.reduce_mean(input_tensor, [1, 2], keepdims=True)
    if sizes[0] != sizes[1]:
        sizes = [min(size, default_size) for size in sizes]
    return slim.avg_pool2d(input_tensor, sizes, **kwargs)


def mbv3_op(ef: float, n: int, k: int, s: int = 1, act: Callable = tf.nn.relu, se: Callable | None = None,
            **kwargs) -> Op:
    """Returns the row of an inverted residual.

    Args:
      ef: expansion factor.
      n: number of output channels.
      k: height and width of the depthwise convolution's kernel.
      s: stride.
      act: what follows expansion and depthwise convolution.
      se: a function of `expansion_tensor` and `input_tensor` that gives what is projected.
      **kwargs: further arguments of `nets.mobilenet.conv_blocks.expanded_conv`.
    """
    return op(ops.expanded_conv, expansion_size=ops.expand_input_by_factor(ef), kernel_size=(k, k), stride=s,
              num_outputs=n, inner_activation_fn=act, expansion_transform=se, **kwargs)


mbv3_op_se = functools.partial(mbv3_op, se=_se)


def mbv3_fused(ef: float, n: int, k: int, s: int = 1, **kwargs) -> Op:
    """Returns the row of an inverted residual whose expansion is a full kxk convolution; arguments as in `mbv3_op`."""
    return op(ops.fused_conv, expansion_size=ops.expand_input_by_factor(ef), kernel_size=(k, k), stride=s,
              num_outputs=n, inner_activation_fn=tf.nn.relu, **kwargs)


def _defaults(normalizer_fn, **normalizer_params):
    return {
        (ops.expanded_conv,): {'normalizer_fn': normalizer_fn, 'residual': True},
        (slim.conv2d, slim.fully_connected, slim.separable_conv2d): {'normalizer_fn': normalizer_fn,
                                                                     'activation_fn': tf.nn.relu},
        (normalizer_fn,): normalizer_params,
    }


DEFAULTS = _defaults(slim.batch_norm, center=True, scale=True)
DEFAULTS_GROUP_NORM = _defaults(slim.group_norm, groups=8)      # which divides all widths


def _conv(n, act, k=1, s=1, **kwargs):
    return op(slim.conv2d, kernel_size=[k, k], stride=s, num_outputs=n, activation_fn=act, **kwargs)


def _v3_large(k, se, hs):
    """arXiv:1905.02244, Table 1; the minimalistic form has other values of the arguments."""
    return {'defaults': DEFAULTS, 'spec': [                 # output for 224x224
        _conv(16, hs, k=3, s=2),                            # 112x112x16
        mbv3_op(ef=1, n=16, k=3),                           # 112x112x16
        mbv3_op(ef=4, n=24, k=3, s=2),                      # 56x56x24
        mbv3_op(ef=3, n=24, k=3),                           # 56x56x24
        mbv3_op(ef=3, n=40, k=k, s=2, se=se),               # 28x28x40
        mbv3_op(ef=3, n=40, k=k, se=se),                    # 28x28x40
        mbv3_op(ef=3, n=40, k=k, se=se),                    # 28x28x40
        mbv3_op(ef=6, n=80, k=3, s=2, act=hs),              # 14x14x80
        mbv3_op(ef=2.5, n=80, k=3, act=hs),                 # 14x14x80
        mbv3_op(ef=2.3, n=80, k=3, act=hs),                 # 14x14x80
        mbv3_op(ef=2.3, n=80, k=3, act=hs),                 # 14x14x80
        mbv3_op(ef=6, n=112, k=3, se=se, act=hs),           # 14x14x112
        mbv3_op(ef=6, n=112, k=3, se=se, act=hs),           # 14x14x112
        mbv3_op(ef=6, n=160, k=k, s=2, se=se, act=hs),      # 7x7x160
        mbv3_op(ef=6, n=160, k=k, se=se, act=hs),           # 7x7x160
        mbv3_op(ef=6, n=160, k=k, se=se, act=hs),           # 7x7x160
        _conv(960, hs),                                     # 7x7x960
        op(reduce_to_1x1, default_size=7, stride=1),        # 1x1x960
        _conv(1280, hs, normalizer_fn=None),                # 1x1x1280
    ]}


def _v3_small(k, se, hs):
    """arXiv:1905.02244, Table 2; the minimalistic form has other values of the arguments."""
    return {'defaults': DEFAULTS, 'spec': [                 # output for 224x224
        _conv(16, hs, k=3, s=2),                            # 112x112x16
        mbv3_op(ef=1, n=16, k=3, s=2, se=se),               # 56x56x16
        mbv3_op(ef=72 / 16, n=24, k=3, s=2),                # 28x28x24
        mbv3_op(ef=88 / 24, n=24, k=3),                     # 28x28x24
        mbv3_op(ef=4, n=40, k=k, s=2, se=se, act=hs),       # 14x14x40
        mbv3_op(ef=6, n=40, k=k, se=se, act=hs),            # 14x14x40
        mbv3_op(ef=6, n=40, k=k, se=se, act=hs),            # 14x14x40
        mbv3_op(ef=3, n=48, k=k, se=se, act=hs),            # 14x14x48
        mbv3_op(ef=3, n=48, k=k, se=se, act=hs),            # 14x14x48
        mbv3_op(ef=6, n=96, k=k, s=2, se=se, act=hs),       # 7x7x96
        mbv3_op(ef=6, n=96, k=k, se=se, act=hs),            # 7x7x96
        mbv3_op(ef=6, n=96, k=k, se=se, act=hs),            # 7x7x96
        _conv(576, hs),                                     # 7x7x576
        op(reduce_to_1x1, default_size=7, stride=1),        # 1x1x576
        _conv(1024, hs, normalizer_fn=None),                # 1x1x1024
    ]}


_FULL: dict[str, Any] = {'k': 5, 'se': _se, 'hs': hard_swish}
_MINIMALISTIC: dict[str, Any] = {'k': 3, 'se': None, 'hs': tf.nn.relu}
V3_LARGE, V3_LARGE_MINIMALISTIC = _v3_large(**_FULL), _v3_large(**_MINIMALISTIC)
V3_SMALL, V3_SMALL_MINIMALISTIC = _v3_small(**_FULL), _v3_small(**_MINIMALISTIC)


def _halve(conv_defs, first, last):
    """A copy with half the channels in the rows from layer `first` to `last`."""
    return {**conv_defs, 'spec': [
        row._replace(params={**row.params, 'num_outputs': row.params['num_outputs'] // 2})
        if first <= number <= last else row._replace(params=dict(row.params))
        for number, row in enumerate(conv_defs['spec'], start=1)]}


# Detectors have fewer classes than ImageNet, and need less of the last block (arXiv:1905.02244, section 6.3).
V3_LARGE_DETECTION = _halve(V3_LARGE, 14, 17)
V3_SMALL_DETECTION = _halve(V3_SMALL, 10, 13)

V3_EDGETPU = {'defaults': DEFAULTS, 'spec': [               # output for 224x224
    _conv(32, tf.nn.relu, k=3, s=2),                        # 112x112x32
    mbv3_fused(ef=1, n=16, k=3),                            # 112x112x16
    mbv3_fused(ef=8, n=32, k=3, s=2),                       # 56x56x32
    mbv3_fused(ef=4, n=32, k=3),                            # 56x56x32
    mbv3_fused(ef=4, n=32, k=3),                            # 56x56x32
    mbv3_fused(ef=4, n=32, k=3),                            # 56x56x32
    mbv3_fused(ef=8, n=48, k=3, s=2),                       # 28x28x48
    mbv3_fused(ef=4, n=48, k=3),                            # 28x28x48
    mbv3_fused(ef=4, n=48, k=3),                            # 28x28x48
    mbv3_fused(ef=4, n=48, k=3),                            # 28x28x48
    mbv3_op(ef=8, n=96, k=3, s=2),                          # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=8, n=96, k=3, residual=False),               # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=4, n=96, k=3),                               # 14x14x96
    mbv3_op(ef=8, n=160, k=5, s=2),                         # 7x7x160
    mbv3_op(ef=4, n=160, k=5),                              # 7x7x160
    mbv3_op(ef=4, n=160, k=5),                              # 7x7x160
    mbv3_op(ef=4, n=160, k=5),                              # 7x7x160
    mbv3_op(ef=8, n=192, k=3),                              # 7x7x192
    _conv(1280, tf.nn.relu),                                # 7x7x1280
]}


@slim.add_arg_scope
@lib.show_arguments
def mobilenet(input_tensor: tf.Tensor, num_classes: int | None = 1001, depth_multiplier: float = 1.0,
              scope: Scope = 'MobilenetV3', conv_defs: dict | None = None,
              finegrain_classification_mode: bool = False, use_groupnorm: bool = False, groups: int = 8,
              **kwargs) -> Net:
    """Builds MobileNet V3 with its classifier.

    Inference mode is created by default; under `slim.arg_scope(training_scope())`, training.

    Args:
      input_tensor: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      depth_multiplier: factor of all numbers of channels.
      scope: variable scope.
      conv_defs: the rows and their arg scopes; `V3_LARGE` if None.
      finegrain_classification_mode: whether the last layer keeps its channels for multipliers below one.
      use_groupnorm: whether group normalization (arXiv:1803.08494) takes the place of batch norm.
      groups: its number of groups.
      **kwargs: of `nets.mobilenet.mobilenet.mobilenet`, and so of `mobilenet_base` there: is_training, prediction_fn,
        reuse, base_only, use_reduce_mean_for_pooling, final_endpoint, output_stride, use_explicit_padding.

    Returns:
      Logits [batch, num_classes], or without classes the pooled features [batch, 1, 1, channels]; and a dictionary
      endpoint -> output.

    Raises:
      ValueError: an argument is not valid, or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    conv_defs = V3_LARGE if conv_defs is None else conv_defs
    if use_groupnorm:
        conv_defs = {**conv_defs, 'defaults': {**DEFAULTS_GROUP_NORM, (slim.group_norm,): {'groups': groups}}}
    if finegrain_classification_mode:
        conv_defs = lib.keep_last_layer(conv_defs)
    return lib.mobilenet(input_tensor, num_classes, multiplier=depth_multiplier, scope=scope, conv_defs=conv_defs,
                         **kwargs)


mobilenet.default_image_size = 224


@slim.add_arg_scope
def mobilenet_base(input_tensor: tf.Tensor, depth_multiplier: float = 1.0,
                   **kwargs) -> Net:
    """Builds MobileNet V3 without pooling and classifier; `final_endpoint` and others are as for `mobilenet`."""
    return mobilenet(input_tensor, depth_multiplier=depth_multiplier, base_only=True, **kwargs)


def wrapped_partial(func: Callable, new_defaults: dict | None = None, **kwargs) -> Callable:
    """Returns `functools.partial(func, **new_defaults, **kwargs)` with the attributes of `func`."""
    return lib.wrapped_partial(func, **{**(new_defaults or {}), **kwargs})


def _variant(**kwargs):
    return wrapped_partial(mobilenet, **kwargs), wrapped_partial(mobilenet_base, **kwargs)


large, large_base = _variant(conv_defs=V3_LARGE)
small, small_base = _variant(conv_defs=V3_SMALL)
large_minimalistic, large_minimalistic_base = _variant(conv_defs=V3_LARGE_MINIMALISTIC)
small_minimalistic, small_minimalistic_base = _variant(conv_defs=V3_SMALL_MINIMALISTIC)
edge_tpu, edge_tpu_base = _variant(conv_defs=V3_EDGETPU, scope='MobilenetEdgeTPU')
edge_tpu_075, edge_tpu_075_base = _variant(conv_defs=V3_EDGETPU, scope='MobilenetEdgeTPU', depth_multiplier=0.75,
                                           finegrain_classification_mode=True)
