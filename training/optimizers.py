"""TF-Slim's optimizers and AdamW, by Keras.

Keras 3's update rules are TF1's but for three points, mended here so that TF-Slim's settings and checkpoints mean what
they meant: RMSProp's mean square starts at 1, momentum does not contain the learning rate, Adagrad adds no epsilon.
"""

from collections.abc import Sequence

import keras  # not tf.keras, which may be Keras 2 (TF_USE_LEGACY_KERAS)
import tensorflow as tf

from training.config import TrainConfig

# Our --optimizer -> {the ending of the Keras slot's name: the slot's name in a TF1 checkpoint}.
SLOTS = {
    'adadelta': {'accumulated_grad': 'Adadelta', 'accumulated_delta_var': 'Adadelta_1'},
    'adagrad': {'accumulator': 'Adagrad'},
    'adam': {'momentum': 'Adam', 'velocity': 'Adam_1'},
    'adamw': {'momentum': 'Adam', 'velocity': 'Adam_1'},
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


def _with_own_rates(optimizer_class, scales, decays):
    """The optimizer with a learning rate and a decoupled weight decay (arXiv:1711.05101) for each variable."""

    class Own(optimizer_class):

        def update_step(self, gradient, variable, learning_rate):
            index = self._get_variable_index(variable)
            rate = learning_rate * scales[index]
            if decays[index]:
                self.assign_sub(variable, variable * (rate * decays[index]))
            super().update_step(gradient, variable, rate)

    Own.__name__ = optimizer_class.__name__     # by which Keras names the slots
    return Own


def layer_scales(names: Sequence[str], trained: Sequence[str], layer_decay: float) -> list[float]:
    """What multiplies the learning rate of each trained variable: 1 at the classifier, `layer_decay` a layer below.

    A layer is what stands below the network's scope in the names, as `InceptionV1/Mixed_3b`: an endpoint of most
    networks. The last is the classifier; auxiliary ones have its rate.

    Args:
      names: of all variables, in the order of the network.
      trained: those whose factors are wanted.
      layer_decay: from 0 to 1 (arXiv:1801.06146 has 1 / 2.6, on layers).
    """
    roots = {name.split('/')[0] for name in names}
    depth = 2 if len(roots - {'Head'}) == 1 else 1      # of NASNet each layer is a root

    def layer(name):
        parts = name.split('/')
        return '/'.join(parts[:1] if parts[0] == 'Head' else parts[:depth])

    def is_auxiliary(name):
        return any(part.lower().startswith(('auxlogits', 'aux_')) for part in name.split('/'))

    layers = list(dict.fromkeys(layer(name) for name in names if not is_auxiliary(name)))
    below = {name: number for number, name in enumerate(reversed(layers))}
    return [layer_decay ** below.get(layer(name), 0) for name in trained]


def decays(name: str) -> bool:
    """Whether a variable is one that weight decay is for on `no_decay_on_bias_and_norm`: no bias, beta or gamma."""
    return name.rpartition('/')[2] not in ('biases', 'bias', 'beta', 'gamma')


def make_optimizer(config: TrainConfig, rate, variables: list[tf.Variable], scales: Sequence[float] | None = None,
                   weight_decays: Sequence[float] | None = None) -> keras.optimizers.Optimizer:
    """The optimizer, with its slots for these variables built.

    Args:
      config: which, and its settings.
      rate: a schedule or a number.
      variables: what it trains.
      scales: what multiplies the rate of each variable; None for 1.
      weight_decays: the decoupled weight decay of each; None for none.
    """
    kinds = keras.optimizers
    adam = dict(beta_1=config.adam_beta1, beta_2=config.adam_beta2, epsilon=config.opt_epsilon)
    kind, settings = {
        'adadelta': (kinds.Adadelta, dict(rho=config.adadelta_rho, epsilon=config.opt_epsilon)),
        'adagrad': (kinds.Adagrad, dict(
            initial_accumulator_value=config.adagrad_initial_accumulator_value, epsilon=0.0)),
        'adam': (kinds.Adam, adam),
        'adamw': (kinds.Adam, adam),
        'ftrl': (kinds.Ftrl, dict(
            learning_rate_power=config.ftrl_learning_rate_power, l1_regularization_strength=config.ftrl_l1,
            l2_regularization_strength=config.ftrl_l2,
            initial_accumulator_value=config.ftrl_initial_accumulator_value)),
        'momentum': (Momentum, dict(momentum=config.momentum or _NEXT_TO_NONE)),
        'rmsprop': (kinds.RMSprop, dict(rho=config.rmsprop_decay, momentum=config.rmsprop_momentum or _NEXT_TO_NONE,
                                        epsilon=config.opt_epsilon)),
        'sgd': (kinds.SGD, {}),
    }[config.optimizer]
    if scales or weight_decays:
        kind = _with_own_rates(kind, scales or [1.0] * len(variables), weight_decays or [0.0] * len(variables))
    optimizer = kind(rate, **settings)
    optimizer.build(variables)
    if config.optimizer == 'rmsprop':
        for slot in slot_variables(optimizer, 'velocity'):
            slot.assign(tf.ones(slot.shape))
    return optimizer


def slot_variables(optimizer: keras.optimizers.Optimizer, ending: str) -> list:
    """An optimizer's slots of one kind, in the order of the variables that it was built for."""
    # Keras 3.3 gives the slots of Adagrad and FTRL no name of the variable before it.
    return [variable for variable in optimizer.variables if f'_{variable.name}'.endswith(f'_{ending}')]
