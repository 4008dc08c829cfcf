"""slim.batch_norm against closed forms in NumPy, tf.nn and the arithmetic of its two papers."""
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401

v1 = tf.compat.v1
EPSILON = 1e-3
TOLERANCE = {tf.float64: 1e-6, tf.float32: 1e-4, tf.float16: 1e-2, tf.bfloat16: 8e-2}


class Variables:
    """A dictionary of variables behind a custom getter; weights come in the type that is asked for."""

    def __init__(self):
        self.by_name, self.asked = {}, {}

    def get(self, getter, name, shape=None, dtype=tf.float32, initializer=None, trainable=True, regularizer=None,
            aggregation=None, synchronization=None, **unused):
        self.asked[name] = dtype, trainable, regularizer, aggregation
        if name not in self.by_name:
            with tf.init_scope():
                make = initializer() if isinstance(initializer, type) else initializer
                self.by_name[name] = tf.Variable(
                    lambda: make(shape, dtype=tf.float32), trainable=trainable, name=name,
                    **({} if trainable else {'aggregation': aggregation, 'synchronization': synchronization}))
        variable = self.by_name[name]
        return variable if dtype == tf.float32 else tf.cast(variable, dtype)

    def __call__(self, layer, *args, **kwargs):
        with v1.variable_scope(v1.get_variable_scope(), custom_getter=self.get, reuse=v1.AUTO_REUSE):
            return layer(*args, **kwargs)

    def __getitem__(self, name):
        return self.by_name[f'bn/{name}'].numpy()


def draw(*shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * [1, 2, 3] + [0, 1, -2]).astype('float32')


