"""MobileNet V1's own behaviour; see also test_mobilenet.py."""
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import mobilenet_v1
from nets.mobilenet_v1 import Conv, DepthSepConv, mobilenet_v1_arg_scope, mobilenet_v1_base


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def images(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def in_scope(function, *args, **kwargs):
    with slim.arg_scope(mobilenet_v1_arg_scope()):
        return function(*args, **kwargs)


def test_base(graph):
    """The figure is that of TF-Slim's own tests."""
    with slim.arg_scope([slim.conv2d, slim.separable_conv2d], normalizer_fn=slim.batch_norm):
        net, _ = mobilenet_v1_base(images(1, 64, 64, 3))
    assert sum(v.shape.num_elements() for v in slim.get_model_variables()) == 3_217_920
    assert net.op.name == 'MobilenetV1/Conv2d_13_pointwise/Relu'


def test_op_names_are_the_published_graphs(graph):
    """Those of mobilenet_v1_0.25_128's frozen graph, which programs name."""
    _, end_points = in_scope(mobilenet_v1.mobilenet_v1_025, images(1, 128, 128, 3), 1001, is_training=False)
    for endpoint, name in (('Conv2d_0', 'MobilenetV1/Conv2d_0/Relu6'),
                           ('Conv2d_13_depthwise', 'MobilenetV1/Conv2d_13_depthwise/Relu6'),
                           ('Conv2d_13_pointwise', 'MobilenetV1/Conv2d_13_pointwise/Relu6'),
                           ('AvgPool_1a', 'Logits/AvgPool_1a/AvgPool'),
                           ('Logits', 'Logits/SpatialSqueeze'),
                           ('Predictions', 'Predictions/Reshape_1')):
        assert end_points[endpoint].op.name == f'MobilenetV1/{name}'


@pytest.mark.parametrize('depth_multiplier, min_depth, depths', [
    (0.75, 8, [24, 48, 96]), (0.1, 8, [8, 8, 12]), (0.1, 1, [3, 6, 12]), (2.0, 8, [64, 128, 256]),
])
def test_depths(graph, depth_multiplier, min_depth, depths):
    _, end_points = mobilenet_v1_base(images(1, 16, 16, 3), 'Conv2d_2_pointwise', min_depth, depth_multiplier)
    assert [end_points[name].shape[-1] for name in ('Conv2d_0', 'Conv2d_1_pointwise', 'Conv2d_2_pointwise')] == depths


def test_own_rows(graph):
    rows = [Conv([5, 5], 2, 16), DepthSepConv([3, 3], 1, 24), DepthSepConv([1, 5], 2, 40)]
    logits, end_points = mobilenet_v1.mobilenet_v1(images(1, 64, 48, 3), 10, conv_defs=rows, global_pool=True)
    assert logits.shape == [1, 10]
    assert {name: tensor.shape.as_list()[1:] for name, tensor in list(end_points.items())[:-3]} == {
        'Conv2d_0': [32, 24, 16], 'Conv2d_1_depthwise': [32, 24, 16], 'Conv2d_1_pointwise': [32, 24, 24],
        'Conv2d_2_depthwise': [16, 12, 24], 'Conv2d_2_pointwise': [16, 12, 40]}
    kernels = [v.shape.as_list()[:2] for v in slim.get_model_variables() if v.op.name.endswith('weights')]
    assert kernels == [[5, 5], [3, 3], [1, 1], [1, 5], [1, 1], [1, 1]]


@pytest.mark.parametrize('size, kwargs, shape', [
    (256, {}, [1, 10]),
    (264, {'global_pool': True}, [1, 10]),
    (300, {'spatial_squeeze': False}, [1, 2, 2, 10]),
    (72, {'output_stride': 16}, [1, 10]),
])
def test_image_sizes(graph, size, kwargs, shape):
    logits, _ = mobilenet_v1.mobilenet_v1(images(1, size, size, 3), 10, depth_multiplier=0.1, **kwargs)
    assert logits.shape == shape


@pytest.mark.parametrize('size, kwargs, largest', [(257, {}, 256), (129, {'output_stride': 16}, 128)])
def test_large_images(graph, size, kwargs, largest):
    inputs = images(1, 64, size, 3)
    with pytest.raises(ValueError, match=f'up to {largest}x{largest} there is one .* pass global_pool=True'):
        mobilenet_v1.mobilenet_v1(inputs, 10, **kwargs)
    assert graph.get_operations() == [inputs.op]


@pytest.mark.parametrize('kwargs, losses', [({}, 3), ({'regularize_depthwise': True}, 5)])
def test_weight_decay(graph, kwargs, losses):
    """Of full convolutions alone, unless depthwise ones are asked for too."""
    with slim.arg_scope(mobilenet_v1_arg_scope(**kwargs)):
        mobilenet_v1_base(images(1, 16, 16, 3), 'Conv2d_2_pointwise')
    assert len(graph.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)) == losses


def test_arg_scope(graph):
    with slim.arg_scope(mobilenet_v1_arg_scope(is_training=None)), slim.arg_scope([slim.batch_norm], is_training=False):
        mobilenet_v1_base(images(1, 16, 16, 3), 'Conv2d_0')
    assert not graph.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
    with slim.arg_scope(mobilenet_v1_arg_scope(normalizer_fn=None)):
        mobilenet_v1_base(images(1, 16, 16, 3), 'Conv2d_0', scope='Plain')
    assert [v.op.name for v in slim.get_model_variables('Plain')] == ['Plain/Conv2d_0/weights', 'Plain/Conv2d_0/biases']
