"""The table runner on small tables, against tf.nn."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.table import avg_pool, build, conv, least_size, max_pool, scale_widths

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


def test_layers_side_by_side(hold):
    """Rectangular kernels, average pooling, and the names: letters count all layers; 1a are those that shrink a map."""
    table = [('Mixed_1a', ([conv(2, 1), (conv(3, (1, 3)), conv(4, (3, 1)))], [avg_pool(3), conv(5, 1)])),
             ('Mixed_1b', ([conv(6, 1), conv(7, 3, 2, 'VALID')], [max_pool(2, 2), conv(8, 2, 1, 'VALID')]))]
    images = np.random.RandomState(2).uniform(-1, 1, [2, 9, 9, 3]).astype(np.float32)
    with slim.arg_scope([slim.conv2d], activation_fn=None, biases_initializer=None):
        _, end_points = hold(build, table, images, scope='S')

    def layer(inputs, name, stride=1, padding='SAME'):
        return tf.nn.conv2d(inputs, hold.variables[f'S/{name}/weights'], stride, padding)

    first = layer(images, 'Mixed_1a/Branch_0/Conv2d_0a_1x1')
    mixed = tf.concat([
        layer(first, 'Mixed_1a/Branch_0/Conv2d_0b_1x3'), layer(first, 'Mixed_1a/Branch_0/Conv2d_0c_3x1'),
        layer(tf.nn.avg_pool2d(images, 3, 1, 'SAME'), 'Mixed_1a/Branch_1/Conv2d_0b_1x1')], axis=3)
    np.testing.assert_allclose(end_points['Mixed_1a'], mixed, atol=1e-5)
    reduced = tf.concat([
        layer(layer(mixed, 'Mixed_1b/Branch_0/Conv2d_0a_1x1'), 'Mixed_1b/Branch_0/Conv2d_1a_3x3', 2, 'VALID'),
        layer(tf.nn.max_pool2d(mixed, 2, 2, 'SAME'), 'Mixed_1b/Branch_1/Conv2d_1a_2x2', 1, 'VALID')], axis=3)
    np.testing.assert_allclose(end_points['Mixed_1b'], reduced, atol=1e-5)
    assert len(hold.variables) == 7
    assert hold.variables['S/Mixed_1a/Branch_0/Conv2d_0b_1x3/weights'].shape == [1, 3, 2, 3]


def test_rows_that_are_no_endpoints():
    seen = []

    def unnamed(net, scope):
        seen.append(scope)
        return net + 1

    table = [('A', max_pool(3)), (None, unnamed), (None, unnamed), ('B', lambda net, scope: tf.identity(net, scope))]
    images = np.zeros([1, 4, 4, 1], np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        build(table, images, 'A')
        assert seen == []
        _, end_points = build(table, images)
        assert list(end_points) == ['A', 'B']
        assert session.run(end_points['B']).max() == 2
        assert end_points['B'].op.name.endswith('/B')
        with pytest.raises(ValueError, match=r'Valid are A, B\.'):
            build(table, images, 'None')


@pytest.mark.parametrize('table, one, five', [
    ([('A', conv(1, 3, 2, 'VALID')), ('B', max_pool(5, 3, 'VALID'))], 11, 35),
    ([('A', conv(1, 3, 2)), ('B', conv(1, 7)), ('C', lambda net, scope: net)], 1, 9),
    ([('A', ([conv(1, 3, 1, 'VALID'), max_pool(3, 1, 'VALID')], [conv(1, 1), conv(1, 5, 1, 'VALID')]))], 5, 9),
])
def test_least_size(table, one, five):
    """What TensorFlow makes of images of these sizes, and of those one smaller."""
    assert (least_size(table), least_size(table, 5)) == (one, five)
    with tf.Graph().as_default():
        for size, side in ((one, 1), (five, 5), (five - 1, 4)):
            assert build(table, tf.zeros([1, size, size, 1]))[0].shape.as_list()[1:3] == [side, side]


def test_scale_widths():
    table = [('A', conv(10, 3)), ('B', ([conv(10, 1), (conv(33, 1), conv(20, 1))], [max_pool(3)]))]
    with tf.Graph().as_default():
        _, end_points = build(scale_widths(table, 0.3, 4), tf.zeros([1, 4, 4, 2]))
        assert [tensor.shape[3] for tensor in end_points.values()] == [4, 9 + 6 + 4]    # 3 -> 4, 9.9 -> 9
    with pytest.raises(ValueError, match='greater than zero; it is -0.5'):
        scale_widths(table, -0.5, 4)


def test_nchw():
    """The same variables, the axes in the other order; batch norm counts channels too."""
    def variables_and_shapes(shape, data_format):
        with tf.Graph().as_default(), slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm):
            _, end_points = build(TABLE, tf.zeros(shape), data_format=data_format)
            return ({v.op.name: v.shape.as_list() for v in tf.compat.v1.global_variables()},
                    [tensor.shape.as_list() for tensor in end_points.values()])

    variables, shapes = variables_and_shapes([1, 9, 13, 3], 'NHWC')
    same, transposed = variables_and_shapes([1, 3, 9, 13], 'NCHW')
    assert same == variables
    assert transposed == [[shape[i] for i in (0, 3, 1, 2)] for shape in shapes]
