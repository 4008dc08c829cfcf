"""Every network of the registry against its contract, tests/golden/NAME.json, read from TF-Slim itself.

The tests of one network go to one process (tests/conftest.py sees to that), which builds it once for all of them.
"""
import re
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import nets
import tf_slim_compat  # noqa: F401
from nets import nets_factory, registry, summary

KEYS = tf.compat.v1.GraphKeys
NAMES = list(registry.NETWORKS)
# What is no endpoint of a base function: the classifiers, and what stands between them and the last map.
HEAD = re.compile(r'AuxLogits|AvgPool_\da.*|PreLogits.*|[Ll]ogits|[Pp]redictions|global_pool|spatial_squeeze|fc\d|'
                  r'Flatten|dropout\d')


def head(end_points):
    """Those that only the whole network has."""
    return {name for name in end_points if HEAD.fullmatch(name.rpartition('/')[2])}


def made_images(golden):
    return np.random.RandomState(0).uniform(-1, 1, golden['input_shape']).astype(np.float32)


def placeholder(golden):
    """Images of the contract's size, in batches of any."""
    return tf.compat.v1.placeholder(tf.float32, [None, *golden['input_shape'][1:]])


def close(value, golden):
    """Whether mean and deviation agree to 1e-3 of the deviation."""
    value = np.asarray(value, np.float64)
    return (value.mean() == pytest.approx(golden['mean'], abs=1e-3 * golden['std'])
            and value.std() == pytest.approx(golden['std'], rel=1e-3))


def logits_agree(logits, golden):
    first = golden['logits']['first8']
    assert logits.shape == tuple(golden['logits']['shape'])
    np.testing.assert_allclose(logits.reshape(len(first), -1)[:, :8], first, rtol=0, atol=1e-3 * logits.std())


@pytest.fixture(scope='module', params=NAMES)
def network(request, read_golden, made_value):
    """The network in evaluation, built in a graph and run with the made weights and images."""
    golden = read_golden(request.param)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        inputs = tf.compat.v1.placeholder(tf.float32, golden['input_shape'])
        network_fn = nets_factory.get_network_fn(request.param, golden['num_classes'], weight_decay=4e-5)
        logits, end_points = network_fn(inputs)
        variables = slim.get_model_variables()
        made = {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables}
        session.run([v.initializer for v in variables], made)
        values, logits = session.run([end_points, logits], {inputs: made_images(golden)})
    return types.SimpleNamespace(name=request.param, golden=golden, graph=graph, variables=variables, logits=logits,
                                 end_points=end_points, values=values, default_size=network_fn.default_image_size)


@pytest.fixture(scope='module', params=NAMES)
def training(request, read_golden):
    """The network in training, with the gradients of the sum of all logits."""
    golden = read_golden(request.param)
    with tf.Graph().as_default() as graph:
        logits, end_points = nets_factory.get_network_fn(request.param, golden['num_classes'], weight_decay=4e-5,
                                                         is_training=True)(placeholder(golden))
        trainable = tf.compat.v1.trainable_variables()
        aux_logits = [tensor for name, tensor in end_points.items() if name.startswith('AuxLogits')]
        gradients = tf.gradients([logits, *aux_logits], trainable)
    return types.SimpleNamespace(name=request.param, golden=golden, graph=graph, logits=logits, end_points=end_points,
                                 trainable=trainable, gradients=gradients)


def count(variables):
    return sum(v.shape.num_elements() for v in variables)


def test_variables(network):
    assert {v.op.name: v.shape.as_list() for v in network.variables} == network.golden['variables']
    assert [v.op.name for v in network.variables] == list(network.golden['variables'])
    scope = registry.NETWORKS[network.name].scope
    assert all(v.op.name.startswith(f'{scope}/' if scope else '') for v in network.variables)
    assert all(v.dtype.base_dtype == tf.float32 for v in network.variables)


def test_parameters(network):
    trainable = network.graph.get_collection(KEYS.TRAINABLE_VARIABLES)
    assert count(trainable) == registry.NETWORKS[network.name].parameters
    assert count(network.variables) == network.golden['model_parameters']


def test_endpoints(network):
    golden = network.golden['end_points']
    assert list(network.end_points) == list(golden)
    assert {name: list(value.shape) for name, value in network.values.items()} == \
        {name: end_point['shape'] for name, end_point in golden.items()}


def test_activations(network):
    wrong = [name for name, golden in network.golden['end_points'].items() if not close(network.values[name], golden)]
    assert wrong == []
    logits_agree(network.logits, network.golden)


def test_eager(network, made_value):
    """A Model holds the same variables, and those of training alone, and answers the same."""
    golden = network.golden
    model = nets.create_model(network.name, golden['num_classes'])
    held = {name: variable.shape.as_list() for name, variable in model.by_name.items()}
    assert golden['variables'].items() <= held.items() and len(held) == golden['training_model_variables']
    for name, variable in model.by_name.items():
        variable.assign(made_value(name, variable.shape.as_list()))
    logits_agree(model(made_images(golden)).numpy(), golden)


