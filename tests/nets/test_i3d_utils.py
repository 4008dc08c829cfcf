"""The layers of videos against tf.nn."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import i3d_utils
from nets.i3d_utils import conv3d_spatiotemporal, inception_block_v1_3d

VIDEOS = np.random.RandomState(1).uniform(-1, 1, [2, 5, 9, 8, 3]).astype(np.float32)
NCDHW = [0, 4, 1, 2, 3]


def layer(hold, inputs, name, strides=(1, 1, 1), padding='SAME'):
    weights, biases = (hold.variables[f'{name}/{leaf}'] for leaf in ('weights', 'biases'))
    return tf.nn.relu(tf.nn.conv3d(inputs, weights, [1, *strides, 1], padding) + biases)


def test_center_initializer():
    """With it a temporal convolution gives back what it is given."""
    kernel = i3d_utils.center_initializer()([5, 1, 1, 3, 3])
    np.testing.assert_array_equal(tf.nn.conv3d(VIDEOS, kernel, [1] * 5, 'SAME'), VIDEOS)


@pytest.mark.parametrize('shape', [[4, 1, 1, 3, 3], [3, 1, 1, 3, 4], [3, 3, 3, 3, 3]])
def test_kernels_that_are_no_identity(shape):
    with pytest.raises(ValueError, match=r'frames is odd; this one is \[' + str(shape[0])):
        i3d_utils.center_initializer()(shape)


@pytest.mark.parametrize('kernel, stride, padding', [(3, 1, 'SAME'), ([3, 5, 1], [2, 1, 2], 'VALID')])
def test_convolution(hold, kernel, stride, padding):
    frames, height, width = [kernel] * 3 if kernel == 3 else kernel
    strides = [stride] * 3 if stride == 1 else stride
    arguments = dict(stride=stride, padding=padding, activation_fn=tf.nn.relu)
    whole = hold(conv3d_spatiotemporal, VIDEOS, 4, kernel, scope='Whole', **arguments)
    split = hold(conv3d_spatiotemporal, VIDEOS, 4, kernel, separable=True, scope='Split', **arguments)
    assert {name: v.shape.as_list() for name, v in hold.variables.items() if name.endswith('weights')} == {
        'Whole/weights': [frames, height, width, 3, 4],
        'Split/weights': [1, height, width, 3, 4], 'Split/temporal/weights': [frames, 1, 1, 4, 4]}
    np.testing.assert_allclose(whole, layer(hold, VIDEOS, 'Whole', strides, padding), atol=1e-5)
    spatial = layer(hold, VIDEOS, 'Split', (1, *strides[1:]), padding)
    np.testing.assert_allclose(split, layer(hold, spatial, 'Split/temporal', (strides[0], 1, 1), padding), atol=1e-5)


def test_normalizer_and_regularizer():
    """Only the first of two convolutions is normalised, the second begins as the identity; both are regularized."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        split = conv3d_spatiotemporal(VIDEOS, 4, 3, normalizer_fn=slim.batch_norm, separable=True, scope='Split',
                                      weights_regularizer=slim.l2_regularizer(0.1))
        assert [v.op.name for v in tf.compat.v1.global_variables()] == [
            'Split/weights', 'Split/BatchNorm/beta', 'Split/BatchNorm/moving_mean', 'Split/BatchNorm/moving_variance',
            'Split/temporal/weights', 'Split/temporal/biases']
        session.run(tf.compat.v1.global_variables_initializer())
        losses, values = session.run([tf.compat.v1.losses.get_regularization_losses(), split])
        assert losses[1] == pytest.approx(0.1 * 4 / 2)                  # four ones
        np.testing.assert_allclose(values.mean((0, 1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(values.var((0, 1, 2, 3)), 1, atol=0.02)


def test_one_frame_is_not_split(hold):
    hold(conv3d_spatiotemporal, VIDEOS, 4, [1, 3, 3], separable=True, scope='A')
    assert list(hold.variables) == ['A/weights', 'A/biases']


@pytest.mark.parametrize('arguments, words', [
    (dict(kernel_size=[3, 3]), r'kernel_size must be one number, or three .* it is \[3, 3\]'),
    (dict(kernel_size=3, stride=[1, 2]), 'stride must be one number'),
    (dict(kernel_size=3, data_format='NHWC'), "data_format 'NHWC': did you mean 'NDHWC'.*Valid are NDHWC, NCDHW"),
])
def test_wrong_arguments(arguments, words):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=words):
        conv3d_spatiotemporal(VIDEOS, 4, **arguments)


@pytest.mark.parametrize('frames', [3, 1])
def test_block(hold, frames):
    gated = []

    def gate(net, scope):
        gated.append(scope)
        return 2 * net

    with slim.arg_scope([conv3d_spatiotemporal], activation_fn=tf.nn.relu):
        net = hold(inception_block_v1_3d, VIDEOS, 2, 3, 4, 5, 6, 7, temporal_kernel_size=frames, self_gating_fn=gate,
                   scope='Mixed')

    def branch(number, *names, inputs=VIDEOS):
        for name in names:
            inputs = layer(hold, inputs, f'Mixed/Branch_{number}/{name}')
        return inputs

    pooled = tf.nn.max_pool3d(VIDEOS, 3, 1, 'SAME')
    expected = tf.concat([branch(0, 'Conv2d_0a_1x1'), branch(1, 'Conv2d_0a_1x1', 'Conv2d_0b_3x3'),
                          branch(2, 'Conv2d_0a_1x1', 'Conv2d_0b_3x3'), branch(3, 'Conv2d_0b_1x1', inputs=pooled)], 4)
    assert net.shape == [2, 5, 9, 8, 2 + 4 + 6 + 7]
    assert hold.variables['Mixed/Branch_2/Conv2d_0b_3x3/weights'].shape == [frames, 3, 3, 5, 6]
    assert gated == ['Conv2d_0a_1x1', 'Conv2d_0b_3x3', 'Conv2d_0b_3x3', 'Conv2d_0b_1x1']
    np.testing.assert_allclose(net, 2 * expected, atol=1e-5)


def test_block_with_channels_before_frames(hold):
    """Batch norm too takes the channels for what they are."""
    with slim.arg_scope(i3d_utils.arg_scope_3d(0.0, 0.9, 0.001, separable=True)):
        last = hold(inception_block_v1_3d, VIDEOS, 2, 3, 4, 5, 6, 7, scope='Mixed')
        count = len(hold.variables)
        first = hold(inception_block_v1_3d, VIDEOS.transpose(NCDHW), 2, 3, 4, 5, 6, 7, scope='Mixed',
                     data_format='NCDHW')
    assert len(hold.variables) == count
    np.testing.assert_allclose(tf.transpose(last, NCDHW), first, atol=1e-5)


@pytest.mark.parametrize('shape, kernel', [([2, 8, 14, 7], [2, 7, 7]), ([2, 1, 4, 9], [1, 4, 7]),
                                           ([None, None, 4, None], [2, 4, 7])])
def test_reduced_kernel_size(shape, kernel):
    with tf.Graph().as_default():
        net = tf.compat.v1.placeholder(tf.float32, [*shape, 3])
        assert i3d_utils.reduced_kernel_size_3d(net, [2, 7, 7]) == kernel
