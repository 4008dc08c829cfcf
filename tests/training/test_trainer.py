"""A step of training, against Keras's losses and optimizers, TF1's rules and steps computed by hand."""
import io
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import checkpoints
from preprocessing import mixing
from training import trainer as trainer_module
from training.config import ConfigError, TrainConfig
from training.data import open_dataset, training_batches
from training.trainer import Trainer

ROOT = pathlib.Path(__file__).parents[2]
LENET = dict(dataset_name='digits', model_name='lenet', train_image_size=16, batch_size=8, learning_rate=0.01,
             learning_rate_decay_type='fixed')
PLAIN = {**LENET, 'model_name': 'tiny_networks:plain', 'optimizer': 'sgd', 'weight_decay': 0.0, 'learning_rate': 0.5}


def trainer_of(dataset=None, **settings):
    config = TrainConfig(**{**LENET, **settings})
    return Trainer(config, dataset or open_dataset(config), config.train_image_size, 1)


def plain_trainer(**changes):
    """Of a network without batch norm or dropout, always with the same weights."""
    trainer = trainer_of(**{**PLAIN, **changes})
    for number, variable in enumerate(trainer.model.variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [number, 0], stddev=0.3))
    for average, variable in zip(trainer.averages, trainer.model.variables if trainer.averages else [], strict=True):
        average.assign(variable)
    return trainer


def digits(count=8, size=16):
    """uint8 images and labels of a step."""
    config = TrainConfig(**{**LENET, 'batch_size': count})
    return next(iter(training_batches(config, open_dataset(config), size)))


def as_float(images):
    return (tf.cast(images, tf.float32) - 128) / 128    # TF-Slim's preprocessing of LeNet


def run(trainer, images, labels, steps=1):
    """The figures of each step."""
    step = tf.function(trainer.step, autograph=False)
    return [step(images, labels).numpy() for _ in range(steps)]


def weights(trainer):
    return [variable.numpy() for variable in trainer.trained]


def logits_of(trainer, images):
    """The network's output in the first step of training, and its endpoints."""
    return tf.function(lambda: trainer.model.build(
        as_float(images), True, None, trainer._seed(tf.constant(0, tf.int64))), autograph=False)()


def assert_same(found, expected, **tolerance):
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, **tolerance)


# Loss and figures.

def test_loss_is_cross_entropy_with_smoothing_and_decay():
    trainer, (images, labels) = trainer_of(label_smoothing=0.2, weight_decay=0.01), digits()
    kernels = [v.numpy() for name, v in trainer.model.by_name.items() if name.endswith('weights')]
    logits, _ = logits_of(trainer, images)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(
        tf.one_hot(labels, 10), logits)
    (loss, accuracy, recall_5), = run(trainer, images, labels)
    np.testing.assert_allclose(loss, expected + 0.01 * sum((w**2).sum() / 2 for w in kernels), rtol=1e-5)
    assert accuracy == np.mean(tf.math.in_top_k(labels, logits, 1))
    assert recall_5 == np.mean(tf.math.in_top_k(labels, logits, 5)) > 0


def test_weight_decay_leaves_biases_and_norms_out_on_request(tiny_networks):
    """`tiny` decays its biases too, which none of TF-Slim's networks does."""
    def decay(**changes):
        trainer = trainer_of(model_name='tiny_networks:tiny', weight_decay=0.01, **changes)
        for variable in trainer.trained:
            variable.assign(tf.ones_like(variable))
        return float(trainer._regularization_loss())

    kernels, biases = 3 * 3 * 16 + 3 * 3 * 16 * 32 + 32 * 10, 10      # the convolutions have a batch norm's beta
    assert decay() == pytest.approx(0.01 * (kernels + biases) / 2)
    assert decay(no_decay_on_bias_and_norm=True) == pytest.approx(0.01 * kernels / 2)
    assert decay(optimizer='adamw') == 0        # which is no part of its loss


