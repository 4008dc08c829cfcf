"""Weights of torchvision and timm, against what these libraries answered: tests/golden/pytorch_*.json.

benchmarks/record_pytorch.py wrote them, and has the made weights and images. Where torch is installed, with torchvision
and timm, they are asked again, and files that torch wrote are read.
"""
import importlib.util
import json
import os
import pathlib
import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import checkpoints, inception_v1, registry, table, weights
from nets.checkpoints import CheckpointError

safetensors = pytest.importorskip('safetensors.numpy')

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location('record_pytorch', ROOT / 'benchmarks' / 'record_pytorch.py')
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)


def golden(name):
    return json.loads((ROOT / 'tests' / 'golden' / f'pytorch_{name}.json').read_text())


def made(name, dtype):
    """The state dict that the peer was given."""
    return {key: record.made_weights(key, shape).astype(dtype) for key, shape in golden(name)['state_dict'].items()}


def written(path, state):
    safetensors.save_file(state, path)
    return str(path)


def small(name, **changed):
    """A state dict with the peer's keys and at most three maps."""
    state = {key: record.made_weights(key, [min(size, 3) for size in shape[:2]] + shape[2:])
             for key, shape in golden(name)['state_dict'].items()}
    return {**state, **changed}


def read(path, network):
    return weights.read(str(path), registry.get(network))


def refusal(path, network):
    with pytest.raises(CheckpointError) as caught:
        read(path, network)
    return str(caught.value).replace(str(path), 'FILE')


def assert_same(found, expected):
    assert found.shapes == expected.shapes and found.lacks == expected.lacks
    for name in expected.shapes:
        np.testing.assert_array_equal(found.value(name), expected.value(name), err_msg=name)


@pytest.fixture
def model_of(tmp_path):
    """The peer's weights, by way of a file, in a network of ours."""
    def make(name, dtype=np.float32, **arguments):
        network = record.NETWORKS[name][0]
        path = written(tmp_path / 'w.safetensors', made(name, dtype))
        values = read(path, network)
        os.remove(path)     # pytest keeps folders, and VGG is large
        model = nets.create_model(network, 1000, **arguments)
        lacking = checkpoints.restore(values, model.by_name, ignore_missing=True)
        assert all(name.startswith(values.lacks) for name in lacking), lacking
        return model
    return make


def images_of(case, network):
    """What the network of the peer saw, as ours takes it."""
    images = record.made_images(case['images'], network)
    return images - 255 * np.float32([0.485, 0.456, 0.406]) if network.startswith('vgg') else images


def assert_answers(model, case):
    """Mean, deviation and each sample of each output, to 1e-4 of the deviation."""
    found = model.endpoints(images_of(case, model.network), case['outputs'])
    for endpoint, expected in case['outputs'].items():
        value, near = found[endpoint].numpy(), 1e-4 * expected['std']
        assert [size for size in value.shape if size > 1] == [size for size in expected['shape'] if size > 1]
        assert value.mean(dtype=np.float64) == pytest.approx(expected['mean'], abs=near), endpoint
        assert value.std(dtype=np.float64) == pytest.approx(expected['std'], abs=near), endpoint
        np.testing.assert_allclose(value.ravel()[expected['indices']], expected['values'], rtol=1e-4, atol=near,
                                   err_msg=endpoint)


ARGUMENTS = {'inception_v1': {'torch_padding': True}, 'inception_v3': {'torch_padding': True},
             'inception_v4': {'create_aux_logits': False}, 'inception_resnet_v2': {'create_aux_logits': False}}


# To the numbers, timm's Inception V3 is torchvision's, as its file of answers shows.
@pytest.mark.parametrize('name', [name if 'vgg' not in name else pytest.param(name, marks=pytest.mark.slow)
                                  for name in record.NETWORKS if name != 'timm_inception_v3'])
def test_the_same_answers(name, model_of):
    """In float32; VGG's file is of float16, which holds the made weights as they are."""
    model = model_of(name, dtype=np.float16 if 'vgg' in name else np.float32,
                     **ARGUMENTS.get(record.NETWORKS[name][0], {}))
    for case in golden(name)['cases']:
        assert_answers(model, case)


def test_timms_inception_v3_is_torchvisions():
    assert golden('timm_inception_v3') == golden('torchvision_inception_v3')


# TF-Slim's own padding.

