"""The learning rate against TF1's and Keras's own; when a training ends; the sizes of its images."""
import keras
import pytest
import tensorflow as tf

from training import schedules
from training.config import TrainConfig

tf1 = tf.compat.v1
SAMPLES = 96
RATE = dict(model_name='lenet', learning_rate=0.3, num_epochs_per_decay=1.0, batch_size=32, end_learning_rate=0.01)


def rates(config, steps, **more):
    schedule = schedules.learning_rate(config, SAMPLES, **more)
    return [float(schedule(tf.constant(step, tf.int64))) for step in range(steps)]


@pytest.mark.parametrize('warmup_epochs', [0.0, 4 / 3])
@pytest.mark.parametrize('kind', ['fixed', 'exponential', 'polynomial'])
def test_schedules_are_tf_slims(kind, warmup_epochs):
    config = TrainConfig(learning_rate_decay_type=kind, warmup_epochs=warmup_epochs, **RATE)
    steps_per_epoch, found = SAMPLES / 32, schedules.learning_rate(config, SAMPLES)
    for step in range(12):
        with tf.Graph().as_default(), tf1.Session() as session:
            decayed = {
                'fixed': lambda step: tf.constant(0.3),
                'exponential': lambda step: tf1.train.exponential_decay(0.3, step, 3, 0.94, staircase=True),
                'polynomial': lambda step: tf1.train.polynomial_decay(0.3, step, 3, 0.01),
            }[kind](tf.constant(step, tf.int64))
            expected = session.run(decayed)
        if warmup_epochs:
            expected = min(0.3 * step / (steps_per_epoch * warmup_epochs), expected)
        assert found(tf.constant(step)).numpy() == pytest.approx(expected, rel=1e-6), step


def test_decay_counts_the_images_of_one_clone():
    """TF-Slim's decay steps do not depend on num_clones."""
    one, two = (rates(TrainConfig(num_clones=n, **RATE), 9, replicas=n) for n in (1, 2))
    assert one == two
    assert one[2] == pytest.approx(0.3) and one[3] == pytest.approx(0.3 * 0.94)


def test_a_decay_of_less_than_a_step_is_one_step():
    config = TrainConfig(**{**RATE, 'num_epochs_per_decay': 0.01})
    assert float(schedules.learning_rate(config, SAMPLES)(2)) == pytest.approx(0.3 * 0.94**2)


@pytest.mark.parametrize('warmup_steps', [0, 6])
def test_cosine_is_kerass_and_ends_with_the_run(warmup_steps):
    config = TrainConfig(**RATE, learning_rate_decay_type='cosine', warmup_epochs=warmup_steps / 3,
                         max_number_of_steps=30)
    warm = dict(initial_learning_rate=0.0, warmup_target=0.3, warmup_steps=warmup_steps)
    kerass = keras.optimizers.schedules.CosineDecay(
        **warm if warmup_steps else dict(initial_learning_rate=0.3), decay_steps=30 - warmup_steps, alpha=0.01 / 0.3)
    found = rates(config, 33)
    assert found == pytest.approx([float(kerass(step)) for step in range(33)], rel=1e-5)
    assert found[30] == found[32] == pytest.approx(0.01)
    assert found[warmup_steps] == pytest.approx(0.3) and (found[0] == 0) == bool(warmup_steps)


def test_an_epoch_of_cosine_and_step_is_one_pass_over_the_data():
    """96 images are 3 steps of 32; of two replicas with two batches each, 3/4 of a step."""
    cosine = dict(**RATE, learning_rate_decay_type='cosine', num_epochs=16.0)
    one, four = TrainConfig(**cosine), TrainConfig(**cosine, accumulate_steps=2)
    assert (schedules.last_step(one, SAMPLES), schedules.last_step(four, SAMPLES, 2)) == (48, 12)
    assert rates(four, 13, replicas=2) == pytest.approx(rates(one, 49)[::4], rel=1e-5)


