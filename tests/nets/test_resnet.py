"""Both versions of ResNet; their contracts are in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import resnet_v1 as slim_resnet_v1
from tf_slim.nets import resnet_v2 as slim_resnet_v2

import nets
import tf_slim_compat  # noqa: F401
from nets import resnet_utils, resnet_v1, resnet_v2
from nets.resnet_utils import Block, conv2d_same, resnet_arg_scope, stack_blocks_dense, subsample

MODULES = {1: resnet_v1, 2: resnet_v2}
PEERS = {1: slim_resnet_v1, 2: slim_resnet_v2}
both = pytest.mark.parametrize('version', [1, 2])


def of(version, name, modules=MODULES):
    """`resnet_v1_block` for version 1 and `block`."""
    return getattr(modules[version], f'resnet_v{version}_{name}'.removesuffix('_'))


def blocks(version, modules=MODULES):
    block = of(version, 'block', modules)
    return [block('block1', base_depth=2, num_units=2, stride=2), block('block2', base_depth=3, num_units=2, stride=2),
            block('block3', base_depth=4, num_units=1, stride=1)]


def small(version, images, modules=MODULES, **kwargs):
    return of(version, '', modules)(images, blocks(version, modules), **kwargs)


def in_scope(function, *args, **kwargs):
    with slim.arg_scope(resnet_arg_scope()):
        return function(*args, **kwargs)


def images(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def noise(*shape):
    return np.random.RandomState(7).uniform(-1, 1, shape).astype(np.float32)


def widths():
    return {v.op.name: v.shape[-1] for v in slim.get_variables_by_suffix('weights')}


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def run(graph, made_value):
    """Tensors -> their values, with made weights."""
    def run(tensors, feed=None):
        variables = tf.compat.v1.global_variables()
        made = {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables}
        with tf.compat.v1.Session() as session:
            session.run([v.initializer for v in variables], made)
            return session.run(tensors, feed)
    return run


@both
@pytest.mark.parametrize('kwargs', [
    dict(num_classes=5), dict(num_classes=5, output_stride=4), dict(output_stride=8, global_pool=False),
    dict(include_root_block=False, output_stride=2, num_classes=5), dict(include_root_block=False, global_pool=False)])
def test_as_in_tf_slim(run, version, kwargs):
    """The same layers, by value and by name; tf_slim.nets has no `spatial_squeeze`."""
    def build(**more):
        with tf.compat.v1.variable_scope('outer'):
            return in_scope(small, version, tf.constant(noise(2, 65, 50, 3)), is_training=False, scope='R', **kwargs,
                            **more)[1]

    theirs = build(modules=PEERS)
    variables = tf.compat.v1.global_variables()
    with tf.Graph().as_default():
        alone = build(spatial_squeeze=False)
    assert {name: alone[name].name for name in theirs} == {name: tensor.name for name, tensor in theirs.items()}
    ours = build(spatial_squeeze=False, reuse=True)
    assert tf.compat.v1.global_variables() == variables
    theirs, ours = run([theirs, {name: ours[name] for name in theirs}])
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize('size', [4, 5, 6, 7])
@pytest.mark.parametrize('kernel', [3, 7])
def test_conv2d_same(hold, size, kernel):
    """A stride takes every second of the pixels of the plain convolution, at odd and at even sizes."""
    values = noise(2, size, size + 1, 3)
    with slim.arg_scope([slim.conv2d], activation_fn=None):
        net = hold(conv2d_same, values, 4, kernel, stride=2, scope='C')
    plain = tf.nn.conv2d(values, hold.variables['C/weights'], 1, 'SAME') + hold.variables['C/biases']
    np.testing.assert_allclose(net, plain[:, ::2, ::2], atol=1e-5)
    assert net.shape == [2, -(-size // 2), -(-(size + 1) // 2), 4]
    np.testing.assert_array_equal(subsample(tf.constant(values), 2), values[:, ::2, ::2])


@pytest.mark.parametrize('kwargs, low, high', [({}, 0, np.inf), (dict(use_bounded_activations=True), 0, 6)])
def test_unit_v1(hold, kwargs, low, high):
    """relu(shortcut + convolutions); bounded, the convolutions are clipped to [-6, 6] and the sum to [0, 6]."""
    values = tf.constant(20 * noise(2, 6, 7, 8))
    with slim.arg_scope(resnet_arg_scope(use_batch_norm=False)):
        with slim.arg_scope([resnet_v1.bottleneck], **kwargs):
            net = hold(resnet_v1.bottleneck, values, 8, 4, stride=2, scope='U')

    def layer(inputs, name, stride=1):
        return tf.nn.conv2d(inputs, hold.variables[f'U/{name}/weights'], stride, 'SAME') + \
            hold.variables[f'U/{name}/biases']

    inner = tf.nn.relu(layer(tf.nn.relu(layer(values, 'conv1')), 'conv2'))[:, ::2, ::2]
    inner = tf.clip_by_value(layer(inner, 'conv3'), -high, high)
    assert np.abs(inner).max() > 5      # so that bounds, where there are, bind
    np.testing.assert_allclose(net, tf.clip_by_value(values[:, ::2, ::2] + inner, low, high), rtol=1e-4, atol=1e-3)


def test_unit_v2(run):
    """shortcut + convolutions of the normalised input; where the width changes the shortcut takes that input too."""
    values = tf.constant(noise(2, 6, 7, 8))
    with slim.arg_scope([slim.batch_norm], is_training=False):
        same = in_scope(resnet_v2.bottleneck, values, 8, 4, stride=1, scope='same')
        wider = in_scope(resnet_v2.bottleneck, values, 9, 4, stride=1, scope='wider')
    graph = tf.compat.v1.get_default_graph()

    def at(name):
        return graph.get_tensor_by_name(f'{name}:0')

    weights = slim.get_variables_by_name('wider/shortcut/weights')[0]
    biases = slim.get_variables_by_name('wider/shortcut/biases')[0]
    expected = [values + at('same/conv3/BiasAdd'),
                tf.nn.conv2d(at('wider/preact/Relu'), weights, 1, 'SAME') + biases + at('wider/conv3/BiasAdd')]
    for value, other in zip(*run([[same, wider], expected]), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


@both
@pytest.mark.parametrize('output_stride', [4, 8])
def test_output_stride(run, version, output_stride):
    """The dense map holds, at every 16th pixel, what the sparse one holds."""
    values = tf.constant(noise(1, 81, 66, 3))
    sparse, _ = in_scope(small, version, values, is_training=False, global_pool=False, scope='R')
    dense, _ = in_scope(small, version, values, is_training=False, global_pool=False, scope='R', reuse=True,
                        output_stride=output_stride)
    assert dense.shape[1:3] == [-(-81 // output_stride), -(-66 // output_stride)]
    factor = 16 // output_stride
    sparse, dense = run([sparse, dense])
    np.testing.assert_allclose(dense[:, ::factor, ::factor], sparse, rtol=1e-3, atol=1e-4)


def test_store_non_strided_activations(run):
    values = tf.constant(noise(1, 64, 49, 3))
    kwargs = dict(is_training=False, global_pool=False, scope='R')
    net, plain = in_scope(small, 1, values, **kwargs)
    same, stored = in_scope(small, 1, values, reuse=True, store_non_strided_activations=True, **kwargs)
    assert [stored[f'R/block{i}'].shape[1:3].as_list() for i in (1, 2, 3)] == [[16, 13], [8, 7], [4, 4]]
    assert [plain[f'R/block{i}'].shape[1:3].as_list() for i in (1, 2, 3)] == [[8, 7], [4, 4], [4, 4]]
    net, same, plain, stored = run([net, same, plain['R/block2'], stored['R/block2'][:, ::2, ::2]])
    np.testing.assert_allclose(same, net, atol=1e-4)
    np.testing.assert_allclose(stored, plain, atol=1e-4)


@both
def test_what_does_not_fit(graph, version):
    for kwargs, message in ((dict(output_stride=6), r'one of 4, 8, 16, or None; it is 6'),
                            (dict(output_stride=32), r'one of 4, 8, 16, or None; it is 32'),
                            (dict(output_stride=4, include_root_block=False, global_pool=False, num_classes=3),
                             'up to 4x4 there is one'),
                            (dict(num_classes=3, global_pool=False), 'up to 16x16 there is one.*global_pool=True')):
        with pytest.raises(ValueError, match=message):
            in_scope(small, version, tf.zeros([1, 17, 16, 3]), **kwargs)
    with pytest.raises(ValueError, match='one of 1, 2, 4, or None; it is 3'):
        stack_blocks_dense(tf.zeros([1, 17, 16, 3]), blocks(version), output_stride=3)
    with pytest.raises(ValueError, match='resnet_v[12]_50 takes images of a float type'):
        of(version, 50)(tf.zeros([1, 32, 32, 3], tf.uint8))
    assert tf.compat.v1.global_variables() == []
    logits, _ = in_scope(small, version, tf.zeros([1, 16, 3, 3]), num_classes=3, global_pool=False)
    assert logits.shape == [1, 3]


def test_final_endpoint(graph):
    base, unit = resnet_v1.resnet_v1_50_base, 'outer/R/block1/unit_3/bottleneck_v1'
    with tf.compat.v1.variable_scope('outer'):
        net, end_points = in_scope(base, images(1, 64, 64, 3), unit, scope='R', store_non_strided_activations=True)
        assert net is end_points[unit]
        assert list(end_points)[-2:] == [f'{unit}/conv3', unit]
        assert net.shape[1:3] == [16, 16]
        assert list(widths())[-1] == f'{unit}/conv3/weights'
        with pytest.raises(ValueError, match="of S 'block1'.*Valid are outer/S/conv1, outer/S/block1/unit_1/"):
            base(images(1, 64, 64, 3), 'block1', scope='S')
    net, _ = in_scope(resnet_v2.resnet_v2_50_base, images(1, 64, 64, 3), 'resnet_v2_50/block1')
    assert net.shape == [1, 8, 8, 256]


def test_widths(graph):
    """The blocks' widths are scaled, but not below the least; the first convolution keeps its 64 maps."""
    in_scope(resnet_v1.resnet_v1_50, images(1, 32, 32, 3), depth_multiplier=0.1, min_base_depth=10, scope='R')
    found = {name.removesuffix('/bottleneck_v1/conv3/weights'): width for name, width in widths().items()}
    assert [found[f'R/block{i}/unit_1'] for i in (1, 2, 3, 4)] == [40, 48, 100, 204]
    assert found['R/conv1/weights'] == 64
    with pytest.raises(ValueError, match='leaves no maps'):
        resnet_v1.resnet_v1_50(images(1, 32, 32, 3), depth_multiplier=0, min_base_depth=0)


