"""The training loop and the evaluation, whole, on tiny networks and data."""
import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from nets import checkpoints
from training import evaluation, loop
from training.config import ConfigError, EvalConfig, TrainConfig, eval_config, train_config
from training.console import RunError
from training.data import evaluation_batches, open_dataset, training_batches
from training.trainer import Trainer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LENET = dict(
    dataset_name='digits',
    model_name='lenet',
    train_image_size=16,
    batch_size=8,
    learning_rate=0.01,
    log_every_n_steps=2,
)
PLAIN, TINY = dict(model_name='tiny_networks:plain'), dict(model_name='tiny_networks:tiny')
# All that draws at random or remembers, at once.
EVERYTHING = dict(
    optimizer='adamw', opt_epsilon=1e-7, learning_rate=0.001, moving_average_decay=0.9, precision='bfloat16',
    mixup_alpha=0.4, cutmix_alpha=0.4, random_erasing=0.5, auto_augment='randaugment', accumulate_steps=2,
    clip_gradient_norm=1.0, warmup_epochs=0.03, learning_rate_decay_type='cosine')


def lenet(train_dir, **changes):
    return TrainConfig(**{**LENET, 'train_dir': str(train_dir), **changes})


def quiet(*unused):
    pass


def values(path):
    reader = checkpoints.Reader(path)
    return {name: reader.value(name) for name in reader.shapes}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def summary(train_dir):
    """The rows of summary.csv, as a person's program would read them."""
    with open(os.path.join(train_dir, 'summary.csv')) as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def column(train_dir, name):
    return {int(row['step']): row[name] for row in summary(train_dir) if name in row}


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
    assert tags == {'total_loss', 'learning_rate', 'images_per_second', 'epoch', 'data_wait', 'train_accuracy',
                    'train_recall_5'}
    accuracy = column(tmp_path, 'train_accuracy')
    assert accuracy[2] < 0.5 < 0.85 < accuracy[150] <= column(tmp_path, 'train_recall_5')[150]


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
    trainer = Trainer(config, open_dataset(config), 16, 1)
    trainer.resume(str(tmp_path / 'model.ckpt-10'))
    settings = EvalConfig(dataset_name='digits', model_name='lenet', batch_size=360)
    ((images, labels),) = evaluation_batches(settings, open_dataset(settings), 16)
    logits = trainer.model(images[:, 0]).numpy()
    ranks = (logits > np.take_along_axis(logits, labels.numpy()[:, None], 1)).sum(1)
    assert results['num_images'] == len(labels) == 360
    assert results['Accuracy'] == np.mean(ranks < 1) and results['Recall_5'] == np.mean(ranks < 5)


@pytest.mark.parametrize('class_mode', ['categorical', 'multilabel'])
def test_views_of_an_image_count_by_their_mean_probability(tiny_networks, tmp_path, class_mode):
    config = lenet(tmp_path, **TINY, max_number_of_steps=1, preprocessing_name='inception')
    loop.train(config, quiet)
    trainer = Trainer(config, open_dataset(config), 16, 1)
    trainer.resume(str(tmp_path / 'model.ckpt-1'))
    settings = EvalConfig(dataset_name='digits', model_name=config.model_name, preprocessing_name='inception',
                          batch_size=30, class_mode=class_mode, eval_image_size=16, max_num_batches=1,
                          eval_crop_fraction=0.5, eval_corners=True, eval_flip=True)
    dataset = open_dataset(dataclasses.replace(settings, class_mode='categorical'))
    images, labels = next(iter(evaluation_batches(settings, dataset, 16)))
    assert images.shape == (30, 10, 16, 16, 1)
    logits = trainer.model(tf.reshape(images, [300, 16, 16, 1])).numpy().reshape(30, 10, 10)
    found = evaluation._mean_logits(trainer.model, images, class_mode).numpy()
    if class_mode == 'multilabel':
        mean = (1 / (1 + np.exp(-logits))).mean(1)
        np.testing.assert_allclose(1 / (1 + np.exp(-found)), mean, rtol=1e-4)
        return
    mean = scipy.special.softmax(logits, -1).mean(1)
    np.testing.assert_allclose(np.exp(found), mean, rtol=1e-4)
    figures = evaluation.measure(settings, trainer.model, dataset)
    assert figures['Accuracy'] == pytest.approx(np.mean(mean.argmax(1) == labels))
    assert figures['loss'] == pytest.approx(-np.log(mean[np.arange(30), labels]).mean(), rel=1e-4)