def test_auxiliary_losses_weigh_what_the_paper_says():
    trainer = trainer_of(model_name='inception_v1', train_image_size=32, batch_size=4, weight_decay=0.0,
                         create_aux_logits=True, preprocessing_name='lenet')
    images, labels = digits(4, 32)
    logits, end_points = logits_of(trainer, images)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    auxiliary = [entropy(labels, end_points[name]) for name in ('AuxLogits_4b', 'AuxLogits_4e')]
    (loss, _, _), = run(trainer, images, labels)
    np.testing.assert_allclose(loss, entropy(labels, logits) + 0.3 * sum(auxiliary), rtol=1e-4)


@pytest.mark.parametrize('mode', ['binary', 'multilabel'])
def test_steps_of_sigmoids(tiny_networks, mode):
    dataset = open_dataset(TrainConfig(**LENET))
    images, labels = digits()
    if mode == 'binary':
        dataset.num_classes, labels = 2, labels % 2
        targets = labels[:, None]
    else:
        targets = labels = tf.cast(tf.one_hot(labels, 10) + tf.one_hot((labels + 3) % 10, 10), tf.int64)
    trainer = plain_trainer(dataset=dataset, class_mode=mode, label_smoothing=0.1)
    logits, _ = logits_of(trainer, images)
    figures = run(trainer, images, labels, 60)
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)(targets, logits)
    assert figures[0][0] == pytest.approx(float(expected), rel=1e-5)
    assert figures[0][1] == pytest.approx(float(keras.metrics.BinaryAccuracy(threshold=0.0)(targets, logits)))
    assert figures[-1][0] < 0.8 * figures[0][0] and figures[-1][1] > figures[0][1]


def test_class_weights_are_of_the_datasets_classes(tiny_networks):
    images, labels = digits()
    given = [0.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.0, 1.0, 7.0]
    trainer = plain_trainer(class_weights=','.join(map(str, given)))
    logits, _ = logits_of(trainer, images)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert run(trainer, images, labels)[0][0] == pytest.approx(
        float(entropy(labels, logits, sample_weight=np.array(given)[labels.numpy()])), rel=1e-5)
    # With an offset the first class, the background, has no logit and no weight.
    assert plain_trainer(class_weights=','.join(map(str, given[1:])), labels_offset=1).class_weights.shape == [9]
    with pytest.raises(ConfigError, match='--class_weights=1,2: it has 2 weights, and there are 10 classes'):
        plain_trainer(class_weights='1,2')


# Gradients and steps.

KERAS = [
    (dict(optimizer='sgd', clip_gradient_norm=0.05), lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.05)),
    (dict(optimizer='sgd', clip_gradient_norm=1e6), lambda: keras.optimizers.SGD(0.5)),
    (dict(optimizer='adamw', opt_epsilon=1e-7, weight_decay=0.2, no_decay_on_bias_and_norm=True,
          clip_gradient_norm=0.1), lambda: keras.optimizers.AdamW(0.5, weight_decay=0.2, global_clipnorm=0.1)),
]


@pytest.mark.parametrize('settings, make', KERAS, ids=['clipped', 'not clipped', 'adamw'])
def test_a_step_is_kerass(tiny_networks, settings, make):
    trainer, (images, labels) = plain_trainer(**settings), digits()
    copies = [tf.Variable(value, name=f'{name.split("/")[-1]}_{number}') for number, (name, value) in enumerate(
        zip(trainer.trained_names, weights(trainer), strict=True))]
    kerass = make()
    if settings['optimizer'] == 'adamw':
        kerass.exclude_from_weight_decay(var_names=['biases'])
    kerass.build(copies)
    for _ in range(3):
        for variable, copy in zip(trainer.trained, copies, strict=True):
            variable.assign(copy)
        with tf.GradientTape() as tape:
            logits, _ = logits_of(trainer, images)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
        gradients = tape.gradient(loss, trainer.trained)
        run(trainer, images, labels)
        kerass.apply(gradients, copies)
        # Adam divides by the gradient's own size, which is near nothing for some.
        assert_same(weights(trainer), copies, rtol=1e-4, atol=1e-5)


