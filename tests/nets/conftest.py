"""What the tests of networks share: the contract files, the made weights, and a holder of variables outside a graph."""
import json
import math
import pathlib
import zlib

import numpy as np
import pytest
import tensorflow as tf

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'


def _made_value(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0xffffffff)
    leaf = name.rsplit('/', 1)[-1]
    if leaf in ('moving_variance', 'gamma'):
        value = random.uniform(0.5, 1.5, shape)
    elif leaf in ('beta', 'biases', 'moving_mean'):
        value = random.uniform(-0.1, 0.1, shape)
    else:
        fan = shape[0] * shape[1] if leaf == 'depthwise_weights' else math.prod(shape[:-1])
        bound = math.sqrt(6 / max(fan, 1))
        value = random.uniform(-bound, bound, shape)
    return value.astype(np.float32)


@pytest.fixture(scope='session')
def made_value():
    """(variable name, shape) -> the weights that the activations in tests/golden were computed with."""
    return _made_value


@pytest.fixture(scope='session')
def read_golden():
    """Network name -> its contract."""
    def read(name):
        path = GOLDEN / f'{name}.json'
        assert path.exists(), f'Network {name} has no contract: add {path.name} to tests/golden.'
        return json.loads(path.read_text())
    return read


@pytest.fixture
def hold():
    """Runs a builder with variables of made values that stay; `hold.variables` is name -> tf.Variable."""
    def run(function, *args, **kwargs):
        def getter(getter, name, shape=None, dtype=tf.float32, trainable=True, **unused):
            if name not in run.variables:
                with tf.init_scope():
                    value = _made_value(name, [int(size) for size in shape])
                    run.variables[name] = tf.Variable(value, trainable=trainable, name=name)
            return tf.cast(run.variables[name], dtype) if dtype != tf.float32 else run.variables[name]

        with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), custom_getter=getter):
            return function(*args, **kwargs)
    run.variables = {}
    return run
