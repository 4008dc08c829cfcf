"""Small images that are published as arrays: CIFAR in its binary version, and MNIST's idx files."""
import gzip
import os
import zlib

import numpy as np

from datasets.conversion.collection import SINGLE, Collection, Item, SplitOptions
from datasets.conversion.sources import splitting
from datasets.provider import DatasetError
from datasets.registry import DATASETS

_PIXELS = 3 * 32 * 32
_LARGEST = 10**9    # bytes of an unpacked file


def cifar10(folder: str, options: SplitOptions) -> Collection:
    """CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, a byte of label before the pixels."""
    splitting.refuse('cifar10', options)
    root = _root(folder, 'cifar-10-batches-bin', 'test_batch.bin')
    files = {'train': [f'data_batch_{number}.bin' for number in range(1, 6)], 'test': ['test_batch.bin']}
    return _cifar('cifar10', root, files, 1, options)


def cifar100(folder: str, options: SplitOptions) -> Collection:
    """CIFAR-100: `train.bin` and `test.bin`, bytes of the coarse label and the fine one before the pixels.

    The fine label is the class; `image/class/coarse_label` has the other.
    """
    splitting.refuse('cifar100', options)
    root = _root(folder, 'cifar-100-binary', 'train.bin')
    return _cifar('cifar100', root, {'train': ['train.bin'], 'test': ['test.bin']}, 2, options)


def mnist(folder: str, options: SplitOptions) -> Collection:
    """MNIST: four idx files, packed with gzip or not."""
    return _idx('mnist', folder, options)


def fashion_mnist(folder: str, options: SplitOptions) -> Collection:
    """Fashion-MNIST: idx files of the same names."""
    return _idx('fashion_mnist', folder, options)


def _cifar(name, root, files, num_labels, options):
    class_names, splits = _names(name), {}
    for split, parts in files.items():
        items = splits[split] = []
        for part in parts:
            data = np.frombuffer(_bytes(os.path.join(root, part)), np.uint8)
            if not len(data) or len(data) % (num_labels + _PIXELS):
                raise DatasetError(f'{os.path.join(root, part)} has {len(data)} bytes, which is no number of images of '
                                   f'{num_labels + _PIXELS} bytes: it is cut short, or not of the binary version.')
            rows = data.reshape(-1, num_labels + _PIXELS)
            labels = rows[:, num_labels - 1].tolist()
            _check(os.path.join(root, part), labels, class_names)
            pixels = rows[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            more = [{'image/class/coarse_label': int(row[0])} if num_labels == 2 else {} for row in rows]
            items += [Item(f'{part}[{number}]', image, label, features) for number, (image, label, features)
                      in enumerate(zip(pixels, labels, more, strict=True))]
    return _collection(name, splits, class_names, options)


def _idx(name, folder, options):
    splitting.refuse(name, options)
    class_names, splits = _names(name), {}
    for split, start in (('train', 'train'), ('test', 't10k')):
        pixels = _array(folder, f'{start}-images-idx3-ubyte', 3)
        labels = _array(folder, f'{start}-labels-idx1-ubyte', 1).tolist()
        if len(pixels) != len(labels):
            raise DatasetError(f'{folder} has {len(pixels)} images of {split}, but {len(labels)} labels.')
        _check(f'{start}-labels-idx1-ubyte', labels, class_names)
        splits[split] = [Item(f'{start}-images[{number}]', image[..., np.newaxis], label)
                         for number, (image, label) in enumerate(zip(pixels, labels, strict=True))]
    return _collection(name, splits, class_names, options)


def _array(folder, name, rank):
    """What an idx file holds: a number for the type (8, uint8) and rank, the shape in big-endian, the values."""
    path = next((path for path in (os.path.join(folder, name), os.path.join(folder, name + '.gz'))
                 if os.path.exists(path)), None)
    if path is None:
        raise DatasetError(f'{folder} has no file {name}, nor {name}.gz.')
    data = _bytes(path)
    shape = np.frombuffer(data[4:4 + 4 * rank], '>i4').tolist() if len(data) >= 4 + 4 * rank else [-1]
    if data[:4] != bytes([0, 0, 8, rank]) or len(data) != 4 + 4 * rank + int(np.prod(shape)):
        raise DatasetError(f'{path} is cut short, or no idx file of {rank} dimensions.')
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _bytes(path):
    try:
        with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as file:
            data = file.read(_LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}.') from None
    if len(data) == _LARGEST:
        raise DatasetError(f'{path} is too large to be what it should be.')
    return data


def _root(folder, name, file):
    """The folder with the file: what the archive unpacks to, or the folder itself."""
    for root in (os.path.join(folder, name), folder):
        if os.path.exists(os.path.join(root, file)):
            return root
    raise DatasetError(f'{folder} has neither {file} nor {name}/{file}.')


def _names(name):
    return dict(enumerate(DATASETS[name].class_names or ()))


def _check(path, labels, class_names):
    if labels and max(labels) >= len(class_names):
        raise DatasetError(f'{path} has a label {max(labels)}; they should be below {len(class_names)}.')


def _collection(name, splits, class_names, options):
    if options.num_shards not in (None, 1):
        raise DatasetError(f'{name} is one file a split, as in TF-Slim: leave out --num_shards.')
    return Collection(name, splits, class_names, dict.fromkeys(splits, 1), SINGLE)
