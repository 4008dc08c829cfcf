"""Makes tf-slim 1.1.0 work on today's TensorFlow (first stand: being rewritten)."""
import types

import tensorflow as tf
from tensorflow.python.eager.wrap_function import VariableHolder
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import variable_scope

if not hasattr(ops, 'Tensor'):
    ops.Tensor = tf.Tensor

import tf_slim as slim
from tf_slim.layers import layers as slim_layers


class BatchNormalization:

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, center=True, scale=True, beta_initializer=None,
                 gamma_initializer=None, moving_mean_initializer=None, moving_variance_initializer=None,
                 trainable=True, _scope=None, _reuse=None, **unused):
        self.__dict__.update(locals())

    def apply(self, x, training=False):
        n, f32, get = x.shape[self.axis], tf.float32, tf.compat.v1.get_variable
        with tf.compat.v1.variable_scope(self._scope, reuse=self._reuse, auxiliary_name_scope=False):
            self.beta = get('beta', [n], f32, self.beta_initializer, trainable=self.trainable) if self.center else None
            self.gamma = get('gamma', [n], f32, self.gamma_initializer, trainable=self.trainable) if self.scale else None
            self.moving_mean = get('moving_mean', [n], f32, self.moving_mean_initializer, trainable=False)
            self.moving_variance = get('moving_variance', [n], f32, self.moving_variance_initializer, trainable=False)
        offset = self.beta if self.center else tf.zeros([n])
        scale = self.gamma if self.scale else tf.ones([n])
        if not training:
            return tf.raw_ops.FusedBatchNormV3(x=x, scale=scale, offset=offset, mean=self.moving_mean,
                                               variance=self.moving_variance, epsilon=self.epsilon, is_training=False)[0]
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=tf.zeros([0]), variance=tf.zeros([0]), epsilon=self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign_sub((moving - value) * (1 - self.momentum))
        return y


slim_layers.normalization_layers = types.SimpleNamespace(BatchNormalization=BatchNormalization)


def holds_variables() -> bool:
    """Whether a variable made by `tf.compat.v1.get_variable` now would still be there at the next call.

    A graph keeps its variables. Eagerly and in a `tf.function` nothing does, and each call would quietly make new weights,
    unless the current variable scope has a `custom_getter`, an `EagerVariableStore` is the default, or the code runs
    inside `tf.compat.v1.wrap_function`.
    """
    graph = tf.compat.v1.get_default_graph()
    if not tf.executing_eagerly() and not isinstance(graph, FuncGraph):
        return True
    creators = [getattr(creator, '__self__', None) for _, creator in graph._variable_creator_stack]
    return (tf.compat.v1.get_variable_scope().custom_getter is not None
            or variable_scope._get_default_variable_store()._store_eager_variables
            or any(isinstance(creator, VariableHolder) for creator in creators))
