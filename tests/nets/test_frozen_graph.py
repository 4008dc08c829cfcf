"""Constants of frozen graphs, frozen by TensorFlow itself."""
import numpy as np
import pytest
import tensorflow as tf

from nets import checkpoints, create_model, nets_factory, registry
from nets.weights import frozen_graph

NETWORK = registry.get('mobilenet_v1_025')
CLASSES = 7
IMAGES = np.random.RandomState(0).uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)


def freeze(network, made_value, use_resource=False, size=32):
    """A network with made values as a GraphDef of constants, and its logits for `IMAGES` if they are of that size."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], 'input')
        with tf.compat.v1.variable_scope('', use_resource=use_resource):
            logits, _ = nets_factory.get_network_fn(network, CLASSES)(images)
        for variable in tf.compat.v1.global_variables():
            variable.load(made_value(variable.op.name, variable.shape.as_list()), session)
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), [logits.op.name])
        return frozen, session.run(logits, {images: IMAGES}) if size == 32 else None


@pytest.fixture(scope='module')
def frozen(made_value):
    return freeze(NETWORK.name, made_value)


@pytest.fixture
def write(tmp_path):
    def write(graph):
        (tmp_path / 'graph.pb').write_bytes(graph.SerializeToString())
        return str(tmp_path / 'graph.pb')
    return write


def assert_answers(path, logits):
    values = frozen_graph.read(path, NETWORK)
    model = create_model(NETWORK.name, CLASSES, image_size=32)
    assert values.lacks == () and checkpoints.restore(values, model.by_name) == []
    np.testing.assert_allclose(model(IMAGES), logits, rtol=0, atol=1e-5 * np.abs(logits).max())


def renamed(graph, rename):
    """A copy whose constants, and what reads them, have other names."""
    copy = tf.compat.v1.GraphDef()
    copy.CopyFrom(graph)
    names = {node.name: rename(node.name) for node in copy.node if node.op == 'Const'}
    for node in copy.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
    return copy


@pytest.mark.parametrize('use_resource', [False, True])
def test_it_answers_as_the_graph(use_resource, made_value, write):
    graph, logits = freeze(NETWORK.name, made_value, use_resource)
    assert_answers(write(graph), logits)


def test_a_graph_that_another_imported(frozen, write):
    graph, logits = frozen
    with tf.Graph().as_default() as outer:
        tf.import_graph_def(graph)
    assert_answers(write(outer.as_graph_def()), logits)


def test_constants_that_took_the_name_of_what_read_them(frozen, write):
    graph, logits = frozen
    assert_answers(write(renamed(graph, lambda name: f'{name}/read' if name.endswith('weights') else name)), logits)


def test_half_precision_is_widened(frozen, write):
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(frozen[0])
    name = 'MobilenetV1/Conv2d_0/weights'
    tensor = next(node for node in graph.node if node.name == name).attr['value'].tensor
    expected = tf.make_ndarray(tensor).astype(np.float16)
    tensor.CopyFrom(tf.make_tensor_proto(expected))
    value = frozen_graph.read(write(graph), NETWORK).value(name)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, expected)


def test_the_auxiliary_classifier_is_lacking(made_value, write):
    graph, _ = freeze('inception_v3', made_value, size=75)
    assert frozen_graph.read(write(graph), registry.get('inception_v3')).lacks == ('InceptionV3/AuxLogits',)


def refused(path, network=NETWORK):
    with pytest.raises(checkpoints.CheckpointError) as error:
        frozen_graph.read(path, network)
    assert str(error.value).startswith(path) and '\n' not in str(error.value)
    return str(error.value)


def test_the_graph_of_another_network(frozen, write):
    message = refused(write(frozen[0]), registry.get('inception_v1'))
    assert 'not a frozen graph of inception_v1' in message and message.endswith('It seems to be of MobilenetV1.')


def test_folded_batch_norm_cannot_be_undone(frozen, write):
    graph = tf.compat.v1.GraphDef()
    graph.node.extend(node for node in frozen[0].node if 'BatchNorm' not in node.name)
    assert 'batch norm is folded' in refused(write(graph))


def test_quantized_weights(frozen, write):
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(frozen[0])
    for node in graph.node:
        if node.name.endswith('weights'):
            shape = tf.make_ndarray(node.attr['value'].tensor).shape
            node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.zeros(shape, np.uint8)))
    assert 'quantized to uint8' in refused(write(graph))


def test_damaged_and_foreign_files(frozen, tmp_path, write):
    path = write(frozen[0])
    whole = open(path, 'rb').read()
    assert 'No such file' in refused(str(tmp_path / 'none.pb'))
    assert 'cannot be read' in refused(str(tmp_path))
    for content in (whole[:len(whole) // 2], b'<html>not found</html>'):
        (tmp_path / 'graph.pb').write_bytes(content)
        assert 'not a frozen graph' in refused(path)
    (tmp_path / 'graph.pb').write_bytes(b'')
    assert 'none of its 0 constants' in refused(path)
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(frozen[0])
    tensor = next(node for node in graph.node if node.name == 'MobilenetV1/Conv2d_0/weights').attr['value'].tensor
    tensor.tensor_content = tensor.tensor_content[:-8]
    assert 'is damaged: MobilenetV1/Conv2d_0/weights' in refused(write(graph))
