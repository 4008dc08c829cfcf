"""Weights of torchvision and timm, against what these libraries answered: tests/golden/pytorch_*.json.

benchmarks/record_pytorch.py wrote them, and has the made weights and images. Where torch is installed, with torchvision
and timm, they are asked again, and files that torch wrote are read.
"""
import importlib.util
import json
import os
import pathlib

import numpy as np
import pytest

import nets
from nets import checkpoints, registry, weights

safetensors = pytest.importorskip('safetensors.numpy')

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location('record_pytorch', ROOT / 'benchmarks' / 'record_pytorch.py')
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)


def golden(name):
    return json.loads((ROOT / 'tests' / 'golden' / f'pytorch_{name}.json').read_text())


def made(name):
    """The state dict that the peer was given."""
    return {key: record.made_weights(key, shape) for key, shape in golden(name)['state_dict'].items()}


def written(path, state):
    safetensors.save_file(state, path)
    return str(path)


@pytest.fixture
def model_of(tmp_path):
    """The peer's weights, by way of a file, in a network of ours."""
    def make(name, read=weights.read, dtype=np.float32, **arguments):
        network = record.NETWORKS[name][0]
        path = written(tmp_path / 'w.safetensors', {key: value.astype(dtype) for key, value in made(name).items()})
        values = read(path, registry.get(network))
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


@pytest.mark.parametrize('name', [
    name if 'vgg' not in name else pytest.param(name, marks=pytest.mark.slow) for name in record.NETWORKS])
def test_the_same_answers(name, model_of):
    model = model_of(name, dtype=np.float16 if 'vgg' in name else np.float32,
                     **ARGUMENTS.get(record.NETWORKS[name][0], {}))
    for case in golden(name)['cases']:
        assert_answers(model, case)
