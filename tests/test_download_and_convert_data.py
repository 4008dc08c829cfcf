"""The script as a new user runs it: what it says, its exit codes, mistakes before anything is written."""
import csv
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import download_and_convert_data
import train_image_classifier
from datasets.conversion import beam
from datasets.conversion import convert as engine

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs the program in this process, in a folder of its own; returns exit code, output and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = download_and_convert_data.main(['somewhere/download_and_convert_data.py', *arguments])
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return code, out, err
    return run


def birds(root, count=30, size=(40, 32)):
    for number in range(count):
        path = root / ('wren', 'robin')[number % 2] / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def test_images_of_ones_own(run, tmp_path, capfd):
    """Converted, then trained on, by the commands that the program suggests."""
    birds(tmp_path / 'photos')
    (tmp_path / 'photos/wren/empty.jpg').touch()
    (tmp_path / 'photos/robin/copy.jpg').write_bytes((tmp_path / 'photos/robin/1.jpg').read_bytes())
    flags = ['--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data/birds', '--num_shards=2']
    code, out, err = run(*flags)
    assert code == 0 and out.splitlines()[:3] == [
        'birds: 2 classes; images: train 29, validation 3.', 'train: 28 images in 2 files',
        'validation: 3 images in 2 files']
    problems, following = out.splitlines()[3:]
    assert problems.startswith('Problems: empty 1, duplicate') and problems.endswith(
        ' 1. Left out: 1. data/birds/birds_report.csv has each of them.')
    assert following == ('Wrote data/birds. Next: python train_image_classifier.py --dataset_name=tfrecord '
                         '--dataset_dir=data/birds')
    assert err.count('\n') == 1 and err.startswith('converting 32/32  images  ') and err.endswith('00:00 left\n')
    with open('data/birds/birds_report.csv', newline='') as file:
        assert {row['file'] for row in csv.DictReader(file)} <= {'wren/empty.jpg', 'robin/copy.jpg', 'robin/1.jpg'}
    assert train_image_classifier.main([
        'train', *following.split()[5:], '--model_name=lenet', '--train_image_size=16', '--batch_size=4',
        '--max_number_of_steps=1', '--train_dir=run']) == 0
    capfd.readouterr()

    before = {path: path.read_bytes() for path in (tmp_path / 'data/birds').iterdir()}
    code, out, err = run(*flags)
    assert code == 0 and err == ''
    assert ('All of it was there already: data/birds; images that changed since are not converted anew: give another '
            '--dataset_dir or remove its files for that. Next: ') in out
    assert {path: path.read_bytes() for path in (tmp_path / 'data/birds').iterdir()} == before


