"""`Model.as_keras`: trains under `fit`, saves and loads, and shares its variables with the `Model`."""
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import nets_factory

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = np.random.RandomState(0).uniform(-1, 1, [8, 32, 32, 3]).astype(np.float32)
LABELS = np.arange(8) % 2


def fill(model, made_value):
    for name, variable in model.by_name.items():
        variable.assign(made_value(name, variable.shape.as_list()))
    return model


def small(made_value, num_classes=5, **kwargs):
    return fill(nets.create_model('inception_v1', num_classes, image_size=32, **kwargs), made_value)


def values(model):
    return {name: variable.numpy() for name, variable in model.by_name.items()}


def changed(model, before):
    return {name for name, value in values(model).items() if np.any(value != before[name])}


def test_one_photo_through_every_way(made_value, tmp_path):
    """A TF1 graph, eagerly, in a tf.function, in Keras, and as a SavedModel: the same logits."""
    model = small(made_value)
    logits = {'eagerly': model(IMAGES), 'function': tf.function(model, autograph=False)(IMAGES)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output, _ = nets_factory.get_network_fn('inception_v1', 5)(tf.constant(IMAGES))
        for variable in tf.compat.v1.global_variables():
            variable.load(made_value(variable.op.name, variable.shape.as_list()), session)
        logits['graph'] = session.run(output)
    tf.saved_model.save(model, str(tmp_path), signatures=model.signatures())
    logits['SavedModel'] = tf.saved_model.load(str(tmp_path)).signatures['serving_default'](
        images=tf.constant(IMAGES))['logits']
    logits['Keras'] = model.as_keras().predict(IMAGES, verbose=0)
    for name, value in logits.items():
        np.testing.assert_allclose(value, logits['graph'], rtol=1e-5, atol=1e-5, err_msg=name)


def test_fit_trains_the_variables_of_the_model(made_value):
    model = small(made_value, 2)
    layer = model.as_keras()
    assert model(IMAGES).shape == (8, 2)            # traced before training
    layer.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=['accuracy'])
    before = values(model)
    losses = layer.fit(IMAGES, LABELS, batch_size=8, epochs=8, verbose=0).history['loss']
    assert losses[-1] < losses[0]
    assert changed(model, before) == set(before)
    np.testing.assert_allclose(model(IMAGES), layer.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-5)


