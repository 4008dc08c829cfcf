import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from datasets import DatasetError
from datasets.dataset_factory import get_dataset


def names(dataset):
    return {os.path.basename(file) for file in dataset.files}


def test_all_formats_nested_and_hidden(tree, grey, tmp_path):
    folder = tree('b/1.jpg', 'b/2.JPEG', 'b/deep/er/3.png', 'a/4.Bmp', 'a/5.gif', 'a/.6.png', '.c/7.png')
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    dataset = get_dataset('image_folder', 'train', folder, validation_fraction=0)
    elements = list(dataset.as_tf_data().as_numpy_iterator())
    assert [(grey(e), e['label']) for e in elements] == [(4, 0), (5, 0), (1, 1), (2, 1), (3, 1)]
    assert [e['source'].decode() for e in elements] == dataset.files
    assert (dataset.num_samples, dataset.num_classes, dataset.labels_to_names) == (5, 2, {0: 'a', 1: 'b'})
    assert dataset.find_fault() is None


def test_held_out_fraction(tree):
    folder = tree(*(f'few/{i}.png' for i in range(10)), *(f'many/{i}.png' for i in range(100, 140)), 'one/200.png')
    train = get_dataset('image_folder', 'train', folder, validation_fraction=0.25)
    held_out = get_dataset('image_folder', 'validation', folder, validation_fraction=0.25)
    assert not names(train) & names(held_out)
    assert len(names(train) | names(held_out)) == 51
    np.testing.assert_array_equal(np.bincount(held_out.labels), [2, 10])
    # Moving the tree changes nothing, and one more image hardly anything.
    moved = pathlib.Path(shutil.copytree(folder, folder + '_moved'))
    assert names(get_dataset('image_folder', 'validation', str(moved), validation_fraction=0.25)) == names(held_out)
    tree('many/250.png', root=moved)
    after = names(get_dataset('image_folder', 'validation', str(moved), validation_fraction=0.25))
    assert len(after ^ names(held_out)) <= 2


def test_default_fraction_is_a_tenth(tree):
    folder = tree(*(f'{name}/{i}.png' for name in 'ab' for i in range(20)))
    assert get_dataset('image_folder', 'validation', folder).num_samples == 4
    assert get_dataset('image_folder', 'train', folder).num_samples == 36


def test_split_by_folder(tree):
    folder = tree('train/a/1.png', 'train/b/2.png', 'validation/b/3.png', 'test/c/4.png')
    train, validation, test = (get_dataset('image_folder', s, folder) for s in ('train', 'validation', 'test'))
    assert [d.num_samples for d in (train, validation, test)] == [2, 1, 1]
    assert (train.labels, validation.labels, test.labels) == ([0, 1], [1], [2])  # The same classes in every split.
    with pytest.raises(DatasetError, match='no validation_fraction'):
        get_dataset('image_folder', 'train', folder, validation_fraction=0.1)


def test_a_class_may_be_called_train(tree):
    folder = tree('train/1.png', 'train/2.png', 'plane/3.png', 'plane/4.png')
    assert get_dataset('image_folder', 'train', folder).labels_to_names == {0: 'plane', 1: 'train'}


def test_labels_file_fixes_the_order(tree, tmp_path):
    folder = tree('a/1.png', 'b/2.png')
    (tmp_path / 'labels.txt').write_text('0:background\n1:b\n2:a\n')
    dataset = get_dataset('image_folder', 'train', folder)
    assert dataset.num_classes == 3 and dataset.labels == [1, 2]
    assert [os.path.basename(f) for f in dataset.files] == ['2.png', '1.png']
    (tmp_path / 'labels.txt').write_text('0:a\n1:bee\n')
    with pytest.raises(DatasetError, match=r'labels\.txt does not name the class folder b; it names a, bee'):
        get_dataset('image_folder', 'train', folder)


def test_names_of_any_kind(tree, grey):
    folder = tree('a [1]*/1 ü?.png', 'b/2.png')
    elements = get_dataset('image_folder', 'train', folder).as_tf_data().as_numpy_iterator()
    assert [grey(e) for e in elements] == [1, 2]


@pytest.mark.parametrize('paths, split, words', [
    (['1.png', '2.png'], 'train', ['no class folders', 'CLASS', '1.png']),
    ([], 'train', ['no class folders', 'empty']),
    (['photos/a/1.png', 'photos/b/2.png'], 'train', ['one class folder only', 'dataset_dir should be', 'photos']),
    (['a/1.png', 'b/.hidden.png'], 'train', ['class folder b', 'no images']),
    (['a/1.png', 'b/2.png'], 'validatoin', ["'validatoin'", "'validation'", 'train, validation']),
    (['a/1.png', 'b/2.png'], 'validation', ['no images', 'validation_fraction=0.1']),
    (['train/a/1.png', 'train/b/2.png'], 'validation', ["'validation'", 'there is train']),
])
def test_bad_trees(tree, paths, split, words):
    folder = tree(*paths)
    with pytest.raises(DatasetError) as error:
        get_dataset('image_folder', split, folder)
    assert folder in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize('fraction', [-0.1, 1, float('nan')])