def test_googlenet_at_sizes_that_are_padded_alike(model_of):
    model = model_of('torchvision_googlenet')
    differs, alike = golden('torchvision_googlenet')['cases']
    assert alike['images'][1:3] == [63, 63]         # as 223x223 is
    assert_answers(model, alike)
    with pytest.raises(AssertionError):
        assert_answers(model, differs)


def test_inception_v3_inside_the_border(model_of):
    """The stem is the same. The first average pooling differs where it reaches over the border, and all after it."""
    model = model_of('torchvision_inception_v3', create_aux_logits=False)
    case, = golden('torchvision_inception_v3')['cases']
    expected = {name: case['outputs'][name] for name in ('MaxPool_5a_3x3', 'Mixed_5b', 'Logits')}
    assert_answers(model, {**case, 'outputs': {'MaxPool_5a_3x3': expected['MaxPool_5a_3x3']}})
    found = model.endpoints(images_of(case, 'inception_v3'), ['Mixed_5b', 'Logits'])
    mixed = expected['Mixed_5b']
    _, rows, columns, _ = np.unravel_index(mixed['indices'], mixed['shape'])
    inside = (0 < rows) & (rows < 34) & (0 < columns) & (columns < 34)
    assert inside.sum() > 20
    np.testing.assert_allclose(found['Mixed_5b'].numpy().ravel()[mixed['indices']][inside],
                               np.array(mixed['values'])[inside], atol=1e-4 * mixed['std'])
    assert np.abs(found['Mixed_5b'].numpy().mean() - mixed['mean']) > 1e-3 * mixed['std']
    logits = expected['Logits']
    error = found['Logits'].numpy().ravel()[logits['indices']] - logits['values']
    assert 1e-3 * logits['std'] < np.abs(error).max()


def test_sizes_of_googlenet_with_torchs_padding():
    """Its maps are 7x7 up to 238x238."""
    with tf.Graph().as_default():
        def build(size):
            images = tf.compat.v1.placeholder(tf.float32, [1, size, size, 3])
            return inception_v1.inception_v1(images, 10, torch_padding=True)

        with pytest.raises(ValueError, match='up to 238x238'):
            build(239)
        assert build(238)[1]['Mixed_5c'].shape.as_list() == [1, 7, 7, 1024]


@pytest.mark.parametrize('data_format, shape', [('NHWC', [1, 10, 7, 3]), ('NCHW', [1, 3, 10, 7])])
def test_explicit_padding_in_either_order_of_axes(data_format, shape):
    rows = [('Conv', table.conv(4, 3, 2, padding=(1, 1))), ('Pool', table.max_pool(3, 2, padding=(0, 1)))]
    with tf.Graph().as_default():
        _, end_points = table.build(rows, tf.zeros(shape), data_format=data_format)
    sizes = [[net.shape[data_format.index(axis)] for axis in 'HWC'] for net in end_points.values()]
    assert sizes == [[5, 4, 4], [2, 2, 4]]


# What a file may be like.

def test_keys_of_a_parallel_training_and_other_types(tmp_path):
    state = small('torchvision_googlenet')
    expected = read(written(tmp_path / 'plain.safetensors', state), 'inception_v1')
    prefixed = {f'module.{key}': value for key, value in state.items()}
    assert_same(read(written(tmp_path / 'module.safetensors', prefixed), 'inception_v1'), expected)
    bfloat16 = {key: value.astype(ml_dtypes.bfloat16) for key, value in state.items()}
    rounded = {key: value.astype(np.float32) for key, value in bfloat16.items()}
    assert_same(read(written(tmp_path / 'bfloat16.safetensors', bfloat16), 'inception_v1'),
                read(written(tmp_path / 'rounded.safetensors', rounded), 'inception_v1'))


@pytest.mark.parametrize('name, without, lacks', [
    ('torchvision_googlenet', 'aux', ('InceptionV1/AuxLogits',)),
    ('torchvision_googlenet', 'fc', ('InceptionV1/AuxLogits', 'InceptionV1/Logits')),
    ('torchvision_inception_v3', 'AuxLogits', ('InceptionV3/AuxLogits',)),
    ('torchvision_inception_v3', 'fc', ('InceptionV3/Logits',)),
    ('timm_inception_v4', 'last_linear', ('InceptionV4/AuxLogits', 'InceptionV4/Logits')),
])
def test_files_without_classifiers(tmp_path, name, without, lacks):
    state = {key: value for key, value in small(name).items() if not key.startswith(without)}
    values = read(written(tmp_path / 'w.safetensors', state), record.NETWORKS[name][0])
    assert set(lacks) <= set(values.lacks)
    assert not [name for name in values.shapes if name.startswith(lacks)]


