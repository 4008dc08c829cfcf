"""Makes tf-slim 1.1.0 work on TensorFlow 2.16 to 2.21 with Keras 3: `import tf_slim_compat`, before or after tf_slim.

tf-slim (2020) reads names of TensorFlow that have since moved, and its `batch_norm` needs a Keras 2 layer that is gone.
The import puts the names back where they are missing, and gives `slim.batch_norm` a body that also works eagerly, in
`tf.function`, under XLA and `tf.distribute`, and in bfloat16. Names that are in place are left as they are.

This is the only file of the project that touches private names of TensorFlow and tf-slim.
"""
import contextlib
import functools
import importlib
import inspect
import threading
import types
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator

import numpy as np
import tensorflow as tf
import tf_slim as slim
from google.protobuf import text_format

v1 = tf.compat.v1
_MOVED = {
    'framework.ops': {'Tensor': tf.Tensor, 'IndexedSlices': tf.IndexedSlices},
    'ops.array_ops': {'stack': tf.stack, 'unstack': tf.unstack},
    'ops.control_flow_ops': {'Assert': v1.Assert, 'case': v1.case, 'cond': v1.cond, 'while_loop': v1.while_loop},
    'ops.variable_scope': {'variable': v1.Variable},
}


def _private(module, name=None):
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if name else found
    except (ImportError, AttributeError):
        wanted = f'{module}.{name}' if name else module
        raise ImportError(f'tf_slim_compat finds no {wanted} with TensorFlow {tf.__version__}: use TensorFlow 2.16 to '
                          '2.21 and tf-slim 1.1.0.') from None


_FuncGraph = _private('tensorflow.python.framework.func_graph', 'FuncGraph')
_VariableHolder = _private('tensorflow.python.eager.wrap_function', 'VariableHolder')
_PartitionedVariable = _private('tensorflow.python.ops.variables', 'PartitionedVariable')
_default_variable_store = _private('tensorflow.python.ops.variable_scope', '_get_default_variable_store')
_layers = _private('tf_slim.layers.layers')
_utils = _private('tf_slim.layers.utils')
_Layer = _private('tensorflow.python.layers.base', 'Layer')
_arg_scope = _private('tf_slim.ops.arg_scope')
_variables = _private('tf_slim.ops.variables')


def _in_tf1_graph():
    """Whether a session (or the user of a wrap_function) will run the ops, and looks for them in collections."""
    graph = v1.get_default_graph()
    creators = [getattr(creator, '__self__', None) for _, creator in getattr(graph, '_variable_creator_stack', ())]
    return not tf.executing_eagerly() and (
        not isinstance(graph, _FuncGraph) or any(isinstance(creator, _VariableHolder) for creator in creators))


def holds_variables() -> bool:
    """Whether a variable made by `tf.compat.v1.get_variable` now would still be there at the next call.

    A graph keeps its variables. Eagerly and in a `tf.function` nothing does, and each call would quietly make new
    weights, unless the current variable scope has a `custom_getter`, an `EagerVariableStore` is the default, or the
    code runs inside `tf.compat.v1.wrap_function`.
    """
    return (_in_tf1_graph() or v1.get_variable_scope().custom_getter is not None
            or _default_variable_store()._store_eager_variables)


