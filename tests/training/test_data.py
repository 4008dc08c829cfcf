"""What a config says of its data: damage that is passed over, copies in a cache, several labels."""
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nets import checkpoints
from training import evaluation, loop
from training.config import ConfigError, EvalConfig, TrainConfig
from training.data import Skipped, evaluation_batches, held_out, open_dataset, training_batches


def photo(path, number, size=(20, 20)):
    """A grey image that tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (number, number, number)).save(path)
    return path


@pytest.fixture
def records(tmp_path):
    """Flowers in TFRecords: a train split of 24 images, each of the grey of its number, and 8 to validate."""
    for split, numbers in ('train', range(24)), ('validation', range(100, 108)):
        with tf.io.TFRecordWriter(str(tmp_path / f'flowers_{split}_00000-of-00001.tfrecord')) as writer:
            for number in numbers:
                encoded = photo(tmp_path / 'one.png', number).read_bytes()
                writer.write(tf.train.Example(features=tf.train.Features(feature={
                    'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                    'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 5])),
                })).SerializeToString())
    return tmp_path


def config(folder, config_class=TrainConfig, **changes):
    return config_class(**{**dict(dataset_name='flowers', dataset_dir=str(folder), model_name='lenet', batch_size=4),
                           **changes})


def numbers_of(batches):
    return [np.asarray(images)[:, 0, 0, 0].tolist() for images, _ in batches]


def damage(path, record, byte):
    """Turns a bit of a record: byte 0 to 7 is its length, from 12 on its data."""
    content = bytearray(path.read_bytes())
    at = 0
    for _ in range(record):
        at += 16 + int.from_bytes(content[at:at + 8], 'little')
    content[at + byte] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize('byte, lost', [(60, {5}), (0, set(range(5, 24)))])
def test_damaged_records_are_passed_over_and_told(records, byte, lost):
    """One whose data are damaged, alone; with a damaged length also all that lies behind it."""
    sound = numbers_of(training_batches(config(records), open_dataset(config(records)), 8).take(6))
    damage(records / 'flowers_train_00000-of-00001.tfrecord', 5, byte)
    settings, said = config(records, skip_corrupt=True), []
    dataset = open_dataset(settings)
    assert dataset.num_samples == (24 if byte else 6)
    skipped = Skipped(said.append)
    found = numbers_of(training_batches(settings, dataset, 8, skipped=skipped).take(12))
    assert said == ['flowers_train_00000-of-00001.tfrecord record 5 cannot be used, and is passed over.']
    assert set(sum(found, [])) == set(range(24)) - lost
    if byte:        # the others stand where they stood
        assert [[new if old != 5 else 5 for old, new in zip(*pair, strict=True)] for pair in zip(
            sound, found, strict=False)] == sound
    with pytest.raises((tf.errors.DataLossError, ValueError)):
        numbers_of(training_batches(config(records), open_dataset(config(records)), 8).take(6))


def test_a_training_and_its_evaluation_pass_over_what_is_damaged(records, capsys):
    damage(records / 'flowers_train_00000-of-00001.tfrecord', 3, 60)
    damage(records / 'flowers_validation_00000-of-00001.tfrecord', 2, 60)
    settings = config(records, skip_corrupt=True, train_dir=str(records / 'run'), train_image_size=16,
                      max_number_of_steps=8, log_every_n_steps=4)
    loop.train(settings, print)
    told = capsys.readouterr()
    assert 'flowers_train_00000-of-00001.tfrecord record 3 cannot be used' in told.err
    assert 'passed over 1' in told.err
    results = evaluation.evaluate(config(
        records, EvalConfig, skip_corrupt=True, dataset_split_name='validation', eval_image_size=16,
        checkpoint_path=str(records / 'run'), eval_dir=str(records / 'eval')), print)
    assert results['num_images'] == 7
    assert results['skipped'] == ['flowers_validation_00000-of-00001.tfrecord record 2']
    assert '1 images could not be used' in capsys.readouterr().out
    assert json.loads((records / 'eval' / 'eval_results.json').read_text())['skipped'] == results['skipped']


@pytest.mark.parametrize('kind', ['records', 'folder'])
@pytest.mark.parametrize('where', ['memory', 'disk'])
def test_a_cache_changes_nothing_and_outlives_the_files(records, tmp_path, kind, where):
    changes = {}
    if kind == 'folder':
        for number in range(20):
            photo(tmp_path / 'photos' / 'ab'[number % 2] / f'{number} ü.png', number)
        changes = dict(dataset_name='image_folder', dataset_dir=str(tmp_path / 'photos'))
    plain = config(records, **changes)
    expected = numbers_of(training_batches(plain, open_dataset(plain), 8).take(7))
    settings = config(records, **changes, cache='memory' if where == 'memory' else str(tmp_path / 'near'))
    dataset = open_dataset(settings)
    if kind == 'folder':
        for path in (tmp_path / 'photos').rglob('*.png'):
            path.unlink()
    else:
        (records / 'flowers_train_00000-of-00001.tfrecord').unlink()
    assert numbers_of(training_batches(settings, dataset, 8).take(7)) == expected
    copies = sum(path.is_file() for path in (tmp_path / 'near').rglob('*'))
    assert copies == (0 if where == 'memory' else 18 if kind == 'folder' else 1)


def test_a_changed_file_is_copied_anew(tmp_path):
    for number in range(4):
        photo(tmp_path / 'photos' / 'train' / 'ab'[number % 2] / f'{number}.png', number)
    settings = config(tmp_path, dataset_name='image_folder', dataset_dir=str(tmp_path / 'photos'),
                      cache=str(tmp_path / 'near'))
    numbers_of(training_batches(settings, open_dataset(settings), 8).take(1))
    photo(tmp_path / 'photos' / 'train' / 'a' / '0.png', 200, (30, 30))
    assert set(numbers_of(training_batches(settings, open_dataset(settings), 8).take(1))[0]) == {200, 1, 2, 3}


def test_a_cache_without_room_is_refused(records, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda folder: type('Usage', (), {'free': 100}))
    with pytest.raises(ValueError, match='the cache needs .* GiB, but .*near has only .* GiB left'):
        open_dataset(config(records, cache=str(records / 'near')))
    (records / 'file').write_text('')
    with pytest.raises(ValueError, match='file.* cannot be written'):
        open_dataset(config(records, cache=str(records / 'file')))


def test_several_labels_are_learnt_from_a_list(tmp_path):
    """Half of the images are bright, and half have a bright corner: two labels that go together as they like."""
    lines = ['path,labels,split']
    for number in range(48):
        image = np.full([16, 16, 3], 200 if number % 2 else 30, np.uint8)
        image[:6, :6] = 255 if number % 4 > 1 else image[:6, :6]
        Image.fromarray(image).save(tmp_path / f'{number}.png')
        labels = '|'.join(['bright'] * (number % 2) + ['corner'] * (number % 4 > 1))
        lines.append(f'{number}.png,{labels},{"validation" if number >= 40 else "train"}')
    (tmp_path / 'list.csv').write_text('\n'.join(lines))
    settings = dict(dataset_name='file_list', dataset_dir=str(tmp_path / 'list.csv'), class_mode='multilabel')
    path = loop.train(config(tmp_path, **settings, train_dir=str(tmp_path / 'run'), train_image_size=16,
                             batch_size=8, optimizer='adam', learning_rate=0.003, opt_epsilon=1e-7,
                             max_number_of_steps=60), lambda line: None)
    results = evaluation.evaluate(config(
        tmp_path, EvalConfig, **settings, dataset_split_name='validation', eval_image_size=16,
        checkpoint_path=path, eval_dir=str(tmp_path / 'eval')), lambda line: None)
    assert results['num_images'] == 8
    batches = evaluation_batches(config(tmp_path, EvalConfig, **settings, dataset_split_name='validation'),
                                 open_dataset(config(tmp_path, **settings, dataset_split_name='validation')), 16)
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.tolist() == [[number % 2, number % 4 > 1] for number in range(40, 48)]
    assert results['Accuracy'] == 1


@pytest.mark.parametrize('changes, message', [
    (dict(class_mode='multilabel', dataset_name='digits', dataset_dir=None),
     '--class_mode=multilabel: the images of digits have one label each'),
    (dict(num_classes=7), 'flowers has no option num_classes'),
    (dict(file_pattern='no_%s'), 'no file of flowers in .* matches no_train')])
def test_what_does_not_fit_is_refused(records, changes, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        open_dataset(config(records, **changes))


def test_a_list_with_several_labels_wants_multilabel(tmp_path):
    (tmp_path / 'list.jsonl').write_text('{"path": "a.png", "labels": ["x", "y"]}\n{"path": "b.png", "labels": ["y"]}')
    with pytest.raises(ConfigError, match='--class_mode=categorical: .* any number of labels: it must be multilabel'):
        open_dataset(config(tmp_path, dataset_name='file_list', dataset_dir=str(tmp_path / 'list.jsonl')))


def test_checkpoints_know_nothing_of_the_cache(records):
    one, other = (loop.train(config(records, cache=cache, train_dir=str(records / str(cache)), train_image_size=16,
                                    max_number_of_steps=3), lambda line: None) for cache in (None, 'memory'))
    for name in checkpoints.Reader(one).shapes:
        np.testing.assert_array_equal(checkpoints.Reader(one).value(name), checkpoints.Reader(other).value(name))


@pytest.mark.parametrize('where', ['memory', 'disk'])
def test_what_cannot_be_copied_is_met_where_it_is(tmp_path, where):
    for number in range(4):
        photo(tmp_path / 'photos' / 'train' / 'ab'[number % 2] / f'{number}.png', number)
    (tmp_path / 'photos/train/a/0.png').write_bytes(b'')
    (tmp_path / 'photos/train/b/9.png').symlink_to(tmp_path / 'gone.png')
    settings = config(tmp_path, dataset_name='image_folder', dataset_dir=str(tmp_path / 'photos'), skip_corrupt=True,
                      cache='memory' if where == 'memory' else str(tmp_path / 'near'))
    said = []
    found = numbers_of(training_batches(settings, open_dataset(settings), 8, skipped=Skipped(said.append)).take(5))
    assert set(sum(found, [])) == {1, 2, 3}
    assert {line.split('/')[-1] for line in said} == {f'{name} cannot be used, and is passed over.'
                                                      for name in ('0.png', '9.png')}


def test_a_pattern_without_a_split_holds_nothing_out(records):
    settings = config(records, file_pattern='flowers_*.tfrecord')
    assert open_dataset(settings).num_samples == 32
    with pytest.raises(ConfigError, match='--file_pattern=.*without %s, for the split'):
        held_out(settings)
