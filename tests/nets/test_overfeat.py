"""OverFeat's own behaviour; its contract is in test_contract.py, the classifier it shares with VGG in test_vgg.py."""
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import overfeat as slim_overfeat

import tf_slim_compat  # noqa: F401
from nets import overfeat


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_as_in_tf_slim(graph):
    """Names of endpoints and ops; the biases begin with 0, those of fc6 and fc7 with 0.1."""
    ends = {}
    for module in (overfeat, slim_overfeat):
        with tf.Graph().as_default(), slim.arg_scope(module.overfeat_arg_scope()):
            _, end_points = module.overfeat(tf.zeros([1, 231, 231, 3]), 10)
            biases = slim.get_variables_by_suffix('biases')
            with tf.compat.v1.Session() as session:
                session.run([v.initializer for v in biases])
                first = {v.op.name: value[0] for v, value in zip(biases, session.run(biases), strict=True)}
            ends[module] = [(key, tensor.name) for key, tensor in end_points.items()], first
    assert ends[overfeat] == ends[slim_overfeat]
    assert ends[overfeat][1]['overfeat/fc7/biases'] == pytest.approx(0.1)


def test_sizes(graph):
    """One answer from 231 to 262 pixels."""
    for size, answers in ((231, 1), (262, 1), (263, 2)):
        logits, _ = overfeat.overfeat(tf.zeros([1, size, 231, 4]), 10, spatial_squeeze=False, scope=f'O{size}')
        assert logits.shape == [1, answers, 1, 10]
    for size, message in ((230, 'at least 231x231'), (263, 'up to 262x262')):
        with pytest.raises(ValueError, match=message):
            overfeat.overfeat(tf.zeros([1, size, 231, 3]))
    net, _ = overfeat.overfeat_base(tf.compat.v1.placeholder(tf.float32, [None, None, None, 1]))
    assert net.shape.as_list() == [None, None, None, 4096]