def test_keys_that_are_missing_or_unknown_are_named(tmp_path):
    state = small('torchvision_googlenet', **{'inception3c.weight': np.zeros(2, 'f')})
    del state['fc.bias'], state['conv2.bn.running_mean']
    assert refusal(written(tmp_path / 'w.safetensors', state), 'inception_v1').splitlines() == [
        "FILE seems to be of torchvision's googlenet, but is not the same network.",
        'Missing: conv2.bn.running_mean, fc.bias.', 'Unknown: inception3c.weight.']


def test_shapes_that_do_not_fit(tmp_path):
    path = written(tmp_path / 'w.safetensors', small('torchvision_googlenet', **{'conv1.bn.weight': np.ones(5, 'f')}))
    assert refusal(path, 'inception_v1').startswith(
        "FILE is not of torchvision's googlenet: the shapes do not fit, conv1.conv.weight [3, 3, 7, 7], "
        'conv1.bn.weight [5]')
    grey = small('torchvision_vgg16', **{'features.0.weight': np.ones([3, 1, 3, 3], 'f'),
                                         'classifier.0.weight': np.ones([3, 49 * 3], 'f')})
    assert 'is for images of 1 channels, not of 3' in refusal(written(tmp_path / 'g.safetensors', grey), 'vgg_16')
    path = written(tmp_path / 'w.safetensors', small('torchvision_vgg16'))
    assert 'the shapes do not fit, classifier.0.weight [3, 3], ' in refusal(path, 'vgg_16')


# Other networks. The keys are those of the peers, as test_the_peers_today sees where they are installed.

REFUSED = {
    'torchvision_resnet18': ('layer1.0.conv1.weight', 'a ResNet, which cannot be used: .* stride in the last unit'),
    'timm_resnet18': ('layer1.0.conv1.weight', 'a ResNet, which cannot be used: .* stride in the last unit'),
    'timm_resnetv2_50': ('stages.0.blocks.0.conv1.weight', 'a ResNet V2, .* stride in the last unit'),
    'torchvision_vgg16_bn': ('features.1.running_mean', "VGG with batch norm, .* TF-Slim's has none"),
    'timm_vgg16': ('pre_logits.fc1.weight', "timm's VGG, .* torchvision's has the same weights"),
    'timm_mobilenetv3_large_100': ('conv_stem.weight', "timm's MobileNet .* pads"),
    'torchvision_mobilenet_v2': ('features.0.0.weight', "torchvision's MobileNet .* pads"),
    'torchvision_vgg11': ('features.18.weight', "of none of the PyTorch networks .* are torchvision's googlenet, "),
}


@pytest.mark.parametrize('name', REFUSED)
def test_networks_that_are_not_the_same_function(tmp_path, name):
    key, message = REFUSED[name]
    path = written(tmp_path / 'w.safetensors', {'conv1.weight': np.zeros(2, 'f'), key: np.zeros(2, 'f')})
    for network in ('resnet_v1_50', 'inception_v1'):
        pytest.raises(CheckpointError, read, path, network).match(message)


def test_weights_of_another_network_of_ours(tmp_path):
    path = written(tmp_path / 'w.safetensors', small('torchvision_vgg19'))
    assert refusal(path, 'vgg_16') == \
        "FILE seems to be of torchvision's vgg19, whose weights are for vgg_19, not for vgg_16."
    assert 'for vgg_19, not for resnet_v1_50' in refusal(path, 'resnet_v1_50')


# Files that cannot be read.

@pytest.mark.parametrize('content', [b'', b'<html>There is no such file</html>', None])
def test_damaged_safetensors(tmp_path, content):
    path = tmp_path / 'w.safetensors'
    written(path, small('torchvision_googlenet'))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    message = refusal(path, 'inception_v1')
    assert message.startswith('FILE is not a safetensors file, or is damaged: ') and '\n' not in message


@pytest.mark.parametrize('name', ['w.safetensors', 'w.pth'])
def test_no_file(tmp_path, name):
    assert refusal(tmp_path / name, 'inception_v1') == 'There is no file FILE.'
    os.mkdir(tmp_path / name)
    assert refusal(tmp_path / name, 'inception_v1') == 'There is no file FILE.'


