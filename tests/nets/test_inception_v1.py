"""Inception V1's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, inception_v1
from nets.inception_v1 import ROOT_BLOCK, inception_v1_arg_scope, inception_v1_base, modules

ENDPOINTS = [name for name, _ in ROOT_BLOCK + modules()]


def images(*shape, dtype=tf.float32):
    return tf.compat.v1.placeholder(dtype, shape)


def model_variables():
    return {v.op.name: v.shape.as_list() for v in slim.get_model_variables()}


def in_scope(function, *args, **kwargs):
    with slim.arg_scope(inception_v1_arg_scope()):
        return function(*args, **kwargs)


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_base(graph):
    """The figure is that of TF-Slim's own tests."""
    net, end_points = in_scope(inception_v1_base, images(5, 224, 224, 3))
    assert sum(v.shape.num_elements() for v in slim.get_model_variables()) == 5_607_184
    assert list(end_points) == ENDPOINTS
    assert net is end_points['Mixed_5c']


@pytest.mark.parametrize('number', [0, 1, 5, 8])
def test_final_endpoint(graph, number):
    net, end_points = in_scope(inception_v1_base, images(1, 64, 64, 3), final_endpoint=ENDPOINTS[number])
    assert list(end_points) == ENDPOINTS[:number + 1]
    assert net is end_points[ENDPOINTS[number]]


def test_unknown_endpoint(graph):
    with pytest.raises(ValueError, match="endpoint of InceptionV1 'Mixed_4g': did you mean 'Mixed_4"):
        inception_v1_base(np.zeros([1, 64, 64, 3], np.float32), final_endpoint='Mixed_4g')
    with pytest.raises(ValueError, match='Valid are Mixed_3b, '):
        inception_v1_base(np.zeros([1, 28, 28, 192], np.float32), 'Conv2d_1a_7x7', include_root_block=False)
    assert graph.get_operations() == []


def test_without_root_block(graph, read_golden):
    golden = read_golden('inception_v1')
    _, end_points = in_scope(inception_v1_base, images(2, 28, 28, 192), 'Mixed_4c', include_root_block=False)
    assert {name: tensor.shape.as_list() for name, tensor in end_points.items()} == \
        {name: golden['end_points'][name]['shape'] for name in ENDPOINTS[5:10]}
    assert model_variables().items() <= golden['variables'].items()


@pytest.mark.parametrize('size, kernel', [(128, 4), (33, 2)])
def test_image_sizes(graph, size, kernel):
    logits, end_points = in_scope(inception_v1.inception_v1, images(2, size, size, 3), 10)
    assert logits.shape.as_list() == [2, 10]
    pool = end_points['AvgPool_0a_7x7']
    assert pool.op.get_attr('ksize') == [1, kernel, kernel, 1]
    assert pool.shape.as_list() == [2, 1, 1, 1024]


def test_large_images(graph):
    with pytest.raises(ValueError, match='up to 224x224 .* pass global_pool=True'):
        inception_v1.inception_v1(images(1, 256, 320, 3), 10)
    with tf.Graph().as_default():
        logits, _ = inception_v1.inception_v1(images(1, 256, 320, 3), 10, spatial_squeeze=False)
        assert logits.shape.as_list() == [1, 2, 4, 10]
    with tf.Graph().as_default():
        net, end_points = inception_v1.inception_v1(images(1, 256, 320, 3), None, global_pool=True)
        assert net is end_points['global_pool']
        assert end_points['global_pool'].shape.as_list() == [1, 1, 1, 1024]
        assert 'AvgPool_0a_7x7' not in end_points


def test_unknown_sizes(graph, made_value):
    """One graph takes batches and images of any size, and is_training is a placeholder."""
    inputs, is_training = images(None, None, None, 4), tf.compat.v1.placeholder(tf.bool, [])
    logits, end_points = in_scope(inception_v1.inception_v1, inputs, 5, is_training, global_pool=True)
    assert logits.shape.as_list() == [None, 5]
    variables = tf.compat.v1.global_variables()
    made = {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables}
    with tf.compat.v1.Session() as session:
        session.run([v.initializer for v in variables], made)
        for shape in ([1, 40, 70, 4], [3, 64, 64, 4]):
            feed = {inputs: np.ones(shape, np.float32), is_training: False}
            first, mixed, pooled = session.run([logits, end_points['Mixed_5c'], end_points['global_pool']], feed)
            assert first.shape == (shape[0], 5)
            np.testing.assert_allclose(pooled[:, 0, 0], mixed.mean((1, 2)), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(session.run(logits, feed), first)
        feed[is_training] = True
        assert not np.allclose(session.run(logits, feed), session.run(logits, feed))    # dropout


def test_auxiliary_classifiers(graph, read_golden):
    _, end_points = in_scope(inception_v1.inception_v1, images(2, 224, 224, 3), 1000, create_aux_logits=True)
    published = read_golden('inception_v1')['variables']
    added = {name: shape for name, shape in model_variables().items() if name not in published}
    assert None not in tf.gradients([end_points['AuxLogits_4b'], end_points['AuxLogits_4e']],
                                    [v for v in tf.compat.v1.trainable_variables() if v.op.name in added])
    for name, maps in (('AuxLogits_4b', 512), ('AuxLogits_4e', 528)):
        assert end_points[name].shape.as_list() == [2, 1000]
        scope = f'InceptionV1/{name}'
        assert {key: shape for key, shape in added.items() if key.startswith(scope) and 'BatchNorm' not in key} == {
            f'{scope}/Conv2d_0b_1x1/weights': [1, 1, maps, 128],
            f'{scope}/FullyConnected_0c/weights': [4 * 4 * 128, 1024],      # the paper: 4x4 after the pooling
            f'{scope}/FullyConnected_0c/biases': [1024],
            f'{scope}/FullyConnected_0e/weights': [1024, 1000],
            f'{scope}/FullyConnected_0e/biases': [1000],
        }


def test_auxiliary_classifiers_of_small_and_unknown_images(graph):
    _, end_points = inception_v1.inception_v1(images(2, 32, 32, 3), 10, create_aux_logits=True)
    assert end_points['AuxLogits_4e'].shape.as_list() == [2, 10]
    with tf.Graph().as_default(), pytest.raises(ValueError, match='known height and width'):
        inception_v1.inception_v1(images(2, None, None, 3), 10, create_aux_logits=True, global_pool=True)


def test_auxiliary_dropout():
    """The paper drops 70%; a last layer that is the identity shows which features are left."""
    values = {'FullyConnected_0e/weights': tf.eye(1024), 'FullyConnected_0e/biases': tf.zeros([1024])}

    def getter(_, name, shape=None, dtype=None, **unused):
        return values.get(name[2:], tf.ones(shape, dtype))

    with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), custom_getter=getter):
        logits = heads.aux_logits(tf.ones([4, 14, 14, 8]), 1024, 'A').numpy()
    # Each feature is 4x4x128 sums of 8 ones and a bias, and a bias; those left are scaled by 1 / 0.3.
    assert set(np.unique(logits)) == {0, np.float32((4 * 4 * 128 * 9 + 1) / 0.3)}
    assert (logits != 0).mean() == pytest.approx(0.3, abs=0.04)


