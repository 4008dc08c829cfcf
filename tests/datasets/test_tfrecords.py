import importlib
import os

import numpy as np
import pytest
import tensorflow as tf

from datasets import DatasetError
from datasets import tfrecords as module
from datasets.dataset_factory import get_dataset
from datasets.registry import DATASETS

RECORD_SETS = [row for row in DATASETS.values() if row.file_pattern]


def test_reads_every_record_in_order(flowers, grey):
    dataset = get_dataset('flowers', 'train', flowers)
    elements = list(dataset.as_tf_data().as_numpy_iterator())
    assert [grey(e) for e in elements] == list(range(20))
    assert [e['label'] for e in elements] == [i % 5 for i in range(20)]
    assert elements[8]['source'] == b'flowers_train_00001-of-00003.tfrecord record 1'
    assert dataset.num_samples == 20 and dataset.num_classes == 5


@pytest.mark.parametrize('row', RECORD_SETS, ids=lambda row: row.name)
def test_every_dataset_reads_its_own_layout(row, records, encode, grey):
    for split in row.splits:
        name = row.file_pattern.replace('%s', split).replace('*', '00000-of-00001')
        shape = row.shape or (10, 12, 3)
        folder = records(name, [(encode(i, 'png', shape[1::-1], 'L' if shape[2] == 1 else 'RGB'), 1) for i in range(3)])
        dataset = get_dataset(row.name, split, folder)
        assert dataset.num_samples == 3 and dataset.num_classes == row.num_classes and dataset.find_fault() is None
        assert [grey(e) for e in dataset.as_tf_data().as_numpy_iterator()] == [0, 1, 2]


@pytest.mark.parametrize('name, splits, classes, shards', [  # TF-Slim's figures
    ('cifar10', {'train': 50000, 'test': 10000}, 10, 'cifar10_%s.tfrecord'),
    ('mnist', {'train': 60000, 'test': 10000}, 10, 'mnist_%s.tfrecord'),
    ('flowers', {'train': 3320, 'validation': 350}, 5, 'flowers_%s_*.tfrecord'),
    ('imagenet', {'train': 1281167, 'validation': 50000}, 1001, '%s-*'),
    ('visualwakewords', {'train': 82783, 'val': 40504}, 2, '%s.record-*'),
    # Not TF-Slim's: the figures are those that the datasets' authors publish.
    ('fashion_mnist', {'train': 60000, 'test': 10000}, 10, 'fashion_mnist_%s.tfrecord'),
    ('cifar100', {'train': 50000, 'test': 10000}, 100, 'cifar100_%s.tfrecord'),
    ('imagenette', {'train': 9469, 'validation': 3925}, 10, 'imagenette_%s_*.tfrecord'),
])
def test_tf_slims_modules(name, splits, classes, shards, tmp_path):
    assert (DATASETS[name].num_classes, DATASETS[name].file_pattern) == (classes, shards)
    themselves = importlib.import_module(f'datasets.{name}')
    assert dict(themselves.SPLITS_TO_SIZES) == splits
    with pytest.raises(DatasetError, match=f'no file of {name}'):
        themselves.get_split('train', str(tmp_path), None, None)


def test_missing_shards_are_counted(flowers):
    os.remove(os.path.join(flowers, 'flowers_train_00001-of-00003.tfrecord'))
    assert get_dataset('flowers', 'train', flowers).num_samples == 16


def test_large_and_complete_is_nominal(flowers, monkeypatch):
    monkeypatch.setattr(module, 'COUNT_UP_TO', 100)
    dataset = get_dataset('flowers', 'train', flowers)
    assert dataset.num_samples == 3320
    assert sum(1 for _ in dataset.as_tf_data()) == 20
    os.remove(os.path.join(flowers, 'flowers_train_00001-of-00003.tfrecord'))
    assert get_dataset('flowers', 'train', flowers).num_samples == 16


def test_labels_file(flowers):
    path = os.path.join(flowers, 'labels.txt')
    assert get_dataset('flowers', 'train', flowers).labels_to_names[3] == 'sunflowers'  # TF-Slim's, without the file
    with open(path, 'w', encoding='utf-8') as file:
        file.write('0:Gänseblümchen\n1:dandelion\n2:roses\n3:Sonnenblumen\n4:tulips\n')
    assert get_dataset('flowers', 'train', flowers).labels_to_names[3] == 'Sonnenblumen'
    with open(path, 'a') as file:
        file.write('5:weeds\n')
    with pytest.raises(DatasetError, match=r'labels\.txt names a class 5, but the classes of flowers are 0 to 4'):
        get_dataset('flowers', 'train', flowers)