@tf.autograph.experimental.do_not_convert
def batch_norm(inputs, decay=0.999, center=True, scale=False, epsilon=0.001, activation_fn=None,
               param_initializers=None, param_regularizers=None, updates_collections=v1.GraphKeys.UPDATE_OPS,
               is_training=True, reuse=None, variables_collections=None, outputs_collections=None, trainable=True,
               batch_weights=None, fused=None, data_format='NHWC', zero_debias_moving_mean=False, scope=None,
               renorm=False, renorm_clipping=None, renorm_decay=0.99, adjustment=None) -> tf.Tensor:
    """Batch normalization (arXiv:1502.03167): the body of `slim.batch_norm`, whose arguments these are.

    Statistics are taken over all dimensions but the channels. Variables are float32, whatever the type of the inputs.
    In a TF1 graph the updates of the moving averages go to `updates_collections`, or are forced where that is None;
    eagerly and in a `tf.function` they are made in place. As in TF-Slim, the moving variance averages the unbiased
    variance of a batch where the fused op computes it (rank 2 and 4 without batch_weights, renorm or adjustment), and
    the biased one elsewhere.

    Args:
        inputs: float tensor of rank 2 or more; its channel dimension, last or (NCHW) second, must be known.
        is_training: a bool, a bool tensor or a variable: batch statistics, or the moving ones.
        batch_weights: None, or [batch_size], how often each example counts.
        renorm: batch renormalization (arXiv:1702.03275), with `renorm_clipping` a dict of rmax, rmin, dmax.
        adjustment: None, or a function: shape of the inputs -> (scale, bias), used in training before gamma and beta.
        (others): as in tf-slim.

    Returns:
        A tensor of the shape and type of `inputs`.

    Raises:
        ValueError: `data_format` is not NHWC or NCHW, or the rank or the number of channels is not known.
    """
    if data_format not in ('NCHW', 'NHWC'):
        raise ValueError(f'data_format has to be either NCHW or NHWC, not {data_format!r}.')
    with v1.variable_scope(scope, 'BatchNorm', [inputs], reuse=reuse) as sc:
        if sc.name in _frozen.scopes:
            is_training = False
        inputs = tf.convert_to_tensor(inputs)
        rank = inputs.shape.rank
        if rank is None or rank < 2:
            raise ValueError(f'Inputs {inputs} have undefined rank.' if rank is None else
                             f'Inputs {inputs} have unsupported rank {rank}: batch_norm takes 2 or more.')
        axis = 1 if data_format == 'NCHW' else rank - 1
        channels = tf.compat.dimension_value(inputs.shape[axis])
        if channels is None:
            raise ValueError(f'Inputs {inputs} have an undefined `C` dimension: axis {axis} must be known.')
        initializers, regularizers = param_initializers or {}, param_regularizers or {}

        def variable(name, initializer, shape=(channels,), **kwargs):
            collections = _utils.get_variable_collections(variables_collections, name)
            return slim.model_variable(name, shape, tf.float32, initializer, collections=collections, **kwargs)

        def parameter(name, initializer):
            return variable(name, initializers.get(name, initializer), regularizer=regularizers.get(name),
                            trainable=trainable)

        gamma = parameter('gamma', v1.ones_initializer()) if scale else None
        beta = parameter('beta', v1.zeros_initializer()) if center else None
        sc.set_partitioner(None)                                # what is assigned to must be whole
        # Replicas keep their own statistics, which are averaged where they are read (as in tf.layers).
        statistic = functools.partial(variable, trainable=False, aggregation=tf.VariableAggregation.MEAN,
                                      synchronization=tf.VariableSynchronization.ON_READ)
        mean_initializer = initializers.get('moving_mean', v1.zeros_initializer())
        variance_initializer = initializers.get('moving_variance', v1.ones_initializer())
        moving_mean = statistic('moving_mean', mean_initializer)
        moving_variance = statistic('moving_variance', variance_initializer)
        if renorm:
            def stddev_initializer(*args, **kwargs):
                make = variance_initializer
                return tf.sqrt((make() if isinstance(make, type) else make)(*args, **kwargs))

            moving_stddev = statistic('moving_stddev', stddev_initializer)
            renorm_mean = statistic('renorm_mean', mean_initializer)
            renorm_stddev = statistic('renorm_stddev', stddev_initializer)

        size = inputs.shape.num_elements()
        nonempty = tf.size(inputs) > 0 if size is None else size > 0        # an empty batch has no moments

        replicas = _replicas_to_ask()
        fits = (fused is not False and rank in (2, 4) and inputs.dtype != tf.float64
                and batch_weights is None and adjustment is None and not renorm)
        if fits and not replicas:
            # The op takes rank 4 alone; of one pixel an example, NCHW and NHWC are the same.
            x, layout = (inputs, data_format) if rank == 4 else (tf.reshape(inputs, [-1, 1, 1, channels]), 'NHWC')
            normalize = functools.partial(
                v1.nn.fused_batch_norm, x, tf.ones([channels]) if gamma is None else gamma,
                tf.zeros([channels]) if beta is None else beta, epsilon=epsilon, data_format=layout)
            outputs, mean, spread = _utils.smart_cond(
                is_training, normalize,
                lambda: normalize(mean=moving_mean, variance=moving_variance, is_training=False))
            if rank == 2:
                outputs = tf.reshape(outputs, [-1, channels])
        else:
            # Half precision is too coarse for moments.
            dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
            x = tf.cast(inputs, dtype)
            others = [i for i in range(rank) if i != axis]

            def moments():
                if replicas:
                    if batch_weights is not None:
                        raise ValueError('batch_norm with batch_weights cannot be synchronized between replicas.')
                    return _moments_of_all(replicas, x, others, per_channel(moving_mean), unbiased=fits)
                if batch_weights is None:
                    mean, variance = tf.nn.moments(x, others)
                else:
                    weights = tf.reshape(tf.cast(batch_weights, dtype), [-1] + [1] * (rank - 1))
                    mean, variance = tf.nn.weighted_moments(x, others, weights)
                if nonempty is not True:
                    moving = inference_moments()
                    mean, variance = tf.where(nonempty, mean, moving[0]), tf.where(nonempty, variance, moving[1])
                return mean, variance, variance

            def inference_moments():
                variance = tf.cast(moving_variance, dtype)
                return tf.cast(moving_mean, dtype), variance, variance

            def per_channel(value):
                return None if value is None else tf.reshape(tf.cast(value, dtype), [-1] + [1] * (rank - 1 - axis))

            def compose(factor, offset):                        # what gamma and beta make of x * factor + offset
                factor, offset = _utils.smart_cond(
                    is_training, lambda: (factor, offset), lambda: (tf.ones_like(factor), tf.zeros_like(offset)))
                if gamma is not None:
                    factor, offset = factor * gamma, offset * gamma
                return factor, offset if beta is None else offset + beta

            mean, variance, spread = _utils.smart_cond(is_training, moments, inference_moments)
            gamma, beta = per_channel(gamma), per_channel(beta)
            if adjustment:
                gamma, beta = compose(*(tf.cast(value, dtype) for value in adjustment(tf.shape(inputs))))
            if renorm:
                limits = {key: tf.cast(value, dtype) for key, value in (renorm_clipping or {}).items()}
                stddev = tf.sqrt(variance + epsilon)
                reference = tf.maximum(tf.cast(renorm_stddev, dtype), epsilon ** .5)
                r = tf.clip_by_value(stddev / reference, limits.get('rmin', 0), limits.get('rmax', dtype.max))
                d_max = limits.get('dmax', dtype.max)
                d = tf.clip_by_value((mean - tf.cast(renorm_mean, dtype)) / reference, -d_max, d_max)
                gamma, beta = compose(per_channel(tf.stop_gradient(r)), per_channel(tf.stop_gradient(d)))
            outputs = tf.cast(tf.nn.batch_normalization(
                x, per_channel(mean), per_channel(variance), beta, gamma, epsilon), inputs.dtype)
        outputs.set_shape(inputs.shape)

        training, update = _utils.constant_value(is_training), nonempty
        if (training is None or training) and nonempty is not False and not _frozen.statistics:
            if training is None:
                update = tf.logical_and(tf.cast(is_training, tf.bool), nonempty)

            def updated(value, moving):
                value = tf.cast(value, tf.float32)
                return value if update is True else tf.where(update, value, moving)

            def average(moving, value, decay):
                with tf.name_scope('AssignMovingAvg'):
                    return moving.assign_sub((moving - updated(value, moving)) * (1 - decay))

            with tf.control_dependencies([outputs] if renorm else []):      # which reads what is updated here
                if zero_debias_moving_mean:
                    biased = statistic(f'{sc.name}/moving_mean/biased', v1.zeros_initializer())
                    local_step = statistic(f'{sc.name}/moving_mean/local_step', v1.zeros_initializer(), shape=[])
                    steps = tf.identity(local_step.assign_add(tf.cast(update, tf.float32)))
                    unbiased = tf.identity(average(biased, mean, decay)) / (1 - decay ** steps)
                    updates = [moving_mean.assign(updated(unbiased, moving_mean))]
                else:
                    updates = [average(moving_mean, mean, decay)]
                if renorm:
                    moving = tf.identity(average(moving_stddev, stddev, decay))
                    updates += [moving_variance.assign(updated(tf.nn.relu(moving ** 2 - epsilon), moving_variance)),
                                average(renorm_mean, mean, renorm_decay), average(renorm_stddev, stddev, renorm_decay)]
                else:
                    updates += [average(moving_variance, spread, decay)]
            if updates_collections is not None and _in_tf1_graph():
                for op in updates:
                    v1.add_to_collections(updates_collections, op)
            elif not tf.executing_eagerly() and not getattr(v1.get_default_graph(), '_add_control_dependencies', False):
                with tf.control_dependencies(updates):
                    outputs = tf.identity(outputs)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return _utils.collect_named_outputs(outputs_collections, sc.name, outputs)


