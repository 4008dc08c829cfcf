"""Mistakes as a new user makes them: one clear sentence, an exit code, and nothing lost."""
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import eval_image_classifier
import train_image_classifier
from datasets import dataset_utils, digits, pipeline
from nets import checkpoints

ROOT = pathlib.Path(__file__).parents[1]
LENET = ['--model_name=lenet', '--train_image_size=16', '--batch_size=4', '--log_every_n_steps=1',
         '--learning_rate=0.0001']
DIGITS = [*LENET, '--dataset_name=digits']
INCEPTION = ['--model_name=inception_v1', '--dataset_name=digits', '--preprocessing_name=lenet']
EVAL_INCEPTION = [*INCEPTION, '--eval_image_size=32']
PROGRAMS = {'train': train_image_classifier, 'eval': eval_image_classifier}


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs a program in this process, in a folder of its own; returns exit code, output and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(program, *arguments):
        name = f'{program}_image_classifier.py'
        code = PROGRAMS[program].main([f'somewhere/{name}', *map(str, arguments)])
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return code, out, err.partition(f'{name}: ')[2]
    return run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A LeNet after two steps on the digits; not to be changed."""
    folder = tmp_path_factory.mktemp('trained')
    assert train_image_classifier.main(['train', *DIGITS, f'--train_dir={folder}', '--max_number_of_steps=2']) == 0
    return folder


def class_folders(root, damaged=None):
    """Two classes of eight JPEG files; `damaged` is cut short. Returns the root."""
    for number in range(16):
        path = root / 'ab'[number % 2] / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    if damaged:
        os.truncate(root / damaged, 700)
    return root


def mnist(root, labels, split='train'):
    """A TFRecord file as TF-Slim writes MNIST, with these labels. Returns its folder."""
    root.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(root / f'mnist_{split}.tfrecord')) as writer:
        for label in labels:
            image = digits.png(np.full((28, 28), label, np.uint8))
            writer.write(dataset_utils.image_to_tfexample(image, b'png', 28, 28, label).SerializeToString())
    return root


# What is found before anything is read or written.

@pytest.mark.parametrize('program, flags, code, message', [
    ('train', ['--model_name=incepton_v1'], 2, "Unknown network 'incepton_v1': did you mean 'inception_v1'?"),
    ('eval', ['--model_name=lenett'], 2, "Unknown network 'lenett': did you mean 'lenet'?"),
    ('train', ['--model_name=i3d'], 2, '--model_name=i3d: it takes videos; this program reads images.'),
    ('train', ['--model_name=mine:net'], 2, "There is no network mine:net: No module named 'mine'."),
    ('train', ['--learning_rat=1'], 2, '--learning_rat is not a flag: did you mean --learning_rate?'),
    ('eval', ['--bach_size=1'], 2, '--bach_size is not a flag: did you mean --batch_size?'),
    ('train', ['--learning_rate=fast'], 2, '--learning_rate=fast: it must be a number.'),
    ('train', ['lenet'], 2, "Unexpected argument 'lenet'"),
    ('train', ['--num_ps_tasks=1'], 2, '--num_ps_tasks=1 is not supported: '),
    ('train', ['--model_name=lenet', '--dataset_name=digts'], 1, "did you mean 'digits'?); there is digits, image_fo"),
    ('train', [*DIGITS, '--dataset_split_name=trian'], 1, "did you mean 'train'?); there is train, test."),
    ('train', [*DIGITS, '--preprocessing_name=vg'], 2, '--preprocessing_name: '),
    ('train', [*DIGITS, '--trainable_scopes=LeNet/fc5'], 2, "begins with 'LeNet/fc5'. Its scopes are LeNet/conv1, "),
    ('train', [*DIGITS, '--labels_offset=10'], 2, '--labels_offset=10: digits has the labels 0 to 9.'),
    ('train', [*DIGITS, '--trainable_scopes=,'], 2, 'leaves nothing to train'),
    ('train', [*DIGITS, '--create_aux_logits'], 2, "argument of lenet 'create_aux_logits'"),
    ('train', [*DIGITS, '--num_clones=9', '--clone_on_cpu'], 2, '--num_clones=9: there is 1 CPU.'),
    ('train', [*DIGITS, '--dataset_dir=photos'], 1, 'digits is part of the package and reads no files'),
    ('train', [*DIGITS, '--checkpoint_path=nowhere'], 1, 'There is no checkpoint nowhere.'),
    ('train', [*LENET, '--dataset_name=image_folder'], 1, 'image_folder needs dataset_dir'),
    ('train', [*LENET, '--dataset_name=image_folder', '--dataset_dir=nowhere'], 1, 'there is no folder nowhere'),
    ('train', [*LENET, '--dataset_name=image_folder', '--dataset_dir=.'], 1, 'has no class folders'),
    ('train', [*LENET, '--dataset_name=mnist', '--dataset_dir=.'], 1, 'no file of mnist in . matches mnist_train.tfre'),
    ('eval', ['--checkpoint_path=nowhere'], 2, 'There is no checkpoint nowhere: run train_image_classifier.py first'),
    ('eval', ['--checkpoint_path=nowhere', *EVAL_INCEPTION], 1, 'There is no checkpoint nowhere.'),
    ('eval', ['--checkpoint_path=.', *EVAL_INCEPTION], 1, 'the folder has no file named `checkpoint`'),
])
def test_a_mistake(run, tmp_path, program, flags, code, message):
    found, out, complaint = run(program, *flags, *(['--train_dir=run'] if program == 'train' else []))
    assert found == code and message in complaint and complaint.count('\n') == 1 and complaint.endswith('.\n')
    assert out == '' and os.listdir(tmp_path) == []


@pytest.mark.parametrize('program', PROGRAMS)
def test_help(run, program):
    code, out, complaint = run(program, '--help')
    assert code == 0 and complaint == '' and f'usage: {program}_image_classifier.py' in out and '--batch_size' in out


# Data that is damaged.

def test_a_truncated_jpeg(run, tmp_path):
    folder = class_folders(tmp_path / 'photos', 'a/6.jpg')
    data = [*LENET, '--dataset_name=image_folder', f'--dataset_dir={folder}']
    code, out, complaint = run('train', *data, '--train_dir=run', '--max_number_of_steps=50')
    assert code == 1 and complaint.startswith(f'{folder}/a/6.jpg cannot be decoded, it is cut short or not an image')
    assert complaint.count('\n') == 1 and not list((tmp_path / 'run').glob('model.ckpt*'))

    sound = class_folders(tmp_path / 'sound')
    assert run('train', *data, f'--dataset_dir={sound}', '--train_dir=run', '--max_number_of_steps=1')[0] == 0
    code, out, complaint = run('eval', '--checkpoint_path=run', f'--dataset_dir={folder}', '--batch_size=3',
                               '--dataset_split_name=train')
    assert code == 1 and complaint.startswith(f'{folder}/a/6.jpg cannot be decoded, it is cut short or not an image')
    assert complaint.count('\n') == 1 and 'Accuracy' not in out and not os.path.exists('run/eval')


def test_a_tfrecord_cut_short(run, tmp_path):
    file = mnist(tmp_path / 'data', range(9)) / 'mnist_train.tfrecord'
    os.truncate(file, file.stat().st_size - 5)
    code, _, complaint = run('train', *LENET, '--dataset_name=mnist', '--dataset_dir=data', '--train_dir=run')
    assert code == 1 and complaint.startswith('data/mnist_train.tfrecord is cut short') and 'record 8' in complaint
    assert not os.path.exists('run')


def test_labels_out_of_range(run, tmp_path):
    mnist(tmp_path / 'data', range(10))
    mnist(tmp_path / 'data', [1, 2, 3, 11, 5], 'test')
    data = ['--dataset_name=mnist', '--dataset_dir=data']
    assert run('train', *LENET, *data, '--train_dir=run', '--max_number_of_steps=3')[0] == 0
    code, out, complaint = run('eval', '--checkpoint_path=run')
    assert code == 1 and 'Accuracy' not in out
    assert complaint == ('mnist_test.tfrecord record 3 has the label 11, but with labels_offset=0 the labels of mnist '
                         'must be from 0 to 9.\n')
    before = checkpoints.latest('run')
    mnist(tmp_path / 'data', [*range(9), 11])
    code, _, complaint = run('train', *LENET, *data, '--train_dir=run', '--max_number_of_steps=50')
    assert code == 1 and complaint.startswith('mnist_train.tfrecord record 9 has the label 11, ')
    assert complaint.endswith(f'The last checkpoint is {before}.\n') and checkpoints.latest('run') == before


# Checkpoints that do not fit.

def test_a_checkpoint_of_another_network(run, trained):
    message = f'{trained}/model.ckpt-2 does not fit: it is a checkpoint of another network (lenet) and has none of the '
    for flags in ([*INCEPTION, '--train_dir=run', f'--checkpoint_path={trained}', '--train_image_size=32'],
                  [*INCEPTION, '--train_dir=run', f'--checkpoint_path={trained}', '--train_image_size=32',
                   '--ignore_missing_vars']):
        code, _, complaint = run('train', *flags)
        why, missing, extra = complaint.splitlines()
        assert code == 1 and why.startswith(message) and why.endswith(' variables wanted.')
        assert missing.startswith('Missing: InceptionV1/Conv2d_1a_7x7/weights, ')
        assert extra.startswith('In the checkpoint alone: LeNet/conv1/biases, ') and 'RMSProp' not in extra
    assert not os.path.exists('run')
    code, _, complaint = run('eval', *EVAL_INCEPTION, f'--checkpoint_path={trained}', '--eval_dir=results')
    assert code == 1 and complaint.startswith(message) and not os.path.exists('results')


def test_a_training_of_other_settings_is_not_overwritten(run, trained):
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    code, _, complaint = run('train', *DIGITS, f'--train_dir={trained}', '--optimizer=adam')
    assert code == 2 and complaint.startswith(
        f'{trained}/train_config.json is of a training that cannot go on so: --optimizer from rmsprop to adam. ')
    assert 'or another --train_dir, with --checkpoint_path to start from these weights' in complaint
    code, _, complaint = run('train', *DIGITS, f'--train_dir={trained}', '--labels_offset=1')
    assert code == 2 and 'cannot go on so: --labels_offset from 0 to 1. ' in complaint
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def test_a_network_for_images_of_another_size(run, trained):
    code, _, complaint = run('eval', f'--checkpoint_path={trained}', '--eval_image_size=20')
    assert code == 1 and 'with 10 classes (--labels_offset=0) and 1 channels, at 20x20.' in complaint


def test_a_split_that_holds_nothing(run, tmp_path):
    for name in 'ab':
        (tmp_path / 'photos' / name).mkdir(parents=True)
        Image.new('RGB', (9, 9)).save(tmp_path / 'photos' / name / '1.png')
    data = ['--dataset_name=image_folder', '--dataset_dir=photos', '--batch_size=2', '--max_number_of_steps=1']
    assert run('train', *LENET, *data, '--train_dir=run')[0] == 0
    code, _, complaint = run('eval', '--checkpoint_path=run')
    assert code == 1 and complaint.startswith(f'the split validation of {tmp_path / "photos"} has no images')


def test_averages_that_were_not_kept(run, trained):
    code, _, complaint = run('eval', f'--checkpoint_path={trained}', '--moving_average_decay=0.9')
    assert (code, complaint) == (
        1, f'{trained}/model.ckpt-2 holds no moving averages; leave out --moving_average_decay.\n')


def test_a_loss_that_is_no_number(run):
    code, _, complaint = run('train', *DIGITS, '--learning_rate=1e30', '--train_dir=run', '--max_number_of_steps=9')
    assert code == 1 and re.match(r'The loss is (nan|inf) at step \d: try a lower --learning_rate', complaint)
    assert checkpoints.latest('run') is None


# Places that cannot be written.

@pytest.mark.parametrize('folder', ['taken', 'taken/below', '/proc/nothing'])
def test_a_folder_that_cannot_be_made(run, trained, tmp_path, folder):
    (tmp_path / 'taken').write_text('mine')
    code, _, complaint = run('train', *DIGITS, f'--train_dir={folder}', '--max_number_of_steps=1')
    assert code == 1 and folder in complaint and 'cannot be written' in complaint and complaint.count('\n') == 1
    code, out, complaint = run('eval', f'--checkpoint_path={trained}', f'--eval_dir={folder}')
    assert code == 1 and folder in complaint and 'cannot be written' in complaint and complaint.count('\n') == 1
    assert 'eval/Accuracy[' in out  # what was worked out is not lost
    assert (tmp_path / 'taken').read_text() == 'mine'


@pytest.mark.parametrize('program', PROGRAMS)
def test_stopped_at_once(run, trained, monkeypatch, program):
    def stopped(*unused, **unused_too):
        raise KeyboardInterrupt  # a second Ctrl-C, or one while TensorFlow starts

    monkeypatch.setattr(pipeline, 'make_batches', stopped)
    flags = {'train': [*DIGITS, '--train_dir=run'], 'eval': [f'--checkpoint_path={trained}']}
    code, _, complaint = run(program, *flags[program])
    assert (code, complaint) == (130, 'stopped at once; what was saved before is as it was.\n')


def test_a_full_disk(trained, tmp_path, full_disk):
    """Also what else is on the terminal: nothing of TensorFlow's; and the user's Keras may be another."""
    other_keras = {**os.environ, 'KERAS_BACKEND': 'jax', 'TF_USE_LEGACY_KERAS': '1'}
    command = [sys.executable, 'train_image_classifier.py', *DIGITS, f'--train_dir={tmp_path}']
    with full_disk(10**9):
        done = subprocess.run([*command, '--max_number_of_steps=1'], cwd=ROOT, capture_output=True, text=True,
                              env=other_keras)
    assert done.returncode == 0 and done.stdout.count('\n') == 5, done.stderr
    assert re.fullmatch(r'step 1/1  loss [\d.]+  accuracy [\d.]+  learning rate 0.0001  waits for data \d+%  '
                        r'[\d.e+]+ images/s  00:00 left\n', done.stderr)
    before = sorted(os.listdir(tmp_path))
    with full_disk(10**6):
        done = subprocess.run([*command, '--max_number_of_steps=2'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    progress, complaint = done.stderr.splitlines()
    assert progress.startswith('step 2/2  loss ')
    assert complaint == (f'train_image_classifier.py: The checkpoint of step 2 could not be written to {tmp_path}: '
                         f'File too large. The last whole one is {tmp_path}/model.ckpt-1.')
    left = [name for name in sorted(os.listdir(tmp_path)) if not name.startswith('events')]
    assert left == [name for name in before if not name.startswith('events')]
    assert checkpoints.Reader(str(tmp_path)).value('global_step') == 1