def test_file_pattern_and_folder_with_brackets(flowers, tmp_path):
    folder = tmp_path / 'a [1]'
    folder.mkdir()
    os.rename(os.path.join(flowers, 'flowers_train_00000-of-00003.tfrecord'), folder / 'mine_train.rec')
    dataset = get_dataset('flowers', 'train', str(folder), file_pattern='mine_%s.rec')
    assert sum(1 for _ in dataset.as_tf_data()) == dataset.num_samples == 7


def test_no_file_matches(flowers):
    with pytest.raises(DatasetError) as error:
        get_dataset('flowers', 'validation', flowers)
    for words in (flowers, 'flowers_validation_*.tfrecord', 'flowers_train_00000-of-00003.tfrecord'):
        assert words in str(error.value)
    with pytest.raises(DatasetError, match='there is no folder'):
        get_dataset('flowers', 'train', os.path.join(flowers, 'nowhere'))
    with pytest.raises(DatasetError, match='needs dataset_dir'):
        get_dataset('flowers', 'train')


def test_cut_short(flowers):
    path = os.path.join(flowers, 'flowers_train_00002-of-00003.tfrecord')
    sizes = [len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(path)]
    whole = open(path, 'rb').read()
    for keep in (sum(sizes[:8]) + 5, sum(sizes[:8]) + 40, len(whole) - 1):
        open(path, 'wb').write(whole[:keep])
        with pytest.raises(DatasetError) as error:
            get_dataset('flowers', 'train', flowers)
        assert all(words in str(error.value) for words in (path, 'record 8', f'byte {sum(sizes[:8])}', str(keep)))
    open(path, 'wb').write(b'')
    assert get_dataset('flowers', 'train', flowers).num_samples == 11
    open(path, 'wb').write(b'\x89PNG\r\n\x1a\n' * 8)
    with pytest.raises(DatasetError, match='no TFRecord file'):
        get_dataset('flowers', 'train', flowers)


def test_files_that_are_none(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    path = os.path.join(flowers, 'flowers_train_00001-of-00003.tfrecord')
    os.remove(path)
    for fault in (dataset.find_fault(), dataset.find_fault(shuffle=True, count=5)):
        assert path in fault and 'No such file' in fault
    os.mkdir(path)
    with pytest.raises(DatasetError, match='00001-of-00003.tfrecord is a folder'):
        get_dataset('flowers', 'train', flowers)


def test_empty_split(records):
    with pytest.raises(DatasetError, match='no records'):
        get_dataset('mnist', 'test', records('mnist_test.tfrecord', []))


def test_faults_name_file_and_record(flowers, records, encode):
    dataset = get_dataset('flowers', 'train', flowers)
    name = 'flowers_train_00001-of-00003.tfrecord'
    good = [(encode(i), 0) for i in range(4)]

    def fault(third, features=('image/encoded', 'image/class/label'), **kwargs):
        records(name, [*good[:2], third, good[3]], features)
        found = dataset.find_fault(**kwargs)
        assert name in found and '\n' not in found
        return found

    assert 'record 2 has the label 5' in fault((encode(0), 5)) and 'from 0 to 4' in fault((encode(0), 5))
    assert 'record 2 has the label -1' in fault((encode(0), -1))
    assert 'record 2 cannot be decoded' in fault((b'junk', 0))
    assert 'image/class/label' in fault(good[2], ['image/encoded'])
    records(name, good)
    assert dataset.find_fault() is None
    offset_fault = dataset.find_fault(labels_offset=1)
    assert '00000-of-00003.tfrecord record 0 has the label 0' in offset_fault and 'from 1 to 4' in offset_fault


def test_damaged_record(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    path = os.path.join(flowers, 'flowers_train_00002-of-00003.tfrecord')
    content = bytearray(open(path, 'rb').read())
    middle = sum(len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(path).take(4)) + 60
    content[middle] ^= 255
    open(path, 'wb').write(content)
    for fault in (dataset.find_fault(), dataset.find_fault(shuffle=True, count=5)):
        assert path in fault and 'record 4 ' in fault and 'orrupt' in fault


def test_blocks_and_shards_both_shuffle(flowers, grey, monkeypatch):
    monkeypatch.setattr(module, 'SHUFFLED_AT_ONCE', 500)  # A few records.
    dataset = get_dataset('flowers', 'train', flowers)
    assert 1 < dataset._block < 10
    epochs = np.array([grey(e) for e in dataset.as_tf_data(shuffle=True, repeat=True).take(60).as_numpy_iterator()])
    epochs = epochs.reshape(3, 20)
    assert (np.sort(epochs) == np.arange(20)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 3 and (np.diff(epochs) != 1).any(1).all()
