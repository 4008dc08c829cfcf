"""`nets.model.Model` against the same network in a TF1 graph."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import nets
from nets import inception_v1, nets_factory, registry
from nets.model import Model
from nets.nasnet import nasnet

IMAGES = np.random.RandomState(0).uniform(-1, 1, [2, 64, 64, 3]).astype(np.float32)


@pytest.fixture(scope='module')
def model():
    tf.random.set_seed(1)
    return nets.create_model('inception_v1', 5, image_size=64, weight_decay=0.01)


def in_graph(model, run):
    """What `run(logits, end_points)` gives in a TF1 graph with the model's values."""
    values = {name: variable.numpy() for name, variable in model.by_name.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = nets_factory.get_network_fn('inception_v1', 5, weight_decay=0.01, is_training=False)
        fetches = run(*network(tf.constant(IMAGES)))
        for variable in tf.compat.v1.global_variables():
            variable.load(values[variable.op.name], session)
        return session.run(fetches)


def test_names_and_order_are_those_of_the_graph(model):
    with tf.Graph().as_default():
        nets_factory.get_network_fn('inception_v1', 5)(tf.zeros([1, 64, 64, 3]))
        assert list(model.by_name) == [variable.op.name for variable in tf.compat.v1.global_variables()]
        trainable = [variable.op.name for variable in tf.compat.v1.trainable_variables()]
    assert [name for name, variable in model.by_name.items() if variable.trainable] == trainable
    assert [id(v) for v in model.trainable_variables] == [id(model.by_name[name]) for name in trainable]


def test_logits_and_endpoints_equal_the_graphs(model):
    logits, end_points = in_graph(model, lambda logits, end_points: (logits, end_points))
    np.testing.assert_allclose(model(IMAGES), logits, rtol=1e-4, atol=1e-5)
    ours = model.endpoints(IMAGES)
    assert list(ours) == list(end_points)
    for name, value in end_points.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-4 * value.std(), err_msg=name)


def test_eager_function_and_xla_agree(model):
    eager = model(IMAGES)
    for jit in (False, True):
        function = tf.function(model, autograph=False, jit_compile=jit)
        np.testing.assert_allclose(function(tf.constant(IMAGES)), eager, rtol=1e-3, atol=1e-4)


def test_variables_are_kept_from_call_to_call(model):
    before = {name: variable.ref() for name, variable in model.by_name.items()}
    first = model(IMAGES).numpy()
    np.testing.assert_array_equal(model(IMAGES), first)
    assert {name: variable.ref() for name, variable in model.by_name.items()} == before


def test_bfloat16_computes_in_bfloat16_with_float32_parameters(model):
    images = tf.cast(IMAGES, tf.bfloat16)
    assert model.endpoints(images, 'Mixed_3b')['Mixed_3b'].dtype == tf.bfloat16
    logits = model(images)
    assert logits.dtype == tf.float32
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    scale = np.abs(model(IMAGES)).max()
    np.testing.assert_allclose(logits, model(IMAGES), atol=0.05 * scale)


def test_endpoints_by_pattern(model):
    found = model.endpoints(IMAGES, ['Mixed_3c', 'Mixed_5*'])
    assert list(found) == ['Mixed_3c', 'Mixed_5b', 'Mixed_5c']


def test_unknown_endpoint_names_the_nearest(model):
    with pytest.raises(ValueError, match="'Mixed_6z'.*did you mean 'Mixed_.*Mixed_5c"):
        model.endpoints(IMAGES, 'Mixed_6z')


def test_regularization_loss_is_the_graphs(model):
    losses = in_graph(model, lambda *unused: tf.compat.v1.losses.get_regularization_losses())
    assert len(losses) == 58
    expected = sum(losses)
    np.testing.assert_allclose(model.regularization_loss(), expected, rtol=1e-5)
    assert Model('lenet', 3, channels=1).regularization_loss() == 0


def test_training_moves_the_statistics_with_the_decay_asked_for():
    model = nets.create_model('inception_v1', 5, image_size=32)
    images = tf.constant(IMAGES[:, :32, :32])
    name = 'InceptionV1/Conv2d_1a_7x7/BatchNorm/moving_mean'
    convolved = tf.nn.conv2d(images, model.by_name['InceptionV1/Conv2d_1a_7x7/weights'], 2, 'SAME')
    mean = tf.reduce_mean(convolved, [0, 1, 2])
    tf.function(lambda: model.build(images, True)[0], autograph=False)()
    np.testing.assert_allclose(model.by_name[name], mean * (1 - 0.9997), rtol=1e-3, atol=1e-8)  # the arg scope's decay
    model.by_name[name].assign(tf.zeros_like(mean))
    tf.function(lambda: model.build(images, True, batch_norm_decay=lambda decay: decay * 0.5)[0], autograph=False)()
    np.testing.assert_allclose(model.by_name[name], mean * (1 - 0.9997 * 0.5), rtol=1e-4, atol=1e-7)


def test_gradients_reach_every_trainable_variable(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients)