@pytest.mark.parametrize('changes', [
    dict(optimizer='adam', opt_epsilon=1e-7, learning_rate=0.001, moving_average_decay=0.9),
    dict(optimizer='rmsprop', preprocessing_name='cifarnet', learning_rate_decay_type='polynomial'),
    dict(optimizer='momentum', preprocessing_name='inception', warmup_epochs=0.1, label_smoothing=0.1),
    EVERYTHING, {**EVERYTHING, **TINY, 'precision': 'float16', 'initial_image_scale': 0.5, 'image_size_stages': 2},
    {**EVERYTHING, 'model_name': 'inception_v1', 'train_image_size': 32, 'batch_size': 2}],
    ids=lambda changes: f'{changes["optimizer"]} {changes.get("model_name", "lenet")}')
def test_resuming_gives_the_same_bits(tiny_networks, tmp_path, changes):
    changes = dict(changes, max_number_of_steps=6)
    loop.train(lenet(tmp_path / 'parts', **changes, save_interval_steps=3), quiet)
    whole = values(str(tmp_path / 'parts' / 'model.ckpt-6'))
    for path in tmp_path.glob('parts/model.ckpt-6*'):       # as if it had been killed before
        path.unlink()
    tf.compat.v1.train.update_checkpoint_state(str(tmp_path / 'parts'), 'model.ckpt-3')
    said = []
    path = loop.train(lenet(tmp_path / 'parts', **changes), said.append)
    assert said[0].startswith(f'Going on from {tmp_path / "parts" / "model.ckpt-3"}.')
    assert path == str(tmp_path / 'parts' / 'model.ckpt-6')
    assert_same(values(path), whole)


@pytest.mark.parametrize('changes', [dict(optimizer='momentum', save_interval_steps=3),
                                     {**EVERYTHING, **TINY, 'steps_per_loop': 5}], ids=['plain', 'everything'])
def test_a_run_in_two_commands_is_the_run_in_one(tiny_networks, tmp_path, changes):
    """However many steps each call from Python takes."""
    changes = {**changes, 'learning_rate_decay_type': 'fixed', 'log_every_n_steps': 5}
    whole = loop.train(lenet(tmp_path / 'whole', **{**changes, 'max_number_of_steps': 12, 'steps_per_loop': 1}), quiet)
    loop.train(lenet(tmp_path / 'parts', **changes, max_number_of_steps=7), quiet)
    parts = loop.train(lenet(tmp_path / 'parts', **changes, max_number_of_steps=12), quiet)
    assert_same(values(parts), values(whole))
    for name in 'total_loss', 'train_accuracy', 'train_recall_5', 'learning_rate':
        ours, theirs = (column(tmp_path / folder, name) for folder in ('whole', 'parts'))
        assert {5, 12} <= set(ours) <= set(theirs) and ours[5] == theirs[5]


def test_many_steps_a_call_are_as_many_calls(tiny_networks, tmp_path):
    changes = dict(TINY, max_number_of_steps=11, log_every_n_steps=10)
    one, many = (loop.train(lenet(tmp_path / str(steps), **changes, steps_per_loop=steps), quiet) for steps in (1, 5))
    assert_same(values(many), values(one))
    for name in 'epoch', 'total_loss', 'train_accuracy', 'train_recall_5', 'learning_rate':
        # Means over the steps between two lines: the sums are rounded in another order.
        assert column(tmp_path / '5', name) == pytest.approx(column(tmp_path / '1', name), rel=1e-6)