def test_moving_statistics(hold):
    """Decay 0.9997, epsilon 0.001, no gamma."""
    values = np.random.RandomState(5).uniform(-1, 1, [4, 16, 16, 3]).astype(np.float32)
    in_scope(hold, inception_v1_base, values, 'Conv2d_1a_7x7')       # makes the variables
    before = {name.rsplit('/')[-1]: v.numpy() for name, v in hold.variables.items()}
    assert set(before) == {'weights', 'beta', 'moving_mean', 'moving_variance'}
    net, _ = in_scope(hold, inception_v1_base, values, 'Conv2d_1a_7x7')
    mean, variance = tf.nn.moments(tf.nn.conv2d(values, before['weights'], 2, 'SAME'), [0, 1, 2])
    after = {name.rsplit('/')[-1]: v.numpy() for name, v in hold.variables.items()}
    np.testing.assert_allclose((after['moving_mean'] - before['moving_mean']) / 0.0003, mean - before['moving_mean'],
                               atol=2e-3)
    expected = tf.nn.relu(tf.nn.batch_normalization(tf.nn.conv2d(values, before['weights'], 2, 'SAME'), mean, variance,
                                                    before['beta'], None, 0.001))
    np.testing.assert_allclose(net, expected, atol=1e-3)


def test_true_5x5(graph, read_golden):
    in_scope(inception_v1_base, images(1, 64, 64, 3), true_5x5=True)
    published = read_golden('inception_v1')['variables']
    changed = {name: shape for name, shape in model_variables().items() if name not in published}
    assert {name.split('/')[3] for name in changed} == {'Conv2d_0b_5x5'}
    kernels = [shape for name, shape in changed.items() if name.endswith('weights')]
    assert [shape[:2] for shape in kernels] == [[5, 5]] * 9
    assert kernels[0] == [5, 5, 16, 32]


def test_the_same_in_every_mode(hold, made_value):
    values = np.random.RandomState(3).uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)

    def build(images):
        with slim.arg_scope([slim.batch_norm], is_training=False):
            return in_scope(hold, inception_v1_base, images, 'Mixed_3b')[0]

    eager = build(tf.constant(values))
    for jit in (False, True):
        np.testing.assert_allclose(tf.function(build, jit_compile=jit, autograph=False)(values), eager, atol=1e-3)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with slim.arg_scope([slim.batch_norm], is_training=False):
            net, _ = in_scope(inception_v1_base, tf.constant(values), 'Mixed_3b')
        variables = tf.compat.v1.global_variables()
        session.run([v.initializer for v in variables],
                    {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables})
        np.testing.assert_allclose(session.run(net), eager, atol=1e-3)


def test_bfloat16(hold):
    values = tf.constant(np.random.RandomState(4).uniform(-1, 1, [2, 64, 64, 3]), tf.float32)
    full, _ = in_scope(hold, inception_v1.inception_v1, values, 10, is_training=False)
    values = tf.cast(values, tf.bfloat16)
    half, end_points = in_scope(hold, inception_v1.inception_v1, values, 10, is_training=False)
    assert half.dtype == tf.bfloat16
    assert end_points['Predictions'].dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(end_points['Predictions'], 1), [1, 1], atol=1e-5)
    np.testing.assert_allclose(tf.cast(half, tf.float32), full, atol=0.1 * np.abs(full).max())
    assert {v.dtype for v in hold.variables.values()} == {tf.float32}


def test_initial_weights(graph):
    """A normal of deviation 0.01, cut at two deviations."""
    in_scope(inception_v1_base, images(1, 64, 64, 3), 'Conv2d_2c_3x3')
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        weights, = session.run(slim.get_variables_by_name('InceptionV1/Conv2d_2c_3x3/weights'))
    assert np.abs(weights).max() <= 0.02
    assert weights.std() == pytest.approx(0.0088, rel=0.02)     # 0.8796 of the uncut normal's
