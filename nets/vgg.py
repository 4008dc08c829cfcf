"""VGG: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, arXiv:1409.1556.

Default size 224x224, inputs with the mean colour subtracted (preprocessing `vgg`). The published weights
(2016_08_28, 1000 classes, from Caffe) reach on ImageNet:

    vgg_16    71.5% top-1, 89.8% top-5
    vgg_19    71.1%        89.8%

Those of `vgg_a` were not published. `vgg_d` and `vgg_e` are 16 and 19 by the paper's letters. What AlexNet and OverFeat
share with VGG stands here too: fully connected layers as convolutions, so that larger images give a map of answers.
"""
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, names, table
from nets.scopes import Net, Scope, network_scope
from nets.table import conv, max_pool

CONVOLUTIONS = {                    # of each block; Table 1 of the paper
    'vgg_a': (1, 1, 2, 2, 2),       # column A: with the fully connected ones, 11 layers
    'vgg_16': (2, 2, 3, 3, 3),      # column D
    'vgg_19': (2, 2, 4, 4, 4),      # column E
}
WIDTHS = (64, 128, 256, 512, 512)   # output for 224x224: 112x112, 56x56, 28x28, 14x14, 7x7


def fully_connected_rows(widths: tuple[int, int], kernel: int, padding: str = 'VALID',
                         **arguments: Any) -> table.Table:
    """Returns the rows of two fully connected layers, `fc6` with that kernel and `fc7`, with dropout between them."""
    op = functools.partial(slim.conv2d, **arguments)
    return [('fc6', conv(widths[0], kernel, padding=padding, op=op)),
            (None, lambda net, _: slim.dropout(net, scope='dropout6')),
            ('fc7', conv(widths[1], 1, op=op))]


def build(rows: table.Table, inputs: tf.Tensor, final_endpoint: str | None, scope: Scope, default_name: str) -> Net:
    """Builds the rows; an endpoint is called by the whole name of its scope, such as `vgg_16/fc6`."""
    def within(layer, scope):
        return dataclasses.replace(layer, op=lambda *args, **kwargs: layer.op(*args, **{**kwargs, 'scope': scope}))

    with network_scope(scope, default_name, inputs) as opened:
        rows = [(f'{opened.name}/{name}', within(item, name)) if name else (name, item) for name, item in rows]
        return table.build(rows, inputs, final_endpoint, '', default_name)


def classifier(rows: table.Table, inputs: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor,
               dropout_keep_prob: float, spatial_squeeze: bool, global_pool: bool, reuse: bool | None, scope: Scope,
               default_name: str, **arguments: Any) -> Net:
    """Builds the rows and the last fully connected layer, which takes the `arguments` of `slim.conv2d`."""
    with network_scope(scope, default_name, inputs, reuse, table.least_size(rows)) as opened, \
            slim.arg_scope([slim.dropout], is_training=is_training, keep_prob=dropout_keep_prob):
        if num_classes and spatial_squeeze and not global_pool:
            heads.check_single_logits(inputs, table.least_size(rows, 2) - 1, default_name)
        net, end_points = build(rows, inputs, None, '', default_name)
        if global_pool:
            net = end_points['global_pool'] = tf.reduce_mean(net, [1, 2], keepdims=True, name='global_pool')
        if not num_classes:
            return net, end_points
        net = slim.dropout(net, scope='dropout7')
        logits = slim.conv2d(net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope='fc8', **arguments)
        if spatial_squeeze:
            logits = heads.squeeze(logits, name='fc8/squeezed')
        end_points[f'{opened.name}/fc8'] = logits
    return logits, end_points


def _variant(name: str) -> tuple[Callable[..., Net], Callable[..., Net]]:
    """Returns the VGG of that name, and its base function."""
    def rows(fc_conv_padding):
        if fc_conv_padding not in ('VALID', 'SAME'):
            raise names.unknown('fc_conv_padding', fc_conv_padding, ('VALID', 'SAME'))
        blocks = []
        for block, (number, width) in enumerate(zip(CONVOLUTIONS[name], WIDTHS, strict=True), 1):
            blocks += [(f'conv{block}/conv{block}_{i}', conv(width, 3)) for i in range(1, number + 1)]
            blocks += [(f'pool{block}', max_pool(2, stride=2, padding='VALID'))]
        return blocks + fully_connected_rows((4096, 4096), 7, fc_conv_padding)

    def vgg_base(inputs: tf.Tensor, final_endpoint: str | None = None, fc_conv_padding: str = 'VALID',
                 scope: Scope = name) -> Net:
        """Builds a VGG up to an endpoint; there is dropout before `fc7` unless `slim.arg_scope` sets it otherwise.

        Args:
          inputs: float images [batch, height, width, channels]; all but the channels may be unknown.
          final_endpoint: where to stop, with the scope: `vgg_16/pool5`; None is `fc7`.
          fc_conv_padding: padding of `fc6`, a convolution of 7x7: `VALID`, or `SAME` for images from 32x32.
          scope: variable scope.

        Returns:
          The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

        Raises:
          ValueError: the endpoint or the padding is unknown, or the images do not fit; nothing has been built then.
          RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
        """
        return build(rows(fc_conv_padding), inputs, final_endpoint, scope, name)

    def vgg(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
            dropout_keep_prob: float = 0.5, spatial_squeeze: bool = True, reuse: bool | None = None,
            scope: Scope = name, fc_conv_padding: str = 'VALID', global_pool: bool = False) -> Net:
        """Builds a VGG with its classifier.

        Args:
          inputs: float images [batch, height, width, channels], from 224x224; all but the channels may be unknown.
          num_classes: number of classes; 0 or None leaves the classifier out.
          is_training: whether to drop out.
          dropout_keep_prob: share of the features that dropout keeps.
          spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
          reuse: whether to take the variables that are there.
          scope: variable scope.
          fc_conv_padding: padding of `fc6`, a convolution of 7x7: `VALID`, or `SAME` for images from 32x32.
          global_pool: whether to average over the whole map before the logits. Images from 256x256 need it (or
            `spatial_squeeze=False`).

        Returns:
          Logits, or without classes the features [batch, 1, 1, 4096]; and a dictionary endpoint -> output.

        Raises:
          ValueError: the padding is unknown, or the images do not fit.
          RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
        """
        return classifier(rows(fc_conv_padding), inputs, num_classes, is_training, dropout_keep_prob, spatial_squeeze,
                          global_pool, reuse, scope, name)

    vgg.default_image_size = 224
    vgg.__name__, vgg_base.__name__ = name, f'{name}_base'
    return vgg, vgg_base


vgg_a, vgg_a_base = _variant('vgg_a')
vgg_d, vgg_d_base = vgg_16, vgg_16_base = _variant('vgg_16')
vgg_e, vgg_e_base = vgg_19, vgg_19_base = _variant('vgg_19')


def vgg_arg_scope(weight_decay: float = 0.0005) -> dict:
    """Returns the arg scope that VGG is built under.

    Args:
      weight_decay: factor of the L2 loss of the weights; 0 adds none.
    """
    with slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=slim.l2_regularizer(weight_decay),
                        activation_fn=tf.nn.relu, biases_initializer=tf.compat.v1.zeros_initializer()) as scope:
        return scope
