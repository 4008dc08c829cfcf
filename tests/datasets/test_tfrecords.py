import importlib
import os

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from datasets import DatasetError, dataset_utils
from datasets import tfrecords as module
from datasets.dataset_factory import get_dataset
from datasets.dataset_utils import int64_feature
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


def example(image, labels, **more):
    """An Example with any number of labels."""
    feature = {'image/encoded': dataset_utils.bytes_feature(image), 'image/class/label': int64_feature(labels), **more}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture
def write(tmp_path):
    """Writes a TFRecord file of such; returns the folder."""
    def written(name, examples, root=str(tmp_path), **options):
        with tf.io.TFRecordWriter(f'{root}/{name}', **options) as writer:
            for one in examples:
                writer.write(one)
        return root
    return written


@pytest.mark.parametrize('name', ['train-00000-of-00001', 'birds_train_00000-of-00005.tfrecord', 'a.TRAIN.rec', 'train',
                                  'train.record-00000-of-00100', 'my-birds train 1.tfrecords'])
def test_files_of_any_name(write, encode, grey, tmp_path, name):
    write(name, [example(encode(i), [i % 3]) for i in range(5)])
    write(name.lower().replace('train', 'validation'), [example(encode(9), [4])])
    write('trainers.tfrecord', [example(encode(7), [9])])  # another word
    for other in ('labels_train.txt', '.train.tfrecord', 'train.json', 'train.csv'):
        (tmp_path / other).write_bytes(b'no records')
    dataset = get_dataset('tfrecord', 'train', str(tmp_path))
    assert [(grey(e), e['label']) for e in dataset.as_tf_data().as_numpy_iterator()] == [(i, i % 3) for i in range(5)]
    # The same classes in every split.
    assert dataset.num_classes == get_dataset('tfrecord', 'validation', str(tmp_path)).num_classes == 5
    assert dataset.num_samples == 5 and dataset.labels_to_names is None and dataset.find_fault() is None


def test_file_pattern_and_where_the_classes_are_from(write, encode, tmp_path):
    write('a1.rec', [example(encode(0), [0])])
    folder = write('b2.rec', [example(encode(0), [6])])
    with pytest.raises(DatasetError, match=r'no file in .* has train as a word .*file_pattern.*is a1\.rec, b2\.rec'):
        get_dataset('tfrecord', 'train', folder)
    one = get_dataset('tfrecord', 'a', folder, file_pattern='%s*.rec')
    assert (one.num_samples, one.num_classes) == (1, 7)
    assert get_dataset('tfrecord', 'a', folder, file_pattern='%s*.rec', num_classes=9).num_classes == 9
    (tmp_path / 'labels.txt').write_text('0:x\n7:y\n')
    named = get_dataset('tfrecord', 'b', folder, file_pattern='%s*.rec')
    assert named.num_classes == 8 and named.labels_to_names == {0: 'x', 7: 'y'}
    with pytest.raises(DatasetError, match='names a class 7, but the classes of tfrecord are 0 to 4'):
        get_dataset('tfrecord', 'b', folder, file_pattern='%s*.rec', num_classes=5)
    with pytest.raises(DatasetError, match='num_classes must be 1 or more, not 0'):
        get_dataset('tfrecord', 'b', folder, file_pattern='%s*.rec', num_classes=0)


def test_splits_that_there_are(write, encode):
    folder = write('train.tfrecord', [example(encode(0), [0])])
    write('val-0.tfrecord', [example(encode(0), [0])])
    with pytest.raises(DatasetError, match="'validation' is no split of .*; there is train, val"):
        get_dataset('tfrecord', 'validation', folder)


def test_too_large_to_search_for_labels(write, encode, monkeypatch):
    folder = write('train.tfrecord', [example(encode(0), [3])])
    monkeypatch.setattr(module, 'COUNT_UP_TO', 50)
    with pytest.raises(DatasetError, match=r'labels\.txt .*num_classes'):
        get_dataset('tfrecord', 'train', folder)
    dataset = get_dataset('tfrecord', 'train', folder, num_classes=4)
    assert (dataset.num_samples, dataset.num_classes) == (1, 4)


def test_several_labels(write, encode, grey):
    labels = [[0, 2], [], [1], [2, 1, 0]]
    folder = write('train.tfrecord', [example(encode(i), some) for i, some in enumerate(labels)])
    dataset = get_dataset('tfrecord', 'train', folder, multi_label=True)
    assert dataset.multi_label and (dataset.num_samples, dataset.num_classes) == (4, 3)
    for shuffle in (False, True):
        for element in dataset.as_tf_data(shuffle=shuffle).as_numpy_iterator():
            assert element['label'].dtype == np.int64 and element['label'].tolist() == labels[grey(element)]
    assert [found for _, _, found in dataset._examples()] == [tuple(some) for some in labels]
    assert dataset.class_counts() == [2, 2, 2] and dataset.find_fault() is None
    assert 'record 0 has the label 0' in dataset.find_fault(labels_offset=1)
    decoded = slim.tfexample_decoder.TFExampleDecoder(
        {'image/class/label': tf.io.VarLenFeature(tf.int64)}, {'label': slim.tfexample_decoder.Tensor(
            'image/class/label')}).decode(tf.constant(example(encode(0), [0, 2])), ['label'])
    np.testing.assert_array_equal(decoded[0], [0, 2])
    # TF-Slim's decoder, as ours has it.
    np.testing.assert_array_equal(dataset.decoder.decode(tf.constant(example(encode(0), [0, 2])), ['label'])[0], [0, 2])