def test_nothing_is_traced_again(tiny_networks, tmp_path, monkeypatch):
    """A trace for one step a call, one for several, whatever their number; the same again for each size of image."""
    traced = []

    class Counted(Trainer):
        def step(self, images, labels):
            traced.append(tuple(images.shape))
            return super().step(images, labels)

    monkeypatch.setattr(loop, 'Trainer', Counted)
    changes = dict(PLAIN, log_every_n_steps=6, save_interval_steps=7, eval_every=8, eval_max_batches=1)
    loop.train(lenet(tmp_path / 'several', **changes, max_number_of_steps=20, steps_per_loop=4), quiet)
    assert 1 <= len(traced) <= 2 and set(traced) == {(8, 16, 16, 1)}
    traced.clear()
    loop.train(lenet(tmp_path / 'one', **changes, max_number_of_steps=8), quiet)
    assert traced == [(8, 16, 16, 1)]
    traced.clear()
    loop.train(lenet(tmp_path / 'sizes', **changes, max_number_of_steps=9, initial_image_scale=0.5,
                     image_size_stages=3), quiet)
    assert traced == [(8, 8, 8, 1), (8, 12, 12, 1), (8, 16, 16, 1)]


def test_images_grow(tiny_networks, tmp_path):
    said = []
    path = loop.train(lenet(tmp_path, **PLAIN, max_number_of_steps=9, initial_image_scale=0.5, image_size_stages=3),
                      said.append)
    grown = [line for line in said if 'Images are' in line]
    assert grown == ['Images are 8x8 from step 0 on.', 'Images are 12x12 from step 3 on.',
                     'Images are 16x16 from step 6 on.']
    assert values(path)['global_step'] == 9
    with pytest.raises(ConfigError, match='--initial_image_scale=0.5: lenet does not take images of 8x8'):
        loop.train(lenet(tmp_path / 'lenet', max_number_of_steps=9, initial_image_scale=0.5), quiet)
    loop.train(lenet(tmp_path / 'recipe', max_number_of_steps=2, initial_image_scale=0.5, recipe='slim'), said.append)
    assert 'lenet takes images of one size alone: they do not grow.' in said


def test_the_modern_recipe_runs(tiny_networks, tmp_path):
    given = dict(recipe='modern', dataset_name='digits', model_name='tiny_networks:tiny', train_image_size=32,
                 batch_size=16, num_epochs=0.3, warmup_epochs=0.05, eval_every=20, initial_image_scale=0.6,
                 train_dir=str(tmp_path))
    said = []
    path = loop.train(train_config(given), said.append)
    assert path == str(tmp_path / 'model.ckpt-27')      # 0.3 x 1437 / 16 = 26.9
    assert [line.split()[2] for line in said if 'Images are' in line] == ['20x20', '24x24', '28x28', '32x32']
    assert 'conv1/weights/ExponentialMovingAverage' in ' '.join(values(path))
    rates = column(tmp_path, 'learning_rate')
    assert rates[10] > rates[20] > rates[27] == pytest.approx(1e-5)
    assert set(column(tmp_path, 'eval_accuracy')) == {20, 27}


def test_the_saved_config_makes_the_same_run_to_the_bit(tiny_networks, tmp_path):
    changes = dict(EVERYTHING, **TINY, max_number_of_steps=4)
    first = loop.train(lenet(tmp_path / 'first', **changes), quiet)
    again = loop.train(train_config({'config': str(tmp_path / 'first' / 'train_config.json'),
                                     'train_dir': str(tmp_path / 'again')}), quiet)
    assert_same(values(again), values(first))
    saved = [json.loads((tmp_path / name / 'train_config.json').read_text()) for name in ('first', 'again')]
    assert saved[1] == {**saved[0], 'train_dir': str(tmp_path / 'again')}


def test_a_batch_may_be_larger_than_the_split_and_spans_epochs(tmp_path):
    config = lenet(tmp_path, batch_size=2000)
    images, labels = next(iter(training_batches(config, open_dataset(config), 16)))
    assert images.shape == [2000, 16, 16, 1] and labels.shape == [2000]
    counts = np.bincount(labels[:1437])  # the first epoch whole
    np.testing.assert_array_equal(counts, np.bincount(open_dataset(config).labels))


