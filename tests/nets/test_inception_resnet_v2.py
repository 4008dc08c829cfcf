"""Inception-ResNet-v2's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.inception_resnet_v2 import (
    block8,
    block17,
    block35,
    inception_resnet_v2,
    inception_resnet_v2_arg_scope,
    inception_resnet_v2_base,
)


def placeholder(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def variables():
    return {v.op.name: v.shape.as_list() for v in slim.get_model_variables()}



@pytest.mark.parametrize('final_endpoint, arguments, sides', [
    # The figures of TF-Slim's own tests.
    ('Mixed_6a', dict(align_feature_maps=True), [150, 150, 150, 75, 75, 75, 38, 38, 19]),
    ('PreAuxLogits', dict(output_stride=8), [149, 147, 147, 73, 73, 71, 35, 35, 33, 33]),
    # Aligned, a stride of 8 is 8.
    ('Mixed_6a', dict(output_stride=8, align_feature_maps=True), [150, 150, 150, 75, 75, 75, 38, 38, 38]),
])
def test_strides_and_alignment(final_endpoint, arguments, sides, read_golden):
    with tf.Graph().as_default() as graph, slim.arg_scope(inception_resnet_v2_arg_scope()):
        net, end_points = inception_resnet_v2_base(placeholder(5, 299, 299, 3), final_endpoint, **arguments)
        assert [tensor.shape.as_list()[1:3] for tensor in end_points.values()] == [[side, side] for side in sides]
        assert net.shape.as_list()[3] == 1088
        assert variables().items() <= read_golden('inception_resnet_v2')['variables'].items()
        with_holes = {op.name.split('/')[1] for op in graph.get_operations() if op.type == 'SpaceToBatchND'
                      or op.type == 'Conv2D' and list(op.get_attr('dilations')) != [1, 1, 1, 1]}
        assert with_holes == ({'Repeat_1'} if final_endpoint == 'PreAuxLogits' else set())


def test_atrous_blocks_see_what_strided_ones_see(hold):
    """A map of period 2 is to a kernel with holes what its every second pixel is to the kernel as it is."""
    small = np.random.RandomState(0).uniform(-1, 1, [1, 6, 6, 8]).astype(np.float32)
    plain = hold(block17, tf.constant(small), scope='B')
    with slim.arg_scope([slim.conv2d], rate=2):
        atrous = hold(block17, tf.constant(small.repeat(2, 1).repeat(2, 2)), scope='B')
    np.testing.assert_allclose(atrous[:, ::2, ::2], plain, atol=1e-5)


@pytest.mark.parametrize('message, function, shape, arguments', [
    ('output_stride must be 8 or 16; it is 32', inception_resnet_v2_base, (1, 90, 90, 3), dict(output_stride=32)),
    ("output_stride=8 .* pass final_endpoint='PreAuxLogits'", inception_resnet_v2_base, (1, 90, 90, 3),
     dict(output_stride=8)),
    ('at least 75x75 pixels; these are 74x90', inception_resnet_v2, (1, 74, 90, 3), {}),
    ('known height and width .or create_aux_logits=False', inception_resnet_v2, (1, None, 90, 3), {}),
    ("'Repeat': .*MaxPool_5a_3x3, Mixed_5b, Mixed_6a, PreAuxLogits, Mixed_7a, Conv2d_7b_1x1", inception_resnet_v2_base,
     (1, 90, 90, 3), dict(final_endpoint='Repeat')),
])
def test_refused_before_anything_is_built(message, function, shape, arguments):
    with tf.Graph().as_default() as graph:
        images = placeholder(*shape)
        with pytest.raises(ValueError, match=message):
            function(images, **arguments)
        assert graph.get_operations() == [images.op]


@pytest.mark.parametrize('block, default_name, inside', [
    (block35, 'Block35', 'Repeat/block35_10'),
    (block17, 'Block17', 'Repeat_1/block17_3'),
    (block8, 'Block8', 'Block8'),
])
def test_blocks(block, default_name, inside, read_golden):
    """A block has the variables that it has in the network, and again with reuse."""
    prefix = f'InceptionResnetV2/{inside}/'
    published = read_golden('inception_resnet_v2')['variables']
    expected = {name.removeprefix(prefix): shape for name, shape in published.items() if name.startswith(prefix)}
    trunk = expected['Conv2d_1x1/biases'][0]
    with tf.Graph().as_default(), slim.arg_scope(inception_resnet_v2_arg_scope()):
        net = block(placeholder(2, 5, None, trunk))
        assert net.op.name == f'{default_name}/Relu'
        assert net.shape.as_list() == [2, 5, None, trunk]
        assert variables() == {f'{default_name}/{name}': shape for name, shape in expected.items()}
        block(placeholder(2, 5, 5, trunk), scope=default_name, reuse=True)
        assert len(variables()) == len(expected)
        slim.repeat(net, 2, block)                                  # names its scopes after the function
        assert f'Repeat/{default_name.lower()}_2/Conv2d_1x1/biases' in variables()


@pytest.mark.parametrize('activation_fn, expected', [
    (None, lambda net, up: net + up),
    (tf.nn.relu, lambda net, up: np.maximum(net + up, 0)),
    (tf.nn.relu6, lambda net, up: np.clip(net + np.clip(up, -6, 6), 0, 6)),
])
def test_residual(activation_fn, expected, hold):
    """What the branches add, told apart from the trunk by the scale; ReLU6 also bounds that."""
    net = np.random.RandomState(0).uniform(-5, 5, [1, 4, 4, 8]).astype(np.float32)
    up = hold(block35, net, activation_fn=None, scope='B') - net
    scale = 12 / np.abs(up).max()                                   # so that 6 is exceeded
    result = hold(block35, net, scale, activation_fn, scope='B')
    np.testing.assert_allclose(result, expected(net, up * scale), atol=1e-4)


def test_arg_scope():
    """Biases are decayed too; with gamma, where asked."""
    with tf.Graph().as_default(), slim.arg_scope(inception_resnet_v2_arg_scope(0.5, batch_norm_scale=True)), \
            tf.compat.v1.Session() as session:
        block8(placeholder(1, 4, 4, 16))
        assert {name.rsplit('/')[-1] for name in variables()} == {'weights', 'biases', 'gamma', 'beta', 'moving_mean',
                                                                 'moving_variance'}
        biases, = slim.get_variables_by_name('Block8/Conv2d_1x1/biases')
        losses = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
        assert len(losses) == 5 + 1
        session.run(tf.compat.v1.global_variables_initializer())
        before = session.run(losses)
        session.run(biases.assign(tf.fill([16], 2.0)))
        change = [after - value for after, value in zip(session.run(losses), before, strict=True)]
        assert sorted(change) == [0, 0, 0, 0, 0, 0.5 * 16 * 2 ** 2 / 2]
