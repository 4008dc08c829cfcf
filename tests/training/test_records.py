"""Records of a training: Python's csv and TensorFlow's own reader of events read them; resuming takes back what a kill
left."""
import csv
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from nets.checkpoints import CheckpointError
from training.console import RunError
from training.records import Records, read

HEADER = ('step,epoch,total_loss,learning_rate,images_per_second,data_wait,train_accuracy,train_recall_5,eval_accuracy,'
          'eval_recall_5,eval_loss')


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def text(folder):
    with open(os.path.join(folder, 'summary.csv'), newline='') as file:
        return file.read()


def table(folder):
    with open(os.path.join(folder, 'summary.csv'), newline='') as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def written(folder, steps, start=0, **more):
    with Records(folder, start) as records:
        for step in steps:
            records.write(step, total_loss=1 / step, learning_rate=0.1, **more)


def events(folder):
    """Of each file, the older first, its events, by TensorFlow's reader."""
    names = sorted(name for name in os.listdir(folder) if 'tfevents' in name)
    return [list(tf.compat.v1.train.summary_iterator(os.path.join(folder, name))) for name in names]


# summary.csv.

def test_a_row_is_on_disk_at_once(folder):
    records = Records(folder, 0)
    assert text(folder) == HEADER + '\n'
    records.write(10, total_loss=2.5, learning_rate=0.01, epoch=0.5, train_recall_5=None)
    records.write(20, total_loss=1, images_per_second=240.25)
    assert text(folder) == f'{HEADER}\n10,0.5,2.5,0.01,,,,,,,\n20,,1,,240.25,,,,,,\n'
    records.close()


def test_an_evaluation_joins_the_row_of_its_step(folder):
    with Records(folder, 0) as records:
        records.write(10, total_loss=2.0)
        records.write(20, total_loss=1.0)
        records.write(20, eval_accuracy=0.5, eval_loss=1.5)
        records.write(30, total_loss=0.5)
        records.write(10, eval_accuracy=0.25)   # late
    assert table(folder) == [{'step': 10, 'total_loss': 2, 'eval_accuracy': 0.25},
                             {'step': 20, 'total_loss': 1, 'eval_accuracy': 0.5, 'eval_loss': 1.5},
                             {'step': 30, 'total_loss': 0.5}]


def test_new_names_become_columns_in_their_order(folder):
    with Records(folder, 0) as records:
        records.write(1, total_loss=2.0)
        records.write(2, zebra=1, **{'a, b': 2})
        records.write(3, apple=3)
    assert text(folder).splitlines()[0] == HEADER + ',zebra,"a, b",apple'
    assert table(folder)[1:] == [{'step': 2, 'zebra': 1, 'a, b': 2}, {'step': 3, 'apple': 3}]


@pytest.mark.parametrize('value', [1 / 3, 1e-30, 123456.789, float('inf'), -0.0])
def test_float32_is_told_to_the_bit(folder, value):
    value = np.float32(value)
    with Records(folder, 0) as records:
        records.write(1, total_loss=value, count=2**40)
    row, = table(folder)
    assert np.float32(row['total_loss']).tobytes() == value.tobytes() and row['count'] == 2**40


def test_pandas_reads_it(folder):
    pandas = pytest.importorskip('pandas')
    written(folder, [1, 2], eval_loss=float('nan'))
    frame = pandas.read_csv(os.path.join(folder, 'summary.csv'))
    assert frame['step'].tolist() == [1, 2] and frame['total_loss'].tolist() == [1, 0.5]
    assert frame['eval_loss'].isna().all()


def test_columns_are_read(folder):
    written(folder, [1, 2])
    assert read(folder) == {'total_loss': {1: 1.0, 2: 0.5}, 'learning_rate': {1: 0.1, 2: 0.1}}
    assert read(os.path.join(folder, 'nowhere')) == {}


# Resuming.

