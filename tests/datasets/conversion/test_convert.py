"""Collections into shards: whole or not at all, the same bytes however often it is stopped, and nothing overwritten."""
import csv
import io
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from datasets import DatasetError
from datasets.conversion import convert as engine
from datasets.conversion import images
from datasets.conversion.collection import SINGLE, Collection, ImageOptions, Item
from datasets.conversion.convert import Conversion, convert, without_duplicates

ROOT = pathlib.Path(__file__).parents[3]
NAMES = {0: 'cat', 1: 'dog'}


def jpeg(number):
    """An image that tells its number: its grey value."""
    file = io.BytesIO()
    Image.new('L', (24 + number % 7, 16), number % 256).save(file, 'JPEG', comment=str(number).encode())
    return file.getvalue()


def items(start, stop):
    return [Item(f'{number}.jpg', jpeg(number), number % 2) for number in range(start, stop)]


def collection(train=23, validation=7, shards=4, **fields):
    splits = {'train': items(0, train), 'validation': items(100, 100 + validation)}
    return Collection(**{'name': 'pets', 'splits': splits, 'class_names': NAMES,
                         'num_shards': {'train': shards, 'validation': 2}, **fields})


def contents(folder):
    """All files of a folder, name -> bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def numbers(folder, split):
    """(number, label) of each record of a split, in order."""
    found = []
    for file in sorted(folder.glob(f'*_{split}*.tfrecord')):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            image = tf.io.decode_jpeg(features['image/encoded'].bytes_list.value[0]).numpy()
            found.append((int(image.mean().round()), features['image/class/label'].int64_list.value[0]))
    return found


def refusal(conversion, **options):
    with pytest.raises(DatasetError) as caught:
        convert(conversion, **options)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_files_and_records(tmp_path):
    summary = convert(Conversion(collection(), str(tmp_path / 'new' / 'a b é')))
    folder = tmp_path / 'new' / 'a b é'
    assert sorted(path.name for path in folder.iterdir()) == [
        'labels.txt', 'pets_conversion.json', 'pets_report.csv', *(
            f'pets_train_{shard:05d}-of-00004.tfrecord' for shard in range(4)),
        'pets_validation_00000-of-00002.tfrecord', 'pets_validation_00001-of-00002.tfrecord']
    assert numbers(folder, 'train') == [(number, number % 2) for number in range(23)]
    assert numbers(folder, 'validation') == [(number, number % 2) for number in range(100, 107)]
    assert (folder / 'labels.txt').read_text() == '0:cat\n1:dog\n'
    assert (folder / 'pets_report.csv').read_text() == 'file,split,problem,what was done\n'
    assert json.loads((folder / 'pets_conversion.json').read_text()) == summary
    assert summary['splits']['train'] == {
        'num_images': 23, 'num_shards': 4, 'class_counts': {'0:cat': 12, '1:dog': 11}}
    assert summary['problems'] == {} and summary['left_out'] == 0


def test_tf_slim_reads_it(tmp_path):
    convert(Conversion(collection(6, 0, 1, num_shards={'train': 1, 'validation': 1}, file_name=SINGLE), str(tmp_path)))
    features = {'image/encoded': tf.io.FixedLenFeature([], tf.string),
                'image/format': tf.io.FixedLenFeature([], tf.string),
                'image/class/label': tf.io.FixedLenFeature([], tf.int64),
                'image/height': tf.io.FixedLenFeature([], tf.int64), 'image/width': tf.io.FixedLenFeature([], tf.int64)}
    decoder = slim.tfexample_decoder.TFExampleDecoder(features, {
        'image': slim.tfexample_decoder.Image(), 'label': slim.tfexample_decoder.Tensor('image/class/label'),
        'height': slim.tfexample_decoder.Tensor('image/height'), 'width': slim.tfexample_decoder.Tensor('image/width')})
    dataset = slim.dataset.Dataset([str(tmp_path / 'pets_train.tfrecord')], tf.compat.v1.TFRecordReader, decoder, 6, {})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        provider = slim.dataset_data_provider.DatasetDataProvider(dataset, shuffle=False)
        tensors = provider.get(['image', 'label', 'height', 'width'])
        coordinator = tf.train.Coordinator()
        threads = tf.compat.v1.train.start_queue_runners(session, coordinator)
        for number in range(6):
            image, label, height, width = session.run(tensors)
            assert image.shape == (height, width, 3) == (16, 24 + number, 3) and label == number % 2
            assert abs(image.mean() - number) < 1
        coordinator.request_stop()
        coordinator.join(threads)


@pytest.mark.parametrize('workers', [2, 5])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path, workers):
    convert(Conversion(collection(), str(tmp_path / 'one')), num_workers=1)
    convert(Conversion(collection(), str(tmp_path / 'more')), num_workers=workers)
    assert contents(tmp_path / 'one') == contents(tmp_path / 'more')
    # And shards that are written one by one, in any order, as another engine does.
    conversion = Conversion(collection(), str(tmp_path / 'by hand'))
    assert conversion.begin()
    for shard in reversed(conversion.missing()):
        conversion.write(shard)
    conversion.finish()
    assert contents(tmp_path / 'one') == contents(tmp_path / 'by hand')


def test_images_are_converted_at_the_same_time_but_not_all_at_once():
    batch, together, most, taken = engine._TOGETHER, threading.Barrier(3, timeout=20), [0], [0]

    def work(value):
        if value in (0, batch, 2 * batch):
            together.wait()         # three are here at once
        return value

    def values():
        for value in range(1000):
            taken[0] += 1
            yield value

    with engine.ThreadPoolExecutor(3) as pool:
        found = engine.in_parallel(pool, work, values(), 6)
        for number, value in enumerate(found):
            assert value == number
            most[0] = max(most[0], taken[0] - number)
    assert most[0] <= batch * 7


# Interruptions.

KILLED = '''
import os, random, signal, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
import importlib.util
spec = importlib.util.spec_from_file_location('made', {file!r})
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
random.seed(0)
killed = waited = 0
while killed < 20:
    reader, writer = os.pipe()
    child = os.fork()       # nothing has been run by TensorFlow yet: it has no threads to lose
    if not child:
        convert = made.images.convert_item
        made.images.convert_item = lambda *args: (time.sleep(0.001), convert(*args))[1]
        wait = killed % 4 and (lambda images: images == 1 and os.write(writer, b'.'))
        made.convert(made.Conversion(made.collection(800, 20, 80), {folder!r}), 2, wait or (lambda images: None))
        os._exit(0)
    os.close(writer)
    if killed % 4:
        os.read(reader, 1)  # it is at work
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(reader)
    assert os.WIFSIGNALED(status), 'it ended too early'
    killed += 1
'''


def test_killed_twenty_times_it_ends_with_the_same_bytes(tmp_path):
    folder = tmp_path / 'killed'
    program = KILLED.format(root=str(ROOT), tests=str(pathlib.Path(__file__).parent), file=__file__, folder=str(folder))
    subprocess.run([sys.executable, '-c', program], check=True, timeout=120, cwd=ROOT)
    left = contents(folder)
    whole = [name for name in left if '/' not in name]
    assert 0 < len(whole) < 82 and all(name.endswith('.tfrecord') for name in whole)
    for name in whole:
        os.utime(folder / name, (0, 0))
    convert(Conversion(collection(800, 20, 80), str(folder)))
    convert(Conversion(collection(800, 20, 80), str(tmp_path / 'undisturbed')))
    assert contents(folder) == contents(tmp_path / 'undisturbed')
    assert all(os.stat(folder / name).st_mtime == 0 for name in whole)      # what was finished was kept


def test_what_was_found_before_an_interruption_is_reported(tmp_path, monkeypatch):
    pets = collection(splits={'train': [*items(0, 1), Item('bad.jpg', b'', 1), *items(2, 60)]},
                      num_shards={'train': 3})
    convert(Conversion(pets, str(tmp_path / 'whole')))
    real, called = images.convert_item, []

    def stopped(item, *arguments):
        called.append(item.name)
        if item.name == '55.jpg':
            raise KeyboardInterrupt
        return real(item, *arguments)

    monkeypatch.setattr(images, 'convert_item', stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(Conversion(pets, str(tmp_path / 'stopped')), 1)
    assert 'pets_train_00000-of-00003.tfrecord' in os.listdir(tmp_path / 'stopped')
    assert 'pets_train_00002-of-00003.tfrecord' not in os.listdir(tmp_path / 'stopped')
    monkeypatch.setattr(images, 'convert_item', real)
    assert convert(Conversion(pets, str(tmp_path / 'stopped')))['left_out'] == 1
    assert contents(tmp_path / 'stopped') == contents(tmp_path / 'whole')
    assert b'bad.jpg,train,empty: the file has no bytes,left out' in contents(tmp_path / 'whole')['pets_report.csv']


def test_a_full_disk(tmp_path, full_disk):
    large = [Item(f'{number}', np.random.RandomState(number).randint(0, 256, (64, 64, 3), np.uint8), 0)
             for number in range(30)]
    pets = collection(splits={'train': large}, num_shards={'train': 1})
    with full_disk(100_000):
        text = refusal(Conversion(pets, str(tmp_path / 'full')))
    assert f'{tmp_path}/full cannot be written: ' in text and 'File too large' in text and 'goes on' in text
    assert not list((tmp_path / 'full').glob('*.tfrecord'))
    convert(Conversion(pets, str(tmp_path / 'full')))
    convert(Conversion(pets, str(tmp_path / 'whole')))
    assert contents(tmp_path / 'full') == contents(tmp_path / 'whole')


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('mine')
    text = refusal(Conversion(collection(), str(tmp_path / 'file' / 'folder')))
    assert 'file/folder cannot be written: ' in text and 'ot a directory' in text and 'is kept' not in text
    assert contents(tmp_path) == {'file': b'mine'}


@pytest.mark.parametrize('folder', ['/data/pets', '/data/pets/', '/data/pets/deep'])
def test_a_path_is_told_once(monkeypatch, folder):
    def makedirs(path):
        raise tf.errors.NotFoundError(None, None, '/data/pets; No such file or directory')

    monkeypatch.setattr(tf.io.gfile, 'makedirs', makedirs)
    assert refusal(Conversion(collection(), folder)) == f'{folder} cannot be written: No such file or directory.'


def test_another_reason_is_told_whole(monkeypatch):
    def makedirs(path):
        raise tf.errors.PermissionDeniedError(None, None, 'bucket; no access')

    monkeypatch.setattr(tf.io.gfile, 'makedirs', makedirs)
    assert refusal(Conversion(collection(), 'elsewhere')) == 'elsewhere cannot be written: bucket; no access.'


# Two conversions do not mix, and nothing of others is overwritten.

def test_a_finished_conversion_is_left_alone(tmp_path):
    first = convert(Conversion(collection(), str(tmp_path)))
    for name in os.listdir(tmp_path):
        os.utime(tmp_path / name, (0, 0))
    called = []
    assert convert(Conversion(collection(), str(tmp_path)), step=called.append) == first
    assert not called and all(os.stat(tmp_path / name).st_mtime == 0 for name in os.listdir(tmp_path))
    (tmp_path / 'pets_train_00001-of-00004.tfrecord').unlink()
    assert 'its pets_train_00001-of-00004.tfrecord is missing' in refusal(Conversion(collection(), str(tmp_path)))


@pytest.mark.parametrize('finished', [True, False])
@pytest.mark.parametrize('other, options, what', [
    (collection(), ImageOptions(max_side=20), 'max_side from None to 20'),
    (collection(), ImageOptions(reencode=True, jpeg_quality=9), 'reencode from False to True, jpeg_quality from 95 to'),
    (collection(shards=3), ImageOptions(), "num_shards from {'train': 4, 'validation': 2} to {'train': 3,"),
    (collection(22), ImageOptions(), 'other images, labels, or order'),
    (collection(splits={'train': items(0, 23)[::-1], 'validation': items(100, 107)}), ImageOptions(), 'other images, '),
    (collection(class_names={0: 'cat', 1: 'cow'}), ImageOptions(), 'other images, labels, or order'),
])
def test_another_conversion_is_refused(tmp_path, other, options, what, finished):
    conversion = Conversion(collection(), str(tmp_path))
    if finished:
        convert(conversion)
    else:
        conversion.begin()
        conversion.write(conversion.missing()[1])
    before = contents(tmp_path)
    text = refusal(Conversion(other, str(tmp_path), options))
    assert f'is of another conversion ({what}' in text and 'give another --dataset_dir' in text
    assert contents(tmp_path) == before


def test_files_of_others_are_not_overwritten(tmp_path):
    (tmp_path / 'pets_train_00002-of-00004.tfrecord').write_text('mine')
    text = refusal(Conversion(collection(), str(tmp_path)))
    assert 'pets_train_00002-of-00004.tfrecord is there already, and not of this conversion' in text
    assert contents(tmp_path) == {'pets_train_00002-of-00004.tfrecord': b'mine'}


def test_labels_of_others_are_not_overwritten(tmp_path):
    (tmp_path / 'labels.txt').write_text('0:apple\n1:pear\n')
    assert 'labels.txt is there already, with other classes' in refusal(Conversion(collection(), str(tmp_path)))
    assert contents(tmp_path) == {'labels.txt': b'0:apple\n1:pear\n'}
    (tmp_path / 'labels.txt').write_text('1:dog\n0:cat\n')
    convert(Conversion(collection(), str(tmp_path)))
    # Another dataset of the same classes may stand beside it.
    convert(Conversion(collection(name='more_pets'), str(tmp_path)))
    assert (tmp_path / 'more_pets_conversion.json').exists() and (tmp_path / 'pets_conversion.json').exists()


def test_a_label_without_a_class(tmp_path):
    assert '1.jpg has the label 1, but the classes are 0 to 0' in refusal(
        Conversion(collection(class_names={0: 'cat'}), str(tmp_path / 'new')))
    assert not (tmp_path / 'new').exists()


def test_elsewhere_than_on_this_machine(tmp_path):
    with tf.io.gfile.GFile('ram://photos/5.jpg', 'wb') as file:
        file.write(jpeg(5))
    pets = collection(splits={'train': [Item('5.jpg', 'ram://photos/5.jpg', 1), *items(6, 9)]}, num_shards={'train': 2})
    convert(Conversion(pets, 'ram://out'))
    convert(Conversion(pets, str(tmp_path)))
    assert {name.rstrip('/') for name in tf.io.gfile.listdir('ram://out')} == set(os.listdir(tmp_path))
    for name, content in contents(tmp_path).items():
        with tf.io.gfile.GFile(f'ram://out/{name}', 'rb') as file:
            assert file.read() == content
    assert numbers(tmp_path, 'train') == [(5, 1), (6, 0), (7, 1), (8, 0)]


def test_a_name_that_is_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b'/\xff\xfe'
    os.mkdir(folder)
    for name, content in ((b'\xe9.jpg', jpeg(1)), (b'bad\xff.jpg', b'')):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(content)
    pets = collection(splits={'train': [Item(os.fsdecode(name), os.fsdecode(os.path.join(folder, name)), 1)
                                        for name in (b'\xe9.jpg', b'bad\xff.jpg')]}, num_shards={'train': 1})
    summary = convert(Conversion(pets, str(tmp_path / 'out')))
    assert summary['splits']['train']['num_images'] == 1 and summary['left_out'] == 1
    assert 'bad\\udcff.jpg,train,empty' in (tmp_path / 'out/pets_report.csv').read_text(encoding='utf-8')


# The report.

def with_problems():
    """A bad image in the first shard; copies within a split and in another."""
    train = [*items(0, 3), Item('bad.jpg', b'1', 0), Item('copy.jpg', jpeg(1), 0), *items(4, 8)]
    return collection(splits={'train': train, 'validation': [*items(100, 103), Item('leak.jpg', jpeg(2), 1)]},
                      num_shards={'train': 3, 'validation': 1})


def report(folder):
    with open(folder / 'pets_report.csv', newline='', encoding='utf-8') as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


COPY = ('copy.jpg', 'train', 'duplicate: the same bytes as 1.jpg in train')
LEAK = ('leak.jpg', 'validation', 'duplicate across splits: the same bytes as 2.jpg in train')
BAD = ('bad.jpg', 'train', 'unreadable: it is no JPEG, PNG, BMP, GIF or WebP file, or damaged', 'left out')


def test_duplicates_are_reported(tmp_path):
    summary = convert(Conversion(with_problems(), str(tmp_path)))
    assert report(tmp_path) == [BAD, (*COPY, 'kept'), (*LEAK, 'kept')]
    assert summary['problems'] == {'unreadable': 1, 'duplicate': 1, 'duplicate across splits': 1}
    assert summary['left_out'] == 1
    assert [number for number, _ in numbers(tmp_path, 'train')] == [0, 1, 2, 1, 4, 5, 6, 7]


def test_duplicates_are_skipped(tmp_path):
    pets, dropped = without_duplicates(with_problems())
    summary = convert(Conversion(pets, str(tmp_path), dropped=dropped))
    assert report(tmp_path) == [(*COPY, 'left out'), (*LEAK, 'left out'), BAD] and summary['left_out'] == 3
    assert [number for number, _ in numbers(tmp_path, 'train')] == [0, 1, 2, 4, 5, 6, 7]
    assert [number for number, _ in numbers(tmp_path, 'validation')] == [100, 101, 102]


def test_strict(tmp_path):
    """It stops at the first problem; without it the conversion then goes on."""
    pets = with_problems()
    text = refusal(Conversion(pets, str(tmp_path), strict=True))
    assert text.startswith('--strict: bad.jpg (train): unreadable: ') and 'What is finished is kept' in text
    whole = ['pets_train_00000-of-00003.tfrecord']
    assert [name for name in os.listdir(tmp_path) if name.endswith('.tfrecord')] == whole
    os.utime(tmp_path / whole[0], (0, 0))
    assert 'bad.jpg' in refusal(Conversion(pets, str(tmp_path), strict=True))
    convert(Conversion(pets, str(tmp_path)))
    assert os.stat(tmp_path / whole[0]).st_mtime == 0
    assert [number for number, _ in numbers(tmp_path, 'train')] == [0, 1, 2, 1, 4, 5, 6, 7]


def test_strict_about_what_was_converted_without_it(tmp_path):
    pets = with_problems()
    conversion = Conversion(pets, str(tmp_path))
    conversion.begin()
    for shard in conversion.missing():
        conversion.write(shard)
    assert refusal(Conversion(pets, str(tmp_path), strict=True)).startswith('--strict: bad.jpg (train): unreadable: ')
    assert not (tmp_path / 'pets_conversion.json').exists()
    summary = convert(conversion)
    before = contents(tmp_path)
    assert refusal(Conversion(pets, str(tmp_path), strict=True)) == (
        f'--strict: the conversion in {tmp_path} is finished, with problems (unreadable 1, duplicate 1, duplicate '
        f'across splits 1): {tmp_path}/pets_report.csv has each of them.')
    assert contents(tmp_path) == before and convert(conversion) == summary


def test_a_split_without_any_image(tmp_path):
    """It is no success; with images that can be read, the same conversion goes on."""
    bad = tmp_path / 'bad.jpg'
    bad.write_bytes(b'')
    pets = collection(splits={'train': items(0, 4), 'validation': [Item('bad.jpg', str(bad), 1)], 'test': []},
                      num_shards={'train': 2, 'validation': 1, 'test': 1})
    out = tmp_path / 'out'
    text = refusal(Conversion(pets, str(out)))
    assert text.startswith(f'no image of validation could be used: {out}/pets_report.csv says why.')
    assert report(out) == [('bad.jpg', 'validation', 'empty: the file has no bytes', 'left out')]
    assert not (out / 'pets_conversion.json').exists() and refusal(Conversion(pets, str(out))) == text
    train = out / 'pets_train_00000-of-00002.tfrecord'
    os.utime(train, (0, 0))
    bad.write_bytes(jpeg(101))
    convert(Conversion(pets, str(out)))
    assert os.stat(train).st_mtime == 0 and numbers(out, 'validation') == [(101, 1)]
    convert(Conversion(pets, str(tmp_path / 'undisturbed')))
    assert contents(out) == contents(tmp_path / 'undisturbed')


def test_a_split_of_duplicates_only(tmp_path):
    pets, dropped = without_duplicates(collection(splits={'train': items(0, 4), 'validation': items(0, 2)}))
    assert 'no image of validation could be used' in refusal(Conversion(pets, str(tmp_path), dropped=dropped))


def test_strict_about_duplicates(tmp_path):
    pets, dropped = without_duplicates(with_problems())
    text = refusal(Conversion(pets, str(tmp_path / 'new'), strict=True, dropped=dropped))
    assert text.startswith('--strict: copy.jpg (train): duplicate: the same bytes as 1.jpg in train')
    assert not (tmp_path / 'new').exists()


def test_strict_finds_nothing_in_sound_images(tmp_path):
    pets, dropped = without_duplicates(collection())
    assert pets == collection() and dropped == ()
    convert(Conversion(pets, str(tmp_path / 'strict'), strict=True, dropped=dropped))
    convert(Conversion(collection(), str(tmp_path / 'plain')))
    assert contents(tmp_path / 'strict') == contents(tmp_path / 'plain')


def test_two_processes_at_once(tmp_path):
    """The second waits, and finds all done."""
    program = (f'import sys; sys.path.insert(0, {str(ROOT)!r})\nimport importlib.util\n'
               f'spec = importlib.util.spec_from_file_location("made", {__file__!r})\n'
               'made = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(made)\n'
               f'made.convert(made.Conversion(made.collection(300), {str(tmp_path / "both")!r}))')
    both = [subprocess.Popen([sys.executable, '-c', program], cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    convert(Conversion(collection(300), str(tmp_path / 'one')))
    assert contents(tmp_path / 'both') == contents(tmp_path / 'one')


