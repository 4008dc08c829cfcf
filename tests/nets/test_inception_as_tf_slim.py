"""Inception V1 to V3 beside those in the tf-slim package, argument by argument: names, shapes, first values, losses."""
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import inception_v1 as slim_v1
from tf_slim.nets import inception_v2 as slim_v2
from tf_slim.nets import inception_v3 as slim_v3

import tf_slim_compat  # noqa: F401
from nets import inception_v1, inception_v2, inception_v3
from nets.inception_utils import inception_arg_scope

MODULES = {'inception_v1': (inception_v1, slim_v1), 'inception_v2': (inception_v2, slim_v2),
           'inception_v3': (inception_v3, slim_v3)}
CASES = [
    ('inception_v1', [2, 224, 224, 3], {}, dict(batch_norm_scale=True, activation_fn=tf.nn.relu6)),
    ('inception_v1', [2, 224, 224, 1], dict(spatial_squeeze=False, is_training=False), dict(use_batch_norm=False)),
    ('inception_v2', [2, 224, 224, 3], {}, {}),
    ('inception_v2', [2, 112, 90, 4], dict(depth_multiplier=0.3, min_depth=4), {}),
    ('inception_v2', [2, None, None, 1], dict(depth_multiplier=2., spatial_squeeze=False), dict(use_batch_norm=False)),
    ('inception_v3', [2, 299, 299, 3], {}, {}),
    ('inception_v3', [None, 150, 171, 4], dict(depth_multiplier=0.3, min_depth=4), dict(batch_norm_scale=True)),
    ('inception_v3', [2, None, None, 1], dict(create_aux_logits=False, is_training=False), dict(use_batch_norm=False)),
]


def first_value(variable):
    """The ops and constants that make a variable's first value."""
    found, ahead = set(), [variable.initializer.inputs[1].op]
    while ahead:
        op = ahead.pop()
        found.add((op.type, str(op.get_attr('value')) if op.type == 'Const' else ''))
        ahead.extend(tensor.op for tensor in op.inputs)
    return sorted(found)


def built(function, shape, arguments, scope_arguments):
    collection = tf.compat.v1.get_collection
    with tf.Graph().as_default(), slim.arg_scope(inception_arg_scope(**scope_arguments)):
        _, end_points = function(tf.compat.v1.placeholder(tf.float32, shape), 11, **arguments)
        return dict(
            variables=[(v.op.name, v.shape.as_list(), first_value(v)) for v in tf.compat.v1.global_variables()],
            end_points={name: (tensor.name, tensor.shape.as_list()) for name, tensor in end_points.items()},
            losses=[loss.name for loss in collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)],
            updates=len(collection(tf.compat.v1.GraphKeys.UPDATE_OPS)))


@pytest.mark.parametrize('name, shape, arguments, scope_arguments', CASES)
def test_as_tf_slim(name, shape, arguments, scope_arguments):
    ours, theirs = (built(getattr(module, name), shape, arguments, scope_arguments) for module in MODULES[name])
    added = set(ours['end_points']) - set(theirs['end_points'])
    assert added <= {'AvgPool_0a_7x7', 'AvgPool_1a', 'PreLogits'}           # of a later TF-Slim
    for endpoint in added:
        del ours['end_points'][endpoint]
    for key, value in theirs.items():
        assert ours[key] == value, key
