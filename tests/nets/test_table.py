"""The table runner on small tables, against tf.nn."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.table import build, conv, max_pool

TABLE = [
    ('Conv2d_1a_3x3', conv(4, 3, stride=2, padding='VALID')),
    ('Mixed_2a', ([conv(2, 1)], [conv(3, 1), conv(5, 3)], [max_pool(3), conv(1, 1, scope='Published')])),
    ('MaxPool_3a_2x2', max_pool(2, stride=2)),
]


def test_values(hold):
    images = np.random.RandomState(1).uniform(-1, 1, [2, 9, 11, 3]).astype(np.float32)
    net, end_points = hold(build, TABLE, images, scope='Small')

    def layer(inputs, name, stride=1, padding='SAME'):
        weights, biases = (hold.variables[f'Small/{name}/{leaf}'] for leaf in ('weights', 'biases'))
        return tf.nn.relu(tf.nn.conv2d(inputs, weights, stride, padding) + biases)

    stem = layer(images, 'Conv2d_1a_3x3', 2, 'VALID')
    mixed = tf.concat([
        layer(stem, 'Mixed_2a/Branch_0/Conv2d_0a_1x1'),
        layer(layer(stem, 'Mixed_2a/Branch_1/Conv2d_0a_1x1'), 'Mixed_2a/Branch_1/Conv2d_0b_3x3'),
        layer(tf.nn.max_pool2d(stem, 3, 1, 'SAME'), 'Mixed_2a/Branch_2/Published')], axis=3)
    assert list(end_points) == ['Conv2d_1a_3x3', 'Mixed_2a', 'MaxPool_3a_2x2']
    np.testing.assert_allclose(end_points['Conv2d_1a_3x3'], stem, atol=1e-6)
    np.testing.assert_allclose(end_points['Mixed_2a'], mixed, atol=1e-6)
    np.testing.assert_allclose(net, tf.nn.max_pool2d(mixed, 2, 2, 'SAME'), atol=1e-6)
    assert len(hold.variables) == 10


@pytest.mark.parametrize('number', range(3))
def test_stops_at_the_endpoint(number):
    names = [name for name, _ in TABLE]
    with tf.Graph().as_default():
        net, end_points = build(TABLE, tf.zeros([1, 9, 9, 3]), final_endpoint=names[number])
        assert list(end_points) == names[:number + 1]
        assert net is end_points[names[number]]
        built = {v.op.name.split('/')[1] for v in tf.compat.v1.global_variables()}
        assert built <= set(names[:number + 1])


def test_unknown_endpoint_builds_nothing():
    with tf.Graph().as_default() as graph:
        with pytest.raises(ValueError, match=r"'Mixed_2b': did you mean 'Mixed_2a'\? Valid are Conv2d_1a_3x3, M"):
            build(TABLE, np.zeros([1, 9, 9, 3], np.float32), final_endpoint='Mixed_2b')
        assert graph.get_operations() == []
        assert tf.compat.v1.global_variables() == []


@pytest.mark.parametrize('shape, message', [
    ([9, 9, 3], r'takes images \[batch, height, width, channels\].*\(9, 9, 3\)'),
    ([1, 9, 9, None], 'known number of channels'),
    (None, r'\[batch, height, width, channels\]'),
    ([1, 2, 9, 3], 'Network takes images of at least 3x3 pixels; these are 2x9'),
    ([1, 0, 9, 3], 'at least 3x3 pixels; these are 0x9'),
])
def test_images_that_do_not_fit(shape, message):
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match=message):
            build(TABLE, tf.compat.v1.placeholder(tf.float32, shape))
        assert tf.compat.v1.global_variables() == []


def test_images_of_an_integer_type():
    with tf.Graph().as_default(), pytest.raises(ValueError, match='float type.*uint8'):
        build(TABLE, tf.zeros([1, 9, 9, 3], tf.uint8))


def test_branches_of_different_sizes():
    table = [('Mixed', ([conv(2, 3, stride=2)], [conv(2, 3)]))]
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r'branches of Network/Mixed .*\(5, 5\), \(9, 9\)'):
        build(table, tf.zeros([1, 9, 9, 3]))


def test_a_module_that_is_a_list():
    with tf.Graph().as_default(), pytest.raises(TypeError, match="'Mixed' is neither a layer, nor a tuple of branches"):
        build([('Mixed', [conv(2, 3)])], tf.zeros([1, 9, 9, 3]))


def test_arg_scope_and_unknown_sizes():
    with tf.Graph().as_default(), slim.arg_scope([slim.conv2d], activation_fn=None, biases_initializer=None):
        net, end_points = build(TABLE, tf.compat.v1.placeholder(tf.float32, [None, None, None, 3]))
        assert net.shape.as_list() == [None, None, None, 8]
        assert {v.op.name.rsplit('/')[-1] for v in tf.compat.v1.global_variables()} == {'weights'}
        assert end_points['Conv2d_1a_3x3'].op.type == 'Conv2D'
