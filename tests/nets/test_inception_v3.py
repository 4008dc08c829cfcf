"""Inception V3's own behaviour; see also test_contract.py and test_inception_as_tf_slim.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.inception_v3 import inception_v3, inception_v3_arg_scope, inception_v3_base


def placeholder(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


@pytest.mark.parametrize('message, function, size, arguments', [
    ('at least 75x75 pixels; these are 75x74', inception_v3, (75, 74), {}),             # as Keras has it
    ('at least 7x7', inception_v3_base, (6, 9), dict(final_endpoint='Conv2d_2a_3x3')),
    ('331x90 leave the logits of InceptionV3 on a map: up to 330x330', inception_v3, (331, 90), {}),
    ('greater than zero; it is -1', inception_v3, (90, 90), dict(depth_multiplier=-1)),
    ("endpoint of InceptionV3 'Mixed_7d': did you mean 'Mixed_7", inception_v3_base, (90, 90),
     dict(final_endpoint='Mixed_7d')),
])
def test_refused_before_anything_is_built(message, function, size, arguments):
    with tf.Graph().as_default() as graph:
        images = placeholder(1, *size, 3)
        with pytest.raises(ValueError, match=message):
            function(images, **arguments)
        assert graph.get_operations() == [images.op]


@pytest.mark.parametrize('size, last, kernel, aux, arguments', [
    ((75, 330), [1, 8], [1, 5], [2, 10], {}),
    ((400, 331), [11, 9], [5, 5], [2, 10], dict(global_pool=True)),
    ((400, 331), [11, 9], [5, 5], [2, 3, 1, 10], dict(spatial_squeeze=False)),
])
def test_image_sizes(size, last, kernel, aux, arguments):
    with tf.Graph().as_default():
        logits, end_points = inception_v3(placeholder(2, *size, 1), 10, depth_multiplier=0.1, **arguments)
        weights, = slim.get_variables(f'InceptionV3/AuxLogits/Conv2d_2a_{kernel[0]}x{kernel[1]}/weights')
        assert end_points['Mixed_7c'].shape.as_list()[1:3] == last
        assert weights.shape.as_list()[:2] == kernel
        assert end_points['AuxLogits'].shape.as_list() == aux
        assert logits.shape.as_list() == ([2, 10] if len(aux) == 2 else [2, 4, 2, 10])


def test_unknown_size_and_grayscale(made_value):
    """One graph takes images of any size; `global_pool` averages over the map."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = placeholder(None, None, None, 1)
        with slim.arg_scope(inception_v3_arg_scope()):
            logits, end_points = inception_v3(images, 5, is_training=False, depth_multiplier=0.1, global_pool=True)
        variables = tf.compat.v1.global_variables()
        session.run([v.initializer for v in variables],
                    {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables})
        for shape in ([1, 190, 300, 1], [3, 200, 200, 1]):
            wanted = {name: end_points[name] for name in ('Mixed_7c', 'global_pool', 'Logits')}
            values = session.run(wanted, {images: np.ones(shape, np.float32)})
            assert values['Logits'].shape == (shape[0], 5)
            np.testing.assert_allclose(values['global_pool'][:, 0, 0], values['Mixed_7c'].mean((1, 2)), atol=1e-4)
    assert logits.shape.as_list() == [None, 5]


def test_bfloat16(hold):
    images = tf.constant(np.random.RandomState(4).uniform(-1, 1, [2, 80, 80, 3]), tf.float32)

    def run(images):
        with slim.arg_scope(inception_v3_arg_scope()):
            return hold(inception_v3, images, 10, is_training=False, depth_multiplier=0.2)

    full, _ = run(images)
    half, end_points = run(tf.cast(images, tf.bfloat16))
    assert half.dtype == end_points['AuxLogits'].dtype == tf.bfloat16
    assert end_points['Predictions'].dtype == tf.float32
    np.testing.assert_allclose(tf.cast(half, tf.float32), full, atol=0.1 * np.abs(full).max())
    assert {v.dtype for v in hold.variables.values()} == {tf.float32}