def test_milestones():
    config = TrainConfig(**RATE, learning_rate_decay_type='step', learning_rate_milestones='2,3',
                         warmup_epochs=1.0)
    factor = 0.94
    kerass = keras.optimizers.schedules.PiecewiseConstantDecay([5, 8], [0.3, 0.3 * factor, 0.3 * factor**2])
    assert rates(config, 12) == pytest.approx([0.0, 0.1, 0.2, *(float(kerass(step)) for step in range(3, 12))])


def test_the_rate_is_multiplied_by_a_factor_that_changes():
    factor = tf.Variable(1.0)
    schedule = schedules.learning_rate(TrainConfig(**RATE), SAMPLES, factor=factor)
    rate = tf.function(lambda: schedule(tf.constant(0)), autograph=False)
    before = float(rate())
    factor.assign(0.25)
    assert (before, float(rate())) == (pytest.approx(0.3), pytest.approx(0.075))


@pytest.mark.parametrize('rule, times', [('none', 1), ('linear', 8), ('sqrt', 8 ** 0.5)])
def test_scaling_with_the_batch(rule, times):
    """arXiv:1706.02677, arXiv:1404.5997: by the images of a step, or the root of that; the end scales too."""
    settings = {**RATE, 'learning_rate_decay_type': 'polynomial'}
    config = TrainConfig(**settings, scale_learning_rate=rule, accumulate_steps=2)
    expected = rates(TrainConfig(**settings, accumulate_steps=2), 8, replicas=4)
    assert rates(config, 8, replicas=4) == pytest.approx([rate * times for rate in expected], rel=1e-5)


HISTORY = [0.5, 0.6, 0.6, 0.55, 0.61, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.62, 0.1, 0.1, 0.1, 0.62, 0.62, 0.62]


@pytest.mark.parametrize('patience', [1, 2, 3])
@pytest.mark.parametrize('larger', [True, False])
def test_plateau_is_kerass(patience, larger):
    config = TrainConfig(**{**RATE, 'end_learning_rate': 0.02}, learning_rate_decay_type='plateau', eval_every=1,
                         plateau_evaluations=patience, learning_rate_decay_factor=0.5)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.3), 'mse')
    plateau = keras.callbacks.ReduceLROnPlateau('value', factor=0.5, patience=patience, min_delta=0.0, min_lr=0.02,
                                                mode='max' if larger else 'min')
    plateau.set_model(model)
    plateau.on_train_begin()
    fell = set()
    for number, value in enumerate(HISTORY):
        plateau.on_epoch_end(number, {'value': value})
        factor = schedules.plateau_factor(config, HISTORY[:number + 1], larger)
        assert 0.3 * factor == pytest.approx(float(model.optimizer.learning_rate.numpy()), rel=1e-6), number
        fell.add(factor)
    assert len(fell) > 2


def test_when_a_training_ends():
    assert schedules.last_step(TrainConfig(**RATE), SAMPLES) is None
    assert schedules.last_step(TrainConfig(**RATE, max_number_of_steps=5), SAMPLES, 2) == 5
    # Rounded up, that no image is left out: 100 images are 3.125 steps.
    assert schedules.last_step(TrainConfig(**RATE, num_epochs=2.0), 100) == 7
    assert schedules.last_step(TrainConfig(**RATE, num_epochs=0.001), 100) == 1


@pytest.mark.parametrize('size, scale, stages, expected', [
    (224, 1.0, 4, [(0, 224)]),
    (224, 0.5, 4, [(0, 112), (25, 144), (50, 192), (75, 224)]),     # 112, 149 1/3, 186 2/3, 224
    (299, 0.6, 2, [(0, 176), (50, 299)]),                           # 179.4
    (32, 0.6, 3, [(0, 20), (33, 24), (66, 32)]),                    # 19.2, 25.6
    (24, 0.01, 2, [(0, 4), (50, 24)]),
])
def test_images_grow_in_stages_of_equal_length(size, scale, stages, expected):
    config = TrainConfig(**RATE, initial_image_scale=scale, image_size_stages=stages, max_number_of_steps=100)
    assert schedules.image_sizes(config, size, 100) == expected