def test_several_labels(run, tmp_path):
    """In a folder whose name has a space, they too are trained on by the command that the program suggests."""
    birds(tmp_path / 'photos')
    lines = [{'path': f'photos/{("wren", "robin")[number % 2]}/{number}.jpg', 'labels': ['sky', 'sea'][:number % 3]}
             for number in range(30)]
    (tmp_path / 'views.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    code, out, _ = run('--dataset_name=views', '--source_dir=views.jsonl', '--dataset_dir=my data', '--num_shards=1')
    program, *flags = shlex.split(out.splitlines()[-1].partition(' Next: python ')[2])
    assert code == 0 and program == 'train_image_classifier.py' and flags == [
        '--dataset_name=tfrecord', '--dataset_dir=my data', '--class_mode=multilabel']
    assert train_image_classifier.main([program, *flags, '--model_name=lenet', '--train_image_size=16',
                                        '--batch_size=4', '--max_number_of_steps=1', '--train_dir=run']) == 0


def test_options_reach_the_images(run, tmp_path):
    birds(tmp_path / 'photos', 20)
    (tmp_path / 'photos/robin/copy.jpg').write_bytes((tmp_path / 'photos/robin/1.jpg').read_bytes())
    assert run('--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data', '--max_side=20',
               '--jpeg_quality=50', '--duplicates=skip', '--num_validation=6', '--stratify', '--seed=7',
               '--num_shards=1', '--num_workers=1')[0] == 0
    labels = []
    for record in tf.data.TFRecordDataset('data/birds_validation_00000-of-00001.tfrecord').as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        assert features['image/height'].int64_list.value == [20] and features['image/width'].int64_list.value == [16]
        labels += features['image/class/label'].int64_list.value
    train = len(list(tf.data.TFRecordDataset('data/birds_train_00000-of-00001.tfrecord')))
    assert train + len(labels) == 20 and abs(labels.count(0) - labels.count(1)) <= 1


@pytest.mark.parametrize('flags, code, message', [
    ([], 2, '--dataset_name is needed: a dataset to download, such as flowers, or with --source_dir a name'),
    (['--dataset_name=flowers'], 2, '--dataset_dir is needed: the folder to write to.'),
    (['--dataset_name=flower', '--dataset_dir=out'], 1, "'flower' is no dataset (did you mean 'flowers'?); there is "),
    (['--dataset_nam=flowers'], 2, '--dataset_nam is not a flag: did you mean --dataset_name?'),
    (['--dataset_name=a/b', '--dataset_dir=out'], 2, '--dataset_name=a/b: file names begin with it, so it must be '),
    (['--dataset_name=birds', '--dataset_dir=out', '--source_dir=nowhere'], 1, 'there is no nowhere (--source_dir).'),
    (['--dataset_name=birds', '--dataset_dir=out', '--source_dir=none'], 1, 'none has no class folders: '),
    (['--dataset_name=birds', '--dataset_dir=one/out', '--source_dir=one'], 2, '--dataset_dir=one/out lies in --'),
    (['--dataset_name=birds', '--dataset_dir=one', '--source_dir=one'], 2, '--dataset_dir=one lies in --'),
    (['--dataset_name=birds', '--dataset_dir=out', '--source_dir=one'], 1, 'has one class folder only'),
    (['--dataset_name=birds', '--dataset_dir=file/out', '--source_dir=two'], 1, 'file/out cannot be written: '),
    (['--dataset_name=birds', '--dataset_dir=out', '--source_dir=file'], 1, 'file is no list of images'),
    (['--dataset_name=birds', '--dataset_dir=out', '--source_dir=two', '--num_validation=2'], 1, '2 of 2 images'),
    (['--dataset_name=flowers', '--dataset_dir=out', '--source_dir=two'], 1, '350 of 2 images are to be held out'),
    (['--dataset_name=birds', '--dataset_dir=out', '--max_side=0'], 2, '--max_side=0: it must be at least 1.'),
    (['--dataset_name=birds', '--dataset_dir=out', '--jpeg_quality=101'], 2, '--jpeg_quality=101: it must be '),
    (['--dataset_name=birds', '--dataset_dir=out', '--duplicates=drop'], 2, '--duplicates=drop: it must be one'),
    (['--dataset_name=birds', '--dataset_dir=out', '--num_validation=2', '--validation_fraction=.1'], 2, 'Give one'),
])
def test_a_mistake(run, tmp_path, flags, code, message):
    birds(tmp_path / 'two', 2)
    birds(tmp_path / 'one', 1)
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'none').mkdir()
    before = sorted(tmp_path.rglob('*'))
    found, out, err = run(*flags)
    complaint = err.removeprefix('download_and_convert_data.py: ')
    assert found == code and message in complaint and complaint.count('\n') == 1 and complaint.endswith('.\n')
    assert sorted(tmp_path.rglob('*')) == before


def test_strict(run, tmp_path):
    birds(tmp_path / 'photos')
    (tmp_path / 'photos/wren/empty.jpg').touch()
    flags = ['--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data']
    code, out, err = run(*flags, '--strict')
    assert code == 1 and 'download_and_convert_data.py: --strict: wren/empty.jpg (' in err
    assert 'empty: the file has no bytes' in err and not os.path.exists('data/labels.txt')
    assert run(*flags)[0] == 0 and os.path.exists('data/labels.txt')
    code, out, err = run(*flags, '--strict')
    assert code == 1 and 'finished, with problems (empty 1): data/birds_report.csv has each of them.' in err


