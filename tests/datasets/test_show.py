import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from datasets import DatasetError, showing
from datasets.__main__ import main
from datasets.dataset_factory import get_dataset
from datasets.registry import DatasetRow

BLUE = (3, 5, 251)


def blue(image, seed):
    return tf.ones([20, 20, 1], tf.uint8) * tf.constant(BLUE, tf.uint8)


def pixels(path):
    return np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)


def count(path, color):
    return int((np.abs(pixels(path).astype(int) - color).max(1) <= 2).sum())


def texts(dataset, pairs, counts):
    """All that stands in the picture."""
    figure = showing._figure(Figure, dataset, pairs, np.array(counts), 'augmented')
    figure.draw_without_rendering()
    found = [figure._suptitle.get_text()]
    for part in figure.subfigs:
        for axes in part.axes:
            found += [axes.get_title(loc='left'), *(text.get_text() for text in axes.texts),
                      *(tick.get_text() for tick in axes.get_yticklabels())]
    return found


def test_both_images_of_each_sample_are_there(records, encode, tmp_path):
    folder = records('flowers_train_00000-of-00001.tfrecord', [(encode(40, size=(20, 20)), 1)] * 6)
    dataset, path = get_dataset('flowers', 'train', folder), str(tmp_path / 'bildchen ü.png')
    areas = []
    for samples in (1, 4):
        showing.show(dataset, blue, path, samples=samples)
        areas.append((count(path, (40, 40, 40)), count(path, BLUE)))
    side = showing._SIDE * showing._DOTS
    for samples, found in zip((1, 4), areas, strict=True):
        assert all(0.8 * samples * side**2 < area < 1.1 * samples * side**2 for area in found)
    assert os.listdir(tmp_path).count('bildchen ü.png') == 1 and not list(tmp_path.glob('*.tmp'))