@pytest.mark.parametrize('torn', ['', '4', '40,0.1,0.', '40,,0.025,0.1,,,,,,,'])
def test_a_training_that_was_killed_and_goes_on_has_the_same_table(tmp_path, torn):
    whole, killed = str(tmp_path / 'whole'), str(tmp_path / 'killed')
    written(whole, range(10, 100, 10))
    written(killed, [10, 20])
    written(killed, [30], start=20, mine=3)
    with open(os.path.join(killed, 'summary.csv'), 'a') as file:
        file.write(torn)
    written(killed, range(30, 100, 10), start=20)
    assert text(killed) == text(whole)


def test_nothing_is_lost_where_nothing_was_lost(folder):
    written(folder, [10, 20])
    before = text(folder)
    Records(folder, 20).close()
    assert text(folder) == before
    Records(folder, 0).close()
    assert text(folder) == HEADER + '\n'


@pytest.mark.parametrize('scheme', ['', 'file://'])
def test_a_training_that_goes_back_takes_its_later_records_back(folder, scheme):
    with Records(scheme + folder, 0) as records:
        for step in (10, 20, 30):
            records.write(step, total_loss=1 / step)
        records.rewind(10)
        records.write(15, total_loss=4.0)
    assert table(folder) == [{'step': 10, 'total_loss': 0.1}, {'step': 15, 'total_loss': 4}]
    start = tf.compat.v1.SessionLog.START
    assert [(event.step, event.session_log.status == start) for event in events(folder)[0][1:]] == [
        (1, True), (10, False), (20, False), (30, False), (11, True), (15, False)]


@pytest.mark.parametrize('content', ['name,value\n1,2\n', 'my notes\n', 'my notes', 'step,total_loss\n1,2,3\n',
                                     'step,total_loss\nx,2\n', 'step,total_loss\n1,low\n', 'step,a,a\n1,2,3\n', '\0\n'])
def test_another_file_is_left_alone(folder, content):
    path = os.path.join(folder, 'summary.csv')
    with open(path, 'w') as file:
        file.write(content)
    for use in (lambda: Records(folder, 0), lambda: read(folder)):
        with pytest.raises(RunError) as caught:
            use()
        assert str(caught.value) == (f'{path} is no table of a training, whose first column is `step`: move it away, '
                                     'or use another folder.')
    assert text(folder) == content and os.listdir(folder) == ['summary.csv']


def test_bytes_that_are_no_text(folder):
    with open(os.path.join(folder, 'summary.csv'), 'wb') as file:
        file.write(b'\xff\xfe\x00\n')
    with pytest.raises(RunError, match='no table of a training'):
        Records(folder, 0)


# Elsewhere, where to add a line is to write the whole file.

def test_a_remote_table_is_written_when_flushed(folder):
    remote = f'file://{folder}/run'
    records = Records(remote, 0)
    records.write(1, total_loss=2.0)
    records.write(1, eval_loss=3.0)
    assert text(f'{folder}/run') == HEADER + '\n'
    records.flush()
    assert table(f'{folder}/run') == [{'step': 1, 'total_loss': 2, 'eval_loss': 3}]
    records.write(2, total_loss=1.0)
    records.close()
    assert [row['step'] for row in table(f'{folder}/run')] == [1, 2]


def test_it_is_flushed_when_the_time_has_come(folder):
    records = Records(f'file://{folder}', 0, flush_secs=0)
    records.write(1, total_loss=2.0)
    assert [row['step'] for row in table(folder)] == [1]
    assert [event.step for event in events(folder)[0]] == [0, 1, 1]
    records.close()


# A full disk.

@pytest.mark.parametrize('limit', [0, 200])
def test_a_full_disk_from_the_start(folder, limit, full_disk):
    written(folder, range(1, 21))
    before = text(folder)
    with full_disk(limit), pytest.raises(CheckpointError, match=r'summary.csv cannot be written: File too large\.$'):
        Records(folder, 10)
    assert text(folder) == before


def test_a_disk_that_fills_up(folder, full_disk):
    records = Records(folder, 0)
    records.write(1, total_loss=2.0)
    size = len(text(folder))
    with full_disk(size + 5), pytest.raises(CheckpointError) as caught:
        records.write(2, total_loss=1.0)
    assert str(caught.value) == f'{os.path.join(folder, "summary.csv")} cannot be written: File too large.'
    records.write(3, total_loss=0.5)    # there is room again
    records.close()
    assert table(folder) == [{'step': step, 'total_loss': loss} for step, loss in ((1, 2), (2, 1), (3, 0.5))]