def test_units_of_ones_own(graph):
    """Their convolutions are endpoints too, as are those of blocks; what they are not given they are not asked for."""
    def unit(net, maps, rate, stride=1):
        return slim.conv2d(net, maps, 3, stride=stride, rate=rate, scope=f'rate_{rate}')

    own = [Block('first', unit, [dict(maps=2), dict(maps=2, stride=2)]), Block('second', unit, [dict(maps=3)] * 2)]
    net, end_points = in_scope(resnet_v1.resnet_v1, images(1, 32, 32, 3), own, global_pool=False, output_stride=4)
    assert net.shape == [1, 8, 8, 3]
    assert list(end_points) == [f'resnet_v1/{name}' for name in (
        'conv1', 'first/unit_1/rate_1', 'first/unit_2/rate_1', 'first', 'second/unit_1/rate_2', 'second/unit_2/rate_2',
        'second')]


@both
def test_unknown_sizes_and_colours(run, version):
    """One graph takes images of any size and number, of four channels, in training and not."""
    inputs, is_training = images(None, None, None, 4), tf.compat.v1.placeholder(tf.bool, [])
    logits, end_points = in_scope(small, version, inputs, num_classes=5, is_training=is_training)
    assert logits.shape.as_list() == [None, 5]
    tensors = [logits, end_points['predictions'], end_points[f'resnet_v{version}/block3']]
    for shape in ([1, 1, 1, 4], [3, 40, 33, 4]):
        first, predictions, last = run(tensors, {inputs: noise(*shape), is_training: False})
        assert first.shape == (shape[0], 5)
        assert last.shape[1:3] == (-(-shape[1] // 16), -(-shape[2] // 16))
        np.testing.assert_allclose(predictions, np.exp(first) / np.exp(first).sum(1, keepdims=True), rtol=1e-3)
    feed = {inputs: noise(3, 40, 33, 4), is_training: True}
    assert not np.allclose(run(logits, feed), run(logits, {**feed, is_training: False}))


def test_bfloat16():
    model = nets.create_model('resnet_v2_50', 5, image_size=32)
    values = tf.constant(noise(2, 32, 32, 3))
    full, half = model(values), model(tf.cast(values, tf.bfloat16))
    assert half.dtype == tf.float32
    np.testing.assert_allclose(half, full, atol=0.1 * np.abs(full).max())
    end_points = model.endpoints(tf.cast(values, tf.bfloat16), ['*/block2', 'predictions'])
    assert [value.dtype for value in end_points.values()] == [tf.bfloat16, tf.float32]


@both
def test_is_training_none(graph, version):
    """Then the caller's arg scope says it."""
    for is_training in (True, False):
        with tf.Graph().as_default() as graph, slim.arg_scope([slim.batch_norm], is_training=is_training):
            in_scope(small, version, tf.zeros([2, 32, 32, 3]), is_training=None)
            moving = [v for v in tf.compat.v1.global_variables() if 'moving' in v.op.name]
            assert len(graph.get_collection('update_ops')) == is_training * len(moving)


@both
def test_nothing_is_left_in_the_graph(graph, version):
    """Endpoints are collected under a key of the call's own, which goes with it."""
    in_scope(small, version, tf.zeros([2, 32, 32, 3]), num_classes=3)
    assert {key for key in graph.get_all_collection_keys() if not isinstance(key, str)} == set()


def test_arg_scope(graph):
    """He's initial weights: a normal, cut at two deviations, that has a variance of 2 / fan-in then; their L2 loss."""
    with slim.arg_scope(resnet_arg_scope(weight_decay=0.5, batch_norm_scale=False, activation_fn=tf.nn.elu)):
        _, end_points = small(2, tf.zeros([1, 32, 32, 3]), num_classes=3)
    assert not [v.op.name for v in tf.compat.v1.global_variables() if 'gamma' in v.op.name]
    assert end_points['resnet_v2/block1/unit_1/bottleneck_v2/conv1'].op.type == 'Elu'
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        weights = session.run(slim.get_variables_by_suffix('weights'))
        losses = session.run(tf.compat.v1.losses.get_regularization_losses())
    np.testing.assert_allclose(losses, [0.25 * (value ** 2).sum() for value in weights], rtol=1e-4)
    assert weights[0].std() == pytest.approx(np.sqrt(2 / (7 * 7 * 3)), rel=0.03)
    assert np.abs(weights[0]).max() < 2.3 * np.sqrt(2 / (7 * 7 * 3))
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope(use_batch_norm=False)):
        small(1, tf.zeros([1, 32, 32, 3]))
        assert {v.op.name.rpartition('/')[2] for v in tf.compat.v1.global_variables()} == {'weights', 'biases'}


def test_public_names():
    assert resnet_v1.resnet_arg_scope is resnet_utils.resnet_arg_scope is resnet_v2.resnet_arg_scope
    with resnet_v1.NoOpScope():
        pass
    assert resnet_v1.resnet_v1.default_image_size == resnet_v2.resnet_v2.default_image_size == 224
    assert Block._fields == ('scope', 'unit_fn', 'args')