def test_a_step_of_fit_is_the_step_of_a_gradient_tape(made_value):
    ours, theirs = small(made_value, 2), small(made_value, 2)
    for model in (ours, theirs):
        model.reset_classifier(2, pool='avg')       # a classifier without dropout
        fill(model, made_value)
    layer = theirs.as_keras()
    layer.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    layer.fit(IMAGES, LABELS, batch_size=8, epochs=1, shuffle=False, verbose=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, ours(IMAGES, training=True)))
    for variable, gradient in zip(ours.trainable_variables, tape.gradient(loss, ours.trainable_variables), strict=True):
        variable.assign_sub(0.01 * gradient)
    for name, value in values(ours).items():
        np.testing.assert_allclose(theirs.by_name[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_summary_counts_parameters_and_frozen_ones(made_value):
    model = small(made_value, 1001)
    model.freeze(up_to='Mixed_5c')
    lines = []
    model.as_keras().summary(print_fn=lines.append)
    text = '\n'.join(map(str, lines))
    assert 'inception_v1 (Network)' in text and '6,633,209' in text         # 6,618,649 trained and 14,560 statistics
    assert '1,026,025' in text                                              # the classifier's


@pytest.mark.parametrize('by_keras', [False, True])
def test_a_frozen_network_as_a_layer_of_another_model(made_value, by_keras):
    """Cut off and frozen in either way, it is as in Keras: nothing in it moves, statistics neither."""
    model = small(made_value, None, final_endpoint='Mixed_3b')
    if not by_keras:
        model.freeze()
    network = model.as_keras()
    network.trainable = not by_keras
    whole = keras.Sequential([network, keras.layers.Flatten(), keras.layers.Dense(1, 'sigmoid')])
    whole.compile(keras.optimizers.RMSprop(1e-3), 'binary_crossentropy')
    whole.build((None, 32, 32, 3))
    before, kernel = values(model), whole.layers[-1].kernel.numpy()
    whole.fit(IMAGES, LABELS, batch_size=8, epochs=1, verbose=0)
    assert changed(model, before) == set() and np.any(whole.layers[-1].kernel.numpy() != kernel)
    assert len(whole.trainable_weights) == 2


@pytest.mark.parametrize('endpoints', [(), ['Mixed_3c', 'Mixed_5*']])
def test_saved_as_keras_and_loaded_in_another_process(made_value, tmp_path, endpoints):
    model = small(made_value)
    model.freeze(up_to='Mixed_3b')
    layer = model.as_keras(endpoints)
    layer.save(tmp_path / 'model.keras')
    expected = layer.predict(IMAGES, verbose=0)
    if endpoints:
        assert list(expected) == ['Mixed_3c', 'Mixed_5b', 'Mixed_5c']
    program = f'''
import keras, numpy as np
import nets.keras_model
model = keras.models.load_model({str(tmp_path / 'model.keras')!r})
out = model.predict(np.load({str(tmp_path / 'images.npy')!r}), verbose=0)
out = out if isinstance(out, dict) else {{'': out}}
np.savez({str(tmp_path / 'out.npz')!r}, trained=len(model.trainable_weights), **out)
'''
    np.save(tmp_path / 'images.npy', IMAGES)
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    out = np.load(tmp_path / 'out.npz')
    assert out['trained'] == len(model.trainable_variables) == len(layer.trainable_weights) < 116
    for name in expected if endpoints else ['']:
        np.testing.assert_allclose(out[name], expected[name] if endpoints else expected, rtol=1e-5, atol=1e-6)


def test_weights_alone(made_value, tmp_path):
    layer = small(made_value).as_keras()
    layer.save_weights(tmp_path / 'model.weights.h5')
    other = nets.create_model('inception_v1', 5, image_size=32)
    other.as_keras().load_weights(tmp_path / 'model.weights.h5')
    np.testing.assert_allclose(other(IMAGES), layer.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)


def test_mixed_precision(made_value):
    model = small(made_value)
    expected = model(IMAGES).numpy()
    keras.config.set_dtype_policy('mixed_bfloat16')
    try:
        layer = model.as_keras()
    finally:
        keras.config.set_dtype_policy('float32')
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    logits = layer.predict(IMAGES, verbose=0)
    difference = np.abs(logits.astype(np.float32) - expected).max() / np.abs(expected).max()
    assert 1e-4 < difference < 0.06


def test_two_keras_models_of_one_network_share_its_variables(made_value):
    model = small(made_value)
    logits, features = model.as_keras(), model.as_keras('Mixed_5*')
    for variable in model.variables:
        variable.assign(variable * 0.5)
    np.testing.assert_allclose(logits.predict(IMAGES, verbose=0), model(IMAGES), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.predict(IMAGES, verbose=0)['Mixed_5c'],
                               model.endpoints(IMAGES, 'Mixed_5c')['Mixed_5c'], rtol=1e-4, atol=1e-5)
    logits.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = values(model)
    logits.train_on_batch(IMAGES, LABELS)
    assert changed(model, before) == set(before)
    np.testing.assert_allclose(features.predict(IMAGES, verbose=0)['Mixed_5c'],
                               model.endpoints(IMAGES, 'Mixed_5c')['Mixed_5c'], rtol=1e-4, atol=1e-5)


def test_frozen_after_it_became_a_keras_model(made_value):
    model = small(made_value)
    layer = model.as_keras()
    model.freeze(up_to='Mixed_5c')
    assert len(layer.trainable_weights) == 2
    layer.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = values(model)
    layer.train_on_batch(IMAGES, LABELS)
    assert changed(model, before) == {name for name in before if 'Logits' in name}
    with pytest.raises(ValueError, match='has made a Keras model of this classifier'):
        model.reset_classifier(3)


def test_weight_decay_is_a_loss_of_the_keras_model(made_value):
    model = small(made_value, weight_decay=0.01)
    layer = model.as_keras()
    layer.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    plain = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, model(IMAGES)))
    np.testing.assert_allclose(layer.evaluate(IMAGES, LABELS, verbose=0), plain, rtol=1e-4)     # of training alone
    layer(IMAGES, training=True)
    np.testing.assert_allclose(sum(layer.losses), model.regularization_loss(), rtol=1e-5)


def test_auxiliary_classifiers_are_not_trained(made_value):
    model = nets.create_model('inception_v3', 2, image_size=75)
    layer = model.as_keras()
    trained = [variable for variable in model.trainable_variables if 'AuxLogits' not in variable.name]
    assert len(layer.trainable_weights) == len(trained) > 100


def test_videos():
    model = nets.create_model('s3dg', 3, image_size=32)
    assert model.as_keras().predict(np.zeros([1, 4, 32, 32, 3], 'f'), verbose=0).shape == (1, 3)
