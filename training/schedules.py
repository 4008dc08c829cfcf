"""The learning rate as a function of the step, and the size of the images."""
import math
from collections.abc import Callable

import keras  # not tf.keras, which may be Keras 2 (TF_USE_LEGACY_KERAS)
import tensorflow as tf

from training.config import TrainConfig

# TF-Slim's kinds count an epoch as num_samples / batch_size steps, whatever the number of replicas.
_TF_SLIMS = ('fixed', 'exponential', 'polynomial')


def last_step(config: TrainConfig, num_samples: int, replicas: int = 1) -> int | None:
    """The step at which the training ends; None for never."""
    if config.num_epochs:
        return max(1, math.ceil(config.num_epochs * _epoch_steps(config, num_samples, replicas)))
    return config.max_number_of_steps


def _epoch_steps(config, num_samples, replicas):
    return num_samples / (config.batch_size * config.accumulate_steps * replicas)


def scale(config: TrainConfig, replicas: int) -> float:
    """What `--scale_learning_rate` multiplies the learning rate by."""
    batches = replicas * config.accumulate_steps
    return {'none': 1.0, 'linear': float(batches), 'sqrt': math.sqrt(batches)}[config.scale_learning_rate]


class _Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A function of the step, after a linear warm-up, times a factor that a training may lower."""

    def __init__(self, base: Callable, peak: float, warmup_steps: float, factor: tf.Variable | float):
        self.base, self.peak, self.warmup_steps, self.factor = base, peak, warmup_steps, factor

    def __call__(self, step):
        rate = tf.cast(self.base(step), tf.float32)
        if self.warmup_steps:
            rate = tf.minimum(self.peak * tf.cast(step, tf.float32) / self.warmup_steps, rate)
        return rate * self.factor


def learning_rate(config: TrainConfig, num_samples: int, replicas: int = 1,
                  factor: tf.Variable | float = 1.0) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the step.

    Args:
      config: kind, rates and epochs. An epoch of TF-Slim's kinds (fixed, exponential, polynomial) is
        `num_samples / batch_size` steps whatever the number of replicas; of the others it is one pass over the data.
      num_samples: the images of the split.
      replicas: how many there are.
      factor: a variable that multiplies it, such as what `plateau` has made of it.
    """
    kind = config.learning_rate_decay_type
    epoch = num_samples / config.batch_size if kind in _TF_SLIMS else _epoch_steps(config, num_samples, replicas)
    times = scale(config, replicas)
    peak, end = config.learning_rate * times, config.end_learning_rate * times
    warmup = epoch * config.warmup_epochs
    decay_steps = max(1, int(epoch * config.num_epochs_per_decay))
    schedules = keras.optimizers.schedules
    if kind == 'exponential':
        base = schedules.ExponentialDecay(peak, decay_steps, config.learning_rate_decay_factor, staircase=True)
    elif kind == 'polynomial':
        base = schedules.PolynomialDecay(peak, decay_steps, end)
    elif kind == 'cosine':
        last = last_step(config, num_samples, replicas)
        assert last is not None     # see TrainConfig
        decay = schedules.CosineDecay(peak, max(1.0, last - warmup), alpha=end / peak if peak else 0.0)
        base = lambda step: decay(tf.maximum(tf.cast(step, tf.float32) - warmup, 0.0))      # noqa: E731
    elif kind == 'step':
        falls = [int(epoch * milestone) for milestone in config.milestones()]
        values = [peak * config.learning_rate_decay_factor ** number for number in range(len(falls) + 1)]
        # Keras's holds a value up to and with the step given.
        base = schedules.PiecewiseConstantDecay([fall - 1 for fall in falls], values)
    else:
        base = lambda step: tf.constant(peak)                                               # noqa: E731
    return _Rate(base, peak, warmup, factor)


def plateau_factor(config: TrainConfig, history: list[float], larger_is_better: bool) -> float:
    """What `plateau` has made of the learning rate after these evaluations, the earliest first.

    It is multiplied by `learning_rate_decay_factor` each time `plateau_evaluations` of them in a row bring no better
    one, down to `end_learning_rate`; as Keras's `ReduceLROnPlateau` with `min_delta=0`.
    """
    factor, best, waited = 1.0, None, 0
    least = min(1.0, config.end_learning_rate / config.learning_rate) if config.learning_rate else 1.0
    for value in history:
        if best is None or (value > best if larger_is_better else value < best):
            best, waited = value, 0
            continue
        waited += 1
        if waited >= config.plateau_evaluations:
            factor, waited = max(least, factor * config.learning_rate_decay_factor), 0
    return factor


def image_sizes(config: TrainConfig, size: int, last: int | None) -> list[tuple[int, int]]:
    """(first step, image size) of each stage: one, or `image_size_stages` that grow from `initial_image_scale`.

    Sizes are multiples of 16 (of 4 below 64 pixels), but for the last, which is `size`.
    """
    if config.initial_image_scale >= 1 or last is None:
        return [(0, size)]
    stages, unit = config.image_size_stages, 16 if size >= 64 else 4
    first = size * config.initial_image_scale
    grown = [first + (size - first) * number / (stages - 1) for number in range(stages)]
    sizes = [min(size, max(unit, unit * round(value / unit))) for value in grown[:-1]] + [size]
    return [(last * number // stages, value) for number, value in enumerate(sizes)]
