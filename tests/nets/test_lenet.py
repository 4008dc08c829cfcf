"""LeNet's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import lenet


def test_the_same_in_every_mode(hold):
    images = np.random.RandomState(2).uniform(-1, 1, [3, 28, 28, 1]).astype(np.float32)

    def build(images):
        with slim.arg_scope(lenet.lenet_arg_scope()):
            return hold(lenet.lenet, images)[0]

    eager = build(tf.constant(images))
    for jit in (False, True):
        np.testing.assert_allclose(tf.function(build, jit_compile=jit, autograph=False)(images), eager, atol=1e-4)
    values = {name: v.numpy() for name, v in hold.variables.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with slim.arg_scope(lenet.lenet_arg_scope()):
            logits, _ = lenet.lenet(tf.constant(images))
        variables = tf.compat.v1.global_variables()
        session.run([v.initializer for v in variables],
                    {v.initializer.inputs[1]: values[v.op.name] for v in variables})
        np.testing.assert_allclose(session.run(logits), eager, atol=1e-4)


def test_dropout_only_in_training(hold):
    images = tf.ones([1, 28, 28, 1])
    _, evaluation = hold(lenet.lenet, images)
    _, training = hold(lenet.lenet, images, is_training=True, dropout_keep_prob=0.25)
    np.testing.assert_array_equal(evaluation['dropout3'], evaluation['fc3'])
    kept = training['dropout3'].numpy() != 0
    assert 0.05 < kept.mean() < 0.25     # a share of 0.25 of the features, about half of which are not 0
    np.testing.assert_allclose(training['dropout3'].numpy()[kept], 4 * training['fc3'].numpy()[kept], rtol=1e-5)


def test_arg_scope():
    """Weights from a normal of deviation 0.1 cut at two deviations (0.8796 of it is left); their L2 loss."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with slim.arg_scope(lenet.lenet_arg_scope(weight_decay=0.5)):
            lenet.lenet(tf.zeros([1, 28, 28, 1]))
        session.run(tf.compat.v1.global_variables_initializer())
        weights = session.run(slim.get_variables_by_suffix('weights'))
        losses = session.run(tf.compat.v1.losses.get_regularization_losses())
        assert all((biases == 0).all() for biases in session.run(slim.get_variables_by_suffix('biases')))
    assert weights[2].std() == pytest.approx(0.08796, rel=0.01)
    assert max(np.abs(value).max() for value in weights) <= 0.2
    np.testing.assert_allclose(losses, [0.5 * (value ** 2).sum() / 2 for value in weights], rtol=1e-4)


@pytest.mark.parametrize('shape, message', [
    ([None, None, None, 1], 'known height and width'),
    ([1, 3, 28, 1], 'at least 4x4 pixels; these are 3x28'),
    ([1, 28, 28], r'\[batch, height, width, channels\]'),
])
def test_images_that_do_not_fit(shape, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        lenet.lenet(tf.compat.v1.placeholder(tf.float32, shape))


def test_least_size_and_colour():
    with tf.Graph().as_default():
        logits, _ = lenet.lenet(tf.zeros([2, 4, 5, 3]), num_classes=2)
        assert logits.shape.as_list() == [2, 2]


def test_base():
    """Images of any size up to the fully connected layers; ops are named as TF-Slim's."""
    with tf.Graph().as_default():
        inputs = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        net, end_points = lenet.lenet_base(inputs, 'pool2')
        assert list(end_points) == ['conv1', 'pool1', 'conv2', 'pool2']
        assert net is end_points['pool2'] and net.op.name == 'LeNet/pool2/MaxPool'
        with pytest.raises(ValueError, match='known height and width'):
            lenet.lenet_base(inputs)
    with tf.Graph().as_default():
        _, end_points = lenet.lenet(tf.zeros([1, 28, 28, 1]))
        assert [tensor.op.name for tensor in end_points.values()] == [
            'LeNet/conv1/Relu', 'LeNet/pool1/MaxPool', 'LeNet/conv2/Relu', 'LeNet/pool2/MaxPool',
            'LeNet/Flatten/flatten/Reshape', 'LeNet/fc3/Relu', 'LeNet/dropout3/Identity', 'LeNet/fc4/BiasAdd',
            'Predictions/Reshape_1']