@pytest.mark.parametrize('slow', [False, True])
def test_waiting_for_data_is_noticed(tiny_networks, tmp_path, monkeypatch, slow):
    def batches(*args):
        def late(images, labels):
            slept = tf.numpy_function(lambda: (time.sleep(0.2 if slow else 0.0), 0)[1], [], tf.int64)
            with tf.control_dependencies([slept]):
                return tf.identity(images), labels
        return training_batches(*args).map(late)

    monkeypatch.setattr(loop, 'training_batches', batches)
    loop.train(lenet(tmp_path, **PLAIN, max_number_of_steps=15, log_every_n_steps=15), quiet)
    assert (column(tmp_path, 'data_wait')[15] > 0.4) == slow


# Evaluation while training.

@pytest.mark.parametrize('average', [None, 0.9])
def test_figures_while_training_are_those_of_the_evaluation(tiny_networks, tmp_path, average):
    """Of the checkpoint that was saved at that step, by the program; and the training is not changed by it."""
    changes = dict(TINY, max_number_of_steps=7, moving_average_decay=average, optimizer='adam', opt_epsilon=1e-7)
    path = loop.train(lenet(tmp_path / 'run', **changes, eval_every=3, eval_batch_size=50), quiet)
    assert set(column(tmp_path / 'run', 'eval_loss')) == {3, 6, 7}      # and at the end
    for step in 3, 7:
        found = evaluation.evaluate(eval_config({
            'checkpoint_path': str(tmp_path / 'run' / f'model.ckpt-{step}'), 'eval_dir': str(tmp_path / 'eval')}),
            quiet)
        assert found['moving_averages'] == (average is not None) and found['num_images'] == 360
        for name, figure in ('eval_accuracy', 'Accuracy'), ('eval_recall_5', 'Recall_5'), ('eval_loss', 'loss'):
            assert column(tmp_path / 'run', name)[step] == pytest.approx(found[figure], rel=1e-5)
    assert_same(values(path), values(loop.train(lenet(tmp_path / 'unwatched', **changes), quiet)))


def test_the_loss_of_an_evaluation_is_kerass(tiny_networks, tmp_path):
    config = lenet(tmp_path, **PLAIN, max_number_of_steps=2, eval_every=2, eval_batch_size=100, eval_max_batches=2)
    path = loop.train(config, quiet)
    trainer = Trainer(config, open_dataset(config), 16, 1)
    trainer.resume(path)
    settings = EvalConfig(dataset_name='digits', model_name='lenet', batch_size=200)
    images, labels = next(iter(evaluation_batches(settings, open_dataset(settings), 16)))
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, trainer.model(images[:, 0]))
    assert column(tmp_path, 'eval_loss')[2] == pytest.approx(float(expected), rel=1e-5)


class Watched(keras.Model):
    """What Keras's callbacks are told to change."""

    def __init__(self):
        super().__init__()
        self.optimizer, self.stop_training = keras.optimizers.SGD(0.02), False


