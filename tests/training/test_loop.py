"""The training loop and the evaluation, whole, on tiny networks and data."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from nets import checkpoints
from training import evaluation, loop
from training.config import EvalConfig, TrainConfig, eval_config
from training.console import RunError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LENET = dict(
    dataset_name='digits',
    model_name='lenet',
    train_image_size=16,
    batch_size=8,
    learning_rate=0.01,
    log_every_n_steps=2,
)


def lenet(train_dir, **changes):
    return TrainConfig(**{**LENET, 'train_dir': str(train_dir), **changes})


def quiet(*unused):
    pass


def values(path):
    reader = checkpoints.Reader(path)
    return {name: reader.value(name) for name in reader.shapes}


def trainer_of(config, channels=1):
    return loop.Trainer(config, loop.open_dataset(config), config.train_image_size, channels)


def a_batch(config):
    dataset = loop.open_dataset(config)
    batches = loop.input_batches(config, dataset, config.train_image_size, config.batch_size, training=True)
    return next(iter(batches))


def test_learns_the_digits_and_evaluates_every_image_once(tmp_path):
    config = lenet(
        tmp_path, max_number_of_steps=150, optimizer='adam', opt_epsilon=1e-7, learning_rate=0.001, batch_size=32
    )
    said = []
    path = loop.train(config, said.append)
    assert path == str(tmp_path / 'model.ckpt-150')
    assert any('1437 images' in line and 'lenet' in line for line in said)
    results = evaluation.evaluate(eval_config({'checkpoint_path': str(tmp_path), 'batch_size': 100}), said.append)
    assert results['num_images'] == 360 and results['global_step'] == 150
    assert results['Accuracy'] > 0.9 and results['Recall_5'] > results['Accuracy']
    assert f'eval/Accuracy[{results["Accuracy"]:.6g}]' in said
    with open(tmp_path / 'eval' / 'eval_results.json') as file:
        assert json.load(file) == results
    with open(tmp_path / 'train_config.json') as file:
        assert TrainConfig(**json.load(file)) == config
    events = list(tmp_path.glob('events.out.tfevents.*'))
    tags = {
        value.tag for record in tf.compat.v1.train.summary_iterator(str(events[0])) for value in record.summary.value
    }
    assert tags == {'total_loss', 'learning_rate', 'images_per_second'}


def test_accuracy_is_that_of_the_predictions(tmp_path):
    config = lenet(tmp_path, max_number_of_steps=10, use_grayscale=True)
    loop.train(config, quiet)
    results = evaluation.evaluate(
        EvalConfig(
            dataset_name='digits',
            model_name='lenet',
            eval_image_size=16,
            use_grayscale=True,
            batch_size=7,
            checkpoint_path=str(tmp_path),
            eval_dir=str(tmp_path / 'e'),
        ),
        quiet,
    )
    trainer = trainer_of(config)
    trainer.resume(str(tmp_path / 'model.ckpt-10'))
    test = loop.open_dataset(EvalConfig(dataset_name='digits', model_name='lenet'))
    batches = list(
        loop.input_batches(EvalConfig(dataset_name='digits', model_name='lenet'), test, 16, 360, training=False)
    )
    ((images, labels),) = batches
    logits = trainer.model(images).numpy()
    ranks = (logits > np.take_along_axis(logits, labels.numpy()[:, None], 1)).sum(1)
    assert results['num_images'] == len(labels) == 360
    assert results['Accuracy'] == np.mean(ranks < 1) and results['Recall_5'] == np.mean(ranks < 5)


@pytest.mark.parametrize(
    'changes',
    [
        dict(optimizer='adam', opt_epsilon=1e-7, learning_rate=0.001, moving_average_decay=0.9),
        dict(optimizer='rmsprop', preprocessing_name='cifarnet', learning_rate_decay_type='polynomial'),
        dict(optimizer='momentum', preprocessing_name='inception', warmup_epochs=0.1, label_smoothing=0.1),
    ],
    ids=lambda changes: changes['optimizer'],
)
def test_resuming_gives_the_same_bits(tmp_path, changes):
    whole = values(loop.train(lenet(tmp_path / 'whole', max_number_of_steps=6, **changes), quiet))
    loop.train(lenet(tmp_path / 'parts', max_number_of_steps=2, **changes), quiet)
    said = []
    parts = values(loop.train(lenet(tmp_path / 'parts', max_number_of_steps=6, **changes), said.append))
    assert said[0] == f'Going on from {tmp_path / "parts" / "model.ckpt-2"}.'
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


def test_a_batch_may_be_larger_than_the_split_and_spans_epochs(tmp_path):
    config = lenet(tmp_path, batch_size=2000)
    images, labels = a_batch(config)
    assert images.shape == [2000, 16, 16, 1] and labels.shape == [2000]
    counts = np.bincount(labels[:1437])  # the first epoch whole
    np.testing.assert_array_equal(counts, np.bincount(loop.open_dataset(config).labels))


def test_resuming_says_that_checkpoint_path_is_not_used(tmp_path):
    loop.train(lenet(tmp_path, max_number_of_steps=1), quiet)
    said = []
    loop.train(lenet(tmp_path, max_number_of_steps=2, checkpoint_path='/nowhere'), said.append)
    assert '--checkpoint_path' in said[0] and 'not used' in said[0]


def test_a_run_that_is_done_says_so(tmp_path):
    first = loop.train(lenet(tmp_path, max_number_of_steps=2), quiet)
    said = []
    assert loop.train(lenet(tmp_path, max_number_of_steps=2), said.append) == first
    assert any('at step 2 already' in line for line in said)


def test_loss_is_cross_entropy_with_smoothing_and_decay(tmp_path):
    config = lenet(tmp_path, label_smoothing=0.2, weight_decay=0.01)
    trainer = trainer_of(config)
    images, labels = a_batch(config)
    weights = [v.numpy() for name, v in trainer.model.by_name.items() if name.endswith('weights')]
    logits, _ = tf.function(
        lambda: trainer.model.build(images, True, None, trainer._dropout_seed(0)), autograph=False
    )()
    expected = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(
        tf.one_hot(labels, 10), logits
    )
    loss = tf.function(trainer.step, autograph=False)(images, labels)
    np.testing.assert_allclose(loss, expected + 0.01 * sum((w**2).sum() / 2 for w in weights), rtol=1e-5)


def test_auxiliary_losses_weigh_what_the_paper_says(tmp_path):
    config = TrainConfig(
        dataset_name='digits',
        model_name='inception_v1',
        train_image_size=32,
        batch_size=4,
        weight_decay=0.0,
        create_aux_logits=True,
        preprocessing_name='lenet',
        train_dir=str(tmp_path),
    )
    trainer = trainer_of(config)
    images, labels = a_batch(config)
    logits, end_points = tf.function(
        lambda: trainer.model.build(images, True, None, trainer._dropout_seed(0)), autograph=False
    )()
    entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    auxiliary = [entropy(labels, end_points[name]) for name in ('AuxLogits_4b', 'AuxLogits_4e')]
    loss = tf.function(trainer.step, autograph=False)(images, labels)
    np.testing.assert_allclose(loss, entropy(labels, logits) + 0.3 * sum(auxiliary), rtol=1e-4)


def test_moving_averages_follow_tf1s_rule(tmp_path):
    config = lenet(tmp_path, moving_average_decay=0.5, optimizer='sgd')
    trainer = trainer_of(config)
    images, labels = a_batch(config)
    step = tf.function(trainer.step, autograph=False)
    average = trainer.model.variables[0].numpy()
    for number in range(1, 13):
        step(images, labels)
        decay = min(0.5, (1 + number) / (10 + number))  # tf.train.ExponentialMovingAverage with num_updates=global_step
        average = decay * average + (1 - decay) * trainer.model.variables[0].numpy()
    np.testing.assert_allclose(trainer.averages[0], average, rtol=1e-5, atol=1e-7)


def test_evaluation_uses_the_moving_averages_when_asked(tmp_path):
    loop.train(lenet(tmp_path, max_number_of_steps=3, moving_average_decay=0.999, learning_rate=1.0), quiet)
    given = dict(
        checkpoint_path=str(tmp_path),
        dataset_name='digits',
        model_name='lenet',
        eval_image_size=16,
        eval_dir=str(tmp_path / 'e'),
    )
    averaged = evaluation.evaluate(EvalConfig(**given, moving_average_decay=0.999), quiet)
    assert averaged['moving_averages'] and not evaluation.evaluate(EvalConfig(**given), quiet)['moving_averages']
    loop.train(lenet(tmp_path / 'plain', max_number_of_steps=1), quiet)
    given['checkpoint_path'] = str(tmp_path / 'plain')
    with pytest.raises(checkpoints.CheckpointError, match='holds no moving averages'):
        evaluation.evaluate(EvalConfig(**given, moving_average_decay=0.999), quiet)


def test_fine_tuning_restores_excludes_and_freezes(tmp_path):
    source = loop.train(lenet(tmp_path / 'a', max_number_of_steps=2, seed=1), quiet)
    tuned = values(
        loop.train(
            lenet(
                tmp_path / 'b',
                max_number_of_steps=2,
                seed=2,
                checkpoint_path=source,
                checkpoint_exclude_scopes='LeNet/fc4',
                trainable_scopes='LeNet/fc3,LeNet/fc4',
            ),
            quiet,
        )
    )
    before = values(source)
    for name in ('LeNet/conv1/weights', 'LeNet/conv2/biases'):
        np.testing.assert_array_equal(tuned[name], before[name])
    for name in ('LeNet/fc3/weights', 'LeNet/fc4/weights'):
        assert np.any(tuned[name] != before[name])
    assert np.abs(tuned['LeNet/fc3/weights'] - before['LeNet/fc3/weights']).mean() < 0.01  # near where it started
    assert np.abs(tuned['LeNet/fc4/weights'] - before['LeNet/fc4/weights']).mean() > 0.05  # drawn anew, stddev 0.1
    assert 'LeNet/fc3/weights/RMSProp' in tuned and 'LeNet/conv1/weights/RMSProp' not in tuned


def test_another_number_of_classes_names_the_scope_to_exclude(tmp_path):
    source = loop.train(lenet(tmp_path / 'a', max_number_of_steps=1), quiet)
    config = lenet(tmp_path / 'b', max_number_of_steps=1, checkpoint_path=source, labels_offset=1)
    with pytest.raises(checkpoints.CheckpointError, match='another number of classes. --checkpoint_exclude_scopes='
                                                          'LeNet/fc4 leaves out what should be trained anew'):
        loop.train(config, quiet)


def test_missing_variables_are_left_alone_only_on_request(tmp_path):
    source = values(loop.train(lenet(tmp_path / 'a', max_number_of_steps=1), quiet))
    part = checkpoints.save(str(tmp_path / 'a'), 9, {k: v for k, v in source.items() if 'conv' in k}, 5)
    config = lenet(tmp_path / 'b', max_number_of_steps=1, checkpoint_path=part)
    with pytest.raises(checkpoints.CheckpointError, match='4 of 8 variables missing(.|\n)*LeNet/fc3/weights'):
        loop.train(config, quiet)
    assert not (tmp_path / 'b').exists()
    loop.train(lenet(tmp_path / 'b', max_number_of_steps=1, checkpoint_path=part, ignore_missing_vars=True), quiet)


def test_other_settings_in_the_same_folder_are_refused_and_nothing_is_lost(tmp_path):
    path = loop.train(lenet(tmp_path, max_number_of_steps=1), quiet)
    before = values(path)
    saved = (tmp_path / 'train_config.json').read_text()
    with pytest.raises(checkpoints.CheckpointError, match='other settings(.|\n)*LeNet/conv1/weights/Adam'):
        loop.train(lenet(tmp_path, max_number_of_steps=3, optimizer='adam'), quiet)
    assert (tmp_path / 'train_config.json').read_text() == saved
    for name, value in values(path).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_loss_that_is_not_a_number_stops_before_it_is_saved(tmp_path):
    good = loop.train(lenet(tmp_path, max_number_of_steps=1), quiet)
    with pytest.raises(RunError, match=f'The loss is (nan|inf) at step .*lower --learning_rate.*{good}'):
        loop.train(lenet(tmp_path, max_number_of_steps=50, learning_rate=1e30), quiet)
    assert checkpoints.latest(str(tmp_path)) == good


@pytest.mark.parametrize('changes', [{'precision': 'bfloat16'}, {'jit_compile': 'true'}], ids=str)
def test_other_ways_to_compute_learn_as_well(tmp_path, changes):
    trainer = trainer_of(lenet(tmp_path, optimizer='adam', opt_epsilon=1e-7, learning_rate=0.001, **changes))
    images, labels = a_batch(trainer.config)
    step = tf.function(trainer.step, autograph=False)
    losses = [float(step(images, labels)) for _ in range(25)]
    assert losses[-1] < 0.3 * losses[0]
    assert {variable.dtype for variable in trainer.model.variables} == {tf.float32}


@pytest.mark.parametrize('jit', ['false', 'true'])
def test_two_replicas_on_logical_devices(tmp_path, jit):
    program = f'''
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from training import loop, config
loop.train(config.TrainConfig(**{LENET}, train_dir={str(tmp_path)!r}, num_clones=2,
                              clone_on_cpu=True, max_number_of_steps=3, jit_compile={jit!r}))
'''
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '16 images a step on 2 clones' in done.stdout
    state = values(str(tmp_path / 'model.ckpt-3'))
    assert state['global_step'] == 3 and all(np.isfinite(value).all() for value in state.values())


def test_a_step_of_two_replicas_is_by_the_mean_of_their_gradients():
    program = f'''
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from training import loop, config
settings = config.TrainConfig(**{LENET}, num_clones=2, clone_on_cpu=True, optimizer='sgd', weight_decay=0.01)
dataset, strategy = loop.open_dataset(settings), loop.make_strategy(settings)
batches = loop.input_batches(settings, dataset, 16, 16, training=True)
with strategy.scope():
    both = loop.Trainer(settings, dataset, 16, 1)
one = loop.Trainer(settings, dataset, 16, 1)
for here, there in zip(one.trained, both.trained):
    here.assign(there.numpy())
part = next(iter(strategy.experimental_distribute_dataset(batches)))
tf.function(lambda: strategy.run(both.step, part), autograph=False)()
(images, labels), gradients = next(iter(batches)), []
for replica in range(2):  # each with images and dropout of its own
    mine = slice(8 * replica, 8 * replica + 8)
    loss, found = tf.function(one._loss_and_gradients, autograph=False)(
        images[mine], labels[mine], tf.constant(0, tf.int64), tf.constant([settings.seed, replica], tf.int64))
    gradients.append(found)
for before, after, first, second in zip(one.trained, both.trained, *gradients):
    assert np.any(first != second)
    np.testing.assert_allclose(after.numpy(), before - 0.01 * (first + second) / 2, rtol=1e-5, atol=1e-6)
'''
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_more_clones_than_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match='--num_clones=64: there (is|are) [0-9]+ CPU'):
        loop.train(lenet(tmp_path, num_clones=64, batch_size=1, clone_on_cpu=True), quiet)


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_can_be_resumed(tmp_path, number, code):
    flags = [f'--{name}={value}' for name, value in LENET.items()]
    process = subprocess.Popen(
        [sys.executable, 'train_image_classifier.py', *flags, f'--train_dir={tmp_path}'],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith('step 2 '):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    path = checkpoints.latest(str(tmp_path))
    step = int(path.rsplit('-', 1)[1])
    assert f'Stopped at step {step}; {path} is saved' in errors and 'Traceback' not in errors
    assert checkpoints.Reader(path).value('global_step') == step >= 2


def test_warmed_up_decay_is_tf1s_and_never_above_the_networks():
    for step in (0, 1, 100, 10**6):
        assert math.isclose(loop._warmed_up(step)(0.9997), min(0.9997, (1 + step) / (10 + step)), rel_tol=1e-6)


def test_checkpoints_come_by_the_clock_and_the_oldest_go(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 700))
    monkeypatch.setattr(loop.time, 'monotonic', lambda: float(next(clock)))
    loop.train(lenet(tmp_path, max_number_of_steps=5, save_interval_secs=600, keep_checkpoints=2), quiet)
    assert sorted(path.name for path in tmp_path.glob('*.index')) == ['model.ckpt-4.index', 'model.ckpt-5.index']