@tf.autograph.experimental.do_not_convert
def dropout(inputs, keep_prob=0.5, noise_shape=None, is_training=True, outputs_collections=None, scope=None, seed=None,
            plain=slim.dropout.__wrapped__) -> tf.Tensor:
    """Dropout: the body of `slim.dropout`, which in addition takes two integers, a tensor [2], as the seed.

    What is dropped is then a function of that seed and the layer's scope alone (one on CPUs and GPUs, another under
    XLA), so that a training can be taken up again to the bit; with an integer or no seed it comes from TensorFlow's
    random state, as in tf-slim.
    """
    if not tf.is_tensor(seed):
        return plain(inputs, keep_prob, noise_shape, is_training, outputs_collections, scope, seed)
    with v1.variable_scope(scope, 'Dropout', [inputs]) as sc:
        # To Philox, neighbouring seeds are as good as any.
        own_seed = seed + tf.constant([zlib.crc32(sc.name.encode()) >> 1, 0], seed.dtype)
        outputs = _utils.smart_cond(
            is_training,
            lambda: tf.nn.experimental.stateless_dropout(inputs, 1 - keep_prob, own_seed, 'philox', noise_shape),
            lambda: tf.identity(inputs))
        return _utils.collect_named_outputs(outputs_collections, sc.name, outputs)