@pytest.mark.parametrize('metric', ['accuracy', 'loss'])
def test_it_stops_and_the_rate_falls_where_kerass_callbacks_would(tiny_networks, tmp_path, metric):
    """Then the best of all is in `best`, and can be evaluated."""
    said = []
    loop.train(lenet(tmp_path, **PLAIN, max_number_of_steps=200, learning_rate=0.02, optimizer='adam', opt_epsilon=1e-7,
                     learning_rate_decay_type='plateau', learning_rate_decay_factor=0.5, plateau_evaluations=2,
                     end_learning_rate=0.004, early_stopping=5, eval_every=2, eval_max_batches=1, best_metric=metric,
                     keep_checkpoints=1), said.append)
    values, rates = column(tmp_path, f'eval_{metric}'), column(tmp_path, 'learning_rate')
    mode = 'max' if metric == 'accuracy' else 'min'
    stop = keras.callbacks.EarlyStopping('value', patience=5, mode=mode)
    plateau = keras.callbacks.ReduceLROnPlateau('value', factor=0.5, patience=2, mode=mode, min_delta=0.0, min_lr=0.004)
    model = Watched()
    for callback in stop, plateau:
        callback.set_model(model)
        callback.on_train_begin()
    for number, (step, value) in enumerate(values.items()):
        # The rate of the steps up to here is what the evaluations before made of it.
        assert rates[step] == pytest.approx(float(model.optimizer.learning_rate.numpy()), rel=1e-6), step
        assert not model.stop_training, step
        for callback in stop, plateau:
            callback.on_epoch_end(number, {'value': value})
    assert model.stop_training and max(values) < 200
    assert min(rates.values()) < 0.02 and any('the learning rate falls to 0.5' in line for line in said)
    assert any('Stopped early' in line for line in said)
    pick = max if metric == 'accuracy' else min
    best = pick(values.values())
    found = evaluation.evaluate(eval_config({'checkpoint_path': str(tmp_path / 'best'), 'max_num_batches': 1}), quiet)
    assert found[{'accuracy': 'Accuracy', 'loss': 'loss'}[metric]] == pytest.approx(best, rel=1e-5)
    assert values[found['global_step']] == best


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
    loop.train(lenet(tmp_path / 'b', max_number_of_steps=1, checkpoint_path=part, ignore_missing_vars=True), quiet)


@pytest.mark.parametrize('changes', [
    dict(num_clones=64), dict(checkpoint_path='part'), dict(model_name='inception_v1', final_endpoint='Mixed_9z')],
    ids=str)
def test_a_training_that_is_refused_leaves_no_folder(tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    checkpoints.save('part', 1, {'LeNet/conv1/biases': tf.zeros([32])}, 1)
    with pytest.raises((ConfigError, checkpoints.CheckpointError)):
        loop.train(lenet('run', max_number_of_steps=1, clone_on_cpu=True, **changes), quiet)
    assert not (tmp_path / 'run').exists()


def test_other_settings_in_the_same_folder_are_refused_and_nothing_is_lost(tmp_path):
    path = loop.train(lenet(tmp_path, max_number_of_steps=1), quiet)
    before = values(path)
    saved = (tmp_path / 'train_config.json').read_text()
    with pytest.raises(ConfigError, match='cannot go on so: --optimizer from rmsprop to adam. Give the old value'):
        loop.train(lenet(tmp_path, max_number_of_steps=3, optimizer='adam'), quiet)
    assert (tmp_path / 'train_config.json').read_text() == saved
    (tmp_path / 'train_config.json').unlink()       # TF-Slim's own programs write none
    with pytest.raises(checkpoints.CheckpointError, match='other settings(.|\n)*LeNet/conv1/weights/Adam'):
        loop.train(lenet(tmp_path, max_number_of_steps=3, optimizer='adam'), quiet)
    assert not (tmp_path / 'train_config.json').exists()
    for name, value in values(path).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_loss_that_is_not_a_number_stops_before_it_is_saved(tmp_path):
    good = loop.train(lenet(tmp_path, max_number_of_steps=1), quiet)
    with pytest.raises(RunError, match=f'The loss is (nan|inf) at step .*lower --learning_rate.*{good}'):
        loop.train(lenet(tmp_path, max_number_of_steps=50, learning_rate=1e30), quiet)
    assert checkpoints.latest(str(tmp_path)) == good


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
    assert '16 images a step (8 x 2 replicas)' in done.stdout
    state = values(str(tmp_path / 'model.ckpt-3'))
    assert state['global_step'] == 3 and all(np.isfinite(value).all() for value in state.values())


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


def test_checkpoints_come_by_the_clock_and_the_oldest_go(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 700))
    monkeypatch.setattr(loop.time, 'monotonic', lambda: float(next(clock)))
    loop.train(lenet(tmp_path, max_number_of_steps=5, save_interval_secs=600, keep_checkpoints=2), quiet)
    assert sorted(path.name for path in tmp_path.glob('*.index')) == ['model.ckpt-4.index', 'model.ckpt-5.index']
