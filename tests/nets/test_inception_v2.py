"""Inception V2's own behaviour; see also test_contract.py and test_inception_as_tf_slim.py."""
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.inception_v2 import inception_v2, inception_v2_arg_scope, inception_v2_base


def built(shape, *args, **kwargs):
    """Endpoint -> shape, variable -> shape."""
    with tf.Graph().as_default(), slim.arg_scope(inception_v2_arg_scope()):
        _, end_points = inception_v2_base(placeholder(*shape), *args, **kwargs)
        return ({name: tensor.shape.as_list() for name, tensor in end_points.items()},
                {v.op.name: v.shape.as_list() for v in slim.get_model_variables()})


def placeholder(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def test_without_separable_convolution(read_golden):
    golden = read_golden('inception_v2')
    shapes, variables = built([2, 224, 224, 3], use_separable_conv=False)
    assert shapes == {name: end_point['shape'] for name, end_point in list(golden['end_points'].items())[:15]}
    changed = {name.removeprefix('InceptionV2/'): shape for name, shape in variables.items()
               if name not in golden['variables']}
    assert changed == {'Conv2d_1a_7x7/weights': [7, 7, 3, 64], 'Conv2d_1a_7x7/BatchNorm/beta': [64],
                       'Conv2d_1a_7x7/BatchNorm/moving_mean': [64], 'Conv2d_1a_7x7/BatchNorm/moving_variance': [64]}


def test_nchw():
    shapes, variables = built([2, 64, 96, 3], use_separable_conv=False)
    transposed, same = built([2, 3, 64, 96], use_separable_conv=False, data_format='NCHW')
    assert transposed == {name: [shape[i] for i in (0, 3, 1, 2)] for name, shape in shapes.items()}
    assert same == variables


def test_without_root_block(read_golden):
    golden = read_golden('inception_v2')
    shapes, variables = built([2, 28, 28, 192], 'Mixed_4b', include_root_block=False)
    expected = ['Mixed_3b', 'Mixed_3c', 'Mixed_4a', 'Mixed_4b']
    assert shapes == {name: golden['end_points'][name]['shape'] for name in expected}
    assert variables.items() <= golden['variables'].items()


@pytest.mark.parametrize('message, arguments', [
    ("Unknown data_format 'NCWH'", dict(data_format='NCWH')),
    ("Unknown data_format 'NDHWC'", dict(data_format='NDHWC')),
    ('pass use_separable_conv=False', dict(data_format='NCHW')),
    ('greater than zero; it is 0', dict(depth_multiplier=0)),
    ("did you mean 'Mixed_4e'", dict(final_endpoint='Mixed_4f')),
    ("endpoint of InceptionV2 'Conv2d_1a_7x7'", dict(final_endpoint='Conv2d_1a_7x7', include_root_block=False)),
])
def test_refused_before_anything_is_built(message, arguments):
    with tf.Graph().as_default() as graph:
        images = placeholder(1, 64, 64, 3)
        with pytest.raises(ValueError, match=message):
            inception_v2_base(images, **arguments)
        assert graph.get_operations() == [images.op]


def test_large_images():
    with tf.Graph().as_default() as graph:
        images = placeholder(1, 225, 64, 3)
        with pytest.raises(ValueError, match='225x64 leave the logits of InceptionV2 on a map: up to 224x224'):
            inception_v2(images, 10)
        assert graph.get_operations() == [images.op]
        logits, end_points = inception_v2(images, 10, global_pool=True)
        assert logits.shape.as_list() == [1, 10]
        assert end_points['global_pool'].shape.as_list() == [1, 1, 1, 1024]
        assert end_points['Mixed_5c'].shape.as_list() == [1, 8, 2, 1024]
