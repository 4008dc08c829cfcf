"""The optimizers and schedules against TF1's own, step by step."""
import numpy as np
import pytest
import tensorflow as tf

from training import optimizers
from training.config import TrainConfig

tf1 = tf.compat.v1
STEPS, SAMPLES = 7, 96
RATE = dict(model_name='lenet', learning_rate=0.3, num_epochs_per_decay=1.0, batch_size=32, end_learning_rate=0.01)

# TF-Slim's own way from its flags to TF1's optimizers.
TF1 = {
    'adadelta': lambda c, rate: tf1.train.AdadeltaOptimizer(rate, rho=c.adadelta_rho, epsilon=c.opt_epsilon),
    'adagrad': lambda c, rate: tf1.train.AdagradOptimizer(
        rate, initial_accumulator_value=c.adagrad_initial_accumulator_value),
    'adam': lambda c, rate: tf1.train.AdamOptimizer(
        rate, beta1=c.adam_beta1, beta2=c.adam_beta2, epsilon=c.opt_epsilon),
    'ftrl': lambda c, rate: tf1.train.FtrlOptimizer(
        rate, learning_rate_power=c.ftrl_learning_rate_power,
        initial_accumulator_value=c.ftrl_initial_accumulator_value, l1_regularization_strength=c.ftrl_l1,
        l2_regularization_strength=c.ftrl_l2),
    'momentum': lambda c, rate: tf1.train.MomentumOptimizer(rate, momentum=c.momentum, name='Momentum'),
    'rmsprop': lambda c, rate: tf1.train.RMSPropOptimizer(
        rate, decay=c.rmsprop_decay, momentum=c.rmsprop_momentum, epsilon=c.opt_epsilon),
    'sgd': lambda c, rate: tf1.train.GradientDescentOptimizer(rate),
}
OTHERS = [
    ('adadelta', dict(adadelta_rho=0.8, opt_epsilon=1e-6)),
    ('adagrad', dict(adagrad_initial_accumulator_value=0.7)),
    ('adam', dict(adam_beta1=0.7, adam_beta2=0.95, opt_epsilon=1e-7)),
    ('ftrl', dict(ftrl_learning_rate_power=-0.7, ftrl_initial_accumulator_value=0.3, ftrl_l1=0.02, ftrl_l2=0.05)),
    ('momentum', dict(momentum=0.5)),
    ('momentum', dict(momentum=0.0)),
    ('rmsprop', dict(rmsprop_decay=0.7, rmsprop_momentum=0.3, opt_epsilon=1e-5)),
    ('rmsprop', dict(rmsprop_momentum=0.0)),
]


def start_and_gradients():
    rng = np.random.default_rng(0)
    start = {'block/weights': rng.normal(size=(3, 4)), 'block/biases': rng.normal(size=5)}
    # Of very different sizes, and one that is all zeros.
    sizes = [1, 0.01, 30, 0, 2, 1, 0.3]
    gradients = [[(size * rng.normal(size=value.shape)).astype('f') for value in start.values()] for size in sizes]
    return {name: value.astype('f') for name, value in start.items()}, gradients


def run_tf1(config):
    """Variables and slots, by name, after each step of TF1's optimizer."""
    start, gradients = start_and_gradients()
    with tf.Graph().as_default(), tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        rate = tf1.train.exponential_decay(config.learning_rate, step, SAMPLES // config.batch_size,
                                           config.learning_rate_decay_factor, staircase=True)
        variables = [tf1.get_variable(name, initializer=value) for name, value in start.items()]
        fed = [tf1.placeholder(tf.float32, variable.shape) for variable in variables]
        train = TF1[config.optimizer](config, rate).apply_gradients(zip(fed, variables, strict=True), step)
        wanted = {v.op.name: v for v in tf1.global_variables()
                  if v.op.name.startswith('block') or v.op.name.startswith('beta')}
        session.run(tf1.global_variables_initializer())
        found = [session.run(wanted)]
        for gradient in gradients:
            session.run(train, dict(zip(fed, gradient, strict=True)))
            found.append(session.run(wanted))
    return found


def run_ours(config):
    """The same of ours."""
    start, gradients = start_and_gradients()
    variables = {name: tf.Variable(value, name=name) for name, value in start.items()}
    optimizer = optimizers.make_optimizer(config, optimizers.learning_rate(config, SAMPLES), list(variables.values()))
    for ending, slot in optimizers.SLOTS[config.optimizer].items():
        for name, value in zip(start, optimizers.slot_variables(optimizer, ending), strict=True):
            variables[f'{name}/{slot}'] = value
    trained, found = [variables[name] for name in start], []
    for gradient in [None, *gradients]:
        if gradient is not None:
            optimizer.apply([tf.constant(g) for g in gradient], trained)
        found.append({name: np.array(variable) for name, variable in variables.items()})
    return found


@pytest.mark.parametrize('name, settings', [*((name, {}) for name in TF1), *OTHERS], ids=str)
def test_steps_and_slots_are_those_of_tf1(name, settings):
    config = TrainConfig(optimizer=name, **RATE, **settings)
    rtol = 2e-5 if name == 'adam' else 2e-6  # TF1 computes 1 - beta2 in float32, 1.3e-5 off for 0.999
    for step, (expected, found) in enumerate(zip(run_tf1(config), run_ours(config), strict=True)):
        expected = {key: value for key, value in expected.items() if not key.startswith('beta')}  # adam: test_loop
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=rtol, atol=1e-6, err_msg=f'{key}, step {step}')


def test_every_optimizer_of_the_flag_is_compared():
    choices = TrainConfig.__dataclass_fields__['optimizer'].metadata['choices']
    assert set(TF1) == set(choices) == set(optimizers.SLOTS)


@pytest.mark.parametrize('warmup_epochs', [0.0, 4 / 3])
@pytest.mark.parametrize('kind', ['fixed', 'exponential', 'polynomial'])
def test_schedules_are_tf_slims(kind, warmup_epochs):
    config = TrainConfig(learning_rate_decay_type=kind, warmup_epochs=warmup_epochs, **RATE)
    steps_per_epoch, found = SAMPLES / 32, optimizers.learning_rate(config, SAMPLES)
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
    one, two = (optimizers.learning_rate(TrainConfig(num_clones=n, **RATE), SAMPLES) for n in (1, 2))
    assert [float(one(step)) for step in range(9)] == [float(two(step)) for step in range(9)]
    assert float(one(2)) == pytest.approx(0.3) and float(one(3)) == pytest.approx(0.3 * 0.94)


def test_a_decay_of_less_than_a_step_is_one_step():
    config = TrainConfig(**{**RATE, 'num_epochs_per_decay': 0.01})
    assert float(optimizers.learning_rate(config, SAMPLES)(2)) == pytest.approx(0.3 * 0.94**2)
