"""VGG's own behaviour, and that of the classifier it shares with AlexNet and OverFeat; contracts: test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import vgg as slim_vgg

import tf_slim_compat  # noqa: F401
from nets import vgg
from nets.table import conv, max_pool

ROWS = [('conv1', conv(4, 3)), ('pool1', max_pool(2, stride=2, padding='VALID')),
        *vgg.fully_connected_rows((6, 7), 3)]


def images(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def classify(hold, values, global_pool=False, spatial_squeeze=True, num_classes=5, is_training=False):
    return hold(vgg.classifier, ROWS, values, num_classes, is_training, 0.5, spatial_squeeze, global_pool, None,
                'Small', 'Small')


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.mark.parametrize('name', ['vgg_a', 'vgg_16', 'vgg_19'])
def test_names_are_tf_slims(graph, name):
    with tf.compat.v1.variable_scope('outer'), slim.arg_scope(vgg.vgg_arg_scope()):
        _, ours = getattr(vgg, name)(images(1, 224, 224, 3))
    with tf.Graph().as_default(), tf.compat.v1.variable_scope('outer'), slim.arg_scope(slim_vgg.vgg_arg_scope()):
        _, theirs = getattr(slim_vgg, name)(images(1, 224, 224, 3))
    assert [(key, value.name) for key, value in ours.items()] == [(key, value.name) for key, value in theirs.items()]
    assert f'outer/{name}/conv1/conv1_1' in ours


def test_fully_connected_layers_are_convolutions(hold):
    """A large image has the answers of all its windows; averaged features give the average of them."""
    values = np.random.RandomState(1).uniform(-1, 1, [2, 12, 10, 3]).astype(np.float32)
    answers, _ = classify(hold, values, spatial_squeeze=False)
    assert answers.shape == [2, 4, 3, 5]
    pooled, end_points = classify(hold, values, global_pool=True)
    np.testing.assert_allclose(pooled, tf.reduce_mean(answers, [1, 2]), atol=1e-5)
    np.testing.assert_allclose(end_points['global_pool'], tf.reduce_mean(end_points['Small/fc7'], [1, 2], True), 1e-5)
    assert list(end_points) == [f'Small/{name}' for name in ('conv1', 'pool1', 'fc6', 'fc7')] + [
        'global_pool', 'Small/fc8']
    weights, biases = hold.variables['Small/fc6/weights'], hold.variables['Small/fc6/biases']
    window = tf.reshape(end_points['Small/pool1'][:, 1:4, 2:5], [2, -1])
    expected = tf.nn.relu(window @ tf.reshape(weights, [-1, 6]) + biases)
    np.testing.assert_allclose(end_points['Small/fc6'][:, 1, 2], expected, atol=1e-5)


def test_sizes(hold):
    logits, _ = classify(hold, tf.zeros([2, 6, 7, 3]))
    assert logits.shape == [2, 5]
    net, end_points = classify(hold, tf.zeros([2, 8, 7, 3]), num_classes=0)
    assert net is end_points['Small/fc7']
    assert net.shape == [2, 2, 1, 7]
    for shape, message in (([1, 5, 9, 3], 'Small takes images of at least 6x6 pixels; these are 5x9'),
                           ([1, 7, 8, 3], 'up to 7x7 there is one of each; above that pass global_pool=True')):
        with pytest.raises(ValueError, match=message):
            classify(hold, tf.zeros(shape))


def test_dropout(hold):
    """Before fc7 and before fc8, of the share that is given, and only in training."""
    first, evaluation = classify(hold, tf.ones([1, 6, 6, 3]))
    np.testing.assert_array_equal(classify(hold, tf.ones([1, 6, 6, 3]))[0], first)
    keep_all = hold(vgg.classifier, ROWS, tf.ones([1, 6, 6, 3]), 5, True, 1.0, True, False, None, 'Small', 'Small')
    np.testing.assert_allclose(keep_all[0], first, atol=1e-5)
    drawn = [classify(hold, tf.ones([1, 6, 6, 3]), is_training=True) for _ in range(10)]
    for end_point, changes in (('fc6', False), ('fc7', True), ('fc8', True)):
        different = [not np.allclose(values[f'Small/{end_point}'], evaluation[f'Small/{end_point}'])
                     for _, values in drawn]
        assert any(different) == changes


def test_final_endpoint(graph):
    with tf.compat.v1.variable_scope('outer'):
        net, end_points = vgg.vgg_16_base(images(1, 4, None, 3), 'outer/V/pool2', scope='V')
    assert net is end_points['outer/V/pool2'] and net.shape.as_list() == [1, 1, None, 128]
    assert list(end_points) == [f'outer/V/{name}' for name in (
        'conv1/conv1_1', 'conv1/conv1_2', 'pool1', 'conv2/conv2_1', 'conv2/conv2_2', 'pool2')]
    assert len(slim.get_model_variables()) == 8


def test_refused_before_anything_is_built(graph):
    inputs = images(1, 63, 500, 3)
    operations = graph.get_operations()
    for build, message in (
            (lambda: vgg.vgg_a(inputs), 'vgg_a takes images of at least 224x224 pixels; these are 63x500'),
            (lambda: vgg.vgg_a_base(inputs, 'vgg_a/pool6'), "did you mean 'vgg_a/pool.*Valid are vgg_a/conv1/"),
            (lambda: vgg.vgg_a(inputs, fc_conv_padding='same'), "fc_conv_padding 'same': .*VALID, SAME"),
            (lambda: vgg.vgg_a(inputs, fc_conv_padding='SAME'), '63x500 .* up to 63x63 there is one of each')):
        with pytest.raises(ValueError, match=message):
            build()
    assert graph.get_operations() == operations
    logits, _ = vgg.vgg_a(images(None, 63, 32, 1), 10, fc_conv_padding='SAME')
    assert logits.shape.as_list() == [None, 10]


def test_letters_of_the_paper():
    assert vgg.vgg_d is vgg.vgg_16 and vgg.vgg_e is vgg.vgg_19
    assert vgg.vgg_a.default_image_size == vgg.vgg_d.default_image_size == 224
