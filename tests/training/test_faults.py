"""What a training does when something goes wrong: one sentence, and nothing is lost."""
import csv
import errno
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError
from nets import checkpoints
from nets.checkpoints import CheckpointError
from training import evaluation, loop
from training.config import ConfigError, TrainConfig, eval_config
from training.console import RunError

ROOT = pathlib.Path(__file__).parents[2]
SIZE = 16


def lenet(train_dir, **changes):
    return TrainConfig(**{**dict(
        dataset_name='digits', model_name='lenet', train_image_size=SIZE, batch_size=8, optimizer='sgd',
        learning_rate=0.01, learning_rate_decay_type='fixed', log_every_n_steps=2, max_number_of_steps=4,
        train_dir=str(train_dir)), **changes})


def train(train_dir, **changes):
    """Trains; returns what was said."""
    said = []
    loop.train(lenet(train_dir, **changes), said.append)
    return '\n'.join(said)


def contents(folder):
    """Every file, but for those that tell of the last start alone."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*')
            if path.is_file() and 'tfevents' not in path.name and path.name != '.training.lock'}


def values(prefix):
    reader = checkpoints.Reader(str(prefix))
    return {name: reader.value(name) for name in reader.shapes}


def assert_same(one, other):
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def rows(folder):
    with open(folder / 'summary.csv', encoding='utf-8') as file:
        return {int(row.pop('step')): row for row in csv.DictReader(file)}


# Disks.

def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, full_disk):
    train(tmp_path, max_number_of_steps=2)
    before = values(tmp_path / 'model.ckpt-2')
    with full_disk(2**20), pytest.raises(CheckpointError, match=rf'^The checkpoint of step 4 could not be written to '
                                         rf'{tmp_path}: .*\. The last whole one is {tmp_path}/model.ckpt-2\.$'):
        train(tmp_path)
    assert not list(tmp_path.glob('.writing-*')) and not list(tmp_path.glob('model.ckpt-4*'))
    for name, value in values(checkpoints.latest(str(tmp_path))).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    train(tmp_path)                         # there is room again
    train(tmp_path / 'undisturbed')
    assert_same(tmp_path / 'model.ckpt-4', tmp_path / 'undisturbed' / 'model.ckpt-4')


def test_a_full_disk_when_records_are_written(tmp_path, full_disk):
    train(tmp_path, max_number_of_steps=2, log_every_n_steps=1)
    with full_disk((tmp_path / 'summary.csv').stat().st_size + 20):
        # Its size would do for the config and the events.
        with pytest.raises(CheckpointError, match=rf'^{tmp_path}/.* cannot be written: .*$'):
            train(tmp_path, max_number_of_steps=40, log_every_n_steps=1)
    assert checkpoints.latest(str(tmp_path)) == str(tmp_path / 'model.ckpt-2')
    train(tmp_path, log_every_n_steps=1)
    assert list(rows(tmp_path)) == [1, 2, 3, 4]


def test_a_full_disk_when_the_best_is_copied(tmp_path, full_disk, monkeypatch):
    evaluated = dict(eval_every=2, eval_max_batches=1)
    keep_best = checkpoints.keep_best

    def keep_best_on_full_disk(*args, **kwargs):
        with full_disk(2**20):
            return keep_best(*args, **kwargs)

    train(tmp_path / 'undisturbed', **evaluated)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, 'keep_best', keep_best_on_full_disk)
        with pytest.raises(CheckpointError, match=rf'model.ckpt-2 could not be kept in {tmp_path}/own/best: '):
            train(tmp_path / 'own', **evaluated)
    train(tmp_path / 'own', **evaluated)
    for name in ('best.json', 'checkpoint'):
        read = [json.loads((tmp_path / run / 'best' / 'best.json').read_text()) for run in ('own', 'undisturbed')]
        assert read[0] == read[1], name
    best = checkpoints.latest(str(tmp_path / 'own' / 'best'))
    assert_same(best, best.replace('/own/', '/undisturbed/'))


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RunError, match=rf'^--train_dir={tmp_path}/file/run cannot be written to: Not a directory\.$'):
        train(tmp_path / 'file' / 'run')
    with pytest.raises(RunError, match='^--train_dir=/proc/run cannot be written to: No such file or directory.$'):
        train('/proc/run')


def test_a_folder_removed_in_training(tmp_path, monkeypatch):
    write = loop.Records.write

    def write_and_remove(records, step, /, **scalars):
        write(records, step, **scalars)
        if step == 2:
            shutil.rmtree(tmp_path / 'run')

    monkeypatch.setattr(loop.Records, 'write', write_and_remove)
    with pytest.raises(CheckpointError, match=f'^{tmp_path}/run/.* cannot be written: No such file or directory'):
        train(tmp_path / 'run')


# One training at a time.

def test_a_folder_in_use_is_refused_and_free_again_after_a_kill(tmp_path):
    lock = tmp_path / '.training.lock'
    holder = subprocess.Popen([sys.executable, '-c', f'''
import fcntl, time
file = open({str(lock)!r}, 'w')
fcntl.flock(file, fcntl.LOCK_EX)
file.write('process 123 on elsewhere')
file.flush()
print('held', flush=True)
time.sleep(600)'''], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(RunError, match=rf'^--train_dir={tmp_path}: a training is at work in it already '
                                       r'\(process 123 on elsewhere\); wait for its end'):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['.training.lock']
    holder.kill()
    holder.wait()
    train(tmp_path, max_number_of_steps=1)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*unused):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    train(tmp_path, max_number_of_steps=1)
    assert checkpoints.latest(str(tmp_path))


def test_a_clock_that_jumps_back(tmp_path, monkeypatch):
    train(tmp_path, max_number_of_steps=2)
    before = time.time()
    monkeypatch.setattr(time, 'time', lambda: before - 10 * 365 * 86400)
    train(tmp_path, save_interval_steps=1)
    train(tmp_path / 'undisturbed')
    assert list(rows(tmp_path)) == [2, 3, 4] and checkpoints.latest(str(tmp_path)) == str(tmp_path / 'model.ckpt-4')
    assert_same(tmp_path / 'model.ckpt-4', tmp_path / 'undisturbed' / 'model.ckpt-4')


# What may change when a training goes on.

def test_a_new_learning_rate_is_shown_and_taken(tmp_path):
    train(tmp_path, max_number_of_steps=2)
    said = train(tmp_path, learning_rate=0.001)
    assert 'Changed: --max_number_of_steps from 2 to 4, --learning_rate from 0.01 to 0.001.' in said
    assert float(rows(tmp_path)[4]['learning_rate']) == pytest.approx(0.001)
    assert json.loads((tmp_path / 'train_config.json').read_text())['learning_rate'] == 0.001


@pytest.mark.parametrize('name, value', [
    ('model_name', 'cifarnet'), ('optimizer', 'adam'), ('labels_offset', 1), ('moving_average_decay', 0.9),
    ('use_grayscale', True), ('trainable_scopes', 'LeNet/fc4'), ('final_endpoint', 'conv2')])
def test_what_must_not_change_is_refused(tmp_path, name, value):
    old = getattr(lenet(tmp_path), name)
    train(tmp_path, max_number_of_steps=1)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f'train_config.json is of a training that cannot go on so: '
                                          f'--{name} from {old} to {value}. Give the old value to go on'):
        train(tmp_path, **{name: value})
    assert contents(tmp_path) == before


def test_a_training_without_a_checkpoint_binds_nobody(tmp_path):
    with pytest.raises(RunError, match='No checkpoint was written yet.'):
        train(tmp_path, learning_rate=1e30)
    assert (tmp_path / 'train_config.json').exists()
    train(tmp_path, optimizer='adam', max_number_of_steps=1)
    assert any('Adam' in name for name in values(tmp_path / 'model.ckpt-1'))


@pytest.mark.parametrize('text', ['{"model_name": "lenet"', '{"no_such_setting": 1}', '[1]', '\xff', ''])
def test_a_damaged_config_is_named(tmp_path, text):
    train(tmp_path, max_number_of_steps=1)
    (tmp_path / 'train_config.json').write_text(text, encoding='latin-1')
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=rf'^{tmp_path}/train_config.json is not the config of a training'):
        train(tmp_path)
    assert contents(tmp_path) == before


def test_a_foreign_table_is_left_alone(tmp_path):
    (tmp_path / 'summary.csv').write_text('name,price\nbread,3\n')
    with pytest.raises(RunError, match=rf'^{tmp_path}/summary.csv is no table of a training'):
        train(tmp_path)
    assert (tmp_path / 'summary.csv').read_text() == 'name,price\nbread,3\n'


# Checkpoints.

def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    train(tmp_path, save_interval_steps=2, keep_checkpoints=2)
    data = tmp_path / 'model.ckpt-4.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:1000])
    said = train(tmp_path, max_number_of_steps=6, keep_checkpoints=2, save_interval_steps=2)
    assert f'{tmp_path}/model.ckpt-4 is damaged' in said and 'The one before it is taken.' in said
    assert f'Going on from {tmp_path}/model.ckpt-2.' in said
    train(tmp_path / 'undisturbed', max_number_of_steps=6)
    assert_same(tmp_path / 'model.ckpt-6', tmp_path / 'undisturbed' / 'model.ckpt-6')
    assert sorted(path.name for path in tmp_path.glob('*.index')) == ['model.ckpt-4.index', 'model.ckpt-6.index']


def test_rotation_leaves_the_best_alone(tmp_path, monkeypatch):
    accuracies = iter([0.3, 0.9, 0.2, 0.1])
    monkeypatch.setattr(evaluation, 'measure', lambda *unused: {
        'Accuracy': next(accuracies), 'Recall_5': 1.0, 'loss': 1.0, 'num_images': 360})
    train(tmp_path, eval_every=1, keep_checkpoints=1)
    assert [path.name for path in tmp_path.glob('*.index')] == ['model.ckpt-4.index']
    assert checkpoints.latest(str(tmp_path / 'best')) == str(tmp_path / 'best' / 'model.ckpt-2')
    results = values(tmp_path / 'best' / 'model.ckpt-2')
    assert results['global_step'] == 2


def test_a_checkpoint_is_evaluated_while_the_training_goes_on(tmp_path, monkeypatch):
    found, save = [], checkpoints.save

    def save_and_evaluate(*args):
        prefix = save(*args)
        monkeypatch.setattr(checkpoints, 'save', save)
        found.append(evaluation.evaluate(eval_config({'checkpoint_path': str(tmp_path), 'max_num_batches': 1}),
                                         lambda line: None))
        return prefix

    monkeypatch.setattr(checkpoints, 'save', save_and_evaluate)
    train(tmp_path, save_interval_steps=2)
    assert found[0]['global_step'] == 2
    train(tmp_path / 'undisturbed')
    assert_same(tmp_path / 'model.ckpt-4', tmp_path / 'undisturbed' / 'model.ckpt-4')


def test_the_last_evaluation_is_made_up_for(tmp_path, monkeypatch):
    def killed(*unused):
        raise KeyboardInterrupt

    evaluated = dict(eval_every=3, eval_max_batches=1)
    train(tmp_path / 'undisturbed', **evaluated)
    measure, calls = evaluation.measure, []
    monkeypatch.setattr(evaluation, 'measure',
                        lambda *args: killed() if calls else calls.append(0) or measure(*args))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'own', **evaluated)
    monkeypatch.setattr(evaluation, 'measure', measure)
    assert checkpoints.latest(str(tmp_path / 'own')) == str(tmp_path / 'own' / 'model.ckpt-4')
    train(tmp_path / 'own', **evaluated)
    own, undisturbed = rows(tmp_path / 'own'), rows(tmp_path / 'undisturbed')
    assert own[4]['eval_loss'] == undisturbed[4]['eval_loss'] != ''
    assert (tmp_path / 'own' / 'best' / 'best.json').read_text() == (
        tmp_path / 'undisturbed' / 'best' / 'best.json').read_text()
    assert 'at step 4 already' in train(tmp_path / 'own', **evaluated)


# Losses that are not numbers.

def test_a_spoilt_checkpoint_is_gone_back_behind_and_a_kill_changes_nothing(tmp_path):
    train(tmp_path / 'whole')
    shutil.copytree(tmp_path / 'whole', tmp_path / 'killed')
    changed = dict(learning_rate=2.0, save_interval_steps=2, max_number_of_steps=24, rollbacks=8)
    said = train(tmp_path / 'whole', **changed)
    backs = [line for line in said.splitlines() if 'at half the learning rate' in line]
    assert 2 <= len(backs) <= 8 and all('The loss is ' in line for line in backs)
    rates = [float(line.partition('(now ')[2].partition(')')[0]) for line in backs]
    np.testing.assert_allclose(rates, [2 / 2**number for number in range(len(rates))], rtol=1e-3)
    steps = [int(line.partition('model.ckpt-')[2].partition(',')[0]) for line in backs]
    assert steps[1] < steps[0]

    class Killed(BaseException):
        pass

    def dies_at_the_second(line):
        if line == backs[1].replace('/whole/', '/killed/'):
            raise Killed

    with pytest.raises(Killed):
        loop.train(lenet(tmp_path / 'killed', **changed), dies_at_the_second)
    train(tmp_path / 'killed', **changed)
    assert_same(tmp_path / 'whole' / 'model.ckpt-24', tmp_path / 'killed' / 'model.ckpt-24')
    assert values(tmp_path / 'whole' / 'model.ckpt-24')['training/learning_rate_factor'] == 0.5**len(backs)
    assert list(rows(tmp_path / 'whole')) == list(range(2, 25, 2))


def test_rollbacks_that_do_not_help_end_in_words(tmp_path):
    train(tmp_path, max_number_of_steps=2)
    before = values(tmp_path / 'model.ckpt-2')
    with pytest.raises(RunError, match=r'^The loss is (nan|inf) at step 4: try a lower --learning_rate '
                                       rf'\(now 2.5e\+29\)\. The last checkpoint is {tmp_path}/model.ckpt-2\.$'):
        train(tmp_path, learning_rate=1e30, rollbacks=2)
    after = values(tmp_path / 'model.ckpt-2')
    assert after.pop('training/learning_rate_factor') == 0.25
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


# Images.

@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for label in ('cat', 'dog'):
        (tmp_path / 'photos' / label).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(
                tmp_path / 'photos' / label / f'{number}.png')
    return tmp_path / 'photos'


@pytest.mark.parametrize('spoil, why', [(lambda path: path.write_bytes(path.read_bytes()[:60]), ''),
                                        (pathlib.Path.unlink, 'No such file')], ids=['broken', 'removed'])
def test_an_image_that_goes_bad_in_training_is_named(tmp_path, photos, spoil, why, monkeypatch):
    write = loop.Records.write

    def write_and_spoil(records, step, /, **scalars):
        write(records, step, **scalars)
        for path in photos.glob('cat/*.png') if step == 2 else ():
            spoil(path)

    monkeypatch.setattr(loop.Records, 'write', write_and_spoil)
    settings = dict(dataset_name='image_folder', dataset_dir=str(photos), save_interval_steps=2,
                    max_number_of_steps=100)
    with pytest.raises((RunError, DatasetError), match=rf'{photos}/cat/\d+\.png(.|\n)*{why}(.|\n)*'
                       rf'The last checkpoint is {tmp_path}/run/model.ckpt-\d+\.$') as caught:
        train(tmp_path / 'run', **settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, 'benchmarks/kill_harness.py', '--kills=4', '--kills_per_training=4', '--seed=3',
         f'--json={tmp_path}/result.json', '--', '--dataset_name=digits', '--model_name=lenet',
         f'--train_image_size={SIZE}', '--batch_size=8', '--max_number_of_steps=300', '--learning_rate=0.001',
         '--optimizer=adam', '--moving_average_decay=0.9', '--mixup_alpha=0.2', '--random_erasing=0.5',
         '--save_interval_steps=20', '--keep_checkpoints=1', '--eval_every=60'],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'})
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['kills'] == 4 and result['agree'] == result['trainings'] >= 1
