"""State dicts of torchvision and timm under TF-Slim's names.

They are read for the networks that are the same functions there: torchvision's `googlenet`, `inception_v3`, `vgg16` and
`vgg19`, timm's `inception_v3`, `inception_v4` and `inception_resnet_v2`. What differs, and what becomes of it:

- Kernels [maps, channels, height, width] become [height, width, channels, maps], fully connected layers convolutions.
- Batch norm has a factor gamma there. TF-Slim's has none: the kernel before it and the moving mean take it, which is
  exact for any gamma as long as the moving statistics are used. Training with statistics of the batch loses it.
- torchvision's GoogLeNet and both Inception V3 pad maps otherwise: `torch_padding=True` builds the network with theirs.
- torchvision's VGG takes colours divided by their deviation. The first kernel takes the deviation, so that the network
  takes TF-Slim's images; of the mean colours, which differ by up to 0.5 of 255, it takes TF-Slim's.
- The auxiliary classifiers of GoogLeNet were never trained, and are left out. That of Inception V3 is TF-Slim's.
- All take images as the TF-Slim network does, but for timm's `inception_v3.gluon_in1k`: its images are normalised with
  mean and deviation, as those of torchvision's VGG. Its file does not tell.
- They have 1000 classes, without TF-Slim's background.
"""
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from nets import inception_resnet_v2, inception_v1, inception_v3, inception_v4, registry, table, vgg
from nets.checkpoints import CheckpointError, Values

STANDARD_DEVIATIONS = (0.229, 0.224, 0.225)     # of red, green and blue in 0..1, by which torchvision's VGG divides

_NORMED = ('conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var')
_BIASED = ('weight', 'bias')