def test_registry_row(network):
    row = registry.NETWORKS[network.name]
    assert network.default_size == row.default_image_size == network.golden['default_image_size']
    assert row.build.default_image_size == row.default_image_size
    _, *frames, height, width, channels = network.golden['input_shape']
    assert (row.num_classes, row.channels) == (network.golden['num_classes'], channels)
    assert (row.frames or None) == (frames[0] if frames else None) and height == width == row.default_image_size
    assert row.labels_offset == (1 if row.num_classes == 1000 else 0)   # 1001 of ImageNet: 0 is the background
    assert bool(row.weights) == bool(row.top_1) and (row.top_1 or not row.eval_image_size)


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
    assert profile.total_float_ops // batch == network.golden['flops_per_image']
    rows = summary.summarize_endpoints(network.end_points)
    counted = sum(flops.get(op, 0) for op in ('Conv2D', 'DepthwiseConv2dNative', 'MatMul', 'Conv3D'))
    of_all = registry.NETWORKS[network.name]
    assert 2 * sum(row.multiply_adds for row in rows) == counted == batch * 2 * of_all.multiply_adds
    assert sum(row.parameters for row in rows) == of_all.parameters
    assert sum(row.parameters + row.statistics for row in rows) == network.golden['model_parameters']
    assert {row.endpoint: list(row.shape) for row in rows} == \
        {name: golden['shape'][1:] for name, golden in network.golden['end_points'].items()}


def test_training_build(training):
    golden = training.golden
    assert len(training.graph.get_collection(KEYS.MODEL_VARIABLES)) == golden['training_model_variables']
    assert len(training.graph.get_collection(KEYS.REGULARIZATION_LOSSES)) == golden['regularization_losses']
    assert set(training.end_points) - set(golden['end_points']) == set(golden['training_only_end_points'])
    assert count(training.trainable) == golden['trainable_parameters']
    moving = [v for v in training.graph.get_collection(KEYS.MODEL_VARIABLES) if '/moving_' in v.op.name]
    assert len(training.graph.get_collection(KEYS.UPDATE_OPS)) == len(moving)


def test_gradients(training):
    assert training.trainable
    assert [v.op.name for v, g in zip(training.trainable, training.gradients, strict=True) if g is None] == []


def test_reuse_and_unknown_batch(training):
    golden, network_fn = training.golden, nets_factory.get_network_fn(training.name, training.golden['num_classes'])
    assert training.logits.shape.as_list() == [None, golden['num_classes']]
    with training.graph.as_default():
        variables = tf.compat.v1.global_variables()
        with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), reuse=True):
            network_fn(placeholder(golden))
        assert tf.compat.v1.global_variables() == variables
        with pytest.raises(ValueError, match='already exists'):
            network_fn(placeholder(golden))


@pytest.mark.parametrize('name', NAMES)
def test_without_classes(name, read_golden):
    golden = read_golden(name)
    with tf.Graph().as_default():
        net, end_points = nets_factory.get_network_fn(name, num_classes=0)(placeholder(golden))
        assert not [name for name in end_points if re.search('(^|/)(Aux)?([Ll]ogits|[Pp]redictions)', name)]
        assert list(end_points) == [name for name in golden['end_points'] if name in end_points]
        assert net is list(end_points.values())[-1]
        assert net.shape.as_list()[1:] == golden['end_points'][list(end_points)[-1]]['shape'][1:]


@pytest.mark.parametrize('name', NAMES)
def test_base(name, read_golden):
    """It has every endpoint before the head, and stops at any row; of an unknown one it names the rows."""
    golden, row = read_golden(name), registry.get(name)

    def build(**kwargs):
        with tf.Graph().as_default(), slim.arg_scope(row.make_arg_scope()):
            net, end_points = row.build_base(placeholder(golden), **kwargs)
            return net, end_points, [v.op.name for v in slim.get_model_variables()]

    net, whole, variables = build()
    assert set(golden['end_points']) - set(whole) <= head(golden['end_points'])
    assert list(whole) == [name for name in golden['end_points'] if name in whole]
    assert {name: tensor.shape.as_list()[1:] for name, tensor in whole.items()} == {
        name: end_point['shape'][1:] for name, end_point in golden['end_points'].items() if name in whole}
    assert variables == list(golden['variables'])[:len(variables)]

    with tf.Graph().as_default() as graph:
        images = placeholder(golden)
        with pytest.raises(ValueError, match='endpoint .*Mixed_9z.* Valid are ') as caught:
            row.build_base(images, final_endpoint='Mixed_9z')
        assert graph.get_operations() == [images.op]
    rows = str(caught.value).rpartition('Valid are ')[2].rstrip('.').split(', ')
    assert set(rows) <= set(whole) and net is whole[rows[-1]]
    for final_endpoint in {rows[0], rows[len(rows) // 2]}:
        net, end_points, built = build(final_endpoint=final_endpoint)
        assert net is end_points[final_endpoint]
        assert list(end_points) == [name for name in whole if name in end_points]
        assert [name for name in rows if name in end_points] == rows[:rows.index(final_endpoint) + 1]
        assert built == variables[:len(built)]
        assert len(built) < len(variables)


@pytest.mark.parametrize('name', NAMES)
def test_nothing_holds_variables(name, read_golden):
    images = made_images(read_golden(name))
    network_fn = nets_factory.get_network_fn(name, 10)
    for call in (network_fn, tf.function(network_fn, autograph=False)):
        with pytest.raises(RuntimeError, match='nets.create_model'):
            call(tf.constant(images))