def test_gradients_of_two_batches_are_those_of_one_twice_as_large(tiny_networks):
    images, labels = digits(16)
    one, two = plain_trainer(batch_size=16, clip_gradient_norm=0.5), plain_trainer(accumulate_steps=2,
                                                                                   clip_gradient_norm=0.5)
    assert one.step_images == two.step_images == 16
    assert_same(run(two, images, labels, 3), run(one, images, labels, 3), rtol=1e-4)
    assert_same(weights(two), weights(one), rtol=1e-4, atol=1e-5)


def test_each_batch_of_a_step_has_a_dropout_of_its_own(tiny_networks):
    """The same images twice: with one dropout for both, two batches would be one."""
    images, labels = digits()
    twice = [tf.concat([part, part], 0) for part in (images, labels)]
    one, two = (trainer_of(model_name='tiny_networks:tiny', accumulate_steps=count) for count in (1, 2))
    for here, there in zip(one.model.variables, two.model.variables, strict=True):
        there.assign(here)
    first, = run(one, images, labels)
    both, = run(two, *twice)
    assert abs(first[0] - both[0]) > 1e-4


def test_the_rate_of_a_layer_falls_from_the_classifier_down(tiny_networks):
    images, labels = digits()
    start = weights(plain_trainer())
    whole, decayed = plain_trainer(), plain_trainer(layer_decay=0.5)
    run(whole, images, labels), run(decayed, images, labels)
    for name, before, full, part in zip(whole.trained_names, start, weights(whole), weights(decayed), strict=True):
        factor = {'conv1': 0.25, 'conv2': 0.5, 'logits': 1.0}[name.split('/')[1]]
        assert np.abs(full - before).max() > 1e-4
        np.testing.assert_allclose(part - before, factor * (full - before), rtol=1e-3, atol=1e-6)


def test_moving_averages_follow_tf1s_rule():
    trainer, (images, labels) = trainer_of(moving_average_decay=0.5, optimizer='sgd'), digits()
    step = tf.function(trainer.step, autograph=False)
    average = trainer.model.variables[0].numpy()
    for number in range(1, 13):
        step(images, labels)
        decay = min(0.5, (1 + number) / (10 + number))  # tf.train.ExponentialMovingAverage with num_updates=global_step
        average = decay * average + (1 - decay) * trainer.model.variables[0].numpy()
    np.testing.assert_allclose(trainer.averages[0], average, rtol=1e-5, atol=1e-7)


def test_moving_averages_take_the_models_place_and_give_it_back_to_the_bit(tiny_networks):
    trainer, (images, labels) = plain_trainer(moving_average_decay=0.9), digits()
    run(trainer, images, labels, 2)
    before = [value.numpy() for value in trainer.model.variables]
    with pytest.raises(KeyboardInterrupt):
        with trainer.averaged():
            for value, average, own in zip(trainer.model.variables, trainer.averages, before, strict=True):
                np.testing.assert_array_equal(value, average)
                assert np.any(value != own)
            raise KeyboardInterrupt
    assert_same(trainer.model.variables, before, rtol=0)
    with plain_trainer().averaged():
        pass    # without averages nothing happens


def test_warmed_up_decay_is_tf1s_and_never_above_the_networks():
    for step in (0, 1, 100, 10**6):
        assert math.isclose(trainer_module._warmed_up(step)(0.9997), min(0.9997, (1 + step) / (10 + step)),
                            rel_tol=1e-6)


@pytest.mark.parametrize('changes', [dict(precision='bfloat16'), dict(precision='float16'), dict(jit_compile='true')],
                         ids=str)
def test_other_ways_to_compute_learn_as_well(changes):
    trainer = trainer_of(optimizer='adam', opt_epsilon=1e-7, learning_rate=0.001, **changes)
    images, labels = digits()
    found = [loss for loss, _, _ in run(trainer, images, labels, 25)]
    assert found[-1] < 0.3 * found[0]
    assert {variable.dtype for variable in trainer.model.variables} == {tf.float32}


