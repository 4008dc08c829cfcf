"""Checkpoints: TF1's own Saver reads what is written and the other way round; whole or not at all; mismatches named."""
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from datasets import dataset_factory
from nets import checkpoints, nets_factory
from nets.checkpoints import CheckpointError
from training.config import TrainConfig
from training.trainer import Trainer

tf1 = tf.compat.v1
OPTIMIZERS = {
    'adadelta': tf1.train.AdadeltaOptimizer, 'adagrad': tf1.train.AdagradOptimizer, 'adam': tf1.train.AdamOptimizer,
    'ftrl': tf1.train.FtrlOptimizer, 'momentum': lambda rate: tf1.train.MomentumOptimizer(rate, 0.9),
    'rmsprop': lambda rate: tf1.train.RMSPropOptimizer(rate, momentum=0.9), 'sgd': tf1.train.GradientDescentOptimizer,
}
VALUES = {'net/weights': np.arange(12, dtype='f').reshape(3, 4), 'net/biases': np.array([0.5, -0.5], 'f'),
          'global_step': np.int64(7)}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def saved(folder, step=7, keep=5, **values):
    return checkpoints.save(folder, step, {**VALUES, **values}, keep)


def variables(names=('net/weights', 'net/biases')):
    return {name: tf.Variable(tf.zeros_like(VALUES[name])) for name in names}


def files(folder):
    return sorted(os.listdir(folder))


# TF-Slim's programs and ours read one another's.

def tf1_training(optimizer, trained=None):
    """The graph of TF-Slim's training script: LeNet with an optimizer and moving averages."""
    step = tf1.train.get_or_create_global_step()
    logits, _ = nets_factory.get_network_fn('lenet', 10, is_training=True)(tf1.placeholder(tf.float32, [2, 4, 4, 1]))
    tf1.losses.softmax_cross_entropy(tf.one_hot([1, 2], 10), logits)
    averages = tf1.train.ExponentialMovingAverage(0.9, step)
    train = slim.learning.create_train_op(tf1.losses.get_total_loss(), OPTIMIZERS[optimizer](0.1),
                                          variables_to_train=trained and slim.get_variables(trained))
    with tf.control_dependencies([train]):
        averages.apply(slim.get_model_variables())


def our_training(optimizer, folder, **settings):
    config = TrainConfig(model_name='lenet', dataset_name='digits', optimizer=optimizer, moving_average_decay=0.9,
                         train_dir=folder, **settings)
    return Trainer(config, dataset_factory.get_dataset('digits', 'train'), 4, 1)


@pytest.mark.parametrize('optimizer, trained', [*((name, None) for name in OPTIMIZERS), ('momentum', 'LeNet/fc4')])
def test_a_training_is_written_under_tf1s_names_and_read_by_its_saver(folder, optimizer, trained):
    trainer = our_training(optimizer, folder, trainable_scopes=trained)
    prefix = checkpoints.save(folder, 20, trainer.values(20), 5)
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1_training(optimizer, trained)
        wanted = {variable.op.name: variable for variable in tf1.global_variables()}
        shapes = {name: variable.shape.as_list() for name, variable in wanted.items()}
        tf1.train.Saver().restore(session, prefix)
        found = session.run(wanted)
    assert dict(tf.train.list_variables(prefix)) == shapes
    assert any(name.endswith('/ExponentialMovingAverage') for name in shapes)
    assert found['global_step'] == 20 and found['global_step'].dtype == np.int64
    for name, variable in trainer.state().items():
        np.testing.assert_array_equal(found[name], variable, err_msg=name)
    if optimizer == 'adam':  # TF1's after 20 steps
        assert found['beta1_power'] == pytest.approx(0.9**21) and found['beta2_power'] == pytest.approx(0.999**21)


@pytest.mark.parametrize('optimizer', ['adam', 'rmsprop'])
def test_a_training_of_tf1_is_taken_up(folder, optimizer):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1_training(optimizer)
        rng = np.random.default_rng(0)
        for variable in tf1.global_variables():
            variable.load(rng.uniform(size=variable.shape).astype('f') if variable.op.name != 'global_step' else 31,
                          session)
        prefix = tf1.train.Saver().save(session, os.path.join(folder, 'model.ckpt'), 31)
        expected = session.run({variable.op.name: variable for variable in tf1.global_variables()})
    assert checkpoints.latest(folder) == prefix
    trainer = our_training(optimizer, folder)
    trainer.resume(prefix)
    for name, variable in trainer.state().items():
        np.testing.assert_array_equal(variable, expected[name], err_msg=name)
    assert trainer.optimizer.iterations == 31