class _Layer(NamedTuple):
    """A layer's name in the file, and its scope here below the network's.

    `kernel` is None for a convolution with batch norm. It is the height and width of the kernel that the weights of
    a layer with biases become, and 0 where they stay a matrix.
    """

    theirs: str
    ours: str
    kernel: int | None = None

    @property
    def keys(self) -> list[str]:
        return [f'{self.theirs}.{leaf}' for leaf in (_NORMED if self.kernel is None else _BIASED)]

    def values(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        weights, *others = (np.asarray(state[key], np.float32) for key in self.keys)
        if self.kernel is None:
            gamma, beta, mean, variance = others
            return {'weights': _kernel(weights) * gamma, 'BatchNorm/beta': beta,
                    'BatchNorm/moving_mean': mean * gamma, 'BatchNorm/moving_variance': variance}
        if self.kernel:
            weights = weights.reshape(len(weights), -1, self.kernel, self.kernel)
        return {'weights': _kernel(weights), 'biases': others[0]}


def _kernel(weights):
    return weights.transpose(*range(2, weights.ndim), 1, 0)


def _with_weights(rows):
    return [(row, item) for row, item in rows
            if isinstance(item, tuple) or isinstance(item, table.Layer) and item.width]


def _rows(rows: table.Table, theirs: Iterable[str], branches: Mapping[str, str]) -> Iterator[_Layer]:
    """The layers of a table: `theirs` names its rows there, `branches` the convolutions of a row or of rows like it."""
    for (row, item), module in zip(_with_weights(rows), theirs, strict=True):
        if isinstance(item, tuple):
            yield from _module(item, module, row, branches.get(row) or branches[row[:-1]])
        else:
            yield _Layer(module, row)


def _module(item: table.Module, theirs: str, ours: str, names: str) -> Iterator[_Layer]:
    for name, scope in zip(names.split(), table.convolutions(item), strict=True):
        yield _Layer(f'{theirs}.{name}', f'{ours}/{scope}')


def _prefixed(prefix, names):
    return ' '.join(prefix + name for name in names.split())


def _googlenet():
    theirs = 'conv1 conv2 conv3 ' + _prefixed('inception', '3a 3b 4a 4b 4c 4d 4e 5a 5b')
    names = _prefixed('branch', '1 2.0 2.1 3.0 3.1 4.1')
    yield from _rows(inception_v1.ROOT_BLOCK + inception_v1.modules(), theirs.split(),
                     {'Mixed_3': names, 'Mixed_4': names, 'Mixed_5': names})
    yield _Layer('fc', 'Logits/Conv2d_0c_1x1', kernel=1)


def _inception_v3():
    theirs = [row for row, _ in _with_weights(inception_v3.TABLE)]
    yield from _rows(inception_v3.TABLE, theirs, {name: _prefixed('branch', names) for name, names in {
        'Mixed_5': '1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool',
        'Mixed_6a': '3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3',
        'Mixed_6': '1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool',
        'Mixed_7a': '3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4',
        'Mixed_7': '1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool',
    }.items()})
    yield _Layer('AuxLogits.conv0', 'AuxLogits/Conv2d_1b_1x1')
    yield _Layer('AuxLogits.conv1', 'AuxLogits/Conv2d_2a_5x5')
    yield _Layer('AuxLogits.fc', 'AuxLogits/Conv2d_2b_1x1', kernel=1)
    yield _Layer('fc', 'Logits/Conv2d_1c_1x1', kernel=1)


def _inception_v4():
    theirs = [f'features.{number}' for number in range(len(inception_v4.TABLE))]
    yield from _rows(inception_v4.TABLE, theirs, {
        'Mixed_3a': 'conv',
        'Mixed_4a': _prefixed('branch', '0.0 0.1 1.0 1.1 1.2 1.3'),
        'Mixed_5a': 'conv',
        'Mixed_5': _prefixed('branch', '0 1.0 1.1 2.0 2.1 2.2 3.1'),
        'Mixed_6a': _prefixed('branch', '0 1.0 1.1 1.2'),
        'Mixed_6': _prefixed('branch', '0 1.0 1.1 1.2 2.0 2.1 2.2 2.3 2.4 3.1'),
        'Mixed_7a': _prefixed('branch', '0.0 0.1 1.0 1.1 1.2 1.3'),
        'Mixed_7': _prefixed('branch', '0 1_0 1_1a 1_1b 2_0 2_1 2_2 2_3a 2_3b 3.1'),
    })
    yield _Layer('last_linear', 'Logits/Logits', kernel=0)


def _inception_resnet_v2():
    theirs = 'conv2d_1a conv2d_2a conv2d_2b conv2d_3b conv2d_4a mixed_5b mixed_6a mixed_7a conv2d_7b'
    yield from _rows(inception_resnet_v2.rows(), theirs.split(), {
        'Mixed_5b': _prefixed('branch', '0 1.0 1.1 2.0 2.1 2.2 3.1'),
        'Mixed_6a': _prefixed('branch', '0 1.0 1.1 1.2'),
        'Mixed_7a': _prefixed('branch', '0.0 0.1 1.0 1.1 2.0 2.1 2.2'),
    })
    blocks = [('block8', 'Block8', inception_resnet_v2.BLOCK_8)]
    for theirs, ours, module, times in (('repeat', 'Repeat/block35', inception_resnet_v2.BLOCK_35, 10),
                                        ('repeat_1', 'Repeat_1/block17', inception_resnet_v2.BLOCK_17, 20),
                                        ('repeat_2', 'Repeat_2/block8', inception_resnet_v2.BLOCK_8, 9)):
        blocks += [(f'{theirs}.{number}', f'{ours}_{number + 1}', module) for number in range(times)]
    for theirs, ours, module in blocks:
        names = '0 1.0 1.1 2.0 2.1 2.2' if module is inception_resnet_v2.BLOCK_35 else '0 1.0 1.1 1.2'
        yield from _module(module, theirs, ours, _prefixed('branch', names))
        yield _Layer(f'{theirs}.conv2d', f'{ours}/Conv2d_1x1', kernel=1)
    yield _Layer('classif', 'Logits/Logits', kernel=0)


def _vgg(name):
    number = 0
    for block, convolutions in enumerate(vgg.CONVOLUTIONS[name], 1):
        for i in range(1, convolutions + 1):
            yield _Layer(f'features.{number}', f'conv{block}/conv{block}_{i}', kernel=3)
            number += 2                             # its ReLU
        number += 1                                 # the pooling
    yield _Layer('classifier.0', 'fc6', kernel=7)   # it reads the map in the order maps, height, width
    yield _Layer('classifier.3', 'fc7', kernel=1)
    yield _Layer('classifier.6', 'fc8', kernel=1)


class _Peer(NamedTuple):
    """A network as PyTorch knows it: whose, a key that a file of it has, its layers, and keys that are left out."""

    name: str
    mark: str
    layers: Callable[[], Iterable[_Layer]]
    left_out: str = r'.*\.num_batches_tracked'


_PEERS = {                      # in the order of looking: a VGG-19 has what marks a VGG-16
    'inception_v1': _Peer("torchvision's googlenet", 'inception3a.branch1.conv.weight', _googlenet,
                          r'aux[12]\..*|.*\.num_batches_tracked'),
    'inception_v3': _Peer("torchvision's or timm's inception_v3", 'Mixed_5b.branch5x5_1.conv.weight', _inception_v3),
    'inception_v4': _Peer("timm's inception_v4", 'features.21.branch1_1a.conv.weight', _inception_v4),
    'inception_resnet_v2': _Peer("timm's inception_resnet_v2", 'repeat_2.0.conv2d.weight', _inception_resnet_v2),
    'vgg_19': _Peer("torchvision's vgg19", 'features.34.bias', lambda: _vgg('vgg_19')),
    'vgg_16': _Peer("torchvision's vgg16", 'features.28.bias', lambda: _vgg('vgg_16')),
}
_OPTIONAL = ('AuxLogits', 'Logits', 'fc8')      # scopes that a file may lack as a whole

_STRIDES = ("TF-Slim's have the stride in the last unit of a block, these in the first, so that they would answer "
            'wrongly with the same weights')
_ANOTHER_PADDING = 'PyTorch pads their maps otherwise, and that is not supported'
_REFUSED = {                    # a key of the file -> what it seems to be, and why it is not read
    'layer1.0.conv1.weight': ('a ResNet', _STRIDES),
    'stages.0.blocks.0.conv1.weight': ('a ResNet V2', _STRIDES),
    'features.1.running_mean': ('a VGG with batch norm', "TF-Slim's has none"),
    'pre_logits.fc1.weight': ("timm's VGG", "torchvision's has the same weights and is read"),
    'conv_stem.weight': ("timm's MobileNet or EfficientNet", _ANOTHER_PADDING),
    'features.0.0.weight': ("torchvision's MobileNet or EfficientNet", _ANOTHER_PADDING),
}


def read(path: str, network: registry.Network) -> Values:
    """Reads the state dict of a network of torchvision or timm.

    Args:
      path: `.safetensors`, which needs the package of that name; or a file that torch wrote (`.pth`, `.pt`, `.bin`),
        which needs PyTorch 2.6 and is read without running code from it. The state dict may stand under `state_dict`
        or `model`, and its keys may begin with `module.`. Any float type will do.
      network: the row of the network that the weights are for.

    Returns:
      The values as float32 variables of the network, computed as the head of this module says.

    Raises:
      CheckpointError: the file cannot be read; it is of another network, or of one that computes something else than
        `network`; or a package is not installed.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f'There is no file {path}.')
    state = _read_safetensors(path) if path.endswith('.safetensors') else _read_torch(path)
    state = {re.sub(r'^((module|_orig_mod)\.)+', '', key): value for key, value in state.items()}
    peer = _find(path, state, network)

    layers = list(peer.layers())
    present = {layer.ours.split('/')[0] for layer in layers if any(key in state for key in layer.keys)}
    lacks = [scope for scope in _OPTIONAL if scope not in present]
    layers = [layer for layer in layers if layer.ours.split('/')[0] not in lacks]
    wanted = dict.fromkeys(key for layer in layers for key in layer.keys)
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted and not re.fullmatch(peer.left_out, key)]
    if missing or extra:
        parts = [f'{path} seems to be of {peer.name}, but is not the same network.']
        parts += [f'{title}: {", ".join(keys)}.' for title, keys in (('Missing', missing), ('Unknown', extra)) if keys]
        raise CheckpointError('\n'.join(parts))

    values = {}
    for layer in layers:
        try:
            of_layer = layer.values(state)
        except (ValueError, TypeError):     # NumPy's
            shapes = ', '.join(f'{key} {list(state[key].shape)}' for key in layer.keys)
            raise CheckpointError(f'{path} is not of {peer.name}: the shapes do not fit, {shapes}.') from None
        values.update({f'{network.scope}/{layer.ours}/{leaf}': value for leaf, value in of_layer.items()})
    if network.name.startswith('vgg'):
        name = f'{network.scope}/conv1/conv1_1/weights'
        if values[name].shape[2] != 3:
            raise CheckpointError(f'{path} is for images of {values[name].shape[2]} channels, not of 3.')
        values[name] = values[name] / (255 * np.asarray(STANDARD_DEVIATIONS, np.float32)[:, None])
    return Values(path, values, [f'{network.scope}/{scope}' for scope in lacks])


def _find(path, state, network):
    """The peer whose file this is, which must be that of `network`."""
    for key, (name, reason) in _REFUSED.items():
        if key in state:
            raise CheckpointError(f'{path} seems to be of {name}, which cannot be used: {reason}.')
    found = next((name for name, peer in _PEERS.items() if peer.mark in state), None)
    if found is None:
        raise CheckpointError(
            f'{path} is of none of the PyTorch networks that can be used, which are '
            f'{", ".join(peer.name for peer in _PEERS.values())}. Its first keys: {", ".join(list(state)[:3])}.')
    if found != network.name:
        raise CheckpointError(f'{path} seems to be of {_PEERS[found].name}, whose weights are for {found}, not for '
                              f'{network.name}.')
    return _PEERS[found]


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise CheckpointError(
            f"Reading {path} needs the package safetensors: pip install 'slim-zoo[weights]'.") from None
    try:
        with safe_open(path, framework='np') as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, TypeError, AttributeError) as error:      # the last two: a type NumPy has not
        raise CheckpointError(f'{path} is not a safetensors file, or is damaged: {error}.') from None


def _read_torch(path: str) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f'Reading {path} needs PyTorch: pip install torch. A .safetensors file does not.') from None
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        raise CheckpointError(f'Reading {path} needs PyTorch 2.6 or later: this one, {torch.__version__}, can run code '
                              'from the file even where only weights are asked for (CVE-2025-32434).')
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror or error}.') from None
    except Exception as error:      # a damaged pickle may raise anything
        objects = re.search(r'GLOBAL (\S+)', str(error))
        why = (f'it holds objects, {objects[1]} for one, and loading these could run code. Save model.state_dict() '
               'instead of the model' if objects else 'it is not a file of torch.save, or is damaged')
        raise CheckpointError(f'{path} cannot be read: {why}.') from None
    for key in ('state_dict', 'model'):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f'{path} holds no state dict: save model.state_dict().')
    return {key: value.detach().float().numpy() for key, value in tensors.items()}
