"""Folded networks against TF-Slim's own logits, the arithmetic of batch norm in NumPy, and TensorFlow's SavedModel."""
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import inference, registry

# The smallest network of each module; VGG and OverFeat, without batch norm, would take gigabytes.
NAMES = sorted({row.module: row.name for row in sorted(registry.NETWORKS.values(), key=lambda row: -row.parameters)
                if row.parameters < 1e8}.values())
# Batch norms that come before their convolution, or after a concatenation.
UNFOLDABLE = {'resnet_v2_50': 17, 'nasnet_cifar': 2, 'pnasnet_mobile': 4}


@pytest.fixture(scope='module')
def published(made_value, read_golden):
    """Name -> a model with the weights of its contract, the images there, and the logits that TF-Slim had for them."""
    def make(name):
        golden = read_golden(name)
        model = nets.create_model(name, golden['num_classes'])
        for variable_name, variable in model.by_name.items():
            variable.assign(made_value(variable_name, variable.shape.as_list()))
        images = np.random.RandomState(0).uniform(-1, 1, golden['input_shape']).astype(np.float32)
        return model, images, np.array(golden['logits']['first8'])
    return make


@pytest.fixture(scope='module')
def googlenet(published):
    return published('inception_v1')


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_answers_as_tf_slim(name, published, read_golden):
    model, images, logits = published(name)
    folded = inference.Folded(model)
    batch_norms = sum(variable.endswith('/moving_mean') and not re.search(r'AuxLogits|^aux_', variable)
                      for variable in read_golden(name)['variables'])
    assert len(folded.left) == UNFOLDABLE.get(name, 0)
    assert folded.folded + len(folded.left) == (0 if model.takes_videos else batch_norms)
    assert {node.op for node in folded.graph_def.node} & {'VarHandleOp', 'ReadVariableOp', 'VariableV2'} == set()
    np.testing.assert_allclose(folded(images)[:, :8], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_kernels_and_biases(googlenet):
    """A factor gamma / sqrt(variance + epsilon) in the kernel, and beta - mean * factor as its bias."""
    model, images, _ = googlenet
    scope, nodes = 'InceptionV1/Conv2d_2b_1x1', {node.name: node for node in inference.Folded(model).graph_def.node}
    weights, beta, mean, variance = (model.by_name[f'{scope}/{name}'].numpy() for name in (
        'weights', 'BatchNorm/beta', 'BatchNorm/moving_mean', 'BatchNorm/moving_variance'))
    bias, = (node for node in nodes.values() if node.op == 'BiasAdd' and f'/{scope}/' in f'/{node.name}')
    convolution = nodes[bias.input[0]]
    kernel, offset = (tf.make_ndarray(nodes[name].attr['value'].tensor)
                      for name in (convolution.input[1], bias.input[1]))
    np.testing.assert_allclose(kernel, weights / np.sqrt(variance + 1e-3), rtol=1e-6)
    np.testing.assert_allclose(offset, beta - mean / np.sqrt(variance + 1e-3), rtol=1e-5, atol=1e-6)
    assert not {'FusedBatchNormV3', 'Cast'} & {node.op for node in nodes.values()}


def test_bfloat16(googlenet):
    model, images, logits = googlenet
    folded = inference.Folded(model, tf.bfloat16)
    convolutions = [node for node in folded.graph_def.node if node.op == 'Conv2D']
    assert {node.attr['T'].type for node in convolutions} == {tf.bfloat16.as_datatype_enum}
    outputs = folded(images)
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs[:, :8], logits, atol=.03 * np.abs(logits).max())     # 8 bits, 58 layers


def test_later_weights_do_not_reach_it(googlenet):
    model, images, logits = googlenet
    folded = inference.Folded(model)
    bias = model.by_name['InceptionV1/Logits/Conv2d_0c_1x1/biases']
    before = bias.numpy()
    bias.assign(before + 100)
    try:
        np.testing.assert_allclose(folded(images)[:, :8], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    finally:
        bias.assign(before)


def test_saved_model(googlenet, tmp_path):
    model, images, logits = googlenet
    folded = inference.Folded(model)
    tf.saved_model.save(folded, str(tmp_path), folded.signatures())
    serve = tf.saved_model.load(str(tmp_path)).signatures['serving_default']
    served = serve(images=tf.constant(images))
    np.testing.assert_allclose(served['logits'][:, :8], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(served['probabilities'], tf.nn.softmax(served['logits']), rtol=1e-5, atol=1e-7)
    assert not serve.variables

def test_features():
    model = nets.create_model('lenet')
    images = np.random.RandomState(0).uniform(-1, 1, [3, 28, 28, 1]).astype(np.float32)
    folded = inference.Folded(model)
    assert folded(images).shape == model(images).shape and list(folded.signatures()) == ['serving_default']
    assert list(folded.signatures()['serving_default'](tf.constant(images))) == ['features']


def test_other_types_are_refused():
    with pytest.raises(ValueError, match='dtype must be float32, bfloat16 or float16; it is int32'):
        inference.Folded(nets.create_model('lenet', 10), tf.int32)


def test_openvino_is_missed_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(ImportError, match=r'pip install openvino, or slim-zoo\[openvino\]'):
        inference.to_openvino(nets.create_model('lenet', 10))


def test_openvino(googlenet):
    pytest.importorskip('openvino')
    model, images, logits = googlenet
    outputs = inference.to_openvino(model)(images)[0]
    np.testing.assert_allclose(outputs[:, :8], logits, rtol=1e-3, atol=1e-4 * np.abs(logits).max())