@pytest.mark.parametrize('version, sharded', [('V1', False), ('V2', False), ('V2', True)])
def test_both_formats_of_tf1s_saver_are_read(folder, version, sharded):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable('net/weights', initializer=VALUES['net/weights'])
        with tf.device('/cpu:0'):
            tf1.get_variable('net/biases', initializer=VALUES['net/biases'])
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=getattr(tf1.train.SaverDef, version), sharded=sharded)
        prefix = saver.save(session, os.path.join(folder, 'model.ckpt'))
    ours = variables()
    assert checkpoints.restore(checkpoints.Reader(folder), ours) == []
    assert checkpoints.resolve(prefix) == prefix
    for name, variable in ours.items():
        np.testing.assert_array_equal(variable, VALUES[name])


def test_types_and_values_are_kept(folder):
    values = {'a/half': tf.constant([1.5], tf.bfloat16), 'a/none': np.zeros((0, 3), 'f'), 'a/step': np.int64(2**40)}
    reader = tf.train.load_checkpoint(checkpoints.save(folder, 1, values, 1))
    assert reader.get_tensor('a/step') == 2**40 and reader.get_tensor('a/step').dtype == np.int64
    assert reader.get_tensor('a/half').astype('f') == 1.5 and reader.get_tensor('a/none').shape == (0, 3)


# How a checkpoint is found.

def test_a_folder_a_prefix_and_any_file_mean_a_checkpoint(folder):
    saved(folder, 3)
    prefix = saved(folder, 7)
    for path in (folder, folder + '/', prefix, prefix + '.index', prefix + '.data-00000-of-00001', prefix + '.meta'):
        assert checkpoints.resolve(path) == prefix, path
    assert checkpoints.resolve(os.path.join(folder, 'model.ckpt-3')) == os.path.join(folder, 'model.ckpt-3')


def test_tf1_finds_it_too(folder):
    prefix = saved(folder)
    assert tf1.train.latest_checkpoint(folder) == prefix


def test_where_there_is_none(folder):
    assert checkpoints.latest(folder) is None
    assert checkpoints.latest(os.path.join(folder, 'nowhere')) is None
    with pytest.raises(CheckpointError, match='no file named `checkpoint`'):
        checkpoints.resolve(folder)
    with pytest.raises(CheckpointError, match='There is no checkpoint .*model.ckpt-9'):
        checkpoints.resolve(os.path.join(folder, 'model.ckpt-9'))


def test_a_moved_folder(tmp_path):
    there, here = str(tmp_path / 'there'), str(tmp_path / 'here')
    os.mkdir(there)
    for step in (1, 2):
        saved(there, step)
    shutil.move(there, here)
    assert checkpoints.latest(here) == os.path.join(here, 'model.ckpt-2')
    saved(here, 3, keep=2)
    assert {name.split('.')[1] for name in files(here) if '.' in name} == {'ckpt-2', 'ckpt-3'}


def test_a_copied_folder_leaves_the_original_alone(tmp_path):
    original, copy = str(tmp_path / 'original'), str(tmp_path / 'copy')
    os.mkdir(original)
    for step in (1, 2):
        saved(original, step)
    shutil.copytree(original, copy)
    before = files(original)
    assert checkpoints.latest(copy) == os.path.join(copy, 'model.ckpt-2')
    saved(copy, 3, keep=1)
    assert files(original) == before
    assert files(copy) == ['checkpoint', 'model.ckpt-3.data-00000-of-00001', 'model.ckpt-3.index']


def test_the_newest_that_is_still_there(folder):
    for step in (1, 2, 3):
        saved(folder, step)
    os.remove(os.path.join(folder, 'model.ckpt-3.index'))
    assert checkpoints.latest(folder) == os.path.join(folder, 'model.ckpt-2')
    for step in (1, 2):
        os.remove(os.path.join(folder, f'model.ckpt-{step}.index'))
    with pytest.raises(CheckpointError, match='names .*model.ckpt-3, which is not there'):
        checkpoints.latest(folder)


