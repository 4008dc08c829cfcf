"""MobileNet V2's own behaviour, and that of what builds V2 and V3; see also test_mobilenet.py."""
import copy

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.mobilenet import conv_blocks, mobilenet, mobilenet_v2
from nets.mobilenet.mobilenet import op
from nets.mobilenet.mobilenet_v2 import V2_DEF

UPDATE_OPS = tf.compat.v1.GraphKeys.UPDATE_OPS


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def images(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def widths(graph):
    return [operation.outputs[0].shape[-1] for operation in graph.get_operations() if operation.type == 'Conv2D']


def test_op_names_are_tf_slims(graph):
    """Programs that freeze graphs name these nodes, as do those that read the published ones."""
    with slim.arg_scope(mobilenet_v2.training_scope(is_training=False)):
        _, end_points = mobilenet_v2.mobilenet(images(1, 64, 64, 3), 1001)
    for endpoint, name in (('layer_1', 'Conv/Relu6'), ('layer_2', 'expanded_conv/output'),
                           ('layer_8', 'expanded_conv_6/output'), ('layer_19', 'Conv_1/Relu6'),
                           ('layer_8/expansion_output', 'expanded_conv_6/expansion_output'),
                           ('layer_8/depthwise_output', 'expanded_conv_6/depthwise_output'),
                           ('layer_8/output', 'expanded_conv_6/output'), ('global_pool', 'Logits/AvgPool'),
                           ('Logits', 'Logits/output'), ('Predictions', 'Predictions/Reshape_1')):
        assert end_points[endpoint].op.name == f'MobilenetV2/{name}'
    assert graph.get_operation_by_name('MobilenetV2/embedding').inputs[0] is end_points['layer_19']


def test_final_endpoint(graph):
    """What lies within the rows up to there comes with them; then the classifier stands on that row."""
    net, end_points = mobilenet_v2.mobilenet_base(images(1, 64, 64, 3), final_endpoint='layer_3')
    assert list(end_points) == ['layer_1', 'layer_2', 'layer_3', 'layer_2/depthwise_output', 'layer_2/output',
                                'layer_3/expansion_output', 'layer_3/depthwise_output', 'layer_3/output']
    assert net is end_points['layer_3']
    logits, end_points = mobilenet_v2.mobilenet(images(1, 64, 64, 3), 10, final_endpoint='layer_2', scope='Short')
    assert end_points['global_pool'].shape == [1, 1, 1, 16]
    assert logits.shape == [1, 10]
    with pytest.raises(ValueError, match="endpoint of MobilenetV2 'layer_20': did you mean 'layer_2'.* layer_19.$"):
        mobilenet_v2.mobilenet_base(images(1, 64, 64, 3), final_endpoint='layer_20')


@pytest.mark.parametrize('kwargs, expected', [
    ({'depth_multiplier': 0.5}, [16, 8, 48, 16, 96, 16]),
    ({'depth_multiplier': 0.1, 'min_depth': 32}, [32, 32, 192, 32, 192, 32]),
    ({'divisible_by': 16}, [32, 16, 96, 32, 192, 32]),
])
def test_depths(graph, kwargs, expected):
    mobilenet_v2.mobilenet_base(images(1, 16, 16, 3), final_endpoint='layer_4', **kwargs)
    assert widths(graph) == expected


@pytest.mark.parametrize('network, last', [
    (mobilenet_v2.mobilenet_v2_140, 1792), (mobilenet_v2.mobilenet_v2_050, 1280), (mobilenet_v2.mobilenet_v2_035, 1280),
])
def test_last_layer(graph, network, last):
    """The paper's section 5: for multipliers below one it keeps its width."""
    features, _ = network(images(1, 32, 32, 3), None)
    assert features.shape == [1, 1, 1, last]
    assert widths(graph)[-2] < 1.4 * 320 + 1
    assert network.default_image_size == 224


def test_own_rows(graph):
    """Any function is a row; it is given what of stride, rate and padding it takes."""
    def double(params, multiplier):
        params['num_outputs'] *= 2

    def residual(net, num_outputs, rate=1):
        return net + slim.conv2d(net, num_outputs, 3, rate=rate, scope=f'rate_{rate}')

    conv_defs = {
        'defaults': {(slim.conv2d,): {'activation_fn': tf.nn.elu}},
        'overrides': {(conv_blocks.expanded_conv,): {'expansion_size': 24}},
        'spec': [op(slim.conv2d, double, num_outputs=4, kernel_size=3, stride=2),
                 op(slim.max_pool2d, kernel_size=3, stride=2, padding='SAME'),
                 op(residual, num_outputs=8),
                 op(conv_blocks.expanded_conv, num_outputs=16, stride=2),
                 op(conv_blocks.split_separable_conv2d, num_outputs=24)],
    }
    net, end_points = mobilenet.mobilenet_base(images(1, 32, 32, 3), conv_defs, scope='Own')
    assert [end_points[f'layer_{n}'].shape.as_list()[1:] for n in range(1, 6)] == \
        [[16, 16, 8], [8, 8, 8], [8, 8, 8], [4, 4, 16], [4, 4, 24]]
    assert end_points['layer_1'].op.type == 'Elu'
    assert end_points['layer_4/expansion_output'].shape == [1, 8, 8, 24]
    _, end_points = mobilenet.mobilenet_base(images(1, 32, 32, 3), conv_defs, scope='Dilated', output_stride=2,
                                             use_explicit_padding=True)
    assert end_points['layer_5'].shape == [1, 16, 16, 24]
    assert 'Dilated/rate_2/weights' in [v.op.name for v in slim.get_model_variables()]


def test_row_can_be_edited(graph):
    """A copy, that is: the network stays what it is."""
    conv_defs = copy.deepcopy(V2_DEF)
    conv_defs['spec'][0] = op(slim.conv2d, kernel_size=(3, 3), num_outputs=16)
    conv_defs['spec'][2].params['num_outputs'] = 40
    _, end_points = mobilenet_v2.mobilenet_base(images(1, 32, 32, 3), conv_defs=conv_defs, final_endpoint='layer_4')
    assert [end_points[f'layer_{n}'].shape.as_list()[1:] for n in range(1, 5)] == \
        [[32, 32, 16], [32, 32, 16], [16, 16, 40], [16, 16, 24]]
    assert V2_DEF['spec'][2].params['num_outputs'] == V2_DEF['spec'][3].params['num_outputs'] == 24


def test_activation(graph):
    _, end_points = mobilenet_v2.mobilenet_base(images(1, 16, 16, 3), activation_fn=tf.nn.elu, final_endpoint='layer_3')
    assert end_points['layer_1'].op.type == 'Elu'
    assert end_points['layer_3/depthwise_output'].op.inputs[0].op.type == 'Elu'


@pytest.mark.parametrize('scope, kwargs, updates', [
    ({}, {}, 4), ({}, {'is_training': False}, 0), ({'is_training': False}, {}, 0),
    ({'is_training': False}, {'is_training': True}, 4), ({'is_training': None}, {}, 0),
])
def test_training(graph, scope, kwargs, updates):
    """The arg scope says it, unless the caller does; without both, it is evaluation."""
    with slim.arg_scope(mobilenet_v2.training_scope(dropout_keep_prob=0.25, **scope)):
        mobilenet_v2.mobilenet(images(1, 16, 16, 3), 10, final_endpoint='layer_2', prediction_fn=None, **kwargs)
    assert len(graph.get_collection(UPDATE_OPS)) == updates / 4 * 6
    drops = any('/Dropout/dropout' in operation.name for operation in graph.get_operations())
    assert drops == (updates > 0)


@pytest.mark.parametrize('stddev, largest', [(0.09, 0.18), (-1.0, (6 / (27 + 288)) ** 0.5)])
def test_initial_weights(graph, stddev, largest):
    """A normal cut at two deviations, or Glorot's uniform."""
    with slim.arg_scope(mobilenet_v2.training_scope(stddev=stddev)):
        mobilenet_v2.mobilenet_base(images(1, 16, 16, 3), final_endpoint='layer_1')
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        weights, = session.run(slim.get_variables_by_name('MobilenetV2/Conv/weights'))
    assert 0.9 * largest < np.abs(weights).max() <= largest


def test_group_norm(hold):
    """Four groups of 8 channels, each with its own mean and deviation over the map."""
    pixels = np.random.RandomState(2).uniform(-1, 1, [2, 16, 16, 3]).astype(np.float32)
    net, _ = hold(mobilenet_v2.mobilenet_base_group_norm, tf.constant(pixels), groups=4, final_endpoint='layer_1')
    v = {name.rsplit('/', 1)[-1]: variable for name, variable in hold.variables.items()}
    assert set(v) == {'weights', 'gamma', 'beta'}
    grouped = tf.reshape(tf.nn.conv2d(pixels, v['weights'], 2, 'SAME'), [2, 8, 8, 4, 8])
    mean, variance = tf.nn.moments(grouped, [1, 2, 4], keepdims=True)
    normalized = tf.reshape((grouped - mean) / tf.sqrt(variance + 1e-6), [2, 8, 8, 32])
    np.testing.assert_allclose(net, tf.nn.relu6(normalized * v['gamma'] + v['beta']), atol=1e-4)


def test_group_norm_everywhere(graph):
    mobilenet_v2.mobilenet_base(images(1, 32, 32, 3), conv_defs=mobilenet_v2.V2_DEF_GROUP_NORM)
    normalizers = {v.op.name.split('/')[-2] for v in slim.get_model_variables() if v.op.name.endswith('beta')}
    assert normalizers == {'GroupNorm'}


def test_global_pool(graph):
    pixels = np.random.RandomState(2).uniform(-1, 1, [1, 5, 3, 4]).astype(np.float32)
    known, unknown = tf.constant(pixels), images(1, None, None, 4)
    means = [mobilenet.global_pool(net, mean) for net in (known, unknown) for mean in (False, True)]
    largest = mobilenet.global_pool(known, pool_op=tf.compat.v1.nn.max_pool)
    assert [net.shape.as_list() for net in (*means, largest)] == [[1, 1, 1, 4]] * 5
    assert means[0].op.type == 'AvgPool'
    with tf.compat.v1.Session() as session:
        means, largest = session.run([means, largest], {unknown: pixels})
    for value in means:
        np.testing.assert_allclose(value[:, 0, 0], pixels.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(largest[:, 0, 0], pixels.max((1, 2)))
    with pytest.raises(ValueError, match='max_pool has to know the size of the map, which is NonexNone.'):
        mobilenet.global_pool(unknown, pool_op=tf.compat.v1.nn.max_pool)


def test_safe_arg_scope(graph):
    with slim.arg_scope([slim.dropout], keep_prob=0.25, is_training=False):
        with mobilenet.safe_arg_scope([slim.dropout], keep_prob=None, is_training=None):
            assert slim.dropout(tf.ones([4])).op.type == 'Identity'
        with mobilenet.safe_arg_scope([slim.dropout], keep_prob=None, is_training=True) as scope:
            assert scope[slim.arg_scope_func_key(slim.dropout)] == {'keep_prob': 0.25, 'is_training': True}


def test_apply_activation(graph):
    assert mobilenet.apply_activation(tf.ones([4]), 'A', tf.nn.relu).op.name == 'A'
    ones = tf.ones([4])
    assert mobilenet.apply_activation(ones) is ones
    with slim.arg_scope([mobilenet.apply_activation], activation_fn=tf.nn.elu):
        assert mobilenet.apply_activation(ones).op.type == 'Elu'