def test_events_on_a_full_disk(folder, full_disk):
    records = Records(f'file://{folder}', 0)     # whose table waits
    for step in range(1, 50):
        records.write(step, total_loss=2.0)
    with full_disk(60), pytest.raises(CheckpointError, match=r'cannot be written: File too large\.$'):
        records._events.flush()


def test_what_went_wrong_first_is_told(folder, full_disk):
    records = Records(f'file://{folder}', 0)
    with full_disk(0), pytest.raises(RunError, match='The loss is nan'), records:
        records.write(1, total_loss=2.0)
        raise RunError('The loss is nan')
    with full_disk(0), pytest.raises(CheckpointError, match='summary.csv cannot be written: File too large'), records:
        pass


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / 'run').write_text('mine')
    with pytest.raises(CheckpointError, match='run.* cannot be written: .*ot a directory'):
        Records(str(tmp_path / 'run'), 0)
    assert (tmp_path / 'run').read_text() == 'mine'


# TensorBoard.

def test_events_are_tensorflows(folder):
    with Records(folder, 0) as records:
        records.write(10, total_loss=2.5, learning_rate=0.25)
        records.write(20, images_per_second=64)
    (first, _, *points), = events(folder)
    assert first.file_version == 'brain.Event:2'    # without which TensorBoard takes them for an older format
    assert [(event.step, {value.tag: value.simple_value for value in event.summary.value}) for event in points] == [
        (10, {'total_loss': 2.5, 'learning_rate': 0.25}), (20, {'images_per_second': 64})]
    assert all(event.wall_time > 1.7e9 for event in points)


def test_a_restart_is_marked_so_that_later_points_go(folder):
    written(folder, [10, 20, 30])
    written(folder, [30, 40], start=20)
    first, second = events(folder)
    start = tf.compat.v1.SessionLog.START
    assert [event.step for event in first + second if event.session_log.status == start] == [1, 21]
    assert [event.step for event in second][2:] == [30, 40]


def test_tensorboard_shows_each_step_once(folder):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    written(folder, [10, 20, 30, 40])
    with Records(folder, 20) as records:
        records.write(30, total_loss=7.0)
    shown = accumulator.EventAccumulator(folder)
    shown.Reload()
    assert [(point.step, point.value) for point in shown.Scalars('total_loss')] == [
        (10, pytest.approx(0.1)), (20, pytest.approx(0.05)), (30, 7.0)]


# Weights & Biases.

def test_without_its_package_nothing_is_written(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ValueError, match=r"project zoo of Weights & Biases needs .*: pip install 'slim-zoo\[wandb\]'"):
        Records(folder, 0, wandb_project='zoo')
    assert os.listdir(folder) == []


def test_the_same_run_goes_on_offline(folder, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    runs = []
    for start in (0, 10):
        with Records(folder, start, wandb_project='zoo', settings={'seed': 3}) as records:
            records.write(start + 10, total_loss=2.5)
            records.write(start + 10, eval_loss=3.5)
            runs.append((records._run.id, records._run.project, dict(records._run.config), records._run.step))
    assert runs[0][:3] == (runs[1][0], 'zoo', {'seed': 3})
    files = [name for name in os.listdir(os.path.join(folder, 'wandb')) if name.startswith('offline-run-')]
    assert files and all(name.endswith(runs[0][0]) for name in files)


def test_a_run_that_cannot_be_started_is_told_in_a_sentence(folder, monkeypatch):
    wandb = pytest.importorskip('wandb')

    def refuse(**kwargs):
        raise wandb.errors.UsageError('api_key not configured (no-tty)\nmore')

    monkeypatch.setattr(wandb, 'init', refuse)
    with pytest.raises(RunError) as caught:
        Records(folder, 0, wandb_project='zoo')
    assert str(caught.value) == ('Weights & Biases cannot be started: api_key not configured (no-tty). Log '
                                 'in by `wandb login`, or set WANDB_MODE=offline.')
