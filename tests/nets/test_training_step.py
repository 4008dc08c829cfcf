"""A training step of a Model for the smallest network of each module, on images as small as it takes.

Without OverFeat and VGG, which would need gigabytes: AlexNet is built by the same functions.
"""
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import registry

LEAST = {'alexnet_v2': 195, 'lenet': 28, 'nasnet_cifar': 8, 'inception_v3': 75, 'inception_v4': 75,
         'inception_resnet_v2': 75}
SMALLEST = {row.module: row.name for row in sorted(registry.NETWORKS.values(), key=lambda row: -row.parameters)
            if row.parameters < 100_000_000}


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', SMALLEST.values())
def test_step(name, precision):
    row, size = registry.get(name), LEAST.get(name, 32)
    if precision == 'bfloat16' and row.frames:
        pytest.skip('TensorFlow has no 3-D pooling of bfloat16 on CPUs')
    tf.random.set_seed(0)
    model = nets.create_model(name, 5, image_size=size)
    shape = [2, *([9] if row.frames else []), size, size, row.channels]
    images = tf.cast(np.random.RandomState(0).uniform(-1, 1, shape), precision)
    before = {name: variable.numpy() for name, variable in model.by_name.items()}

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits, end_points = model.build(images, True)
            heads = [logits, *(end_points[name] for name in end_points if name.startswith('AuxLogits'))]
            loss = tf.add_n([tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], tf.cast(
                head, tf.float32))) for head in heads])
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, gradients = step()
    assert np.isfinite(loss)
    missing = [variable.name for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
               if gradient is None or not np.isfinite(gradient).all()]
    assert missing == []
    moved = {name for name, variable in model.by_name.items() if np.any(variable.numpy() != before[name])}
    # A mean may stay where it began, behind activations that are all zero.
    assert {name for name in before if name.endswith('/moving_variance')} <= moved
    assert all('/moving_' in name for name in moved)
