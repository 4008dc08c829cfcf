"""I3D's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import inception_v1

import tf_slim_compat  # noqa: F401
from nets import i3d


def videos(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def in_scope(function, *args, arg_scope=None, **kwargs):
    with slim.arg_scope(i3d.i3d_arg_scope(**arg_scope or {})):
        return function(*args, **kwargs)


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def run(fetches, made_value, feed=None):
    """Runs a graph with the made weights, or with those that `made_value` gives instead."""
    with tf.compat.v1.Session() as session:
        variables = tf.compat.v1.global_variables()
        session.run([v.initializer for v in variables],
                    {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables})
        return session.run(fetches, feed)


def test_it_is_inception_v1_inflated(made_value):
    """A video of one image, under kernels that repeat Inception V1's, has its maps: the paper's section 2.4.

    That is so in the middle of the video, where no padding reaches.
    """
    image = np.random.RandomState(2).uniform(-1, 1, [1, 32, 32, 3]).astype(np.float32)
    with tf.Graph().as_default(), slim.arg_scope(inception_v1.inception_v1_arg_scope()):
        with slim.arg_scope([slim.batch_norm], is_training=False):
            net, _ = inception_v1.inception_v1_base(image, 'Mixed_4b')
        expected = run(net, made_value)

    def inflated(name, shape):
        if not name.endswith('weights'):
            return made_value(name, shape)
        return np.tile(made_value(name, shape[1:]), [shape[0], 1, 1, 1, 1]) / shape[0]

    with tf.Graph().as_default(), slim.arg_scope([slim.batch_norm], is_training=False):
        net, _ = in_scope(i3d.i3d_base, np.tile(image[:, None], [1, 32, 1, 1, 1]), 'Mixed_4b')
        values = run(net, inflated)
    assert values.shape == (1, 8, *expected.shape[1:])
    np.testing.assert_allclose(values[:, 3], expected, atol=1e-3 * expected.std())


def test_op_names_are_tf_slims(graph):
    """They are those of its Inception V1, but for the poolings."""
    _, ours = in_scope(i3d.i3d, videos(1, 8, 32, 32, 3), 5, is_training=False)
    with tf.Graph().as_default():
        _, theirs = inception_v1.inception_v1(videos(1, 224, 224, 3), 5, is_training=False)
    assert {name: tensor.name for name, tensor in ours.items()} == {
        name: theirs[name].name.replace('/MaxPool:', '/MaxPool3D:') for name in ours}


def test_frames(graph):
    """The figure is that of TF-Slim's own tests: of ten frames two are left."""
    net, _ = i3d.i3d_base(videos(5, 10, 224, 224, 3))
    assert net.shape.as_list() == [5, 2, 7, 7, 1024]


def test_logits_are_averages_over_frames(graph, made_value):
    """Of 40 frames 5 maps are left, and pooled by two 4."""
    logits, end_points = in_scope(i3d.i3d, videos(2, 40, 32, 32, 1), 6, is_training=False)
    weights, biases = tf.compat.v1.global_variables()[-2:]
    feed = {graph.get_operations()[0].outputs[0]: np.random.RandomState(3).uniform(-1, 1, [2, 40, 32, 32, 1])}
    logits, net, weights, biases = run([logits, end_points['Mixed_5c'], weights, biases], made_value, feed)
    assert net.shape == (2, 5, 1, 1, 1024)
    net = net[:, :, 0, 0]
    features = ((net[:, 1:] + net[:, :-1]) / 2).mean(1)
    np.testing.assert_allclose(logits, features @ weights[0, 0, 0] + biases, atol=1e-4)


def test_separable_and_renormalised(graph):
    in_scope(i3d.i3d_base, videos(1, 4, 16, 16, 3), 'Conv2d_2c_3x3',
             arg_scope=dict(separable_conv3d=True, use_renorm=True))
    variables = {v.op.name.removeprefix('InceptionV1/'): v.shape.as_list() for v in slim.get_model_variables()}
    assert variables['Conv2d_1a_7x7/weights'] == [7, 7, 7, 3, 64]       # which stays whole
    assert variables['Conv2d_2c_3x3/weights'] == [1, 3, 3, 64, 192]
    assert variables['Conv2d_2c_3x3/temporal/weights'] == [3, 1, 1, 192, 192]
    assert [name.rpartition('/')[2] for name in variables if name.startswith('Conv2d_2b_1x1/BatchNorm')] == [
        'beta', 'moving_mean', 'moving_variance', 'moving_stddev', 'renorm_mean', 'renorm_stddev']
    assert len(tf.compat.v1.get_collection('moving_vars')) == 3 * 2


def test_moving_statistics(hold):
    """Decay 0.999, epsilon 0.001, no gamma."""
    values = np.random.RandomState(5).uniform(-1, 1, [2, 8, 16, 16, 3]).astype(np.float32)
    in_scope(hold, i3d.i3d_base, values, 'Conv2d_1a_7x7')       # makes the variables
    before = {name.rpartition('/')[2]: v.numpy() for name, v in hold.variables.items()}
    assert set(before) == {'weights', 'beta', 'moving_mean', 'moving_variance'}
    net, _ = in_scope(hold, i3d.i3d_base, values, 'Conv2d_1a_7x7')
    convolved = tf.nn.conv3d(values, before['weights'], [1, 2, 2, 2, 1], 'SAME')
    mean, variance = tf.nn.moments(convolved, [0, 1, 2, 3])
    moved = hold.variables['InceptionV1/Conv2d_1a_7x7/BatchNorm/moving_mean'] - before['moving_mean']
    np.testing.assert_allclose(moved / 0.001, mean - before['moving_mean'], atol=1e-3)
    expected = tf.nn.batch_normalization(convolved, mean, variance, before['beta'], None, 0.001)
    np.testing.assert_allclose(net, tf.nn.relu(expected), atol=1e-3)


def test_initial_weights(graph):
    """A normal of deviation 0.01, cut at two deviations."""
    in_scope(i3d.i3d_base, videos(1, 4, 16, 16, 3), 'Conv2d_1a_7x7')
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        weights, = session.run(slim.get_variables_by_name('InceptionV1/Conv2d_1a_7x7/weights'))
    assert np.abs(weights).max() <= 0.02
    assert weights.std() == pytest.approx(0.0088, rel=0.02)     # 0.8796 of the uncut normal's