def _add_variable_to_collections(variable, collections_set, collections_name):
    """Compares by identity (== is elementwise in TensorFlow 2), and leaves out weights that a getter has cast."""
    collections = _utils.get_variable_collections(collections_set, collections_name) or []
    for part in variable if isinstance(variable, _PartitionedVariable) else [variable]:
        for collection in collections if isinstance(part, tf.Variable) and not tf.executing_eagerly() else []:
            if not any(part is other for other in v1.get_collection(collection)):
                v1.add_to_collection(collection, part)


def _collect_named_outputs(collections, alias, outputs, in_graph=_utils.collect_named_outputs):
    """Eagerly, a layer's new output takes the place of its last one: nothing else would ever remove that."""
    if collections and tf.executing_eagerly():
        for name in [collections] if isinstance(collections, str) else collections:
            kept = v1.get_collection_ref(name)
            kept[:] = [other for other in kept if alias not in getattr(other, 'aliases', ())]
    return in_graph(collections, alias, outputs)


def _convert_collection_to_dict(collection, clear_collection=False, in_graph=_utils.convert_collection_to_dict):
    return in_graph(collection, clear_collection or tf.executing_eagerly())


class _Frozen(threading.local):
    scopes: Collection[str] = ()
    statistics = False


_frozen = _Frozen()


@contextlib.contextmanager
def frozen_batch_norm(scopes: Collection[str]) -> Iterator[None]:
    """Within it, the batch norms of these variable scopes normalise by their moving statistics, and leave them alone.

    So it is whatever `is_training` says, in this thread.
    """
    outer, _frozen.scopes = _frozen.scopes, scopes
    try:
        yield
    finally:
        _frozen.scopes = outer


def frozen_scopes() -> Collection[str]:
    """The scopes of `frozen_batch_norm`, in this thread."""
    return _frozen.scopes


@contextlib.contextmanager
def kept_statistics() -> Iterator[None]:
    """Within it, batch norm leaves the moving statistics alone, in this thread, whatever it normalises by.

    It is for layers that are computed a second time, in a backward pass.
    """
    outer, _frozen.statistics = _frozen.statistics, True
    try:
        yield
    finally:
        _frozen.statistics = outer


class _Synchronized(threading.local):
    on = False


_synchronized = _Synchronized()


@contextlib.contextmanager
def synchronized_batch_norm(on: bool = True) -> Iterator[None]:
    """Within it, and in this thread, batch statistics are those of all replicas of tf.distribute together.

    Every replica must build the same layers, in a `tf.function` that has no other around them, nor a loop or a
    condition. With one replica nothing changes.
    """
    outer, _synchronized.on = _synchronized.on, on
    try:
        yield
    finally:
        _synchronized.on = outer


def _replicas_to_ask():
    context = tf.distribute.get_replica_context() if _synchronized.on else None
    return context if context and context.num_replicas_in_sync > 1 else None