@pytest.mark.parametrize('text', ['', 'garbage', 'model_checkpoint_path: "model.ck'])
def test_a_damaged_state_file_is_no_empty_folder(folder, text):
    saved(folder)
    with open(os.path.join(folder, 'checkpoint'), 'w') as file:
        file.write(text)
    for use in (checkpoints.latest, checkpoints.resolve, saved):
        with pytest.raises(CheckpointError, match='checkpoint is damaged'):
            use(folder)


# How many are kept.

@pytest.mark.parametrize('name', ['run', 'my [run] *?'])
def test_the_newest_are_kept_and_the_state_file_names_them(tmp_path, name):
    folder = str(tmp_path / name)
    os.mkdir(folder)
    open(os.path.join(folder, 'model.ckpt-10-of-mine.txt'), 'w').close()  # only begins like a checkpoint
    for step in (1, 10, 2, 11):
        prefix = saved(folder, step, keep=2)
        assert checkpoints.latest(folder) == prefix
    kept = [os.path.join(folder, f'model.ckpt-{step}') for step in (2, 11)]
    state = tf.train.get_checkpoint_state(folder)
    assert list(state.all_model_checkpoint_paths) == kept and state.model_checkpoint_path == kept[-1]
    assert files(folder) == sorted(['checkpoint', 'model.ckpt-10-of-mine.txt'] + [
        os.path.basename(path) + end for path in kept for end in ('.data-00000-of-00001', '.index')])


def test_a_step_that_is_there_is_replaced(folder):
    saved(folder)
    prefix = saved(folder, **{'net/biases': np.array([3, 4], 'f')})
    np.testing.assert_array_equal(checkpoints.Reader(folder).value('net/biases'), [3, 4])
    assert list(tf.train.get_checkpoint_state(folder).all_model_checkpoint_paths) == [prefix]


# Whole or not at all.

@pytest.mark.parametrize('limit', [0, 50_000])
def test_a_full_disk_leaves_the_earlier_ones(folder, limit, full_disk):
    prefix = saved(folder)
    before = files(folder)
    with full_disk(limit), pytest.raises(CheckpointError) as caught:
        saved(folder, 8, keep=1, **{'net/weights': np.ones([200, 200], 'f')})
    assert str(caught.value) == (f'The checkpoint of step 8 could not be written to {folder}: File too large. '
                                 f'The last whole one is {prefix}.')
    assert files(folder) == before
    np.testing.assert_array_equal(checkpoints.Reader(folder).value('net/weights'), VALUES['net/weights'])
    assert saved(folder, 8) == checkpoints.latest(folder)  # and once there is room it goes on


def test_text_is_written_whole_or_not_at_all(tmp_path, full_disk):
    folder = str(tmp_path / 'run' / 'eval')
    path = checkpoints.write_text(folder, 'results.json', 'earlier')
    with full_disk(3), pytest.raises(CheckpointError) as caught:
        checkpoints.write_text(folder, 'results.json', 'a later text')
    assert str(caught.value) == f'{path} cannot be written: File too large.'
    assert files(folder) == ['results.json'] and (tmp_path / 'run' / 'eval' / 'results.json').read_text() == 'earlier'


def test_a_file_in_the_folders_place(tmp_path):
    path = tmp_path / 'run'
    path.write_text('mine')
    with pytest.raises(CheckpointError, match='not be written to .*/run: .*ot a directory. There is no earlier one'):
        saved(str(path))
    assert path.read_text() == 'mine'


def test_a_missing_folder_is_made(tmp_path):
    folder = str(tmp_path / 'new' / 'run')
    assert checkpoints.latest(folder) is None
    assert saved(folder) == checkpoints.latest(folder) == os.path.join(folder, 'model.ckpt-7')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_without_permission(folder):
    prefix = saved(folder)
    os.chmod(folder, 0o500)
    try:
        with pytest.raises(CheckpointError, match=f'Permission denied. The last whole one is {prefix}'):
            saved(folder, 8)
    finally:
        os.chmod(folder, 0o700)


# Damage.

def big_checkpoint(folder):
    return saved(folder, **{'net/weights': np.random.default_rng(0).normal(size=(3000,)).astype('f')})


