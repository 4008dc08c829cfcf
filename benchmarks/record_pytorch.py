"""Records what torchvision's and timm's networks answer with made weights, for tests/nets/test_pytorch_weights.py.

    pip install torch torchvision timm        # in an environment of its own; TensorFlow is not needed
    python benchmarks/record_pytorch.py       # writes tests/golden/pytorch_*.json, all of them or those named

The weights are a function of their key and shape, so the files hold none: they hold the keys and shapes of the state
dict, and for some images, made from their shape, the logits and three endpoints or more: mean, deviation and samples.
"""
import argparse
import json
import math
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'tests' / 'golden'
SAMPLES = 32
_BLOCK = 1_000_003      # a prime, so that no axis of a large kernel repeats itself

# Name -> network here; shapes of images [batch, height, width, 3]; and of the outputs module there -> endpoint here.
NETWORKS = {
    'torchvision_googlenet': ('inception_v1', [(2, 75, 106, 3), (2, 63, 63, 3)], {
        'conv1': 'Conv2d_1a_7x7', 'inception3b': 'Mixed_3c', 'inception5b': 'Mixed_5c', '': 'Logits'}),
    **{f'{library}_inception_v3': ('inception_v3', [(1, 299, 299, 3)], {
        pool: 'MaxPool_5a_3x3', 'Mixed_5b': 'Mixed_5b', 'Mixed_6e': 'Mixed_6e', 'Mixed_7c': 'Mixed_7c',
        'AuxLogits': 'AuxLogits', '': 'Logits'}) for library, pool in (('torchvision', 'maxpool2'), ('timm', 'Pool2'))},
    'timm_inception_v4': ('inception_v4', [(2, 128, 107, 3)], {
        'features.2': 'Conv2d_2b_3x3', 'features.9': 'Mixed_5e', 'features.21': 'Mixed_7d', '': 'Logits'}),
    'timm_inception_resnet_v2': ('inception_resnet_v2', [(2, 128, 107, 3)], {
        'mixed_5b': 'Mixed_5b', 'repeat_1': 'PreAuxLogits', 'conv2d_7b': 'Conv2d_7b_1x1', '': 'Logits'}),
    **{f'torchvision_vgg{depth}': (f'vgg_{depth}', [(1, 224, 224, 3)], {
        'features.1': f'vgg_{depth}/conv1/conv1_1', f'features.{pool}': f'vgg_{depth}/pool5',
        'classifier.1': f'vgg_{depth}/fc6', '': f'vgg_{depth}/fc8'}) for depth, pool in ((16, 30), (19, 36))},
}


def made_weights(key: str, shape: list[int]) -> np.ndarray:
    """The value of a key of a state dict: float32 that float16 can hold. Factors of batch norm may be negative or 0."""
    if key.endswith('num_batches_tracked'):
        return np.array(7)
    random = np.random.RandomState(zlib.crc32(key.encode()))
    size = math.prod(shape)
    value = random.uniform(-1, 1, min(size, _BLOCK)).astype(np.float16).astype(np.float32)
    if key.endswith('running_var'):
        value = 1 + value / 2
    elif len(shape) == 1 and key.endswith('weight'):    # of batch norm
        value = np.sign(value) * (0.5 + np.abs(value))
        value[0] = 0
    elif len(shape) == 1:
        value /= 8
    else:
        value *= math.sqrt(6 / math.prod(shape[1:]))
    return np.resize(value.astype(np.float16), shape).astype(np.float32)


def made_images(shape: tuple[int, ...], network: str) -> np.ndarray:
    """Images [batch, height, width, 3]: of whole numbers in 0..255 for VGG, in -1..1 for the others; float32."""
    random = np.random.RandomState(0)
    if network.startswith('vgg'):
        return random.randint(0, 256, shape).astype(np.float32)
    return random.uniform(-1, 1, shape).astype(np.float32)


def make(name: str):
    """The network of torchvision or timm, with made weights, for evaluation; takes images as its published weights."""
    import torch
    library, _, model = name.partition('_')
    if library == 'timm':
        import timm
        network = timm.create_model(model, **({'aux_logits': True} if model == 'inception_v3' else {}))
    else:
        from torchvision import models
        network = getattr(models, model)(weights=None, **({} if 'vgg' in model else {'init_weights': False}))
    network.load_state_dict({key: torch.from_numpy(made_weights(key, list(value.shape)))
                             for key, value in network.state_dict().items()})
    return network.eval()


def answers(name: str, network, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What the network answers: endpoint -> output, [batch, height, width, maps] or [batch, classes]."""
    import torch
    ours, _, endpoints = NETWORKS[name]
    outputs = {}

    def keep(endpoint):
        def hook(module, inputs, output):
            # A tuple has the auxiliary logits too; a copy is safe from a ReLU in place.
            outputs[endpoint] = (output[0] if isinstance(output, tuple) else output).clone()
        return hook

    hooks = [network.get_submodule(module).register_forward_hook(keep(endpoint))
             for module, endpoint in endpoints.items() if module != 'AuxLogits']
    images = made_images(shape, ours)
    if ours.startswith('vgg'):
        images = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]     # its weights' own transform
    with torch.no_grad():
        network(torch.from_numpy(np.float32(images).transpose(0, 3, 1, 2).copy()))
        if 'AuxLogits' in endpoints:                # which torch leaves out of evaluation
            outputs['AuxLogits'] = network.AuxLogits(outputs['Mixed_6e'])
    for hook in hooks:
        hook.remove()
    return {endpoint: value.numpy().transpose(0, 2, 3, 1) if value.ndim == 4 else value.numpy()
            for endpoint, value in outputs.items()}


def digest(value: np.ndarray) -> dict:
    """Shape, mean, deviation, and values at some indices of the flat array."""
    indices = np.sort(np.random.RandomState(value.size).randint(0, value.size, SAMPLES))
    return {'shape': list(value.shape), 'mean': float(value.mean(dtype=np.float64)),
            'std': float(value.std(dtype=np.float64)), 'indices': indices.tolist(),
            'values': [float(f'{v:.7g}') for v in value.ravel()[indices]]}


def main() -> None:
    """Records the networks named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(NETWORKS))
    names = parser.parse_args().names or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f'unknown: {", ".join(unknown)}. Valid are {", ".join(NETWORKS)}.')
    for name in names:
        network = make(name)
        golden = {
            'state_dict': {key: list(value.shape) for key, value in network.state_dict().items()},
            'cases': [{'images': list(shape), 'outputs': {
                endpoint: digest(value) for endpoint, value in answers(name, network, shape).items()}}
                for shape in NETWORKS[name][1]]}
        # A line for each key: differences can be read.
        (GOLDEN / f'pytorch_{name}.json').write_text(
            '{"state_dict": {\n' + ',\n'.join(f'{json.dumps(k)}: {v}' for k, v in golden['state_dict'].items())
            + '\n},\n"cases": [\n' + ',\n'.join(map(json.dumps, golden['cases'])) + '\n]}\n')
        print(name, {endpoint: output['std'] for endpoint, output in golden['cases'][0]['outputs'].items()})


if __name__ == '__main__':
    main()