class Malice:
    """What makes a file, when it is unpickled, when nothing watches over that."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('torch, message', [
    (None, 'Reading FILE needs PyTorch: pip install torch. A .safetensors file does not.'),
    (types.SimpleNamespace(__version__='2.5.1+cpu'),
     'Reading FILE needs PyTorch 2.6 or later: this one, 2.5.1+cpu, can run code from the file even where only weights '
     'are asked for (CVE-2025-32434).')])
def test_nothing_but_torch_opens_a_pickle(tmp_path, monkeypatch, torch, message):
    monkeypatch.setitem(sys.modules, 'torch', torch)
    path, made = tmp_path / 'w.pth', tmp_path / 'made'
    path.write_bytes(pickle.dumps({'fc.weight': Malice(str(made))}))
    assert refusal(path, 'inception_v1') == message
    assert not made.exists()
    pickle.loads(path.read_bytes())     # the file is what it says
    assert made.exists()


def test_without_safetensors(tmp_path, monkeypatch):
    path = written(tmp_path / 'w.safetensors', small('torchvision_googlenet'))
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    assert refusal(path, 'inception_v1') == \
        "Reading FILE needs the package safetensors: pip install 'slim-zoo[weights]'."


# With torch.

@pytest.fixture
def torch():
    return pytest.importorskip('torch')


@pytest.mark.parametrize('ending', ['.pth', '.pt', '.bin'])
def test_files_of_torch(tmp_path, torch, ending):
    tensors = {key: torch.from_numpy(value) for key, value in small('torchvision_inception_v3').items()}
    halves = {key: value.bfloat16() for key, value in tensors.items()}
    parameters = {f'module.{key}': torch.nn.Parameter(value) for key, value in halves.items()}
    for saved, state in ((tensors, tensors), ({'epoch': 3, 'state_dict': tensors}, tensors),
                         ({'model': parameters}, halves)):
        torch.save(saved, tmp_path / f'w{ending}')
        plain = {key: value.float().numpy() for key, value in state.items()}
        assert_same(read(tmp_path / f'w{ending}', 'inception_v3'),
                    read(written(tmp_path / 'w.safetensors', plain), 'inception_v3'))


def test_files_that_hold_more_than_tensors(tmp_path, torch):
    path, made = tmp_path / 'w.pth', tmp_path / 'made'
    for protocol in (2, 4):
        torch.save({'fc.weight': torch.zeros(2), 'other': Malice(str(made))}, path, pickle_protocol=protocol)
        assert 'FILE cannot be read: ' in refusal(path, 'inception_v1')
        path.write_bytes(pickle.dumps(Malice(str(made)), protocol))
        assert 'FILE cannot be read: ' in refusal(path, 'inception_v1')
        assert not made.exists()
    torch.save(torch.nn.Linear(2, 2), path)
    assert refusal(path, 'inception_v1') == (
        'FILE cannot be read: it holds objects, torch.nn.modules.linear.Linear for one, and loading these could run '
        'code. Save model.state_dict() instead of the model.')


@pytest.mark.parametrize('content', [b'', b'garbage', b'PK\x03\x04', b'\x80\x02}q\x00.'])
def test_damaged_files_of_torch(tmp_path, torch, content):
    path = tmp_path / 'w.pth'
    path.write_bytes(content)
    assert refusal(path, 'inception_v1') == 'FILE cannot be read: it is not a file of torch.save, or is damaged.'
    torch.save([torch.zeros(2)], path)
    assert refusal(path, 'inception_v1') == 'FILE holds no state dict: save model.state_dict().'


@pytest.mark.parametrize('name', record.NETWORKS)
def test_the_peers_today(torch, name):
    """They answer as they did when they were recorded."""
    pytest.importorskip(name.partition('_')[0])
    network, recorded = record.make(name), golden(name)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == recorded['state_dict']
    for case in recorded['cases']:
        answers = record.answers(name, network, case['images'])
        for endpoint, expected in case['outputs'].items():
            found = record.digest(answers[endpoint])
            assert found['indices'] == expected['indices']
            np.testing.assert_allclose(found['values'], expected['values'], rtol=1e-4, atol=1e-4 * expected['std'])


@pytest.mark.parametrize('name', REFUSED)
def test_keys_of_the_peers_that_are_refused(torch, name):
    library, _, model = name.partition('_')
    peer = pytest.importorskip(library)
    with torch.device('meta'):
        network = peer.create_model(model) if library == 'timm' else getattr(peer.models, model)()
    assert REFUSED[name][0] in network.state_dict()