def test_xla_steps_as_tensorflow_does(tiny_networks):
    changes, (images, labels) = dict(mixup_alpha=0.2, cutmix_alpha=0.2, random_erasing=0.3), digits()
    plain, compiled = (plain_trainer(jit_compile=jit, **changes) for jit in ('false', 'true'))
    assert_same(run(compiled, images, labels, 3), run(plain, images, labels, 3), rtol=1e-4, atol=1e-5)
    assert_same(weights(compiled), weights(plain), rtol=1e-4, atol=1e-5)


# float16.

def test_gradients_of_float16_are_float32s(tiny_networks):
    """The loss is made so small that without its scale most gradients would be below float16's least, 6e-8."""
    images, labels = digits()
    changes = dict(class_weights=','.join(['0.000001'] * 10), learning_rate=1e6)
    exact, scaled, unscaled = (plain_trainer(precision=precision, **changes)
                               for precision in ('float32', 'float16', 'float16'))
    unscaled.loss_scale.assign(1.0)
    start = weights(exact)
    for trainer in (exact, scaled, unscaled):
        run(trainer, images, labels)
    def moved(trainer):
        return np.concatenate([(value - before).ravel() for value, before in zip(weights(trainer), start, strict=True)])

    size = np.abs(moved(exact)).max()
    np.testing.assert_allclose(moved(scaled), moved(exact), atol=0.02 * size)
    assert np.abs(moved(unscaled) - moved(exact)).max() > 0.1 * size
    assert float(scaled.loss_scale) == 2.0**15 and float(scaled.steps_at_scale) == 1


def test_an_overflow_halves_the_scale_and_changes_no_weight(tiny_networks):
    trainer, (images, labels) = plain_trainer(precision='float16', moving_average_decay=0.9), digits()
    trainer.loss_scale.assign(2.0**40)
    trainer.steps_at_scale.assign(7.0)
    before = weights(trainer)
    (loss, _, _), = run(trainer, images, labels)
    assert np.isfinite(loss) and (float(trainer.loss_scale), float(trainer.steps_at_scale)) == (2.0**39, 0)
    assert_same(weights(trainer), before, rtol=0)
    assert_same(trainer.averages, before, rtol=0, atol=1e-7)
    trainer.loss_scale.assign(2.0**10)
    run(trainer, images, labels)
    assert any(np.any(value != old) for value, old in zip(weights(trainer), before, strict=True))


def test_the_scale_doubles_after_2000_good_steps(tiny_networks):
    trainer, (images, labels) = plain_trainer(precision='float16', learning_rate=1e-3), digits()
    trainer.loss_scale.assign(2.0**8)
    trainer.steps_at_scale.assign(1998.0)
    scales = []
    step = tf.function(trainer.step, autograph=False)
    for _ in range(3):
        step(images, labels)
        scales.append((float(trainer.loss_scale), float(trainer.steps_at_scale)))
    assert scales == [(2.0**8, 1999), (2.0**9, 0), (2.0**9, 1)]


def test_a_checkpoint_keeps_the_scale_and_what_became_of_the_rate(tiny_networks, tmp_path):
    trainer = plain_trainer(precision='float16')
    run(trainer, *digits())
    trainer.loss_scale.assign(64.0)
    trainer.steps_at_scale.assign(12.0)
    trainer.rate_factor.assign(0.125)
    path = checkpoints.save(str(tmp_path), 5, trainer.values(5), 1)
    other = plain_trainer(precision='float16')
    other.resume(path)
    assert [float(v) for v in (other.loss_scale, other.steps_at_scale, other.rate_factor)] == [64.0, 12.0, 0.125]
    assert float(other.optimizer.learning_rate) == pytest.approx(0.5 * 0.125) and int(other.optimizer.iterations) == 5
    assert_same(weights(other), weights(trainer), rtol=0)
    # TF-Slim's, which knows nothing of these, is taken up at their start.
    path = checkpoints.save(str(tmp_path), 6, plain_trainer().values(6), 1)
    fresh = plain_trainer(precision='float16')
    fresh.resume(path)
    assert [float(v) for v in (fresh.loss_scale, fresh.rate_factor)] == [2.0**15, 1.0]


