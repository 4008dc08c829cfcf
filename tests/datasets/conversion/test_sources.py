"""Where collections come from: files made here in their published formats, and a server on this machine."""
import collections
import gzip
import hashlib
import http.server
import importlib
import io
import itertools
import json
import os
import random
import struct
import tarfile
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import slim_zoo_download
from datasets import DatasetError, dataset_factory
from datasets.conversion import sources
from datasets.conversion.collection import Item, SplitOptions
from datasets.conversion.convert import Conversion, convert
from datasets.conversion.sources import SOURCES, Archive, Source, arrays, folders, splitting
from slim_zoo_download import DownloadError

PLAIN = SplitOptions()


def jpeg(number):
    file = io.BytesIO()
    Image.new('L', (20, 16), number % 256).save(file, 'JPEG', comment=str(number).encode())
    return file.getvalue()


def photos(root, *paths):
    """Images, each of another content."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(jpeg(number))
    return str(root)


def names(collection):
    return {split: [item.name for item in items] for split, items in collection.splits.items()}


def refusal(read, *arguments):
    with pytest.raises((DatasetError, DownloadError)) as caught:
        read(*arguments)
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Splits.

def numbered(sizes):
    """Items of classes of these sizes, one class after another."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    return [Item(str(number), '', label) for number, label in enumerate(labels)]


def test_flowers_are_split_as_in_tf_slim(tmp_path):
    """Shuffled by Python's generator of seed 0, the first 350 are held out; five files a split, in that order."""
    paths = [f'{name}/{number}.jpg' for name in ('tulips', 'daisy', 'roses', 'dandelion', 'sunflowers')
             for number in range(80)]
    photos(tmp_path, *(f'flower_photos/{path}' for path in paths))
    (tmp_path / 'flower_photos/LICENSE.txt').write_text('CC BY')
    found = sources.read('flowers', str(tmp_path), PLAIN)
    expected = sorted(f'{tmp_path}/flower_photos/{path}' for path in paths)
    random.seed(0)
    random.shuffle(expected)
    assert [item.image for item in found.splits['validation']] == expected[:350]
    assert [item.image for item in found.splits['train']] == expected[350:]
    assert list(found.class_names.items()) == [(0, 'daisy'), (1, 'dandelion'), (2, 'roses'), (3, 'sunflowers'),
                                               (4, 'tulips')]
    assert [shard.file_name for shard in found.shards()] == [
        f'flowers_{split}_{shard:05d}-of-00005.tfrecord' for split in ('train', 'validation') for shard in range(5)]
    assert [len(shard.items) for shard in found.shards()] == [10] * 5 + [70] * 5
    for item in found.splits['validation']:
        assert found.class_names[item.label] == item.name.split('/')[0]


def test_a_split_that_leaves_nothing(tmp_path):
    folder = photos(tmp_path, *(f'{name}/{number}.jpg' for name in 'ab' for number in range(10)))
    assert '350 of 20 images are to be held out' in refusal(sources.read, 'flowers', folder, PLAIN)
    found = sources.read('flowers', folder, SplitOptions(num_validation=5, num_shards=2))
    assert [len(shard.items) for shard in found.shards()] == [7, 8, 2, 3]


@pytest.mark.parametrize('options, held_out', [
    (PLAIN, 10), (SplitOptions(num_validation=7), 7), (SplitOptions(validation_fraction=0.25), 25),
    (SplitOptions(num_validation=0), 0), (SplitOptions(validation_fraction=0.0), 0),
    (SplitOptions(validation_fraction=0.001), 1),
])
def test_how_many_are_held_out(options, held_out):
    items = numbered([60, 40])
    parts = splitting.split(items, options, 0.1)
    assert len(parts.get('validation', [])) == held_out and ('validation' in parts) == bool(held_out)
    assert sorted(int(item.name) for part in parts.values() for item in part) == list(range(100))


