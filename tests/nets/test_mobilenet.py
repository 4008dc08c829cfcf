"""What holds for all MobileNets; the contracts are in test_contract.py, the blocks in test_mobilenet_conv_blocks.py."""
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import nets
import tf_slim_compat  # noqa: F401
from nets import mobilenet_v1
from nets.mobilenet import mobilenet, mobilenet_v2, mobilenet_v3

V1, TRAINING = mobilenet_v1.mobilenet_v1_arg_scope, mobilenet.training_scope
NETWORKS = {        # builder, base, arg scope, a row that follows a stride of 16
    'v1': (mobilenet_v1.mobilenet_v1, mobilenet_v1.mobilenet_v1_base, V1, 'Conv2d_7_pointwise'),
    'v2': (mobilenet_v2.mobilenet, mobilenet_v2.mobilenet_base, TRAINING, 'layer_9'),
    'v3': (mobilenet_v3.small_minimalistic, mobilenet_v3.small_minimalistic_base, TRAINING, 'layer_6'),
    'edge_tpu': (mobilenet_v3.edge_tpu, mobilenet_v3.edge_tpu_base, TRAINING, 'layer_12'),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    """A network at a quarter of its width, in evaluation."""
    build, base, arg_scope, row = NETWORKS[request.param]

    def scoped(function):
        def call(*args, **kwargs):
            with slim.arg_scope(arg_scope(is_training=False)):
                return function(*args, **{'depth_multiplier': 0.25, **kwargs})
        return call

    return types.SimpleNamespace(name=request.param, build=scoped(build), base=scoped(base), row=row,
                                 arg_scope=arg_scope, full_base=base)


def values(*shape):
    return np.random.RandomState(7).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture
def answer(made_value):
    """The answer of a network with made weights to images: (builder, images, their shape in the graph) -> array."""
    def answer(build, images, shape=None, **kwargs):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            inputs = tf.compat.v1.placeholder(tf.float32, images.shape if shape is None else shape)
            net, _ = build(inputs, **kwargs)
            variables = tf.compat.v1.global_variables()
            session.run([v.initializer for v in variables],
                        {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables})
            return session.run(net, {inputs: images})
    return answer


def test_dilated_is_dense(network, answer):
    """With padding that does not depend on the map, each 4th pixel at stride 4 is a pixel at stride 16."""
    # At full width: in thinner networks some rows have a shortcut where they are not strided.
    kwargs = {'final_endpoint': network.row, 'use_explicit_padding': True, 'depth_multiplier': 1.0}
    images = values(1, 32, 48, 3)
    strided = answer(network.base, images, **kwargs)
    dilated = answer(network.base, images, output_stride=4, **kwargs)
    assert (strided.shape[1:3], dilated.shape[1:3]) == ((2, 3), (8, 12))
    np.testing.assert_allclose(dilated[:, ::4, ::4], strided, atol=1e-4 * np.abs(strided).max())
    assert np.abs(dilated[:, 1::4, 1::4] - strided).max() > 0.1 * np.abs(strided).max()


def test_unknown_sizes(network, answer):
    """A graph for images of any size answers as the graph of their size."""
    kwargs = {'num_classes': 5, **({'global_pool': True} if network.name == 'v1' else {})}
    images = values(2, 40, 40, 1)
    known = answer(network.build, images, is_training=False, **kwargs)
    unknown = answer(network.build, images, [None, None, None, 1], is_training=False, **kwargs)
    assert unknown.shape == (2, 5)
    np.testing.assert_allclose(unknown, known, atol=1e-4 * np.abs(known).max())


@pytest.mark.parametrize('kwargs, message', [
    ({'depth_multiplier': 0}, 'depth multiplier must be greater than zero; it is 0.'),
    ({'output_stride': 6}, 'output_stride must be one of 1, 2, 4, 8, 16, 32; it is 6.'),
    ({'output_stride': 0}, 'output_stride must be one of 1, 2, 4, 8, 16, 32; it is 0.'),
])
def test_refusals(network, kwargs, message):
    with tf.Graph().as_default() as graph:
        inputs = tf.compat.v1.placeholder(tf.float32, [1, 64, 64, 3])
        for build in (network.base, network.build):
            if build is network.base or network.name != 'v1' or 'output_stride' not in kwargs:
                with pytest.raises(ValueError, match=message):
                    build(inputs, **kwargs)
        assert graph.get_operations() == [inputs.op]


def test_moving_statistics(network, hold):
    """Decay 0.9997 in V1, 0.997 in the others, of which batch norm takes the batch's own in training; epsilon 0.001."""
    first = 'Conv2d_0' if network.name == 'v1' else 'layer_1'
    images = values(4, 32, 32, 3)
    with slim.arg_scope(network.arg_scope()):
        hold(network.full_base, images, final_endpoint=first)           # makes the variables
        before = {name.rsplit('/', 1)[-1]: v.numpy() for name, v in hold.variables.items()}
        net, _ = hold(network.full_base, images, final_endpoint=first)
    after = {name.rsplit('/', 1)[-1]: v.numpy() for name, v in hold.variables.items()}
    assert list(before) == ['weights', 'gamma', 'beta', 'moving_mean', 'moving_variance']
    convolved = tf.nn.conv2d(images, before['weights'], 2, 'SAME')
    mean, variance = tf.nn.moments(convolved, [0, 1, 2])
    rate = 0.0003 if network.name == 'v1' else 0.003
    np.testing.assert_allclose((after['moving_mean'] - before['moving_mean']) / rate, mean - before['moving_mean'],
                               atol=2e-3)
    expected = tf.nn.batch_normalization(convolved, mean, variance, before['beta'], before['gamma'], 0.001)
    activation = tf.nn.relu if network.name in ('v3', 'edge_tpu') else tf.nn.relu6
    np.testing.assert_allclose(net, activation(expected), atol=1e-3)


def test_bfloat16(network, hold):
    images = tf.constant(values(2, 64, 64, 3))
    full, _ = hold(network.build, images, 10, is_training=False)
    half, end_points = hold(network.build, tf.cast(images, tf.bfloat16), 10, is_training=False)
    assert (half.dtype, end_points['Predictions'].dtype) == (tf.bfloat16, tf.float32)
    np.testing.assert_allclose(tf.reduce_sum(end_points['Predictions'], 1), [1, 1], atol=1e-5)
    assert np.corrcoef(np.ravel(tf.cast(half, tf.float32)), np.ravel(full))[0, 1] > 0.95
    assert {v.dtype for v in hold.variables.values()} == {tf.float32}


@pytest.mark.parametrize('predict', [lambda logits, scope: tf.nn.sigmoid(logits, scope), None])
def test_other_predictions(network, predict):
    """TF-Slim gives their scope by name in V1, and by position in the others."""
    with tf.Graph().as_default():
        inputs = tf.compat.v1.placeholder(tf.float32, [1, 32, 32, 3])
        _, end_points = network.build(inputs, 10, is_training=False, prediction_fn=predict)
    last = end_points.popitem()
    assert (last[0], last[1].op.type) == (('Predictions', 'Sigmoid') if predict else ('Logits', last[1].op.type))


@pytest.mark.parametrize('kwargs, shapes', [
    ({'name': 'mobilenet_v2', 'output_stride': 8, 'min_depth': 16, 'divisible_by': 16},
     {'layer_2': [32, 32, 16], 'layer_19': [8, 8, 320]}),
    ({'name': 'mobilenet_v3_large', 'use_explicit_padding': True, 'use_reduce_mean_for_pooling': True},
     {'layer_17': [2, 2, 240], 'layer_19': [1, 1, 320]}),
    ({'name': 'mobilenet_v3_small', 'use_groupnorm': True}, {'layer_13': [2, 2, 144], 'global_pool': [1, 1, 256]}),
    ({'name': 'mobilenet_edgetpu', 'output_stride': 16}, {'layer_23': [4, 4, 48], 'Logits': [10]}),
])
def test_arguments_in_a_model(kwargs, shapes):
    """They are known to it, also those that the builder only passes on."""
    model = nets.create_model(num_classes=10, image_size=64, depth_multiplier=0.25, **kwargs)
    end_points = model.endpoints(values(1, 64, 64, 3), list(shapes))
    assert {name: value.shape.as_list()[1:] for name, value in end_points.items()} == shapes
    with pytest.raises(ValueError, match="argument of mobilenet.*'output_strides': did you mean 'output_stride'"):
        nets.create_model(kwargs['name'], 10, output_strides=8)