def test_a_function_of_the_seed(flowers, tmp_path):
    def darker(image, seed):
        return tf.cast(tf.random.stateless_uniform([16, 16, 3], seed, 0, 256, tf.int32), tf.uint8)

    dataset, contents = get_dataset('flowers', 'train', flowers), []
    for seed in (1, 1, 2):
        showing.show(dataset, darker, str(tmp_path / 'x.png'), samples=4, seed=seed)
        contents.append((tmp_path / 'x.png').read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_counts(flowers, tree):
    assert showing.count_classes(get_dataset('flowers', 'train', flowers)).tolist() == [4] * 5
    folder = tree('a/1.png', 'b/2.png', 'b/3.png', root=pathlib.Path(flowers, 'tree'))
    assert showing.count_classes(get_dataset('image_folder', 'train', folder, validation_fraction=0)).tolist() == [1, 2]


def test_what_it_says(flowers):
    image = np.zeros([30, 40, 3], np.uint8)
    dataset = get_dataset('flowers', 'train', flowers)
    pathlib.Path(flowers, 'labels.txt').write_text('0:Löwenzahn $a_b$\n1:' + 'x' * 80 + '\n')
    named = get_dataset('flowers', 'train', flowers)
    dataset.labels_to_names = None
    assert '3' in texts(dataset, [(image, image, 3)], [4] * 5)
    found = texts(named, [(image, image, 0)], [4, 7, 0, 0, 1234])
    assert found[0] == 'flowers train: 20 images, 5 classes'
    assert found.count('0  Löwenzahn $a_b$') == 2 and '1  ' + 'x' * 29 + '…' in found
    assert {' 4', ' 7', ' 1,234'} <= set(found)


def test_many_classes(records, encode):
    folder = records('x_train_0.tfrecord', [(encode(), 0)])
    row = DatasetRow('x', {'train': 1}, 1000, 'x_%s_*', 'none')
    counts = [1000 - label for label in range(999)] + [0]
    found = texts(get_dataset(row, 'train', folder), [(np.zeros([9, 9, 1], np.uint8),) * 2 + (0,)], counts)
    assert {str(label) for label in range(50)} <= set(found) and '50' not in found
    assert any('0 to 1,000, median 500' in text and '1 without any image' in text for text in found)


def test_one_class_of_grey_images(records, encode, tmp_path):
    folder = records('x_train_0.tfrecord', [(encode(9, 'jpg', (3, 700), 'L'), 0)])
    row = DatasetRow('x', {'train': 1}, 1, 'x_%s_*', 'none', channels=1)
    showing.show(get_dataset(row, 'train', folder), lambda image, seed: image[:3], str(tmp_path / 'x.png'))
    assert Image.open(tmp_path / 'x.png').format == 'PNG'


def test_a_bad_record_is_named(records, encode, tmp_path):
    folder = records('flowers_train_00000-of-00001.tfrecord', [(encode(), 1), (encode(), 7)])
    with pytest.raises(DatasetError, match='00000-of-00001.tfrecord record 1 '):
        showing.show(get_dataset('flowers', 'train', folder), blue, str(tmp_path / 'x.png'))
    assert not (tmp_path / 'x.png').exists()


def test_an_image_that_cannot_be_decoded_is_an_empty_cell(records, encode, tmp_path, monkeypatch):
    folder = records('flowers_train_00000-of-00001.tfrecord', [(encode(40, size=(20, 20)), 1), (b'junk', 2), (b'', 0)])
    drawn, figure_of = [], showing._figure

    def keep(*args):
        drawn.append(figure_of(*args))
        return drawn[-1]

    monkeypatch.setattr(showing, '_figure', keep)
    showing.show(get_dataset('flowers', 'train', folder), blue, str(tmp_path / 'x.png'))
    said = {axes.get_title(loc='left'): [text.get_text().replace('\n', ' ') for text in axes.texts]
            for axes in drawn[0].subfigs[0].axes if axes.get_title(loc='left')}
    assert said['1  dandelion'] == []
    assert 'tfrecord record 1: its 4 bytes are no image' in said['2  roses'][0]
    assert 'tfrecord record 2: its image has no bytes' in said['0  daisy'][0]
    side = showing._SIDE * showing._DOTS
    assert 0.8 * side**2 < count(tmp_path / 'x.png', BLUE) < 1.1 * side**2


def test_without_matplotlib(flowers, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(DatasetError, match='needs matplotlib, which is not installed: pip install'):
        showing.show(get_dataset('flowers', 'train', flowers), blue, 'x.png')


def test_command(flowers, tmp_path, capsys, tree):
    path = str(tmp_path / 'p.png')
    assert main(['show', flowers, '--dataset_name=flowers', '--output', path, '--samples=3', '--seed=2']) == 0
    assert 'flowers train (20 images, 5 classes) is drawn in' in capsys.readouterr().out
    assert Image.open(path).format == 'PNG'
    folder = tree('a/1.png', 'b/2.png', 'b/3.png', root=tmp_path / 'tree')
    assert main(['show', folder, '--output', path, '--preprocessing_name=vgg', '--image_size=32']) == 0
    assert 'image_folder train' in capsys.readouterr().out
    assert main(['show', '', '--dataset_name=digits', '--output', path, '--preprocessing_name=lenet']) == 0
    capsys.readouterr()
    for arguments, words in ((['--preprocessing_name=vg'], "did you mean 'vgg'"), (['--split=trian'], 'train'),
                             (['--output', str(tmp_path / 'no' / 'x.png')], 'cannot be written')):
        assert main(['show', flowers, '--dataset_name=flowers', *arguments]) == 1
        said = capsys.readouterr().err
        assert words in said and said.count('\n') == 1


def test_the_first_split_that_is_there(records, encode, tmp_path, capsys, tree):
    path, examples = str(tmp_path / 'p.png'), [(encode(1), 0), (encode(2), 1)]
    folder = records('birds_val.tfrecord', examples)
    tree('photos/test/a/1.png', 'photos/test/b/2.png')
    given = ['--output', path, '--image_size=32']
    for shown, split in ((folder, 'val'), (str(tmp_path / 'photos'), 'test'),
                         (os.path.join(folder, 'birds_val.tfrecord'), 'train')):
        assert main(['show', shown, *given]) == 0
        said = capsys.readouterr()
        assert f' {split} (2 images' in said.out
        assert said.err == '' if split == 'train' else said.err.startswith(f'Not train, but {split} is drawn: ')
    assert main(['show', folder, *given, '--split=train']) == 1
    assert main(['show', str(tmp_path / 'nowhere'), *given]) == 1
    assert 'there is no folder' in capsys.readouterr().err


def test_several_labels(tmp_path, encode, capsys):
    with tf.io.TFRecordWriter(str(tmp_path / 'birds_train.tfrecord')) as writer:
        for labels in ([0, 2], [], [1]):
            feature = {'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[encode()])),
                       'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=labels))}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    given = ['show', str(tmp_path), '--output', str(tmp_path / 'p.png'), '--image_size=32']
    assert main(given) == 1
    assert capsys.readouterr().err.count('\n') == 1
    assert main([*given, '--multi_label']) == 0
    assert 'tfrecord train (3 images, 3 classes)' in capsys.readouterr().out
    assert main(['show', '', '--dataset_name=digits', '--multi_label', *given[2:]]) == 0    # it has no such option