def test_the_seed_is_all_that_chance_depends_on():
    items = numbered([50, 50])
    first, again, other = (splitting.split(items, SplitOptions(seed=seed), 0.1) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize('sizes, held_out', [([100, 100], [10, 10]), ([300, 60, 40], [30, 6, 4]), ([91, 9], [9, 1])])
def test_stratified(sizes, held_out):
    for seed in range(5):
        parts = splitting.split(numbered(sizes), SplitOptions(seed=seed, stratify=True), 0.1)
        counts = collections.Counter(item.label for item in parts['validation'])
        assert [counts[label] for label in range(len(sizes))] == held_out
    plain = [collections.Counter(item.label for item in splitting.split(
        numbered(sizes), SplitOptions(seed=seed), 0.1)['validation']) for seed in range(5)]
    assert any([counts[label] for label in range(len(sizes))] != held_out for counts in plain)


# Folders and lists of one's own.

def test_class_folders(tmp_path):
    folder = photos(tmp_path / 'my photos é', *(f'{name}/{more}{number}.jpg' for name in ('wren', 'Robin')
                                                for more in ('', 'deep/er/') for number in range(10)))
    (tmp_path / 'my photos é/wren/notes.txt').write_text('a wren')
    (tmp_path / 'my photos é/wren/.hidden.jpg').write_text('')
    found = sources.read('birds', folder, PLAIN)
    assert found.class_names == {0: 'Robin', 1: 'wren'}
    assert {split: len(items) for split, items in found.splits.items()} == {'train': 36, 'validation': 4}
    assert {item.name for items in found.splits.values() for item in items} == {
        f'{name}/{more}{number}.jpg' for name in ('wren', 'Robin') for more in ('', 'deep/er/') for number in range(10)}
    assert found.shards()[0].file_name == 'birds_train_00000-of-00005.tfrecord'
    assert sources.read('birds', folder, PLAIN) == found


@pytest.mark.parametrize('train, validation', [('train', 'validation'), ('Train', 'val'), ('training', 'valid')])
def test_folders_of_splits(tmp_path, train, validation):
    folder = photos(tmp_path, *(f'{split}/{name}/{number}.jpg' for split in (train, validation, 'test')
                                for name in ('wren', 'robin') for number in range(3)))
    found = sources.read('birds', folder, PLAIN)
    assert set(found.splits) == {'train', 'validation', 'test'}
    for split, folder_of_split in (('train', train), ('validation', validation), ('test', 'test')):
        assert sorted(item.name for item in found.splits[split]) == sorted(
            f'{folder_of_split}/{name}/{number}.jpg' for name in ('wren', 'robin') for number in range(3))
    assert found.num_shards == {'train': 5, 'validation': 5, 'test': 5}
    assert 'leave out --num_validation' in refusal(sources.read, 'birds', str(tmp_path), SplitOptions(num_validation=1))


def test_labels_of_ones_own(tmp_path):
    folder = photos(tmp_path, 'wren/1.jpg', 'wren/2.jpg', 'robin/1.jpg', 'robin/2.jpg')
    (tmp_path / 'labels.txt').write_text('0:background\n1:wren\n2:robin\n')
    found = sources.read('birds', folder, PLAIN)
    assert found.class_names == {0: 'background', 1: 'wren', 2: 'robin'}
    assert all(found.class_names[item.label] == item.name.split('/')[0]
               for items in found.splits.values() for item in items)


@pytest.mark.parametrize('paths, why', [
    ([], 'has no class folders'), (['1.jpg', '2.jpg'], 'has no class folders'),
    (['a/1.jpg'], 'has one class folder only, a,'), (['a/1.jpg', 'b/1.txt'], 'class folder b in'),
    (['train/a/1.jpg', 'train/b/1.jpg', 'val/a/2.jpg', 'valid/a/3.jpg'], 'has two folders of one split: '),
])
def test_folders_that_will_not_do(tmp_path, paths, why):
    assert why in refusal(sources.read, 'birds', photos(tmp_path, *paths), PLAIN)


def test_a_folder_elsewhere():
    for name, number in itertools.product(('wren', 'robin'), range(4)):
        tf.io.gfile.makedirs(f'ram://birds/{name}')
        with tf.io.gfile.GFile(f'ram://birds/{name}/{number}.jpg', 'wb') as file:
            file.write(jpeg(number))
    found = sources.read('birds', 'ram://birds', PLAIN)
    assert {item.image for items in found.splits.values() for item in items} == {
        f'ram://birds/{name}/{number}.jpg' for name in ('wren', 'robin') for number in range(4)}


def test_a_list(tmp_path):
    photos(tmp_path, *(f'{number}.jpg' for number in range(6)))
    lines = [f'{number}.jpg,{"wren" if number % 2 else "robin"},{"validation" if number > 3 else "train"}'
             for number in range(6)]
    (tmp_path / 'birds.csv').write_text('\n'.join(['path,label,split', *lines]))
    for source in 'birds.csv', '.':
        if source == '.':
            for split in 'train', 'validation':
                (tmp_path / f'{split}.csv').write_text('\n'.join(['path,label', *(
                    line.rpartition(',')[0] for line in lines if line.endswith(split))]))
            (tmp_path / 'birds.csv').unlink()
        found = sources.read('birds', str(tmp_path / source), PLAIN)
        assert {split: sorted(items) for split, items in names(found).items()} == {
            'train': ['0.jpg', '1.jpg', '2.jpg', '3.jpg'], 'validation': ['4.jpg', '5.jpg']}
        assert found.class_names == {0: 'robin', 1: 'wren'}
        assert all(item.label == int(item.name[0]) % 2 and item.image.endswith(f'/{item.name}')
                   for items in found.splits.values() for item in items)


def test_a_list_of_images_with_several_labels(tmp_path):
    photos(tmp_path, *(f'{number}.jpg' for number in range(20)))
    labels = [['sky'], ['sea', 'sky'], []]
    (tmp_path / 'views.jsonl').write_text('\n'.join(json.dumps({'path': f'{number}.jpg', 'labels': labels[number % 3]})
                                                    for number in range(20)))
    found = sources.read('views', str(tmp_path / 'views.jsonl'), PLAIN)
    assert found.class_names == {0: 'sea', 1: 'sky'} and len(found.splits['validation']) == 2
    expected = [(1,), (0, 1), ()]
    assert all(item.label == expected[int(item.name[:-4]) % 3] for items in found.splits.values() for item in items)
    convert(Conversion(found, str(tmp_path / 'out')))
    dataset = dataset_factory.get_dataset('tfrecord', 'train', str(tmp_path / 'out'), multi_label=True)
    got = sorted(tuple(example['label'].tolist()) for example in dataset.as_tf_data().as_numpy_iterator())
    assert got == sorted(item.label for item in found.splits['train'])


def test_a_line_of_a_list_that_is_wrong(tmp_path):
    (tmp_path / 'birds.csv').write_text('path,label\na.jpg,wren\nb.jpg\n')
    assert 'birds.csv, line 3 has 1 columns' in refusal(sources.read, 'birds', str(tmp_path / 'birds.csv'), PLAIN)


def test_ones_own_are_read_back(tmp_path):
    """By the dataset that reads any TFRecord files, with the names of the classes."""
    folder = photos(tmp_path / 'in', *(f'{name}/{number}.jpg' for name in ('wren', 'robin') for number in range(10)))
    convert(Conversion(sources.read('birds', folder, PLAIN), str(tmp_path / 'out')))
    dataset = dataset_factory.get_dataset('tfrecord', 'validation', str(tmp_path / 'out'))
    assert (dataset.num_samples, dataset.num_classes, dataset.labels_to_names) == (2, 2, {0: 'robin', 1: 'wren'})


# The published formats.

def cifar(labels, num_labels=1, seed=0):
    """Rows of CIFAR's binary version, and their pixels [n, 32, 32, 3]."""
    pixels = np.random.RandomState(seed).randint(0, 256, (len(labels), 32, 32, 3), np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    head = np.array(labels, np.uint8).reshape(len(labels), num_labels)
    return np.concatenate([head, planes], axis=1).tobytes(), pixels


def idx(array):
    return struct.pack(f'>BBBB{array.ndim}i', 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
        for name, body in files.items():
            info = body if isinstance(body, tarfile.TarInfo) else tarfile.TarInfo()
            info.name = name
            if isinstance(body, bytes):
                info.size = len(body)
            tar.addfile(info, io.BytesIO(body) if isinstance(body, bytes) else None)
    return buffer.getvalue()


CIFAR10 = {f'cifar-10-batches-bin/{name}.bin': cifar([seed, 9 - seed], seed=seed)[0] for seed, name in enumerate(
    ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'])}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def examples(folder, file):
    """(pixels, label, format) of each record."""
    for record in tf.data.TFRecordDataset(str(folder / file)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        encoded = features['image/encoded'].bytes_list.value[0]
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.size == (features['image/width'].int64_list.value[0],
                                  features['image/height'].int64_list.value[0])
            yield (np.asarray(image), features['image/class/label'].int64_list.value[0],
                   features['image/format'].bytes_list.value[0])


@pytest.mark.parametrize('place', ['unpacked', 'the folder itself', 'packed'])
def test_cifar10(tmp_path, place, monkeypatch):
    monkeypatch.setenv('SLIM_ZOO_CACHE', str(tmp_path / 'cache'))
    if place == 'packed':
        (tmp_path / 'in').mkdir()
        (tmp_path / 'in/cifar-10-binary.tar.gz').write_bytes(archive(CIFAR10))
    else:
        write(tmp_path / 'in', CIFAR10)
    source = tmp_path / 'in' / ('cifar-10-batches-bin' if place == 'the folder itself' else '')
    convert(Conversion(sources.read('cifar10', str(source), PLAIN), str(tmp_path / 'out')))
    assert sorted(os.listdir(tmp_path / 'out')) == [
        'cifar10_conversion.json', 'cifar10_report.csv', 'cifar10_test.tfrecord', 'cifar10_train.tfrecord',
        'labels.txt']
    train = list(examples(tmp_path / 'out', 'cifar10_train.tfrecord'))
    assert [label for _, label, _ in train] == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    for number, (pixels, _, kind) in enumerate(train):
        np.testing.assert_array_equal(pixels, cifar([0, 0], seed=number // 2)[1][number % 2])
        assert kind == b'png'
    assert [label for _, label, _ in examples(tmp_path / 'out', 'cifar10_test.tfrecord')] == [5, 4]
    assert (tmp_path / 'out/labels.txt').read_text().splitlines()[::9] == ['0:airplane', '9:truck']
    dataset = dataset_factory.get_dataset('cifar10', 'train', str(tmp_path / 'out'))
    assert dataset.num_samples == 10


def test_cifar100(tmp_path):
    rows, pixels = cifar([(19, 99), (0, 7)], 2)
    folder = write(tmp_path / 'in', {'cifar-100-binary/train.bin': rows, 'cifar-100-binary/test.bin': rows})
    convert(Conversion(sources.read('cifar100', folder, PLAIN), str(tmp_path / 'out')))
    found = list(examples(tmp_path / 'out', 'cifar100_train.tfrecord'))
    assert [label for _, label, _ in found] == [99, 7]
    np.testing.assert_array_equal(found[1][0], pixels[1])
    record = next(tf.data.TFRecordDataset(str(tmp_path / 'out/cifar100_train.tfrecord')).as_numpy_iterator())
    assert tf.train.Example.FromString(record).features.feature[
        'image/class/coarse_label'].int64_list.value == [19]
    assert dataset_factory.get_dataset('cifar100', 'test', str(tmp_path / 'out')).labels_to_names[99] == 'worm'


@pytest.mark.parametrize('name, words', [('mnist', ['0:zero', '9:nine']), ('fashion_mnist', ['0:T-shirt/top',
                                                                                             '9:Ankle boot'])])
@pytest.mark.parametrize('packed', [True, False])
def test_mnist(tmp_path, name, words, packed):
    images = np.random.RandomState(0).randint(0, 256, (5, 28, 28), np.uint8)
    files = {'train-images-idx3-ubyte': idx(images), 'train-labels-idx1-ubyte': idx(np.array([5, 0, 4, 1, 9])),
             't10k-images-idx3-ubyte': idx(images[:2]), 't10k-labels-idx1-ubyte': idx(np.array([7, 2]))}
    folder = write(tmp_path / 'in', {f'{name}.gz' if packed else name: gzip.compress(content) if packed else content
                                     for name, content in files.items()})
    convert(Conversion(sources.read(name, folder, PLAIN), str(tmp_path / 'out')))
    found = list(examples(tmp_path / 'out', f'{name}_train.tfrecord'))
    assert [label for _, label, _ in found] == [5, 0, 4, 1, 9]
    np.testing.assert_array_equal([pixels for pixels, _, _ in found], images)
    assert (tmp_path / 'out/labels.txt').read_text().splitlines()[::9] == words
    assert dataset_factory.get_dataset(name, 'test', str(tmp_path / 'out')).num_samples == 2


def test_imagenette(tmp_path):
    folders_of = ['n01440764', 'n02102040', 'n02979186', 'n03000684', 'n03028079', 'n03394916', 'n03417042',
                  'n03425413', 'n03445777', 'n03888257']
    photos(tmp_path, *(f'imagenette2-320/{split}/{name}/{number}.JPEG' for split in ('train', 'val')
                       for name in folders_of for number in range(2)))
    found = sources.read('imagenette', str(tmp_path), PLAIN)
    assert {split: len(items) for split, items in found.splits.items()} == {'train': 20, 'validation': 20}
    assert found.class_names[0] == 'tench' and found.class_names[9] == 'parachute'
    photos(tmp_path, 'imagenette2-320/train/n99/1.JPEG')
    assert 'has 11 class folders, and Imagenette has 10' in refusal(sources.read, 'imagenette', str(tmp_path), PLAIN)


BAD = [
    (arrays.cifar10, {**CIFAR10, 'cifar-10-batches-bin/data_batch_2.bin': bytes(3072)}, 'has 3072 bytes'),
    (arrays.cifar10, {**CIFAR10, 'cifar-10-batches-bin/data_batch_2.bin': bytes([10]) + bytes(3072)}, 'a label 10'),
    (arrays.cifar10, {'data.bin': b''}, 'has neither test_batch.bin nor cifar-10-batches-bin/test_batch.bin'),
    (arrays.cifar10, {'test_batch.bin': b''}, 'data_batch_1.bin cannot be read: No such file or directory'),
    (arrays.mnist, {}, 'has no file train-images-idx3-ubyte, nor train-images-idx3-ubyte.gz'),
    (arrays.mnist, {'train-images-idx3-ubyte': b'\0\0\x08\x03'}, 'is cut short, or no idx file of 3 dimensions'),
    (arrays.mnist, {'train-images-idx3-ubyte': idx(np.zeros((2, 3, 3)))[:-1]}, 'is cut short, or no idx file'),
    (arrays.mnist, {'train-images-idx3-ubyte.gz': gzip.compress(idx(np.zeros((2, 3, 3))))[:-9]}, 'cannot be read: '),
    (arrays.mnist, {'train-images-idx3-ubyte.gz': b'<html>'}, 'cannot be read: Not a gzipped file'),
    (arrays.mnist, {'train-images-idx3-ubyte': idx(np.zeros((2, 3, 3))),
                    'train-labels-idx1-ubyte': idx(np.zeros(3))}, '2 images of train, but 3 labels'),
]


@pytest.mark.parametrize('read, files, why', BAD)
def test_files_that_are_not_what_they_should_be(tmp_path, read, files, why):
    assert why in refusal(read, write(tmp_path, files), PLAIN)


@pytest.mark.parametrize('options, flag', [
    (SplitOptions(num_validation=5), '--num_validation'),
    (SplitOptions(validation_fraction=0.2), '--validation_fraction'),
    (SplitOptions(stratify=True), '--stratify'), (SplitOptions(num_shards=3), '--num_shards')])
def test_options_that_do_not_fit(tmp_path, options, flag):
    assert f'leave out {flag}' in refusal(arrays.cifar10, write(tmp_path, CIFAR10), options)


# Names.

def test_an_unknown_name(tmp_path):
    text = refusal(sources.read, 'flower', None, PLAIN)
    assert "'flower' is no dataset (did you mean 'flowers'?); there is " in text and '--source_dir' in text
    assert 'there is no nowhere (--source_dir)' in refusal(sources.read, 'birds', 'nowhere', PLAIN)


def test_what_cannot_be_downloaded(monkeypatch):
    monkeypatch.setattr(sources, 'SOURCES', {'secret': Source('secret', folders.flowers, (), 'ask its owners.')})
    assert refusal(sources.read, 'secret', None, PLAIN) == 'secret cannot be downloaded: ask its owners.'


def test_every_source_is_a_dataset_that_is_read():
    for name, source in SOURCES.items():
        row = dataset_factory.find_row(name)
        assert source.name == name and row.file_pattern and (source.archives or source.advice)
        for published in source.archives:
            assert published.size and len(published.sha256) == 64
        assert not any(published.packed for published in source.archives) or len(source.archives) == 1


# Downloads.

class Handler(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header('Content-Length', str(len(body or b'')))
        self.end_headers()
        self.wfile.write(body or b'')


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A server of `files`, that notes what was `asked` for; and an empty cache."""
    monkeypatch.setenv('SLIM_ZOO_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.files, server.asked, server.url = {}, [], f'http://127.0.0.1:{server.server_port}/'
        threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def published(site, name, content, **wrong):
    site.files[f'/{name}'] = content
    return Archive(**{'url': site.url + name, 'size': len(content), 'sha256': hashlib.sha256(content).hexdigest(),
                      'md5': hashlib.md5(content).hexdigest(), **wrong})


def test_an_archive_is_downloaded_once(site, tmp_path, monkeypatch):
    flowers = archive({f'flower_photos/{name}/{number}.jpg': jpeg(number) for number in range(200)
                       for name in ('roses', 'tulips')})
    source = Source('flowers', folders.flowers, (published(site, 'flower_photos.tgz', flowers),))
    monkeypatch.setattr(sources, 'SOURCES', {'flowers': source})
    importlib.import_module('datasets.download_and_convert_flowers').run(str(tmp_path / 'out'))
    assert len([name for name in os.listdir(tmp_path / 'out') if name.endswith('.tfrecord')]) == 10
    assert dataset_factory.get_dataset('flowers', 'validation', str(tmp_path / 'out')).num_samples == 350
    assert len(sources.read('flowers', None, PLAIN).splits['train']) == 50 and site.asked == ['/flower_photos.tgz']


def test_files_that_belong_together(site, monkeypatch):
    files = {'train-images-idx3-ubyte.gz': idx(np.zeros((3, 28, 28))), 'train-labels-idx1-ubyte.gz': idx(np.zeros(3)),
             't10k-images-idx3-ubyte.gz': idx(np.ones((1, 28, 28))), 't10k-labels-idx1-ubyte.gz': idx(np.ones(1))}
    source = Source('mnist', arrays.mnist, tuple(published(site, name, gzip.compress(content))
                                                 for name, content in files.items()))
    monkeypatch.setattr(sources, 'SOURCES', {'mnist': source})
    for _ in range(2):
        found = sources.read('mnist', None, PLAIN)
        assert [len(items) for items in found.splits.values()] == [3, 1]
    assert site.asked == [f'/{name}' for name in files]


@pytest.mark.parametrize('wrong, why', [
    ({'size': 7}, 'it has 5 bytes, and should have 7'), ({'sha256': '0' * 64}, 'its SHA-256 is '),
    ({'md5': '0' * 32, 'sha256': None}, 'its MD5 is 827ccb0eea8a706c4c34a16891f84e7b, and should be 0'),
])
def test_what_is_not_what_was_published(site, tmp_path, wrong, why):
    """12345 has an MD5 that anyone knows."""
    source = Source('mnist', arrays.mnist, (published(site, 'numbers.bin', b'12345', **wrong),))
    text = refusal(sources.fetch, source)
    assert 'numbers.bin is not the file that was expected: ' in text and why in text
    assert [path.name for path in (tmp_path / 'cache').rglob('*') if path.is_file()] == ['.lock']
    assert sources.fetch(Source('mnist', arrays.mnist, (published(site, 'numbers.bin', b'12345'),)))


def test_what_is_not_there(site):
    text = refusal(sources.fetch, Source('flowers', folders.flowers, (Archive(site.url + 'flower_photos.tgz'),)))
    assert '404' in text and 'give its folder (--source_dir=DIR)' in text


def link(target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize('local', [True, False])
@pytest.mark.parametrize('files, why', [
    (lambda out: {'../escaped.jpg': b'1'}, 'would be written outside'),
    (lambda out: {f'{out}/escaped.jpg': b'1'}, 'would be written outside'),
    (lambda out: {'flower_photos/roses': link(str(out)), 'flower_photos/roses/escaped.jpg': b'1'}, 'is a link'),
    (lambda out: {'flower_photos/roses/1.jpg': link(f'{out}/secret', tarfile.LNKTYPE)}, 'is a link'),
    (lambda out: {'flower_photos/roses/1.jpg': link('', tarfile.CHRTYPE)}, 'or a device'),
    (lambda out: {'flower_photos/roses/1.jpg': bytes(2000)}, 'more than 1e-06 GB'),
])
def test_an_unsafe_archive(site, tmp_path, monkeypatch, files, why, local):
    monkeypatch.setattr(slim_zoo_download, 'LARGEST', 1000)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/secret').write_text('secret')
    content = archive(files(tmp_path / 'out'))
    source = Source('flowers', folders.flowers, (published(site, 'flower_photos.tgz', content),))
    folder = write(tmp_path / 'in', {'flower_photos.tgz': content})
    assert why in refusal(sources.fetch, source, folder if local else None)
    left = {path.name for path in tmp_path.rglob('*') if path.is_file()}
    assert left == {'secret', 'flower_photos.tgz', '.lock'}