def test_dropout_is_a_function_of_its_seed():
    model = nets.create_model('lenet', 10, image_size=8, channels=1)
    images = tf.random.normal([4, 8, 8, 1])

    @tf.function(autograph=False)
    def dropped(seed):
        return model.build(images, True, dropout_seed=seed)[1]['dropout3']

    first = dropped(tf.constant([1, 2]))
    np.testing.assert_array_equal(first, dropped(tf.constant([1, 2])))
    assert np.any(first != dropped(tf.constant([1, 3])))
    kept = np.mean(first.numpy() != 0) / np.mean(model.endpoints(images, 'fc3')['fc3'].numpy() != 0)
    assert 0.4 < kept < 0.6  # keep_prob is 0.5


def test_one_model_takes_images_of_several_sizes(model):
    for size in (64, 96, 80):  # with 7x7, 3x3 and smaller maps before the logits
        assert model(tf.zeros([1, size, size, 3])).shape == [1, 5]


def test_videos_of_any_length():
    model = nets.create_model('s3dg', 5, image_size=32, final_endpoint='MaxPool_3a_3x3')
    assert model.endpoint_shapes['MaxPool_3a_3x3'] == [None, None, 4, 4, 192]
    for frames, size in ((1, 32), (6, 32), (3, 8)):
        videos = tf.zeros([2, frames, size, size, 3])
        assert model(videos).shape == [2, 5]
        # the stem halves frames and size, its poolings the size alone
        assert model.endpoints(videos, 'MaxPool_3a*')['MaxPool_3a_3x3'].shape == [
            2, -(-frames // 2), size // 8, size // 8, 192]
    with pytest.raises(ValueError, match=r'videos \[batch, frames, height, width, channels\].*\(2, 32, 32, 3\)'):
        model(tf.zeros([2, 32, 32, 3]))
    with pytest.raises(ValueError, match='s3dg was made for images 32x32x3; .* of shape \\[3, 7, 7, 4, 64\\]'):
        model(tf.zeros([2, 6, 32, 32, 4]))


@pytest.mark.parametrize('name', ['mobilenet_v1_025', 'resnet_v2_50'])
def test_the_size_of_published_accuracy_is_one_of_those_that_it_takes(name):
    row = registry.get(name)
    assert row.eval_image_size not in (None, row.default_image_size)
    model = nets.create_model(name, 5)
    assert model.image_size == row.default_image_size == 224
    assert model(tf.zeros([1, row.eval_image_size, row.eval_image_size, 3])).shape == [1, 5]


def test_the_callers_scope_does_not_matter():
    model = nets.create_model('lenet', 3, image_size=8, channels=1)
    images = tf.ones([1, 8, 8, 1])
    with tf.compat.v1.variable_scope('tower', reuse=True):
        logits, _ = model.build(images, False)
    np.testing.assert_allclose(logits, model(images), atol=1e-5)


def test_images_above_the_default_size_are_pooled_whole():
    model = nets.create_model('inception_v1', 5, image_size=256)
    assert model.endpoint_shapes['global_pool'] == [None, 1, 1, 1024]
    assert model(tf.zeros([1, 256, 256, 3])).shape == [1, 5]


@pytest.mark.parametrize('arguments, words', [
    (dict(num_classes=-3), 'num_classes must be a whole number'),
    (dict(num_classes=5, global_pol=True), "argument of inception_v1 'global_pol': did you mean 'global_pool'"),
])
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        nets.create_model('inception_v1', **arguments)


def test_images_of_another_size_or_depth_are_refused_in_words():
    model = nets.create_model('lenet', 10, channels=1)
    with pytest.raises(ValueError, match='was made for images 28x28x1.*LeNet/fc3/weights'):
        model(tf.zeros([1, 32, 32, 1]))
    with pytest.raises(ValueError, match='was made for images 28x28x1.*LeNet/conv1/weights'):
        model.endpoints(tf.zeros([1, 28, 28, 3]), 'conv1')


def test_builder_under_the_models_arg_scope_has_the_published_root(model):
    with tf.Graph().as_default(), slim.arg_scope(inception_v1.inception_v1_arg_scope()):
        inception_v1.inception_v1(tf.zeros([1, 224, 224, 3]), 5)
        roots = {variable.op.name.split('/')[0] for variable in tf.compat.v1.global_variables()}
    assert roots == {name.split('/')[0] for name in model.by_name} == {'InceptionV1'}


def test_nasnet_drops_more_paths_as_training_goes_on():
    """None in the first step, some at the end; which ones is a function of the seed."""
    config = nasnet.cifar_config()
    for name, value in dict(num_cells=3, num_conv_filters=4, use_aux_head=0, drop_path_keep_prob=0.5).items():
        config.set_hparam(name, value)
    model = nets.create_model('nasnet_cifar', 10, image_size=8, config=config)
    images = tf.random.stateless_uniform([4, 8, 8, 3], [0, 0], -1, 1)

    @tf.function(autograph=False)
    def features(step, seed):
        return model.build(images, True, None, tf.stack([seed, 0]), step)[1]['global_pool']

    start, end = tf.constant(0), tf.constant(config.total_training_steps)
    one, two = tf.constant(1), tf.constant(2)
    np.testing.assert_array_equal(features(start, one), features(start, two))
    np.testing.assert_array_equal(features(end, one), features(end, one))
    assert np.abs(features(end, one) - features(end, two)).max() > 0.01