def test_bad_fraction(tree, fraction):
    folder = tree('a/1.png', 'b/2.png')
    with pytest.raises(DatasetError, match='validation_fraction must be'):
        get_dataset('image_folder', 'train', folder, validation_fraction=fraction)


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match='there is no folder .*nowhere'):
        get_dataset('image_folder', 'train', str(tmp_path / 'nowhere'))
    with pytest.raises(DatasetError, match='needs dataset_dir'):
        get_dataset('image_folder', 'train')


def test_faults_name_the_file(tree, encode, tmp_path):
    folder = tree(*(f'{name}/{i}.jpg' for name in 'ab' for i in range(9)))
    dataset = get_dataset('image_folder', 'train', folder, validation_fraction=0)
    photo = tmp_path / 'b' / '4.jpg'
    whole = encode(4, 'jpg', (64, 64))
    for content, words in ((whole[:len(whole) // 2], 'cut short'), (b'', 'empty'), (b'<html>', 'not an image')):
        photo.write_bytes(content)
        fault = dataset.find_fault()
        assert str(photo) in fault and words in fault and '\n' not in fault
    photo.unlink()
    assert str(photo) in dataset.find_fault() and 'No such file' in dataset.find_fault()
    assert str(photo) in dataset.find_fault(shuffle=True, start=3, count=18)


def test_names_that_are_not_utf_8(tree, encode, tmp_path, grey):
    folder = tree('a/1.png', 'b/2.png')
    try:
        (tmp_path / os.fsdecode(b'b/\xff3.png')).write_bytes(encode(3))
    except OSError:
        pytest.skip('this file system takes no such name')
    dataset = get_dataset('image_folder', 'train', folder, validation_fraction=0)
    assert [grey(e) for e in dataset.as_tf_data().as_numpy_iterator()] == [1, 2, 3]
    assert dataset.find_fault() is None


@pytest.mark.parametrize('prefix', ['', 'train/'])
def test_elsewhere_than_on_the_disk(encode, grey, prefix):
    """As on gs://, and the same images are held out as of the same folder on a disk."""
    root = f'ram://folder {os.getpid()} {len(prefix)}'
    for number, path in enumerate(['ä/1.png', 'ä/deep/2.JPG', 'b/3.png', 'b/.4.png', '.c/5.png', 'b/notes.txt']):
        tf.io.gfile.makedirs(os.path.dirname(f'{root}/{prefix}{path}'))
        with tf.io.gfile.GFile(f'{root}/{prefix}{path}', 'wb') as file:
            file.write(encode(number))
    dataset = get_dataset('image_folder', 'train', root, **({} if prefix else {'validation_fraction': 0}))
    found = [(grey(e), int(e['label'])) for e in dataset.as_tf_data().as_numpy_iterator()]
    assert found == [(2, 0), (0, 1), (1, 1)]
    assert dataset.labels_to_names == {0: 'b', 1: 'ä'} and dataset.find_fault() is None
    tf.io.gfile.remove(f'{root}/{prefix}b/3.png')
    assert 'b/3.png cannot be read: No such file' in dataset.find_fault()
    with pytest.raises(DatasetError, match='there is no folder ram://'):
        get_dataset('image_folder', 'train', f'{root} nowhere')


def test_the_place_changes_nothing_in_what_is_held_out(tree, encode):
    paths = [f'{name}/{i}.png' for name in 'ab' for i in range(30)]
    there = f'ram://held out {os.getpid()}'
    for path in paths:
        tf.io.gfile.makedirs(os.path.dirname(f'{there}/{path}'))
        tf.io.gfile.GFile(f'{there}/{path}', 'wb').write(encode(0))
    here = tree(*paths)
    held_out = [get_dataset('image_folder', 'validation', root, validation_fraction=0.3) for root in (here, there)]
    ours, theirs = ([file.removeprefix(root) for file in dataset.files]
                    for dataset, root in zip(held_out, (here, there), strict=True))
    assert ours == theirs and len(ours) == 18


@pytest.mark.parametrize('train, validation', [('train', 'val'), ('training', 'valid')])
def test_other_names_for_the_splits(tree, train, validation):
    folder = tree(*(f'{split}/{label}/{number}.png' for split, number in ((train, 1), (train, 2), (validation, 3))
                    for label in 'ab'))
    assert get_dataset('image_folder', 'train', folder).num_samples == 4
    for name in ('validation', validation):
        dataset = get_dataset('image_folder', name, folder)
        assert (dataset.split_name, dataset.num_samples) == ('validation', 2)
    assert dataset.labels_to_names == {0: 'a', 1: 'b'}
