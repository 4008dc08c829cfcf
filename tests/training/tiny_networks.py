"""Networks for images of any size: `plain`, a function of its weights alone, and `tiny`, with batch norm and dropout.

They are given by the name of this file, `--model_name=tiny_networks:plain`, where it is on Python's path.
"""
import tensorflow as tf
import tf_slim as slim

import nets
import tf_slim_compat  # noqa: F401


def arg_scope(weight_decay=0.0):
    decay = slim.l2_regularizer(weight_decay)
    with slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=decay,
                        biases_regularizer=decay) as scope:
        return scope


def _register():
    return nets.register(arg_scope=arg_scope, default_image_size=16, num_classes=10, preprocessing='lenet', channels=1)


@_register()
def plain(images, num_classes=10, is_training=True, scope='Plain'):
    with tf.compat.v1.variable_scope(scope, 'Plain', [images]):
        net = slim.conv2d(images, 8, 3, stride=2, scope='conv1')
        net = slim.conv2d(net, 16, 3, stride=2, scope='conv2')
        return slim.fully_connected(tf.reduce_mean(net, [1, 2]), num_classes, activation_fn=None, scope='logits'), {}


@_register()
def tiny(images, num_classes=10, is_training=True, dropout_keep_prob=0.8, scope='Tiny'):
    with tf.compat.v1.variable_scope(scope, 'Tiny', [images]):
        with slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
            net = slim.conv2d(images, 16, 3, stride=2, normalizer_fn=slim.batch_norm, scope='conv1')
            net = slim.conv2d(net, 32, 3, stride=2, normalizer_fn=slim.batch_norm, scope='conv2')
            net = slim.dropout(tf.reduce_mean(net, [1, 2]), dropout_keep_prob)
        return slim.fully_connected(net, num_classes, activation_fn=None, scope='logits'), {}
