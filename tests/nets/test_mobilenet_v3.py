"""MobileNet V3's and EdgeTPU's own behaviour; see also test_mobilenet.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.mobilenet import mobilenet_v3


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def images(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def test_hard_swish():
    x = np.array([-4, -3, -1.5, 0, 1.5, 3, 4], np.float32)
    np.testing.assert_allclose(mobilenet_v3.hard_swish(x), [0, 0, -0.375, 0, 1.125, 3, 4], rtol=1e-6)


@pytest.mark.parametrize('size, expected', [((7, 7), (1, 1)), ((14, 14), (1, 1)), ((3, 5), (1, 1)), ((7, 12), (1, 6))])
def test_reduce_to_1x1(size, expected):
    net = np.random.RandomState(3).uniform(-1, 1, [2, *size, 4]).astype(np.float32)
    reduced = mobilenet_v3.reduce_to_1x1(tf.constant(net), stride=1)
    assert reduced.shape == [2, *expected, 4]
    kernel = size if size[0] == size[1] else [min(side, 7) for side in size]
    np.testing.assert_allclose(reduced[:, 0, 0], net[:, :kernel[0], :kernel[1]].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize('network, rows', [
    (mobilenet_v3.small, {'layer_13': [1, 2, 2, 576], 'layer_14': [1, 1, 1, 576], 'layer_15': [1, 1, 1, 1024]}),
    (mobilenet_v3.edge_tpu, {'layer_23': [1, 2, 2, 192], 'layer_24': [1, 2, 2, 1280]}),
])
def test_group_norm(graph, network, rows):
    """Group normalization wherever batch norm was."""
    _, end_points = network(images(1, 64, 64, 3), 10, use_groupnorm=True)
    assert {name: end_points[name].shape.as_list() for name in rows} == rows
    scopes = {v.op.name.rsplit('/', 2)[0] for v in slim.get_model_variables() if v.op.name.endswith('GroupNorm/beta')}
    with tf.Graph().as_default():
        network(images(1, 64, 64, 3), 10)
        assert scopes == {v.op.name.rsplit('/', 2)[0] for v in slim.get_model_variables()
                          if v.op.name.endswith('BatchNorm/beta')}
    assert not [v for v in slim.get_model_variables() if 'BatchNorm' in v.op.name]


@pytest.mark.parametrize('conv_defs, last, widths', [
    (mobilenet_v3.V3_LARGE_DETECTION, 'layer_17', {'layer_13': 112, 'layer_14': 80, 'layer_16': 80, 'layer_17': 480,
                                                   'layer_14/expansion_output': 672}),
    (mobilenet_v3.V3_SMALL_DETECTION, 'layer_13', {'layer_9': 48, 'layer_10': 48, 'layer_12': 48, 'layer_13': 288,
                                                   'layer_10/expansion_output': 288}),
])
def test_detection(graph, conv_defs, last, widths):
    """arXiv:1905.02244, section 6.3: half as many channels in the last block."""
    _, end_points = mobilenet_v3.mobilenet_base(images(1, 64, 64, 3), conv_defs=conv_defs, final_endpoint=last)
    assert {name: end_points[name].shape[-1] for name in widths} == widths


def test_final_endpoint(graph):
    """A feature extractor's call: no size, no pooling, no classes."""
    net, end_points = mobilenet_v3.mobilenet(images(None, None, None, 3), conv_defs=mobilenet_v3.V3_LARGE,
                                             base_only=True, final_endpoint='layer_4')
    assert net is end_points['layer_4']
    assert net.shape.as_list() == [None, None, None, 24]
    with pytest.raises(ValueError, match="endpoint of MobilenetEdgeTPU 'layer_25'.* layer_24.$"):
        mobilenet_v3.edge_tpu_base(images(1, 64, 64, 3), final_endpoint='layer_25')


def test_last_layer(graph):
    """EdgeTPU at 0.75 keeps it."""
    features, end_points = mobilenet_v3.edge_tpu_075(images(1, 32, 32, 3), None)
    assert features.shape == [1, 1, 1, 1280]
    assert end_points['layer_23'].shape[-1] == 144
    assert features.op.name == 'MobilenetEdgeTPU/Logits/AvgPool'


def test_mean_for_pooling(graph):
    """Its op is named so, and no other."""
    for scope, mean in (('A', False), ('B', True)):
        mobilenet_v3.small(images(1, 32, 32, 3), None, scope=scope, use_reduce_mean_for_pooling=mean,
                           final_endpoint='layer_5')
    means = [operation.name for operation in graph.get_operations() if operation.name.endswith('ReduceMean')]
    assert means == ['B/Logits/ReduceMean']