LAYERS = [f'LeNet/{layer}/{leaf}' for layer in ('conv1', 'conv2', 'fc3', 'fc4') for leaf in ('weights', 'biases')]


@pytest.mark.parametrize('settings, slots, more', [
    ({}, ['RMSProp', 'RMSProp_1'], []),
    (dict(optimizer='adam', moving_average_decay=0.9), ['Adam', 'Adam_1', 'ExponentialMovingAverage'],
     ['beta1_power', 'beta2_power']),
    (dict(optimizer='momentum', precision='bfloat16', eval_every=3, accumulate_steps=2, clip_gradient_norm=1.0,
          mixup_alpha=0.2), ['Momentum'], [])], ids=str)
def test_a_checkpoint_has_tf_slims_names_alone(settings, slots, more):
    assert set(trainer_of(**settings).values(3)) == {
        *LAYERS, *(f'{name}/{slot}' for name in LAYERS for slot in slots), 'global_step', *more}


# Images that are mixed.

MIXED = dict(mixup_alpha=0.4, cutmix_alpha=0.4, random_erasing=0.5)


def test_mixing_is_a_function_of_seed_and_step(tiny_networks):
    images, labels = digits()
    trainer = plain_trainer(**MIXED)

    def at(step, trainer=trainer):
        prepared = tf.function(lambda step: trainer._prepared(
            images, labels, step, trainer._seed(step), tf.range(len(images))), autograph=False)
        return [value.numpy() for value in prepared(tf.constant(step, tf.int64))]

    first, again, later = at(3), at(3), at(4)
    assert_same(first, again, rtol=0)
    assert np.any(first[0] != later[0]) and np.any(first[1] != later[1])
    plain = as_float(images).numpy()
    assert np.all(np.any(first[0] != plain, axis=(1, 2, 3)) | (first[1].max(1) > 0.999))
    for targets in first[1], later[1]:      # of two images each
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
        assert np.all(np.count_nonzero(targets, 1) <= 2) and targets.max(1).min() < 1
    assert np.any(at(3, plain_trainer(**MIXED, seed=1))[0] != first[0])


def test_a_mixed_step_learns_mixed_targets_from_mixed_images(tiny_networks, monkeypatch):
    """Mixup made plain: each image and the one before it, half and half."""
    def half(images, targets, *unused):
        return (images + tf.roll(images, 1, 0)) / 2, (targets + tf.roll(targets, 1, 0)) / 2

    monkeypatch.setattr(mixing, 'mix', half)
    images, labels = digits()
    trainer = plain_trainer(mixup_alpha=1.0, label_smoothing=0.1)
    mixed = (as_float(images) + np.roll(as_float(images), 1, 0)) / 2
    targets = (np.eye(10)[labels] + np.roll(np.eye(10)[labels], 1, 0)) / 2
    logits, _ = tf.function(lambda: trainer.model.build(mixed, True), autograph=False)()
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(targets, logits)
    assert run(trainer, images, labels)[0][0] == pytest.approx(float(expected), rel=1e-5)


# Which precision is the machine's own.

@pytest.mark.parametrize('flags, expected', [
    ('flags\t\t: fpu sse avx512f avx512_bf16 amx_tile', 'bfloat16'), ('flags\t\t: fpu amx_bf16', 'bfloat16'),
    ('Features\t: fp asimd bf16', 'bfloat16'), ('flags\t\t: fpu avx2 avx512f', 'float32'),
    ('flags\t\t: fpu xbf16 bf16x', 'float32')])
