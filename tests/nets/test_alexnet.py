"""AlexNet's own behaviour; its contract is in test_contract.py, the classifier it shares with VGG in test_vgg.py."""
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import alexnet as slim_alexnet

import tf_slim_compat  # noqa: F401
from nets import alexnet


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def initial_values(graph):
    """Variable -> the mean and the deviation that it begins with; of those that are small enough to draw here."""
    variables = [v for v in graph.get_collection('trainable_variables') if v.shape.num_elements() < 1e6]
    with tf.compat.v1.Session(graph=graph) as session:
        session.run([v.initializer for v in variables])
        values = session.run(variables)
    return {v.op.name: (value.mean(), value.std()) for v, value in zip(variables, values, strict=True)}


def build(module, **kwargs):
    with slim.arg_scope(module.alexnet_v2_arg_scope()):
        return module.alexnet_v2(tf.zeros([1, 224, 224, 3]), 10, **kwargs)


def test_as_in_tf_slim(graph):
    """Names of endpoints and ops; what the variables begin with, and which are regularised."""
    _, ours = build(alexnet)
    with tf.Graph().as_default() as other:
        _, theirs = build(slim_alexnet)
    assert [(key, value.name) for key, value in ours.items()] == [(key, value.name) for key, value in theirs.items()]
    expected = initial_values(other)
    assert len(expected) == 13
    for name, value in initial_values(graph).items():
        assert value == pytest.approx(expected[name], abs=2e-3 if 'fc' not in name else 2e-4), name
    assert len(graph.get_collection('regularization_losses')) == len(other.get_collection('regularization_losses')) == 8


def test_sizes(graph):
    """One answer from 195 to 226 pixels."""
    for size, answers in ((195, 1), (226, 1), (227, 2)):
        logits, _ = alexnet.alexnet_v2(tf.zeros([1, size, 195, 4]), 10, spatial_squeeze=False, scope=f'A{size}')
        assert logits.shape == [1, answers, 1, 10]
    for size, message in ((194, 'at least 195x195'), (227, 'up to 226x226')):
        with pytest.raises(ValueError, match=message):
            alexnet.alexnet_v2(tf.zeros([1, size, 195, 3]))
    logits, _ = alexnet.alexnet_v2(tf.compat.v1.placeholder(tf.float32, [None, None, None, 1]), 10, global_pool=True)
    assert logits.shape.as_list() == [None, 10]


def test_final_endpoint(graph):
    net, end_points = alexnet.alexnet_v2_base(tf.zeros([1, 64, 64, 3]), 'alexnet_v2/pool2')
    assert list(end_points) == [f'alexnet_v2/{name}' for name in ('conv1', 'pool1', 'conv2', 'pool2')]
    assert net is end_points['alexnet_v2/pool2'] and net.shape == [1, 2, 2, 192]