def _moments_of_all(replicas, x, axes, shift, unbiased):
    """Mean and variance over all replicas, and the variance to average (see `batch_norm`)."""
    # One exchange will do for sums of squares, not of deviations; the shift keeps their difference from cancelling.
    count, total, squares, _ = tf.nn.sufficient_statistics(x, axes, shift)
    count, total, squares = replicas.all_reduce('SUM', [count, total, squares])
    mean, variance = tf.nn.normalize_moments(count, total, squares, tf.reshape(shift, [-1]))
    return mean, variance, variance * (count / tf.maximum(count - 1, 1)) if unbiased else variance


_asked = threading.local()


def layer_regularizer() -> Callable[[tf.Tensor], tf.Tensor] | None:
    """For a `custom_getter`: the regularizer of the layer weight that is being asked for, or None.

    Layers like `slim.conv2d` do not pass it to `get_variable`: they add its value to REGULARIZATION_LOSSES themselves,
    in graphs only, and in the type of the weights that the getter returned. Other variables (`slim.model_variable`,
    `slim.batch_norm`) have it in the getter's own argument `regularizer`.
    """
    return getattr(_asked, 'regularizer', None)


def _add_weight(self, *args, plain=_Layer.add_weight, **kwargs):
    _asked.regularizer = kwargs.get('regularizer')
    try:
        return plain(self, *args, **kwargs)
    finally:
        _asked.regularizer = None


class _ArgScopes(threading.local):
    """The arg scopes of a thread; the replicas of MirroredStrategy are threads that take turns within a layer."""

    def __init__(self, main):
        self.main, self.stack = main, [main()[-1]]

    def get(self):
        if threading.current_thread() is threading.main_thread():
            return self.main()
        if not self.stack:                      # an arg scope that is refused takes one too many with it
            self.stack.append({})
        return self.stack


class _Whole(np.ndarray):
    """What `assign_from_checkpoint` cuts the parts of a partitioned variable from, with a list of slices."""

    def __getitem__(self, key):
        return super().__getitem__(tuple(key) if isinstance(key, list) else key)


class _CheckpointReader:

    def __init__(self, path):
        self._reader = v1.train.NewCheckpointReader(path)
        self.has_tensor = self._reader.has_tensor

    def get_tensor(self, name):
        return np.asarray(self._reader.get_tensor(name)).view(_Whole)


def _run_in_graph(thread, run):
    """TensorFlow 2 starts a thread eagerly; the Supervisor's read the graph of their session."""
    def run_in_graph(self):
        with self._sess.graph.as_default():
            run(self)

    thread.run = run_in_graph


def _change_body(function, body):
    """The function object stays, so that earlier imports of it and arg scopes over it hold; its body is changed."""
    cell, = (cell for cell in function.__closure__ if cell.cell_contents is function.__wrapped__)
    body._key_op = _arg_scope.arg_scope_func_key(function)
    cell.cell_contents = function.__wrapped__ = body


def _repair():
    for name, members in _MOVED.items():
        module = _private(f'tensorflow.python.{name}')
        for member, value in members.items():
            if not hasattr(module, member):
                setattr(module, member, value)
    try:
        getattr(_layers.normalization_layers, 'BatchNormalization')     # noqa: B009
    except (ImportError, AttributeError):
        _change_body(slim.batch_norm, batch_norm)
    _change_body(slim.dropout, dropout)
    _layers._add_variable_to_collections = _add_variable_to_collections
    for name in ('SVStepCounterThread', 'SVSummaryThread', 'SVTimerCheckpointThread'):
        thread = _private('tensorflow.python.training.supervisor', name)
        _run_in_graph(thread, thread.run)
    if 'float_format' not in inspect.signature(text_format.MessageToString).parameters:
        # TensorFlow 2.20, which takes any protobuf, still gives it (the default) where a training writes its graph.
        graph_io = _private('tensorflow.python.framework.graph_io')
        graph_io.text_format = types.SimpleNamespace(
            MessageToString=lambda message, float_format='': text_format.MessageToString(message))
    _variables.tf = types.SimpleNamespace(train=types.SimpleNamespace(NewCheckpointReader=_CheckpointReader))
    _utils.collect_named_outputs = _collect_named_outputs
    _utils.convert_collection_to_dict = _convert_collection_to_dict
    _Layer.add_weight = _add_weight
    _arg_scope._get_arg_stack = _ArgScopes(_arg_scope._get_arg_stack).get
    # tf-slim's way of calling TensorFlow's old layers, of which they warn.
    warnings.filterwarnings('ignore', r'`(layer\.(apply|updates)|tf\.layers\.flatten)` ', module='tensorflow.python')


_repair()