def test_auto_precision_is_bfloat16_where_the_processor_has_it(monkeypatch, flags, expected):
    def opened(path, **unused):
        assert path == '/proc/cpuinfo'
        return io.StringIO(f'processor\t: 0\n{flags}\nbugs\t\t:\n')

    monkeypatch.setattr(trainer_module, 'open', opened, raising=False)
    config = TrainConfig(**LENET, precision='auto', clone_on_cpu=True)
    assert trainer_module.compute_type(config) == expected
    assert trainer_module.compute_type(TrainConfig(**LENET, precision='float16')) == 'float16'


def test_auto_precision_where_the_processor_tells_nothing(monkeypatch):
    def missing(*unused, **unused_too):
        raise FileNotFoundError
    monkeypatch.setattr(trainer_module, 'open', missing, raising=False)
    assert trainer_module.compute_type(TrainConfig(**LENET, precision='auto', clone_on_cpu=True)) == 'float32'


# Replicas: in a process of their own, as devices can be made but once.

def test_two_replicas_step_as_one_with_all_images(tiny_networks):
    """With clipping by the norm of the sum, with accumulation, and with an overflow on one replica alone."""
    program = f'''
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from training import config, data, distribution, trainer

mirrored = distribution.make_strategy(config.TrainConfig(model_name='lenet', num_clones=2, clone_on_cpu=True))

def make(strategy, **changes):
    settings = config.TrainConfig(**{{**{PLAIN}, 'clip_gradient_norm': 0.3, **changes}})
    with strategy.scope():
        made = trainer.Trainer(settings, data.open_dataset(settings), 16, 1)
        for number, variable in enumerate(made.model.variables):
            variable.assign(tf.random.stateless_normal(variable.shape, [number, 0], stddev=0.3))
    images = data.training_batches(settings, data.open_dataset(settings), 16)
    batches = iter(distribution.distribute(strategy, lambda *unused: images))
    def step():
        return strategy.reduce('SUM', strategy.run(made.step, next(batches)), axis=None)
    return made, tf.function(step, autograph=False)

ways = dict(one=(tf.distribute.get_strategy(), dict(batch_size=32)), two=(mirrored, dict(batch_size=16)),
            both=(mirrored, dict(batch_size=8, accumulate_steps=2)))
found = {{}}
for name, (strategy, changes) in ways.items():
    made, step = make(strategy, **changes)
    found[name] = [step().numpy() for _ in range(3)], [v.numpy() for v in made.trained]
for name in ('two', 'both'):
    for part, expected in zip(found[name], found['one']):
        for value, other in zip(part, expected):
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5, err_msg=name)

# With dropout: each has images and a draw of its own, and the step is by the mean of their gradients.
changes = dict(model_name='lenet', weight_decay=0.01, learning_rate=0.01, clip_gradient_norm=0.0)
both, step = make(mirrored, **changes)
one, _ = make(tf.distribute.get_strategy(), **changes)
step()
batches = iter(data.training_batches(one.config, data.open_dataset(one.config), 16))
gradients = [tf.function(one._loss_and_gradients, autograph=False)(
    *next(batches), tf.constant(0, tf.int64), tf.constant([one.config.seed, replica], tf.int64),
    tf.range(one.config.batch_size))[1]
    for replica in range(2)]
for before, after, first, second in zip(one.trained, both.trained, *gradients):
    assert np.any(first != second)
    np.testing.assert_allclose(after.numpy(), before - 0.01 * (first + second) / 2, rtol=1e-5, atol=1e-6)

made, step = make(mirrored, batch_size=16, precision='float16')
before = [v.numpy() for v in made.trained]
whole = made._gradients
def broken(*arguments):
    figures, gradients = whole(*arguments)
    bad = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 1)
    return figures, [tf.where(bad, np.inf, gradients[0]), *gradients[1:]]
made._gradients = broken
step()
for now, old in zip(made.trained, before):
    np.testing.assert_array_equal(now, old)
    for copy in now.values:
        np.testing.assert_array_equal(copy, old)
assert made.loss_scale.numpy() == 2.0 ** 14
assert made.values(1)['training/loss_scale'].numpy() == 2.0 ** 14
'''
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': tiny_networks})
    assert done.returncode == 0, done.stderr