def test_several_labels_unasked(write, encode):
    folder = write('train.tfrecord', [example(encode(0), [0]), example(encode(1), [1, 2])])
    for options in ({}, {'num_classes': 3}):
        with pytest.raises(DatasetError, match=r'train\.tfrecord record 1 .*has 2 labels, .*multi_label=True'):
            dataset = get_dataset('tfrecord', 'train', folder, **options)
            raise DatasetError(dataset.find_fault())


def test_compressed(write, encode):
    for count in (1, 200):
        folder = write('train.tfrecord', [example(encode(i), [0]) for i in range(count)], options='GZIP')
        with pytest.raises(DatasetError, match=r'train\.tfrecord is compressed'):
            get_dataset('tfrecord', 'train', folder)


def test_other_features(write, encode):
    foreign = tf.train.Example(features=tf.train.Features(feature={
        'image_raw': dataset_utils.bytes_feature(encode(0)), 'label': int64_feature(1)})).SerializeToString()
    folder = write('train.tfrecord', [foreign])
    with pytest.raises(DatasetError, match=r'train\.tfrecord record 0 .*image/encoded \(bytes\) and image/class/label '
                                           r'\(int64\) are needed.*it has image_raw \(bytes\), label \(int64\)'):
        get_dataset('tfrecord', 'train', folder, num_classes=2)
    as_text = example(encode(0), [0], **{'image/class/label': dataset_utils.bytes_feature(b'cat')})
    with pytest.raises(DatasetError, match=r'it has image/class/label \(bytes\)'):
        get_dataset('tfrecord', 'train', write('train.tfrecord', [as_text]))
    dataset = get_dataset('tfrecord', 'train', write('train.tfrecord', [example(encode(0), [0]), b'\xff\xff']),
                          num_classes=2)
    for fault in (dataset.find_fault(), dataset.find_fault(shuffle=True, count=5)):
        assert 'train.tfrecord record 1 cannot be used: it is no tf.train.Example' in fault


def test_elsewhere_than_on_the_disk(write, encode, grey):
    """As on gs://."""
    root = f'ram://records {os.getpid()}'
    tf.io.gfile.makedirs(root)
    write('train-00000-of-00002', [example(encode(i), [i]) for i in range(3)], root)
    write('train-00001-of-00002', [example(encode(i), [i]) for i in range(3, 5)], root)
    with tf.io.gfile.GFile(f'{root}/labels.txt', 'w') as file:
        file.write(''.join(f'{i}:n{i}\n' for i in range(5)))
    for name, options in (('tfrecord', {}), ('flowers', {'file_pattern': '%s-*-of-*'})):
        dataset = get_dataset(name, 'train', root, **options)
        assert dataset.num_samples == 5 and dataset.labels_to_names[4] == 'n4' and dataset.find_fault() is None
        assert sorted(grey(e) for e in dataset.as_tf_data(shuffle=True).as_numpy_iterator()) == list(range(5))
    with pytest.raises(DatasetError, match='there is no folder ram://'):
        get_dataset('tfrecord', 'train', f'{root} nowhere')


def test_the_last_word_of_a_name_is_its_split(records, encode):
    for name in ('photos-train_train', 'photos-train_validation', 'test_val'):
        folder = records(f'{name}_00000-of-00001.tfrecord', [(encode(1), 0), (encode(2), 1)])
    assert [get_dataset('tfrecord', split, folder).num_samples for split in ('train', 'validation', 'val')] == [2, 2, 2]
    with pytest.raises(DatasetError, match="'test' is no split of .* there is train, validation, val"):
        get_dataset('tfrecord', 'test', folder)


def test_damage_does_not_keep_the_classes_from_being_counted(records, encode):
    path = records('x_train_0.tfrecord', [(encode(1), 0), (encode(2), 6), (encode(3), 3)])
    with open(f'{path}/x_train_0.tfrecord', 'r+b') as file:
        file.seek(12)  # where the first record's data begins, so that it is no Example any more
        file.write(b'\xff\xff\xff')
    with pytest.raises(DatasetError, match='record 0 cannot be used: it is no tf.train.Example'):
        get_dataset('tfrecord', 'train', path)
    dataset = get_dataset('tfrecord', 'train', path, skip_corrupt=True)
    assert (dataset.num_classes, dataset.num_samples) == (7, 3)
