"""CifarNet's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import cifarnet


def build(hold, *args, **kwargs):
    with slim.arg_scope(cifarnet.cifarnet_arg_scope()):
        return hold(cifarnet.cifarnet, *args, **kwargs)


def test_local_norm(hold):
    """Each map by those that stand at most four away, over pooled and over unpooled maps."""
    _, end_points = build(hold, np.random.RandomState(1).uniform(-1, 1, [2, 8, 9, 3]).astype(np.float32))

    def norm(maps):
        near = np.abs(np.subtract.outer(np.arange(64), np.arange(64))) <= 4
        return maps / (1 + 0.001 / 9 * (maps ** 2 @ near.astype(np.float32))) ** 0.75

    def layer(inputs, name):
        weights, biases = (hold.variables[f'CifarNet/{name}/{leaf}'] for leaf in ('weights', 'biases'))
        return tf.nn.relu(tf.nn.conv2d(inputs, weights, 1, 'SAME') + biases)

    second = layer(norm(end_points['pool1'].numpy()), 'conv2')
    np.testing.assert_allclose(end_points['conv2'], second, atol=1e-4)
    np.testing.assert_allclose(end_points['pool2'], tf.nn.max_pool2d(norm(second.numpy()), 2, 2, 'VALID'), atol=1e-4)


def test_dropout_only_in_training(hold):
    images = tf.ones([1, 8, 8, 3])
    _, evaluation = build(hold, images)
    _, training = build(hold, images, is_training=True)
    _, kept = build(hold, images, is_training=True, dropout_keep_prob=1.0)
    np.testing.assert_array_equal(training['fc3'], evaluation['fc3'])
    assert not np.allclose(training['fc4'], evaluation['fc4'])
    np.testing.assert_allclose(kept['fc4'], evaluation['fc4'], atol=1e-5)


def test_arg_scope():
    """The weights' first deviations (0.8796 of what is cut at two of them); the loss of two layers' alone."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with slim.arg_scope(cifarnet.cifarnet_arg_scope(weight_decay=0.5)):
            cifarnet.cifarnet(tf.zeros([1, 32, 32, 3]))
        session.run(tf.compat.v1.global_variables_initializer())
        weights, biases = (session.run(slim.get_variables_by_suffix(leaf)) for leaf in ('weights', 'biases'))
        losses = session.run(tf.compat.v1.losses.get_regularization_losses())
    for value, deviation in zip(weights, (0.05, 0.05, 0.04, 0.04, 1 / 192), strict=True):
        assert value.std() == pytest.approx(0.8796 * deviation, rel=0.05)
    assert [value[0] for value in biases] == pytest.approx([0, 0, 0.1, 0.1, 0])
    np.testing.assert_allclose(losses, [0.5 * (value ** 2).sum() / 2 for value in weights[2:4]], rtol=1e-4)


@pytest.mark.parametrize('shape, message', [
    ([None, None, None, 3], 'CifarNet is fully connected: .* known height and width'),
    ([1, 3, 28, 3], 'CifarNet takes images of at least 4x4 pixels; these are 3x28'),
])
def test_images_that_do_not_fit(shape, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        cifarnet.cifarnet(tf.compat.v1.placeholder(tf.float32, shape))


def test_unknown_sizes_up_to_the_fully_connected_layers():
    with tf.Graph().as_default():
        net, end_points = cifarnet.cifarnet_base(tf.compat.v1.placeholder(tf.float32, [None, None, None, 1]), 'pool2')
        assert net.shape.as_list() == [None, None, None, 64]
        assert list(end_points) == ['conv1', 'pool1', 'conv2', 'pool2']