def test_data_cut_short(folder):
    prefix = big_checkpoint(folder)
    os.truncate(prefix + '.data-00000-of-00001', 5000)
    ours = {'net/biases': tf.Variable([9.0, 9.0]), 'net/weights': tf.Variable(tf.fill([3000], 9.0))}
    with pytest.raises(CheckpointError, match=f'{prefix} is damaged, net/weights cannot be read: '):
        checkpoints.restore(checkpoints.Reader(prefix), ours)
    assert all((variable.numpy() == 9).all() for variable in ours.values())  # nothing half restored


def test_a_flipped_bit(folder):
    prefix = big_checkpoint(folder)
    with open(prefix + '.data-00000-of-00001', 'r+b') as file:
        file.seek(6000)
        byte = file.read(1)[0]
        file.seek(6000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(CheckpointError, match='is damaged, net/weights cannot be read: '):
        checkpoints.Reader(prefix).value('net/weights')


def test_data_missing(folder):
    prefix = big_checkpoint(folder)
    os.remove(prefix + '.data-00000-of-00001')
    with pytest.raises(CheckpointError, match='is damaged'):
        checkpoints.Reader(prefix).value('net/weights')


@pytest.mark.parametrize('content', [b'', b'\x00' * 300, b'an index? ' * 40])
def test_an_index_of_garbage(folder, content):
    prefix = big_checkpoint(folder)
    with open(prefix + '.index', 'wb') as file:
        file.write(content)
    with pytest.raises(CheckpointError, match=f'{prefix} is not a TensorFlow checkpoint, or is damaged'):
        checkpoints.Reader(folder)


# A kill at any moment: the files are what they were after so many operations.

class Killed(BaseException):
    pass


@pytest.fixture
def kill(monkeypatch):
    """`kill(after, work)`: does `work` until that many changes of files are made; tells whether it was killed."""
    names = ('rename', 'copy', 'remove', 'makedirs')
    originals = {name: getattr(tf.io.gfile, name) for name in names}
    original_file, left = tf.io.gfile.GFile, [None]

    def counted(operation):
        def do(*args, **kwargs):
            if left[0] is not None and left[0] <= 0:
                raise Killed        # also in clearing up: a process that was killed does none
            result = operation(*args, **kwargs)
            if left[0] is not None:
                left[0] -= 1
            return result
        return do

    def open_file(path, mode='r'):
        if 'w' in mode and left[0] is not None:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            if left[0] == 0:        # in the middle of writing
                with open(path, 'w') as file:
                    file.write('model_ch')
                raise Killed
        return original_file(path, mode)

    for name in names:
        monkeypatch.setattr(tf.io.gfile, name, counted(originals[name]))
    monkeypatch.setattr(tf.io.gfile, 'GFile', open_file)

    def run(after, work):
        left[0] = after
        try:
            work()
            return False
        except Killed:
            return True
        finally:
            left[0] = None

    return run


def biases(path):
    """The value that tells checkpoints apart, by TensorFlow's reader, after all others were read as well."""
    reader = tf.train.load_checkpoint(path)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return values['net/biases'].tolist()


def two(value):
    return np.array([value, value], 'f')


@pytest.mark.parametrize('there, keep', [([1, 2], 1), ([1, 2], 2), ([1], None), ([], 1), ([1, 3], 2), ([3], 1),
                                         ([3], None), ([3, 4], 2)])
def test_saving_that_is_killed_leaves_a_whole_one(tmp_path, kill, there, keep):
    """Also where the step is there already, with other values: `there` has 3."""
    outcomes, killed, after = [], True, 0
    while killed:
        folder = str(tmp_path / str(after))
        os.mkdir(folder)
        for step in there:
            saved(folder, step, **{'net/biases': two(step)})
        killed = kill(after, lambda: saved(folder, 3, keep, **{'net/biases': two(9)}))  # noqa: B023
        newest = checkpoints.latest(folder)
        outcomes.append(newest and biases(newest)[0])
        assert newest == tf1.train.latest_checkpoint(folder)
        if newest is None:
            assert not there
        saved(folder, 5, 1, **{'net/biases': two(5)})     # and it goes on
        assert biases(checkpoints.latest(folder)) == [5, 5]
        assert not [name for name in files(folder) if name.startswith(('model.ckpt-1', 'model.ckpt-2'))]
        after += 1
    assert len(outcomes) > 4 and outcomes[-1] == 9
    first_new = outcomes.index(9)
    assert set(outcomes[:first_new]) <= {*there, None} and set(outcomes[first_new:]) == {9}


# The best.

def kept(folder, step, value, keep=1, metric='accuracy', number=None, **kwargs):
    prefix = saved(folder, step, 5, global_step=np.int64(step), **{'net/biases': two(number or step)})
    return checkpoints.keep_best(prefix, folder, metric, value, keep, **kwargs)


def best(folder):
    """Steps and values of best.json, when the state file and the files are of the same checkpoints."""
    there = os.path.join(folder, 'best')
    with open(os.path.join(there, 'best.json')) as file:
        entries = json.load(file)
    state = tf.train.get_checkpoint_state(there)
    names = [entry['checkpoint'] for entry in entries]
    assert [os.path.basename(path) for path in reversed(state.all_model_checkpoint_paths)] == names
    assert tf1.train.latest_checkpoint(there) == os.path.join(there, names[0])
    assert {file.rsplit('.', 1)[0] for file in files(there) if '.index' in file or '.data' in file} == set(names)
    assert not any(file.startswith('.') for file in files(there))
    return [(entry['step'], entry['value']) for entry in entries]


def test_the_best_is_kept(folder):
    asked = [kept(folder, step, value) for step, value in ((1, 0.5), (2, 0.25), (3, 0.75), (4, 0.75), (5, 0.5))]
    assert asked == [True, False, True, False, False]       # a tie keeps the earlier
    assert best(folder) == [(3, 0.75)]
    there = os.path.join(folder, 'best')
    assert files(there) == ['best.json', 'checkpoint', 'model.ckpt-3.data-00000-of-00001', 'model.ckpt-3.index']
    assert checkpoints.resolve(there) == os.path.join(there, 'model.ckpt-3')
    assert biases(os.path.join(there, 'model.ckpt-3')) == [3, 3]
    with open(os.path.join(there, 'best.json')) as file:
        assert json.load(file) == [{'checkpoint': 'model.ckpt-3', 'metric': 'accuracy', 'value': 0.75, 'step': 3}]
    assert checkpoints.latest(folder) == os.path.join(folder, 'model.ckpt-5')      # the training's own are as they were


@pytest.mark.parametrize('larger, expected', [(True, [(3, 0.75), (1, 0.5)]), (False, [(4, 0.125), (2, 0.25)])])
def test_several_are_kept_the_best_named_as_the_newest(folder, larger, expected):
    asked = [kept(folder, step, value, 2, larger_is_better=larger)
             for step, value in ((1, 0.5), (2, 0.25), (3, 0.75), (4, 0.125))]
    assert asked == ([True, False, True, False] if larger else [True, True, False, True])
    assert best(folder) == expected


def test_nan_is_never_the_best(folder):
    assert not kept(folder, 1, float('nan')) and files(folder).count('best') == 0
    assert kept(folder, 2, -5.0) and not kept(folder, 3, float('nan'))
    assert best(folder) == [(2, -5)]


def test_files_are_copied_beside_it(folder):
    with open(os.path.join(folder, 'train_config.json'), 'w') as file:
        file.write('{"seed": 3}')
    kept(folder, 1, 0.5, extra_files=('train_config.json',))
    with open(os.path.join(folder, 'best', 'train_config.json')) as file:
        assert file.read() == '{"seed": 3}'
    with pytest.raises(CheckpointError, match='model.ckpt-2 could not be kept in .*best: '):
        kept(folder, 2, 0.75, extra_files=('nowhere.json',))
    assert biases(checkpoints.latest(os.path.join(folder, 'best'))) == [1, 1]


def test_a_step_that_comes_again_replaces_its_entry(folder):
    for step, value in ((1, 0.5), (2, 0.75)):
        kept(folder, step, value, 2)
    assert kept(folder, 2, 0.75, 2) and best(folder) == [(2, 0.75), (1, 0.5)]   # the same again
    assert not kept(folder, 2, 0.25, 2, number=7) and best(folder) == [(1, 0.5), (2, 0.25)]
    assert kept(folder, 2, 0.875, 2, number=8) and best(folder) == [(2, 0.875), (1, 0.5)]
    assert biases(checkpoints.latest(os.path.join(folder, 'best'))) == [8, 8]


def test_later_entries_of_before_a_kill_give_way_as_they_would(folder):
    kept(folder, 100, 0.875)
    assert not kept(folder, 90, 0.75) and best(folder) == [(100, 0.875)]
    assert kept(folder, 100, 0.625, number=7) and best(folder) == [(100, 0.625)]


def test_values_of_another_metric_are_not_compared(folder):
    kept(folder, 1, 0.9)
    assert kept(folder, 2, 0.5, metric='recall_5') and best(folder) == [(2, 0.5)]


def test_one_that_was_taken_away_is_no_longer_the_best(folder):
    kept(folder, 1, 0.9)
    for file in ('model.ckpt-1.index', 'model.ckpt-1.data-00000-of-00001'):
        os.remove(os.path.join(folder, 'best', file))
    assert kept(folder, 2, 0.5) and best(folder) == [(2, 0.5)]


@pytest.mark.parametrize('content', ['', '{}x', '[{"step": 1}]', '[3]', '7'])
def test_a_damaged_list_is_said(folder, content):
    kept(folder, 1, 0.5)
    with open(os.path.join(folder, 'best', 'best.json'), 'w') as file:
        file.write(content)
    with pytest.raises(CheckpointError, match='best.json is damaged: it should be a list'):
        kept(folder, 2, 0.75)
    assert biases(checkpoints.latest(os.path.join(folder, 'best'))) == [1, 1]
    os.remove(os.path.join(folder, 'best', 'best.json'))
    assert kept(folder, 2, 0.25) and best(folder) == [(2, 0.25)]


def test_a_full_disk_leaves_the_best(folder, full_disk):
    kept(folder, 1, 0.5)
    prefix = saved(folder, 2, global_step=np.int64(2), **{'net/weights': np.ones([200, 200], 'f')})
    with full_disk(50_000), pytest.raises(CheckpointError) as caught:
        checkpoints.keep_best(prefix, folder, 'accuracy', 0.75)
    assert str(caught.value) == f'{prefix} could not be kept in {os.path.join(folder, "best")}: File too large.'
    assert best(folder) == [(1, 0.5)]
    assert checkpoints.keep_best(prefix, folder, 'accuracy', 0.75) and best(folder) == [(2, 0.75)]


@pytest.mark.parametrize('there, step, keep', [([(1, 0.5)], 2, 1), ([(1, 0.5), (2, 0.25)], 3, 2), ([(2, 0.5)], 2, 1),
                                               ([], 1, 1)])
def test_a_kill_while_the_best_is_kept(tmp_path, kill, there, step, keep):
    """Also where the step is there already, with other values."""
    outcomes, killed, after = [], True, 0
    while killed:
        folder = str(tmp_path / str(after))
        os.mkdir(folder)
        with open(os.path.join(folder, 'config'), 'w') as file:
            file.write('{}')
        for earlier, value in there:
            kept(folder, earlier, value, keep, extra_files=('config',))
        prefix = saved(folder, step, 5, global_step=np.int64(step), **{'net/biases': two(9)})

        def keep_it(prefix=prefix, folder=folder):
            return checkpoints.keep_best(prefix, folder, 'accuracy', 0.75, keep, extra_files=('config',))

        killed = kill(after, keep_it)
        found = checkpoints.latest(os.path.join(folder, 'best'))
        outcomes.append(found and biases(found)[0])
        if found:
            assert 'config' in files(os.path.join(folder, 'best'))
        if after % 2:
            assert keep_it()                                                        # the same again
            assert best(folder)[0] == (step, 0.75)
        else:
            kept(folder, 8, 0.125, keep, extra_files=('config',))                   # or a later one, which is worse
            assert len(best(folder)) == min(keep, len({step, 8, *(step for step, _ in there)})) or not there
        assert biases(checkpoints.latest(os.path.join(folder, 'best')))
        after += 1
    assert len(outcomes) > 5 and outcomes[-1] == 9
    first_new = outcomes.index(9)
    assert set(outcomes[:first_new]) <= {there[0][0] if there else None} and set(outcomes[first_new:]) == {9}


# A damaged newest one.

def test_a_damaged_newest_checkpoint_is_passed_over(folder):
    first = saved(folder, 1)
    assert checkpoints.latest_whole(folder) == (first, [])
    prefix = big_checkpoint(folder)
    assert checkpoints.latest_whole(folder) == (prefix, [])
    os.truncate(prefix + '.data-00000-of-00001', 5000)
    newest = saved(folder, 8)
    os.remove(newest + '.data-00000-of-00001')
    found, faults = checkpoints.latest_whole(folder)
    assert found == first and checkpoints.latest(folder) == newest
    assert [fault.split(' is ')[0] for fault in faults] == [newest, prefix]
    assert faults[1].startswith(f'{prefix} is damaged, net/weights cannot be read: ')
    os.truncate(first + '.index', 10)
    with pytest.raises(CheckpointError, match='^No checkpoint in .* can be read. .*-8 is .*-7 is .*-1 is not a '):
        checkpoints.latest_whole(folder)


def test_a_training_without_checkpoints_has_none_that_is_whole(folder):
    assert checkpoints.latest_whole(folder) == (None, [])
    assert checkpoints.latest_whole(os.path.join(folder, 'nowhere')) == (None, [])


# What does not fit.

def test_every_missing_misshapen_and_extra_variable_is_named(folder):
    prefix = saved(folder, **{'net/old': np.zeros(1, 'f'), 'net/biases/Momentum': np.zeros(2, 'f')})
    ours = {'net/weights': tf.Variable(tf.ones([3, 3, 4])), 'net/biases': tf.Variable(tf.ones([2])),
            'net/new_1': tf.Variable(1.0), 'net/new_2': tf.Variable(1.0)}
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(checkpoints.Reader(folder), ours, hint='Use another.')
    assert str(caught.value).splitlines() == [
        f'{prefix} does not fit: 2 of 4 variables missing and 1 of 4 variables of another shape. Use another.',
        'Missing: net/new_1, net/new_2.',
        'Of another shape: net/weights [3, 4] (here [3, 3, 4]).',
        'In the checkpoint alone: net/old.',  # a slot of a variable that is wanted is not extra
    ]
    np.testing.assert_array_equal(ours['net/biases'], [1, 1])  # nothing half restored


def test_missing_ones_can_be_ignored_but_not_all(folder):
    saved(folder)
    reader = checkpoints.Reader(folder)
    ours = {**variables(), 'net/new': tf.Variable(1.0)}
    assert checkpoints.restore(reader, ours, ignore_missing=True) == ['net/new']
    np.testing.assert_array_equal(ours['net/weights'], VALUES['net/weights'])
    with pytest.raises(CheckpointError, match='another network .* none of the 2 variables'):
        checkpoints.restore(reader, {'a/b': tf.Variable(1.0), 'a/c': tf.Variable(1.0)}, ignore_missing=True)
    with pytest.raises(CheckpointError, match=r'net/biases \[2\] \(here \[3\]\)'):
        checkpoints.restore(reader, {**variables(), 'net/biases': tf.Variable([1., 2., 3.])}, ignore_missing=True)


def test_another_network_is_called_so(folder):
    prefix = saved(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(checkpoints.Reader(folder), {'LeNet/conv1/weights': tf.Variable(1.0)})
    assert str(caught.value) == (f'{prefix} does not fit: it is a checkpoint of another network (net) and has none '
                                 'of the 1 variables wanted.\nMissing: LeNet/conv1/weights.\n'
                                 'In the checkpoint alone: net/biases, net/weights.')


@pytest.mark.parametrize('shape, classes', [([3, 7], True), ([5, 4], False), ([3, 4, 1], False)])
def test_another_number_of_classes_is_called_so(folder, shape, classes):
    saved(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(checkpoints.Reader(folder), {**variables(), 'net/weights': tf.Variable(tf.zeros(shape))})
    assert ('another number of classes' in str(caught.value)) == classes


@pytest.mark.parametrize('scopes, expected', [(None, []), ('', []), ('a,b/c', ['a', 'b/c']), (' a , ,b,', ['a', 'b'])])
def test_scopes(scopes, expected):
    assert list(checkpoints.split_scopes(scopes)) == expected
    assert checkpoints.starts_with_any('b/c/weights', scopes) == any(scope in ('b', 'b/c') for scope in expected)