def test_no_image_can_be_used(run, tmp_path):
    birds(tmp_path / 'photos')
    for path in (tmp_path / 'photos').rglob('*.jpg'):
        path.write_bytes(b'')
    code, out, err = run('--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data')
    assert code == 1 and 'no image of train and validation could be used: data/birds_report.csv says why.' in err
    assert 'Wrote' not in out and len(pathlib.Path('data/birds_report.csv').read_text().splitlines()) == 31


def test_ctrl_c(tmp_path):
    """At the keyboard: the program says where it stands, leaves whole files alone, and goes on."""
    birds(tmp_path / 'photos', 60)
    slow = ('import sys, time; sys.path.insert(0, sys.argv.pop(1))\n'
            'import download_and_convert_data\nfrom datasets.conversion import images\nconvert = images.convert_item\n'
            'images.convert_item = lambda *args: (time.sleep(0.05), convert(*args))[1]\n'
            'sys.exit(download_and_convert_data.main(["download_and_convert_data.py", *sys.argv[1:]]))')
    flags = ['--dataset_name=birds', f'--source_dir={tmp_path / "photos"}', f'--dataset_dir={tmp_path / "data"}',
             '--num_shards=10', '--num_workers=1']
    with subprocess.Popen([sys.executable, '-c', slow, str(ROOT), *flags], cwd=ROOT, stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob('data/*.tfrecord')) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == ('download_and_convert_data.py: stopped; the files that are finished are kept, and '
                                    'the same command goes on from there.')
    whole = {path: path.read_bytes() for path in tmp_path.glob('data/*.tfrecord')}
    assert 0 < len(whole) < 20
    assert download_and_convert_data.main(['download_and_convert_data.py', *flags]) == 0
    assert len(list(tmp_path.glob('data/*.tfrecord'))) == 16
    assert all(path.read_bytes() == content for path, content in whole.items())


def test_lines_while_it_goes_on(run, tmp_path, monkeypatch):
    from training import conversion

    monkeypatch.setattr(conversion, '_SECONDS', {True: 0.0, False: 0.0})
    birds(tmp_path / 'photos', 12)
    _, _, err = run('--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data', '--num_workers=1')
    lines = err.splitlines()
    assert len(lines) == 12 and lines[3].startswith('converting 4/12  images  ') and lines[3].endswith(' left')


def test_damaged_images_show_nothing_else(run, tmp_path):
    """Of a file that is cut short TensorFlow would write a line of its own, into the progress."""
    birds(tmp_path / 'photos', 12)
    for path in sorted((tmp_path / 'photos/wren').iterdir()):
        path.write_bytes(path.read_bytes()[:-200])
    code, out, err = run('--dataset_name=birds', '--source_dir=photos', '--dataset_dir=data')
    assert code == 0 and 'Problems: truncated 6. Left out: 6.' in out
    assert err.count('\n') == 1 and err.startswith('converting 12/12  images  ')


def test_on_beam(run, tmp_path, monkeypatch):
    given = []

    def convert(conversion, options, step):
        given.append(options)
        return engine.convert(conversion, 1, step)

    monkeypatch.setattr(beam, 'convert_with_beam', convert)
    birds(tmp_path / 'photos', 12)
    flags = ['--dataset_name=birds', '--source_dir=photos']
    assert run(*flags, '--dataset_dir=one', '--beam_options=')[0] == 0
    assert run(*flags, '--dataset_dir=two', '--beam_options=--runner=X --region=Y')[0] == 0
    assert run(*flags, '--dataset_dir=three')[0] == 0
    assert given == [[], ['--runner=X', '--region=Y']]
