"""Activations that are computed again: the same gradients and moving statistics as without, and fewer of them kept."""
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import recompute


def step(model, images, on):
    """Loss, gradients and moving statistics of a training step, which leaves the variables as they were."""
    before = [variable.numpy() for variable in model.variables]

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape, recompute.recomputed(on):
            logits, _ = model.build(images, True, None, tf.constant([3, 5], tf.int64))
            loss = tf.reduce_mean(tf.square(tf.cast(logits, tf.float32)))
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    found = [value.numpy() for value in run()]
    found += [variable.numpy() for variable in model.non_trainable_variables]
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    operations = [op.type for op in run.get_concrete_function().graph.get_operations()]
    return found, operations.count('Conv2D'), before


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_the_same_step(dtype):
    model = nets.create_model('inception_v1', 5, image_size=32)
    model.freeze(up_to='Conv2d_2c_3x3')         # whose statistics stay
    images = tf.cast(tf.random.stateless_uniform([4, 32, 32, 3], [1, 2], -1, 1), dtype)
    plain, convolutions, before = step(model, images, False)
    again, more, _ = step(model, images, True)
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * np.abs(one).max())
    # Each convolution of the table stands in the graph twice; the classifier once. Frozen layers keep what they had.
    assert more == 2 * convolutions - 1
    statistics = dict(zip([v.name for v in model.variables], before, strict=True))
    found = dict(zip([v.name for v in model.non_trainable_variables], again[1 + len(model.trainable_variables):],
                     strict=True))
    changed = {name for name, value in found.items()
               if 'moving_mean' in name and not np.array_equal(value, statistics[name])}
    assert any('Mixed_3b' in name for name in changed) and not any('Conv2d_1a' in name for name in changed)


@pytest.mark.parametrize('name', ['mobilenet_v2_035', 'nasnet_cifar'])
def test_networks_whose_rows_remember_are_left_alone(name):
    model = nets.create_model(name, 5, image_size=32)
    with recompute.recomputed() as rows:
        tf.function(lambda: model.build(tf.zeros([2, 32, 32, 3]), True)[0], autograph=False).get_concrete_function()
    assert not rows


def test_a_training_step_with_it_under_two_replicas(tmp_path):
    """Replicas are threads, each with scopes of its own."""
    import subprocess
    import sys
    program = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import nets
from nets import recompute
strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
with strategy.scope():
    model = nets.create_model('inception_v1', 5, image_size=32)
images = tf.random.stateless_uniform([2, 32, 32, 3], [1, 2], -1, 1)
def step(on):
    def run():
        with tf.GradientTape() as tape, recompute.recomputed(on):
            loss = tf.reduce_mean(tf.square(model.build(images, True, None, tf.constant([3, 5], tf.int64))[0]))
        return tape.gradient(loss, model.trainable_variables)
    return tf.function(lambda: strategy.experimental_local_results(strategy.run(run)[5]), autograph=False)()
for one, other in zip(step(False), step(True)):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