def moments(x, weights=None):
    """Mean, biased variance and the factor that makes it unbiased, over all axes but the last."""
    flat = x.reshape(-1, x.shape[-1]).astype('float64')
    if weights is not None:
        weights = np.repeat(weights, len(flat) // len(weights))
    mean = np.average(flat, 0, weights)
    return mean, np.average((flat - mean) ** 2, 0, weights), len(flat) / (len(flat) - 1)


def expected(x, gamma=1., beta=0.):
    mean, variance, _ = moments(x)
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def run(mode, function, *args):
    if mode == 'eager':
        return function(*args)
    return tf.function(function, jit_compile=mode == 'xla', autograph=False)(*args)


def session_run(build, steps=1):
    """Builds in a TF1 graph and runs what it returned `steps` times: the last values, and the variables."""
    with tf.Graph().as_default(), v1.Session() as session:
        fetches = build()
        session.run(v1.global_variables_initializer())
        for _ in range(steps):
            values = session.run(fetches)
        return values, {v.op.name: session.run(v) for v in v1.global_variables()}


@pytest.mark.parametrize('mode, dtype', [
    *itertools.product(['eager', 'function'], TOLERANCE), ('xla', tf.float32), ('xla', tf.bfloat16)],
    ids=lambda value: getattr(value, 'name', value))
@pytest.mark.parametrize('shape, data_format, fused', [
    ((8, 3), 'NHWC', None), ((8, 3), 'NCHW', True), ((8, 3), 'NHWC', False),
    ((4, 5, 5, 3), 'NHWC', None), ((4, 5, 5, 3), 'NHWC', False), ((4, 5, 5, 3), 'NCHW', None),
    ((4, 5, 5, 3), 'NCHW', False), ((2, 3, 4, 5, 3), 'NHWC', None), ((2, 6, 3), 'NCHW', None)])
def test_training_and_inference(mode, dtype, shape, data_format, fused):
    x, variables = draw(*shape), Variables()
    to_layout = (lambda a: np.moveaxis(a, -1, 1)) if data_format == 'NCHW' else (lambda a: a)
    # The moving variance of the fused op is the unbiased one; float64 has no such op.
    unbiased = len(shape) in (2, 4) and fused is not False and dtype != tf.float64
    inputs = tf.cast(to_layout(x), dtype)

    def layer(inputs, training):
        return variables(slim.batch_norm, inputs, decay=0.9, scale=True, is_training=training, scope='bn', fused=fused,
                         data_format=data_format, param_initializers={'gamma': tf.constant_initializer([2, 1, .5]),
                                                                      'beta': tf.constant_initializer([0, 1, 2])})

    def train(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
        return outputs, tape.gradient(loss, inputs)

    def reference(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mean, variance = tf.nn.moments(x, list(range(len(shape) - 1)))
            outputs = tf.nn.batch_normalization(x, mean, variance, np.array([0, 1, 2.]), np.array([2, 1, .5]), EPSILON)
            loss = tf.reduce_sum(outputs ** 3)
        return outputs, tape.gradient(loss, x)

    layer(inputs, False)
    outputs, gradient = run(mode, train, inputs)
    rounded = np.moveaxis(tf.cast(inputs, tf.float64).numpy(), 1, -1) if data_format == 'NCHW' else tf.cast(
        inputs, tf.float64).numpy()
    want, want_gradient = reference(tf.constant(rounded))
    tolerance = TOLERANCE[dtype]
    assert outputs.dtype == dtype and gradient.dtype == dtype
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), to_layout(want.numpy()), atol=tolerance, rtol=tolerance)
    scale = np.abs(want_gradient).max()
    np.testing.assert_allclose(tf.cast(gradient, tf.float64) / scale, to_layout(want_gradient.numpy()) / scale,
                               atol=tolerance)
    mean, variance, factor = moments(rounded)
    assert {v.dtype for v in variables.by_name.values()} == {tf.float32}
    assert {dtype for dtype, *_ in variables.asked.values()} == {tf.float32}
    np.testing.assert_allclose(variables['moving_mean'], 0.1 * mean, atol=1e-5)
    moving_variance = 0.9 + 0.1 * variance * (factor if unbiased else 1)
    np.testing.assert_allclose(variables['moving_variance'], moving_variance, rtol=1e-4)

    inferred = run(mode, lambda x: layer(x, False), inputs)
    want = tf.nn.batch_normalization(rounded, variables['moving_mean'], variables['moving_variance'],
                                     np.array([0, 1, 2.]), np.array([2, 1, .5]), EPSILON)
    np.testing.assert_allclose(tf.cast(inferred, tf.float64), to_layout(want.numpy()), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize('fused', [None, False])
def test_a_tf1_graph_collects_its_updates_or_forces_them(fused):
    x = draw(4, 5, 5, 3)
    mean, variance, factor = moments(x)
    want = {'BatchNorm/moving_mean': (1 - .9 ** 2) * mean,
            'BatchNorm/moving_variance': .81 + .19 * variance * (1 if fused is False else factor)}

    def build(updates_collections):
        outputs = slim.batch_norm(tf.constant(x), decay=0.9, fused=fused, updates_collections=updates_collections)
        collected = v1.get_collection(updates_collections) if updates_collections else []
        assert len(collected) == (2 if updates_collections else 0)
        assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == (2 if updates_collections == 'update_ops' else 0)
        return outputs, [tf.group(*collected)]

    for collections in ('update_ops', 'mine', None):
        (outputs, _), variables = session_run(lambda name=collections: build(name), steps=2)
        np.testing.assert_allclose(outputs, expected(x), atol=1e-4)
        for name, value in want.items():
            np.testing.assert_allclose(variables[name], value, rtol=1e-4, atol=1e-5)
    _, variables = session_run(lambda: slim.batch_norm(tf.constant(x), fused=fused))
    np.testing.assert_array_equal(variables['BatchNorm/moving_mean'], 0)       # nobody ran UPDATE_OPS


@pytest.mark.parametrize('fused, zero_debias', itertools.product([None, False], [False, True]))
@pytest.mark.parametrize('mode', ['graph', 'wrap_function', 'function', 'xla', 'eager'])
def test_is_training_may_be_a_tensor(mode, fused, zero_debias):
    x, variables = draw(4, 5, 5, 3), Variables()
    mean, variance, factor = moments(x)
    unbiased = variance * (1 if fused is False else factor)
    arguments = {'decay': 0.9, 'fused': fused, 'scope': 'bn', 'zero_debias_moving_mean': zero_debias}
    if mode == 'graph':
        with tf.Graph().as_default(), v1.Session() as session:
            training = v1.placeholder(tf.bool, [])
            outputs = slim.batch_norm(tf.constant(x), is_training=training, updates_collections=None, **arguments)
            session.run(v1.global_variables_initializer())
            results = [session.run(outputs, {training: value}) for value in (False, True, False)]
            state = {v.op.name: session.run(v) for v in v1.global_variables()}
    elif mode == 'wrap_function':
        layer = v1.wrap_function(
            lambda x, training: slim.batch_norm(x, is_training=training, updates_collections=None, **arguments),
            [tf.TensorSpec(x.shape), tf.TensorSpec([], tf.bool)])
        results = [layer(tf.constant(x), tf.constant(value)).numpy() for value in (False, True, False)]
        state = {v.name[:-2]: v.numpy() for v in layer.graph.get_collection('variables')}
    else:
        def layer(x, training):
            return variables(slim.batch_norm, x, is_training=training, **arguments)

        layer(x, tf.constant(True) if zero_debias else False)           # makes the variables
        for variable in variables.by_name.values():
            variable.assign(tf.ones_like(variable) if 'moving_variance' in variable.name else tf.zeros_like(variable))
        results = [run(mode, layer, tf.constant(x), tf.constant(value)).numpy() for value in (False, True, False)]
        state = {name: variable.numpy() for name, variable in variables.by_name.items()}
    moving_mean = mean if zero_debias else 0.1 * mean
    np.testing.assert_allclose(results[0], x / np.sqrt(1 + EPSILON), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(results[1], expected(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state['bn/moving_mean'], moving_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state['bn/moving_variance'], .9 + .1 * unbiased, rtol=1e-4)
    inferred = (x - moving_mean) / np.sqrt(.9 + .1 * unbiased + EPSILON)
    np.testing.assert_allclose(results[2], inferred, rtol=1e-3, atol=1e-4)
    if zero_debias:
        assert state['bn/bn/moving_mean/local_step'] == 1
        np.testing.assert_allclose(state['bn/bn/moving_mean/biased'], .1 * mean, rtol=1e-4, atol=1e-6)


def test_is_training_may_be_a_variable():
    x, training = tf.constant(draw(4, 5, 5, 3)), tf.Variable(False)
    variables = Variables()
    layer = tf.function(lambda: variables(slim.batch_norm, x, is_training=training, scope='bn'))
    np.testing.assert_allclose(layer(), x / np.sqrt(1 + EPSILON), rtol=1e-5)
    training.assign(True)
    np.testing.assert_allclose(layer(), expected(x.numpy()), atol=1e-4)


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_batch_weights_count_each_example(dtype, data_format):
    x, variables, weights = draw(4, 5, 5, 3), Variables(), np.array([1, 0, 2, 3.])
    inputs = tf.cast(x if data_format == 'NHWC' else np.moveaxis(x, -1, 1), dtype)
    outputs = tf.cast(variables(slim.batch_norm, inputs, decay=0.9, batch_weights=weights, data_format=data_format,
                                param_regularizers={'beta': slim.l2_regularizer(1.)}, scope='bn'), tf.float32).numpy()
    if data_format == 'NCHW':
        outputs = np.moveaxis(outputs, 1, -1)
    repeated = np.concatenate([x[[0]], x[[2]], x[[2]], x[[3]], x[[3]], x[[3]]])
    mean, variance, _ = moments(repeated)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(outputs, (x - mean) / np.sqrt(variance + EPSILON), atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(variables['moving_mean'], .1 * mean, atol=tolerance / 10)
    np.testing.assert_allclose(variables['moving_variance'], .9 + .1 * variance, rtol=tolerance)
    assert variables.asked['bn/beta'][2] is not None


def renormalized(x, state, decay, renorm_decay, clipping):
    """Algorithm 1 of arXiv:1702.03275, with the inference statistics apart (as in TensorFlow's layer)."""
    mean, variance, _ = moments(x)
    stddev = np.sqrt(variance + EPSILON)
    reference = np.maximum(state['renorm_stddev'], np.sqrt(EPSILON))
    r = np.clip(stddev / reference, clipping.get('rmin', 0), clipping.get('rmax', np.inf))
    d = np.clip((mean - state['renorm_mean']) / reference, -clipping.get('dmax', np.inf), clipping.get('dmax', np.inf))
    for name, value, rate in (('renorm_mean', mean, renorm_decay), ('renorm_stddev', stddev, renorm_decay),
                              ('moving_mean', mean, decay), ('moving_stddev', stddev, decay)):
        state[name] = state[name] * rate + value * (1 - rate)
    state['moving_variance'] = state['moving_stddev'] ** 2 - EPSILON
    return (x - mean) / stddev * r + d


@pytest.mark.parametrize('mode', ['graph', 'eager', 'function', 'xla'])
@pytest.mark.parametrize('clipping', [None, {'rmin': .9, 'rmax': 1.5, 'dmax': .5}], ids=['free', 'clipped'])
def test_renorm(mode, clipping):
    batches, variables = [draw(4, 5, 5, 3, seed=seed) for seed in range(3)], Variables()
    arguments = {'renorm': True, 'renorm_clipping': clipping, 'decay': .9, 'renorm_decay': .7, 'scope': 'bn'}
    state = {'renorm_mean': 0., 'renorm_stddev': 1., 'moving_mean': 0., 'moving_stddev': 1.}
    want = [renormalized(x, state, .9, .7, clipping or {}) for x in batches]
    if mode == 'graph':
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, None, None, 3])
            outputs = slim.batch_norm(x, **arguments)
            fetches = outputs, v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            session.run(v1.global_variables_initializer())
            got = [session.run(fetches, {x: batch})[0] for batch in batches]
            result = {v.op.name[3:]: session.run(v) for v in v1.global_variables()}
    else:
        step = {'eager': lambda f: f, 'function': tf.function, 'xla': lambda f: tf.function(f, jit_compile=True)}[mode](
            lambda x: variables(slim.batch_norm, x, **arguments))
        variables(slim.batch_norm, batches[0], is_training=False, **arguments)
        got = [step(tf.constant(batch)).numpy() for batch in batches]
        result = {name[3:]: variable.numpy() for name, variable in variables.by_name.items()}
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert set(result) == {'beta', *state}
    for name in state:
        np.testing.assert_allclose(result[name], state[name], rtol=1e-4, atol=1e-5)


def test_renorm_leaves_all_alone_at_inference():
    x, variables = draw(4, 5, 5, 3), Variables()
    for training in (False, tf.function(lambda: tf.constant(False))()):
        outputs = variables(slim.batch_norm, x, renorm=True, is_training=training, scope='bn')
        np.testing.assert_allclose(outputs, x / np.sqrt(1 + EPSILON), rtol=1e-4)
        assert all(set(variables[name]) == {1. if 'std' in name or 'var' in name else 0.}
                   for name in ('moving_mean', 'moving_variance', 'moving_stddev', 'renorm_mean', 'renorm_stddev'))


def test_adjustment_is_for_training_alone():
    x, variables, seen = draw(4, 5, 5, 3), Variables(), []

    def adjustment(shape):
        seen.append(shape.numpy().tolist())
        return np.array([1., 2., 3.]), np.array([4., 5., 6.])

    arguments = {'adjustment': adjustment, 'scale': True, 'scope': 'bn',
                 'param_initializers': {'gamma': tf.constant_initializer(3), 'beta': tf.constant_initializer(1)}}
    np.testing.assert_allclose(variables(slim.batch_norm, x, is_training=False, **arguments),
                               x / np.sqrt(1 + EPSILON) * 3 + 1, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(variables(slim.batch_norm, x, **arguments),
                               (expected(x) * [1, 2, 3] + [4, 5, 6]) * 3 + 1, rtol=1e-4, atol=1e-3)
    assert seen[0] == [4, 5, 5, 3]


def test_variables_and_collections_of_a_graph():
    with tf.Graph().as_default():
        arguments = {'scale': True, 'scope': 'bn', 'outputs_collections': 'outputs', 'activation_fn': tf.nn.relu,
                     'param_regularizers': {'gamma': slim.l2_regularizer(2.)},
                     'param_initializers': {'moving_mean': tf.constant_initializer(5)},
                     'variables_collections': {'beta': ['betas'], 'moving_mean': ['moving_vars']}}
        outputs = slim.batch_norm(tf.ones([2, 3, 3, 4]), **arguments)
        again = slim.batch_norm(tf.ones([2, 3, 3, 4]), reuse=True, **arguments)
        assert [v.op.name for v in slim.get_model_variables()] == [
            'bn/gamma', 'bn/beta', 'bn/moving_mean', 'bn/moving_variance']
        assert [v.op.name for v in v1.trainable_variables()] == ['bn/gamma', 'bn/beta']
        assert [v.op.name for v in v1.get_collection('betas')] == ['bn/beta']
        assert [v.op.name for v in v1.get_collection('moving_vars')] == ['bn/moving_mean']
        assert [output is other for output, other in zip(
            v1.get_collection('outputs'), [outputs, again], strict=True)] == [True, True]
        assert outputs.op.type == 'Relu'
        with pytest.raises(ValueError, match='already exists'):
            slim.batch_norm(tf.ones([2, 3, 3, 4]), scope='bn')
        slim.batch_norm(tf.ones([2, 4]), trainable=False, center=False, scale=True, scope='frozen')
        assert len(v1.trainable_variables()) == 2
        loss, = v1.losses.get_regularization_losses()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert session.run(loss) == 4.                      # 2 * (4 ones) / 2
            moving_mean, = v1.get_collection('moving_vars')
            np.testing.assert_array_equal(session.run(moving_mean), [5] * 4)


def test_partitioned_scope_leaves_the_statistics_whole():
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope('net', partitioner=v1.fixed_size_partitioner(2)):
            outputs = slim.batch_norm(tf.constant(draw(4, 5, 5, 3)), scope='bn', updates_collections=None)
        session.run(v1.global_variables_initializer())
        np.testing.assert_allclose(session.run(outputs), expected(draw(4, 5, 5, 3)), atol=1e-4)
        assert {v.op.name for v in v1.global_variables()} == {
            'net/bn/beta/part_0', 'net/bn/beta/part_1', 'net/bn/moving_mean', 'net/bn/moving_variance'}


@pytest.mark.parametrize('fused', [None, False])
@pytest.mark.parametrize('shape', [[None, None, None, 3], [None, 3]])
def test_an_unknown_batch_may_be_empty(fused, shape):
    variables = Variables()

    @tf.function(input_signature=[tf.TensorSpec(shape)])
    def train(x):
        with tf.GradientTape() as tape:
            outputs = variables(slim.batch_norm, x, scale=True, decay=.9, scope='bn', fused=fused)
            loss = tf.reduce_sum(outputs)
        return outputs, tape.gradient(loss, variables.by_name['bn/gamma'])

    variables(slim.batch_norm, tf.zeros([1] * (len(shape) - 1) + [3]), scale=True, scope='bn', is_training=False)
    x = draw(4, *(5 for _ in shape[2:]), 3)
    outputs, gradient = train(x[:0])
    assert outputs.shape == x[:0].shape
    np.testing.assert_array_equal(gradient, 0)
    np.testing.assert_array_equal(variables['moving_mean'], 0)
    np.testing.assert_array_equal(variables['moving_variance'], 1)
    outputs, _ = train(x)
    np.testing.assert_allclose(outputs, expected(x), atol=1e-4)
    np.testing.assert_allclose(variables['moving_mean'], .1 * moments(x)[0], atol=1e-5)
    assert train.get_concrete_function().structured_outputs[0].shape.as_list() == shape


def test_an_empty_batch_eagerly():
    variables = Variables()
    assert variables(slim.batch_norm, tf.zeros([0, 5, 5, 3]), scope='bn').shape == (0, 5, 5, 3)
    np.testing.assert_array_equal(variables['moving_mean'], 0)


@pytest.mark.parametrize('mode', ['eager', 'function'])
def test_mirrored_replicas_average_their_statistics(mode):
    strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
    variables, halves = Variables(), draw(8, 5, 5, 3).reshape(2, 4, 5, 5, 3)

    def layer(x, training=True):
        x = variables(slim.batch_norm, x, decay=.9, is_training=training, scope='bn')
        with slim.arg_scope([slim.batch_norm], decay=0.):               # replicas take turns while in an arg scope
            return variables(slim.batch_norm, x, is_training=training, scope='bn2')

    with strategy.scope():
        layer(halves[0], training=False)
    per_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(halves[context.replica_id_in_sync_group]))
    step = lambda x: strategy.experimental_local_results(strategy.run(layer, (x,)))         # noqa: E731
    outputs = run(mode, step, per_replica)
    for output, half in zip(outputs, halves, strict=True):
        np.testing.assert_allclose(output, expected(half), atol=5e-3)
    factor = moments(halves[0])[2]
    mean, variance = (np.mean([moments(half)[i] for half in halves], 0) for i in (0, 1))
    np.testing.assert_allclose(variables['moving_mean'], .1 * mean, atol=1e-5)
    np.testing.assert_allclose(variables['moving_variance'], .9 + .1 * variance * factor, rtol=1e-4)
    np.testing.assert_allclose(variables.by_name['bn2/moving_variance'].numpy(), factor, rtol=2e-3)
    assert variables.by_name['bn/moving_mean'].aggregation == tf.VariableAggregation.MEAN


def test_old_tensor_shapes():
    v1.disable_v2_tensorshape()                                 # as disable_v2_behavior does
    try:
        with tf.Graph().as_default():
            outputs = slim.batch_norm(v1.placeholder(tf.float32, [None, None, None, 3]))
            assert outputs.shape.as_list() == [None, None, None, 3]
            with pytest.raises(ValueError, match='undefined `C` dimension'):
                slim.batch_norm(v1.placeholder(tf.float32, [None, 2, 2, None]))
    finally:
        v1.enable_v2_tensorshape()


def test_it_refuses_what_it_cannot_do():
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="either NCHW or NHWC, not 'CHWN'"):
            slim.batch_norm(tf.ones([2, 3]), data_format='CHWN')
        with pytest.raises(ValueError, match='undefined rank'):
            slim.batch_norm(v1.placeholder(tf.float32))
        with pytest.raises(ValueError, match='unsupported rank 1'):
            slim.batch_norm(tf.ones([2]))
        with pytest.raises(ValueError, match='undefined `C` dimension: axis 1 '):
            slim.batch_norm(v1.placeholder(tf.float32, [None, None, 2, 2]), data_format='NCHW')
