import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def sample():
    """sample(fn, count): fn(seed) for that many seeds, stacked."""

    def run(fn, count):
        seeds = tf.random.split([7, 11], count)
        spec = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), fn(seeds[0]))
        stacked = tf.function(lambda seeds: tf.map_fn(fn, seeds, fn_output_signature=spec))(seeds)
        return tf.nest.map_structure(lambda x: x.numpy(), stacked)

    return run


@pytest.fixture
def assert_uniform():
    """Kolmogorov and Smirnov's test at p = 0.001, and the ends. The seeds are fixed: it passes always or never."""

    def check(values, low, high):
        values = (np.sort(np.ravel(values)) - low) / (high - low)
        steps = np.arange(len(values) + 1) / len(values)
        distance = max(np.max(steps[1:] - values), np.max(values - steps[:-1]))
        assert distance * len(values) ** 0.5 < 1.95
        assert abs(values[0]) < 0.02 and abs(values[-1] - 1) < 0.02

    return check
