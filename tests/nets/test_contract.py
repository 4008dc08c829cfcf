"""Every network of the registry against its contract, tests/golden/NAME.json, read from TF-Slim itself."""
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import nets_factory, registry, summary

KEYS = tf.compat.v1.GraphKeys


@pytest.fixture(scope='module', params=registry.NETWORKS)
def network(request, read_golden, made_value):
    """The network in evaluation, built in a graph and run with the made weights and images."""
    golden = read_golden(request.param)
    images = np.random.RandomState(0).uniform(-1, 1, golden['input_shape']).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        inputs = tf.compat.v1.placeholder(tf.float32, golden['input_shape'])
        network_fn = nets_factory.get_network_fn(request.param, golden['num_classes'], weight_decay=4e-5)
        logits, end_points = network_fn(inputs)
        variables = slim.get_model_variables()
        made = {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables}
        session.run([v.initializer for v in variables], made)
        values = session.run(end_points, {inputs: images})
    return types.SimpleNamespace(name=request.param, golden=golden, graph=graph, variables=variables, logits=logits,
                                 end_points=end_points, values=values, default_size=network_fn.default_image_size)


@pytest.fixture(scope='module', params=registry.NETWORKS)
def training(request, read_golden):
    """The network in training, with the gradient of the sum of its logits."""
    golden = read_golden(request.param)
    with tf.Graph().as_default() as graph:
        inputs = tf.compat.v1.placeholder(tf.float32, golden['input_shape'])
        logits, end_points = nets_factory.get_network_fn(request.param, golden['num_classes'], weight_decay=4e-5,
                                                         is_training=True)(inputs)
        trainable = tf.compat.v1.trainable_variables()
        gradients = tf.gradients(logits, trainable)
    return types.SimpleNamespace(golden=golden, graph=graph, end_points=end_points, trainable=trainable,
                                 gradients=gradients)


def count(variables):
    return sum(v.shape.num_elements() for v in variables)


def test_variables(network):
    assert {v.op.name: v.shape.as_list() for v in network.variables} == network.golden['variables']
    assert [v.op.name for v in network.variables] == list(network.golden['variables'])
    assert {v.op.name.split('/')[0] for v in network.variables} == {registry.NETWORKS[network.name].scope}
    assert all(v.dtype.base_dtype == tf.float32 for v in network.variables)


def test_parameters(network):
    trainable = network.graph.get_collection(KEYS.TRAINABLE_VARIABLES)
    assert count(trainable) == network.golden['trainable_parameters']
    assert count(network.variables) == network.golden['model_parameters']


def test_endpoints(network):
    golden = network.golden['end_points']
    assert list(network.end_points) == list(golden)
    assert {name: list(value.shape) for name, value in network.values.items()} == \
        {name: end_point['shape'] for name, end_point in golden.items()}


def test_activations(network):
    for name, golden in network.golden['end_points'].items():
        value = network.values[name].astype(np.float64)
        assert value.mean() == pytest.approx(golden['mean'], abs=1e-3 * golden['std']), name
        assert value.std() == pytest.approx(golden['std'], rel=1e-3), name
    logits = network.golden['logits']['first8']
    tolerance = 1e-3 * network.golden['end_points']['Logits']['std']
    np.testing.assert_allclose(network.values['Logits'].reshape(len(logits), -1)[:, :8], logits, rtol=0, atol=tolerance)


def test_registry_row(network):
    row = registry.NETWORKS[network.name]
    assert network.default_size == row.default_image_size == network.golden['default_image_size']
    assert row.build.default_image_size == row.default_image_size
    assert (row.num_classes, row.channels) == (network.golden['num_classes'], network.golden['input_shape'][-1])


def test_summary(network):
    """TensorFlow's own count of the same graph, and the figure in the contract, which it gave for TF-Slim's."""
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(network.graph, cmd='op', options=options)
    flops, node = {}, profile
    while node.children:
        node = node.children[0]
        flops[node.name] = node.float_ops
    batch = network.golden['input_shape'][0]
    # The contract's figure holds more than multiply-adds: pooling, and the weights' initialisation and L2 loss.
    assert profile.total_float_ops == batch * network.golden['flops_per_image']
    rows = summary.summarize_network(network.name)
    counted = sum(flops.get(op, 0) for op in ('Conv2D', 'DepthwiseConv2dNative', 'MatMul', 'Conv3D'))
    assert batch * 2 * sum(row.multiply_adds for row in rows) == counted
    assert sum(row.parameters for row in rows) == network.golden['trainable_parameters']
    assert sum(row.parameters + row.statistics for row in rows) == network.golden['model_parameters']
    assert {row.endpoint: list(row.shape) for row in rows} == \
        {name: golden['shape'][1:] for name, golden in network.golden['end_points'].items()}


def test_training_build(training):
    golden = training.golden
    assert len(training.graph.get_collection(KEYS.MODEL_VARIABLES)) == golden['training_model_variables']
    assert len(training.graph.get_collection(KEYS.REGULARIZATION_LOSSES)) == golden['regularization_losses']
    assert set(training.end_points) - set(golden['end_points']) == set(golden['training_only_end_points'])
    moving = [name for name in golden['variables'] if name.endswith(('moving_mean', 'moving_variance'))]
    assert len(training.graph.get_collection(KEYS.UPDATE_OPS)) == len(moving)


def test_gradients(training):
    assert training.trainable
    assert [v.op.name for v, g in zip(training.trainable, training.gradients, strict=True) if g is None] == []


@pytest.mark.parametrize('name', registry.NETWORKS)
def test_reuse_and_unknown_batch(name):
    row = registry.NETWORKS[name]
    network_fn = nets_factory.get_network_fn(name, row.num_classes)
    with tf.Graph().as_default():
        shape = [None, row.default_image_size, row.default_image_size, row.channels]
        logits, _ = network_fn(tf.compat.v1.placeholder(tf.float32, shape))
        variables = tf.compat.v1.global_variables()
        network_fn(tf.compat.v1.placeholder(tf.float32, shape), reuse=True)
        assert tf.compat.v1.global_variables() == variables
        assert logits.shape.as_list() == [None, row.num_classes]
        with pytest.raises(ValueError, match='already exists'):
            network_fn(tf.compat.v1.placeholder(tf.float32, shape))


@pytest.mark.parametrize('name', registry.NETWORKS)
def test_without_classes(name, read_golden):
    row = registry.NETWORKS[name]
    with tf.Graph().as_default():
        images = tf.zeros([2, row.default_image_size, row.default_image_size, row.channels])
        net, end_points = nets_factory.get_network_fn(name, num_classes=0)(images)
        assert {'Logits', 'Predictions'}.isdisjoint(end_points)
        assert net is list(end_points.values())[-1]
        assert net.shape.as_list() == read_golden(name)['end_points'][list(end_points)[-1]]['shape']


@pytest.mark.parametrize('name', registry.NETWORKS)
def test_nothing_holds_variables(name):
    row = registry.NETWORKS[name]
    images = tf.zeros([1, row.default_image_size, row.default_image_size, row.channels])
    network_fn = nets_factory.get_network_fn(name, row.num_classes)
    for call in (network_fn, tf.function(network_fn, autograph=False)):
        with pytest.raises(RuntimeError, match='nets.create_model'):
            call(images)
