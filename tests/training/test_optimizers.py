"""The optimizers against TF1's own and Keras's, step by step."""
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from training import optimizers, schedules
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
    optimizer = optimizers.make_optimizer(config, schedules.learning_rate(config, SAMPLES), list(variables.values()))
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
    assert {*TF1, 'adamw'} == set(choices) == set(optimizers.SLOTS)      # TF1 has no AdamW; Keras has


# What TF1 has not: decoupled weight decay, and a rate for each variable.

def steps_of(optimizer, variables):
    """The variables after each step of the made gradients."""
    for gradient in start_and_gradients()[1]:
        optimizer.apply([tf.constant(part) for part in gradient], variables)
        yield [variable.numpy() for variable in variables]


def made_variables():
    return [tf.Variable(value, name=name.replace('/', '_')) for name, value in start_and_gradients()[0].items()]


@pytest.mark.parametrize('without_biases', [True, False])
def test_adamw_is_kerass(without_biases):
    config = TrainConfig(**{**RATE, 'learning_rate_decay_type': 'polynomial'}, optimizer='adamw', weight_decay=0.3,
                         opt_epsilon=1e-5, adam_beta1=0.8, adam_beta2=0.9)
    rate, (ours, theirs) = schedules.learning_rate(config, SAMPLES), (made_variables(), made_variables())
    kerass = keras.optimizers.AdamW(rate, weight_decay=0.3, beta_1=0.8, beta_2=0.9, epsilon=1e-5)
    if without_biases:
        kerass.exclude_from_weight_decay(var_names=['biases'])
    optimizer = optimizers.make_optimizer(config, rate, ours, weight_decays=[0.3, 0.3 * (not without_biases)])
    kerass.build(theirs)
    for found, expected in zip(steps_of(optimizer, ours), steps_of(kerass, theirs), strict=True):
        for value, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', sorted(TF1))
def test_a_scale_is_a_learning_rate_of_a_variables_own(name):
    """Scales 1 and 1/4: the first variable as with the rate, the second as with a quarter of it."""
    config = TrainConfig(**RATE, optimizer=name)
    optimizer = optimizers.make_optimizer(config, 0.3, ours := made_variables(), scales=[1.0, 0.25])
    found = list(steps_of(optimizer, ours))
    whole, quarter = (list(steps_of(optimizers.make_optimizer(config, rate, each), each))
                      for rate, each in ((0.3, made_variables()), (0.075, made_variables())))
    for own, first, second in zip(found, whole, quarter, strict=True):
        np.testing.assert_allclose(own[0], first[0], rtol=1e-6)
        np.testing.assert_allclose(own[1], second[1], rtol=1e-6)


# network: (layers below the classifier, first variable, last variable below the classifier, one beside it)
LAYERS = {
    'lenet': (3, 'LeNet/conv1/weights', 'LeNet/fc3/biases', None),
    'cifarnet': (4, 'CifarNet/conv1/weights', 'CifarNet/fc4/biases', None),
    'vgg_16': (7, 'vgg_16/conv1/conv1_1/weights', 'vgg_16/fc7/biases', None),
    'resnet_v1_50': (5, 'resnet_v1_50/conv1/weights', 'resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/weights', None),
    # Three convolutions and nine modules, GoogLeNet's figure 3.
    'inception_v1': (12, 'InceptionV1/Conv2d_1a_7x7/weights', 'InceptionV1/Mixed_5c/Branch_3/Conv2d_0b_1x1/weights',
                     None),
    # Five convolutions and eleven modules, arXiv:1512.00567, table 1.
    'inception_v3': (16, 'InceptionV3/Conv2d_1a_3x3/weights', 'InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/weights',
                     'InceptionV3/AuxLogits/Conv2d_1b_1x1/weights'),
    # 18 cells and 2 that reduce, and the stem's convolution and its norm.
    'nasnet_cifar': (22, 'l1_stem_3x3/weights', 'cell_17/1x1/weights', None),
}


@pytest.mark.parametrize('network', LAYERS)
def test_the_rate_falls_layer_by_layer_from_the_classifier(network):
    golden = pathlib.Path(__file__).parent.parent / 'golden' / f'{network}.json'
    names = list(json.loads(golden.read_text())['variables'])       # TF-Slim's own, in its order
    layers, first, last, beside = LAYERS[network]
    scales = dict(zip(names, optimizers.layer_scales(names, names, 0.5), strict=True))
    assert scales[names[-1]] == scales[names[-2]] == 1      # weights and biases of the classifier
    assert (scales[first], scales[last]) == (0.5 ** layers, 0.5)
    assert beside is None or scales[beside] == 1
    # Under a head of one's own there is a layer more for what was the classifier to fall by.
    cut = [name for name in names if scales[name] < 1] + ['Head/fc1/weights', 'Head/Logits/weights']
    own = dict(zip(cut, optimizers.layer_scales(cut, cut, 0.5), strict=True))
    assert (own['Head/fc1/weights'], own['Head/Logits/weights'], own[last], own[first]) == (1, 1, 0.5, 0.5 ** layers)


@pytest.mark.parametrize('network', ['inception_v3', 'resnet_v2_50', 'mobilenet_v3_large', 'nasnet_cifar', 'vgg_16'])
def test_kernels_alone_decay_on_request(network):
    """As in timm, where what has one dimension does not decay: all biases, beta and gamma, and nothing else."""
    golden = pathlib.Path(__file__).parent.parent / 'golden' / f'{network}.json'
    shapes = {name: shape for name, shape in json.loads(golden.read_text())['variables'].items()
              if '/moving_' not in name}
    assert {name for name in shapes if optimizers.decays(name)} == {
        name for name, shape in shapes.items() if len(shape) > 1}
