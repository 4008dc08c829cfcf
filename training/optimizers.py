"""TF-Slim's optimizers, by Keras, and its learning rate schedules.

Keras 3's update rules are TF1's but for three points, mended here so that TF-Slim's settings and checkpoints mean what
they meant: RMSProp's mean square starts at 1, momentum does not contain the learning rate, Adagrad adds no epsilon.
"""

import keras  # not tf.keras, which may be Keras 2 (TF_USE_LEGACY_KERAS)
import tensorflow as tf

from training.config import TrainConfig

# Our --optimizer -> {the ending of the Keras slot's name: the slot's name in a TF1 checkpoint}.
SLOTS = {
    'adadelta': {'accumulated_grad': 'Adadelta', 'accumulated_delta_var': 'Adadelta_1'},
    'adagrad': {'accumulator': 'Adagrad'},
    'adam': {'momentum': 'Adam', 'velocity': 'Adam_1'},
    'ftrl': {'accumulator': 'Ftrl', 'linear': 'Ftrl_1'},
    'momentum': {'momentum': 'Momentum'},
    'rmsprop': {'velocity': 'RMSProp', 'momentum': 'RMSProp_1'},
    'sgd': {},
}
_NEXT_TO_NONE = 1e-30  # a momentum of 0: for that itself Keras makes no slot, which TF1 does


class Momentum(keras.optimizers.SGD):
    """TF1's momentum: the accumulator sums gradients alone, so a new learning rate acts at once on what it holds."""

    def update_step(self, gradient, variable, learning_rate):
        """One step: accumulator = momentum * accumulator + gradient; variable -= learning_rate * accumulator."""
        accumulator = self.momentums[self._get_variable_index(variable)]
        self.assign(accumulator, accumulator * self.momentum + gradient)
        self.assign_sub(variable, accumulator * learning_rate)


def learning_rate(config: TrainConfig, num_samples: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the step: fixed, exponential in steps, or linear, after a linear warm-up.

    An epoch is `num_samples / batch_size` steps whatever `num_clones`, as TF-Slim counts.
    """
    epoch_steps = num_samples / config.batch_size
    decay_steps = max(1, int(epoch_steps * config.num_epochs_per_decay))
    schedules = keras.optimizers.schedules
    if config.learning_rate_decay_type == 'exponential':
        base = schedules.ExponentialDecay(
            config.learning_rate, decay_steps, config.learning_rate_decay_factor, staircase=True
        )
    elif config.learning_rate_decay_type == 'polynomial':
        base = schedules.PolynomialDecay(config.learning_rate, decay_steps, config.end_learning_rate)
    else:
        base = _Fixed(config.learning_rate)
    return _Warmup(base, config.learning_rate, epoch_steps * config.warmup_epochs) if config.warmup_epochs else base


class _Fixed(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return tf.constant(self.rate)


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, base, rate, steps):
        self.base, self.rate, self.steps = base, rate, steps

    def __call__(self, step):
        return tf.minimum(self.rate * tf.cast(step, tf.float32) / self.steps, self.base(step))


def make_optimizer(config: TrainConfig, rate, variables: list[tf.Variable]) -> keras.optimizers.Optimizer:
    """The optimizer, with its slots for these variables built; `rate` is a schedule or a number."""
    optimizers = keras.optimizers
    optimizer = {
        'adadelta': lambda: optimizers.Adadelta(rate, rho=config.adadelta_rho, epsilon=config.opt_epsilon),
        'adagrad': lambda: optimizers.Adagrad(
            rate, initial_accumulator_value=config.adagrad_initial_accumulator_value, epsilon=0.0
        ),
        'adam': lambda: optimizers.Adam(
            rate, beta_1=config.adam_beta1, beta_2=config.adam_beta2, epsilon=config.opt_epsilon
        ),
        'ftrl': lambda: optimizers.Ftrl(
            rate,
            learning_rate_power=config.ftrl_learning_rate_power,
            l1_regularization_strength=config.ftrl_l1,
            l2_regularization_strength=config.ftrl_l2,
            initial_accumulator_value=config.ftrl_initial_accumulator_value,
        ),
        'momentum': lambda: Momentum(rate, momentum=config.momentum or _NEXT_TO_NONE),
        'rmsprop': lambda: optimizers.RMSprop(
            rate,
            rho=config.rmsprop_decay,
            momentum=config.rmsprop_momentum or _NEXT_TO_NONE,
            epsilon=config.opt_epsilon,
        ),
        'sgd': lambda: optimizers.SGD(rate),
    }[config.optimizer]()
    optimizer.build(variables)
    if config.optimizer == 'rmsprop':
        for slot in slot_variables(optimizer, 'velocity'):
            slot.assign(tf.ones(slot.shape))
    return optimizer


def slot_variables(optimizer: keras.optimizers.Optimizer, ending: str) -> list:
    """An optimizer's slots of one kind, in the order of the variables that it was built for."""
    return [variable for variable in optimizer.variables if variable.name.endswith(f'_{ending}')]
