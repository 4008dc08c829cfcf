"""`nets.model.Model`: cut networks, heads, freezing, weights in and out, types, threads, strategies, SavedModel."""
import concurrent.futures
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import nets
import tf_slim_compat
from nets import checkpoints, registry
from nets.checkpoints import CheckpointError
from nets.nasnet import nasnet

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = np.random.RandomState(0).uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)


def small(name, num_classes=5, **kwargs):
    return nets.create_model(name, num_classes, image_size=32, **kwargs)


def fill(model, made_value):
    for name, variable in model.by_name.items():
        variable.assign(made_value(name, variable.shape.as_list()))
    return model


def values(model):
    return {name: variable.numpy() for name, variable in model.by_name.items()}


def changed(model, before):
    return {name for name, value in values(model).items() if np.any(value != before[name])}


@pytest.fixture(scope='module')
def model(made_value):
    return fill(small('inception_v1'), made_value)


# Cut networks and what stands on them.

@pytest.mark.parametrize('name, size, arguments', [
    ('alexnet_v2', 224, {}), ('cifarnet', 32, {}), ('lenet', 28, {}), ('overfeat', 231, {}), ('vgg_a', 224, {}),
    ('inception_v1', 32, {}), ('inception_v2', 64, {}), ('inception_v3', 80, {}), ('inception_v4', 80, {}),
    ('inception_resnet_v2', 80, {}), ('resnet_v1_50', 64, {}), ('resnet_v2_50', 64, {'output_stride': 8}),
    ('mobilenet_v1_025', 32, {}), ('mobilenet_v2_035', 32, {}), ('mobilenet_v3_small', 32, {}),
    ('mobilenet_edgetpu_075', 32, {}), ('nasnet_cifar', 16, {'config': 3}), ('s3dg', 32, {}),
])
def test_endpoints_of_the_network_that_is_built_no_further(name, size, arguments, made_value):
    """Those of the whole network, in values; the variables behind the last are not even asked for."""
    if 'config' in arguments:
        config = nasnet.cifar_config()
        for key, value in dict(num_cells=3, num_conv_filters=4, use_aux_head=0).items():
            config.set_hparam(key, value)
        arguments = {'config': config}
    model = fill(nets.create_model(name, 5, image_size=size, **arguments), made_value)
    frames = [4] if model.takes_videos else []
    images = tf.random.stateless_uniform([1, *frames, size, size, model.channels], [0, 0], -1, 1)
    found = list(model.endpoint_shapes)
    wanted = [found[0], 'layer_8' if 'layer_8' in found else found[len(found) // 2]]
    whole = tf.function(lambda: model.build(images, False)[1], autograph=False)()
    asked = set()

    class Watched(dict):
        def get(self, key, default=None):
            asked.add(key)
            return super().get(key, default)

    model.by_name = Watched(model.by_name)
    part = model.endpoints(images, wanted)
    assert list(part) == wanted
    for key, value in part.items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-4, atol=1e-4 * np.std(whole[key]), err_msg=key)
    assert 0 < len(asked) < len(model.by_name)


def test_a_cut_network_has_no_variables_behind_the_cut(model, read_golden):
    cut = small('inception_v1', None, final_endpoint='Mixed_3c')
    golden = list(read_golden('inception_v1')['variables'])
    last = max(number for number, name in enumerate(golden) if '/Mixed_3c/' in name)
    assert list(cut.by_name) == golden[:last + 1]
    cut.adopt({name: model.by_name[name] for name in cut.by_name})
    whole = model.endpoints(IMAGES, 'Mixed_3c')['Mixed_3c']
    np.testing.assert_allclose(cut(IMAGES), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cut.features(IMAGES), np.mean(whole, (1, 2)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="endpoint of inception_v1 'Mixed_4a'|'Mixed_4a'.*Valid are .*Mixed_3c"):
        cut.endpoints(IMAGES, 'Mixed_4a')
    with pytest.raises(ValueError, match="Unknown endpoint of InceptionV1 'Mixed_9z'.*did you mean 'Mixed_"):
        small('inception_v1', final_endpoint='Mixed_9z')


@pytest.mark.parametrize('pool, by_numpy', [
    ('avg', lambda x: x.mean((1, 2))), ('max', lambda x: x.max((1, 2))),
    ('avgmax', lambda x: (x.mean((1, 2)) + x.max((1, 2))) / 2), ('flatten', lambda x: x.reshape(len(x), -1)),
    ('catavgmax', lambda x: np.concatenate([x.mean((1, 2)), x.max((1, 2))], 1)),
])
def test_poolings_and_a_classifier_of_ones_own(pool, by_numpy, made_value):
    model = fill(small('inception_v1', 3, pool=pool, final_endpoint='Mixed_3b', hidden_units=[7]), made_value)
    features = by_numpy(model.endpoints(IMAGES, 'Mixed_3b')['Mixed_3b'].numpy())
    np.testing.assert_allclose(model.features(IMAGES), features, rtol=1e-4, atol=1e-5)
    value = values(model)
    hidden = np.maximum(features @ value['Head/fc1/weights'] + value['Head/fc1/biases'], 0)
    logits = hidden @ value['Head/Logits/weights'] + value['Head/Logits/biases']
    np.testing.assert_allclose(model(IMAGES), logits, rtol=1e-4, atol=1e-4)
    predictions = model.endpoints(IMAGES, ['Head/fc1', 'Predictions'])['Predictions']
    np.testing.assert_allclose(predictions, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-3)


def test_features_are_what_the_networks_own_classifier_sees(model):
    value = values(model)
    logits = model.features(IMAGES) @ value['InceptionV1/Logits/Conv2d_0c_1x1/weights'][0, 0]
    np.testing.assert_allclose(logits + value['InceptionV1/Logits/Conv2d_0c_1x1/biases'], model(IMAGES), rtol=1e-4,
                               atol=1e-5)


def test_a_new_classifier_keeps_the_rest(made_value):
    model = fill(small('inception_v1'), made_value)
    before, features = values(model), model.features(IMAGES)
    model.reset_classifier(3)
    assert model(IMAGES).shape == [2, 3] and model.num_classes == 3
    assert changed(model, {**values(model), **{n: v for n, v in before.items() if 'Logits' not in n}}) == set()
    np.testing.assert_array_equal(model.features(IMAGES), features)
    model.reset_classifier(5)
    assert np.any(values(model)['InceptionV1/Logits/Conv2d_0c_1x1/weights'] !=
                  before['InceptionV1/Logits/Conv2d_0c_1x1/weights'])
    model.reset_classifier(2, pool='max', hidden_units=[8])
    assert [name for name in model.by_name if 'Mixed' not in name and 'Conv2d' not in name] == [
        'Head/fc1/weights', 'Head/fc1/biases', 'Head/Logits/weights', 'Head/Logits/biases']
    model.reset_classifier(None)
    assert model(IMAGES).shape[-1] == 1024 and list(model.by_name) == [n for n in before if 'Logits' not in n]


@pytest.mark.parametrize('arguments, words', [
    (dict(num_classes=2, pool='mean'), "Unknown pool 'mean'.*avg, max"),
    (dict(num_classes=None, hidden_units=[8]), 'give num_classes'),
    (dict(num_classes=2, hidden_units=[0]), 'hidden_units must be whole numbers above 0'),
    (dict(num_classes=2, hidden_units='64'), 'hidden_units must be whole numbers above 0'),
    (dict(num_classes=True), 'num_classes must be a whole number'),
    (dict(num_classes=2, channels=-1), 'channels must be a whole number above 0'),
    (dict(num_classes=2, pretrained=''), "must be a path or a URL; '' is none"),
    (dict(num_classes=2, pretrained=5), 'must be a path or a URL; 5 is none'),
    (dict(num_classes=2, pretrained='ftp://x/y'), 'ftp://x/y cannot be read'),
    (dict(num_classes=2, pretrained='model.keras'), 'is a whole model of Keras.*save_weights'),
    (dict(num_classes=2, final_endpoint='Mixed_3b', create_aux_logits=True), "argument of inception_v1 'create_aux_lo"),
])
def test_wrong_heads_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        small('inception_v1', **arguments)


@pytest.mark.parametrize('name', list(registry.NETWORKS))
def test_every_network_takes_a_head_after_its_first_endpoint(name, read_golden):
    first = next(iter(read_golden(name)['end_points']))
    model = nets.create_model(name, 3, image_size=64, final_endpoint=first, hidden_units=[4], weight_decay=0.01)
    assert list(model.endpoint_shapes)[-3:] == ['Head/fc1', 'Logits', 'Predictions']
    frames = [2] if model.takes_videos else []
    images = tf.random.stateless_uniform([2, *frames, 64, 64, model.channels], [0, 0], -1, 1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2) + model.regularization_loss()
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None and np.all(np.isfinite(gradient)) for gradient in gradients)
    model.freeze(up_to=first)
    assert [variable.name.split(':')[0] for variable in model.trainable_variables] == [
        f'Head/{layer}/{leaf}' for layer in ('fc1', 'Logits') for leaf in ('weights', 'biases')]


def test_a_new_classifier_is_trained_whatever_was_frozen(made_value):
    model = small('inception_v1')
    model.freeze()
    model.reset_classifier(3)
    assert [variable.shape[-1] for variable in model.trainable_variables] == [3, 3]


@pytest.mark.parametrize('arguments', [dict(num_classes=3, pool='median'), dict(num_classes=-3),
                                       dict(num_classes=None, hidden_units=[4])])
def test_a_refused_classifier_leaves_the_model_as_it_was(made_value, arguments):
    model = fill(small('inception_v1'), made_value)
    logits = model(IMAGES)
    with pytest.raises(ValueError):
        model.reset_classifier(**arguments)
    np.testing.assert_array_equal(model(IMAGES), logits)
    assert (model.num_classes, model.pool, len(model.variables)) == (5, None, 230)


def test_a_new_classifier_keeps_its_pooling(made_value):
    model = small('inception_v1', pool='max', hidden_units=[8])
    model.reset_classifier(3)
    assert (model.pool, model.hidden_units) == ('max', (8,))
    model.reset_classifier(3, pool='avg', hidden_units=())
    assert (model.pool, model.hidden_units) == ('avg', ())


@pytest.mark.parametrize('endpoints', [['Cell_0'], ['Stem', 'Cell_0'], ['AuxLogits'], ['AuxLogits', 'Cell_3']])
def test_endpoints_in_training_move_the_statistics_once(endpoints):
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1, 1)

    def moved(run):
        config = nasnet.cifar_config()
        for key, value in dict(num_cells=6, num_conv_filters=4).items():
            config.set_hparam(key, value)
        tf.random.set_seed(1)
        model = nets.create_model('nasnet_cifar', 2, config=config)
        for number, variable in enumerate(model.trainable_variables):
            variable.assign(tf.random.stateless_normal(variable.shape, [number, 0], stddev=0.1))
        run(model)
        return model.by_name['l1_stem_bn/moving_variance'].numpy()

    np.testing.assert_allclose(moved(lambda model: model.endpoints(images, endpoints, training=True)),
                               moved(lambda model: model(images, training=True)), rtol=1e-5)


# Freezing.

def train_once(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.constant(IMAGES), training=True) ** 2)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables),
                                  strict=True):
        variable.assign_sub(1e-3 * gradient)


@pytest.mark.parametrize('options, stays', [
    (dict(), lambda name: True),
    (dict(up_to='Mixed_4e'), lambda name: not any(part in name for part in ('Mixed_4f', 'Mixed_5', 'Logits'))),
    (dict(patterns='InceptionV1/Mixed_3b'), lambda name: 'Mixed_3b' in name),
    (dict(patterns=['InceptionV1/Conv2d*', '*/Branch_0']),
     lambda name: '/Branch_0/' in name or name.startswith('InceptionV1/Conv2d_')),
    (dict(patterns='*/beta'), lambda name: name.endswith('BatchNorm/beta') or '/moving_' in name),
])
def test_what_is_frozen_stays(options, stays, made_value):
    model = fill(small('inception_v1', weight_decay=0.0), made_value)
    model.freeze(**options)
    before = values(model)
    train_once(model)
    assert changed(model, before) == {name for name in before if not stays(name)}
    model.unfreeze()
    train_once(model)
    assert changed(model, before) == set(before) and model.frozen == []


def test_frozen_batch_norm_normalises_by_its_moving_statistics(made_value):
    model = fill(small('inception_v1'), made_value)
    inference = model.endpoints(IMAGES, ['Mixed_3b', 'Mixed_4b'])
    assert np.abs(model.endpoints(IMAGES, 'Mixed_3b', training=True)['Mixed_3b'] - inference['Mixed_3b']).max() > 0.1
    fill(model, made_value).freeze(up_to='Mixed_3b')
    training = model.endpoints(IMAGES, ['Mixed_3b', 'Mixed_4b'], training=True)
    np.testing.assert_allclose(training['Mixed_3b'], inference['Mixed_3b'], rtol=1e-4, atol=1e-4)
    assert np.abs(training['Mixed_4b'] - inference['Mixed_4b']).max() > 0.1
    assert tf_slim_compat._frozen.scopes == ()


def test_what_is_to_be_frozen_must_be_there(model):
    with pytest.raises(ValueError, match="scope of inception_v1 'InceptionV1/Mixd_3b'.*did you mean 'Incep"):
        model.freeze('InceptionV1/Mixd_3b')
    with pytest.raises(ValueError, match="'Mixed_4z'.*did you mean 'Mixed_4"):
        model.freeze(up_to='Mixed_4z')
    with pytest.raises(ValueError, match='patterns or up_to, not both'):
        model.freeze('InceptionV1/Logits', up_to='Mixed_3b')
    assert model.frozen == []


# Weights in and out.

def test_a_saved_model_is_read_by_tensorflows_own_reader_and_comes_back(model, tmp_path):
    prefix = model.save(str(tmp_path), 12)
    reader = tf.train.load_checkpoint(prefix)
    assert set(reader.get_variable_to_shape_map()) == {*model.by_name, 'global_step'}
    assert reader.get_tensor('global_step') == 12
    for path in (tmp_path, prefix, f'{prefix}.index'):
        other = small('inception_v1')
        assert other.restore(str(path)) == []
        assert changed(other, values(model)) == set()
    model.save(str(tmp_path), 13, 'InceptionV1/Logits')
    assert set(tf.train.load_checkpoint(str(tmp_path)).get_variable_to_shape_map()) == {
        'global_step', *(f'InceptionV1/Logits/Conv2d_0c_1x1/{leaf}' for leaf in ('weights', 'biases'))}
    assert tf.train.load_checkpoint(prefix)         # it is still there


def test_a_checkpoint_of_one_file(model, tmp_path):
    path = str(tmp_path / 'inception_v1.ckpt')
    tf.raw_ops.Save(filename=path, tensor_names=list(model.by_name), data=list(values(model).values()))
    other = small('inception_v1', pretrained=path)
    assert changed(other, values(model)) == set()


def test_part_of_a_checkpoint(model, tmp_path):
    prefix = model.save(str(tmp_path))
    other = small('inception_v1', 7)
    with pytest.raises(CheckpointError, match='another number of classes'):
        other.restore(prefix)
    before = values(other)
    with pytest.raises(ValueError, match="scope of inception_v1 'InceptionV1/Logit_'"):
        other.restore(prefix, exclude='InceptionV1/Logit_')
    assert changed(other, before) == set()
    assert other.restore(prefix, exclude='InceptionV1/Logits') == []
    assert changed(other, before) == {name for name in before if 'Logits' not in name}
    part = model.save(str(tmp_path / 'part'), patterns='InceptionV1/Mixed*')
    other = small('inception_v1')
    before = values(other)
    with pytest.raises(CheckpointError, match='Missing: InceptionV1/Conv2d_1a_7x7/weights'):
        other.restore(part)
    assert changed(other, before) == set()
    assert other.restore(part, ignore_missing=True) == [name for name in before if '/Mixed' not in name]
    assert changed(other, before) == {name for name in before if '/Mixed' in name}


def test_published_weights_are_their_averages(model, tmp_path, monkeypatch):
    averages = {f'{name}/ExponentialMovingAverage': value + 1 for name, value in values(model).items()}
    prefix = checkpoints.save(str(tmp_path), 1, {**values(model), **averages}, 5)
    monkeypatch.setattr('nets.weights.published.of', lambda row: prefix)
    for pretrained, more in ((True, 1), (prefix, 0)):
        other = small('inception_v1', pretrained=pretrained)
        np.testing.assert_array_equal(other.variables[0], model.variables[0] + more)


def test_moving_averages(model, tmp_path):
    averages = {f'{name}/ExponentialMovingAverage': value + 1 for name, value in values(model).items()
                if 'moving_' not in name}           # as those that average trained variables alone
    prefix = checkpoints.save(str(tmp_path), 1, {**values(model), **averages}, 5)
    other = small('inception_v1')
    other.restore(prefix, moving_averages=True)
    for name, value in values(model).items():
        np.testing.assert_array_equal(other.by_name[name], value + (0 if 'moving_' in name else 1))
    with pytest.raises(CheckpointError, match='holds no moving averages'):
        other.restore(model.save(str(tmp_path / 'plain')), moving_averages=True)


@pytest.mark.parametrize('name, num_classes, of, words', [
    ('inception_v1', 1000, ('inception_v1', 1001), r'1001, where 1000 are wanted.*num_classes=1001.*labels_offset=1'),
    ('inception_v1', 1001, ('inception_v1', 1000), r'1000, where 1001 are wanted.*num_classes=1000'),
    ('inception_v1', 5, ('mobilenet_v1_025', 5),
     r'another network \(mobilenet_v1, .*none of the 230(.|\n)*Missing: InceptionV1/Conv2d_1a_7x7/weights(.|\n)*'
     r'In the checkpoint alone: MobilenetV1/Conv2d_0/BatchNorm/beta'),
    ('mobilenet_v1_050', 5, ('mobilenet_v1_025', 5), r'another width(.|\n)*shape: MobilenetV1/Conv2d_0/weights '
     r'\[3, 3, 3, 8\] \(here'),
    ('lenet', 5, ('lenet', 5, dict(final_endpoint='pool2')), 'variables missing; it is of a network that was cut'),
])
def test_a_mismatch_is_explained(name, num_classes, of, words, tmp_path):
    *of, kwargs = of if len(of) > 2 else (*of, {})
    prefix = small(*of, **kwargs).save(str(tmp_path))
    for use in (lambda: small(name, num_classes, pretrained=prefix), lambda: small(name, num_classes).restore(prefix)):
        with pytest.raises(CheckpointError, match=words):
            use()


def test_pretrained_for_other_classes_and_cuts(model, tmp_path):
    prefix = model.save(str(tmp_path))
    for other in (small('inception_v1', 7, pretrained=prefix), small('inception_v1', None, pretrained=prefix),
                  small('inception_v1', 2, final_endpoint='Mixed_4b', hidden_units=[3], pretrained=str(tmp_path))):
        for name, variable in other.by_name.items():
            if 'Logits' not in name and 'Head' not in name:
                np.testing.assert_array_equal(variable, model.by_name[name], err_msg=name)


@pytest.mark.parametrize('channels', [1, 6])
def test_pretrained_for_other_channels(channels, model, tmp_path):
    """Grey images answer as they would with three equal channels; colours given twice as given once."""
    prefix = model.save(str(tmp_path))
    other = small('inception_v1', channels=channels, pretrained=prefix)
    colours = IMAGES[..., :1].repeat(3, -1) if channels == 1 else IMAGES
    theirs = IMAGES[..., :1] if channels == 1 else np.concatenate([IMAGES, IMAGES], -1)
    np.testing.assert_allclose(other(theirs), model(colours), rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match=f'first layer takes 3 channels, where the images have {channels}'):
        small('inception_v1', channels=channels).restore(prefix)


def test_channels_that_are_filtered_apart_cannot_be_made_others(tmp_path):
    prefix = small('inception_v2').save(str(tmp_path))
    with pytest.raises(CheckpointError, match='first layer of inception_v2 filters each channel apart'):
        small('inception_v2', channels=1, pretrained=prefix)


def test_without_published_weights_the_names_with_them_are_given():
    with pytest.raises(CheckpointError, match='lenet'):
        nets.create_model('lenet', 10, pretrained=True)


# Types, threads, strategies.

@pytest.mark.parametrize('dtype, tolerance', [(tf.float32, 1e-5), (tf.bfloat16, 0.06), (tf.float16, 0.01)])
def test_types_eagerly_in_a_function_and_under_xla(model, dtype, tolerance):
    expected = model(IMAGES)
    images = tf.cast(IMAGES, dtype)
    scale = np.abs(expected).max()
    for function in (model, tf.function(model, autograph=False), tf.function(model, autograph=False, jit_compile=True)):
        logits = function(images)
        assert logits.dtype == tf.float32
        np.testing.assert_allclose(logits, expected, atol=max(tolerance, 1e-4) * scale)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient.dtype == tf.float32 and np.all(np.isfinite(gradient)) for gradient in gradients)


def test_threads_get_what_one_thread_gets(made_value):
    first, second = fill(small('inception_v1'), made_value), fill(small('mobilenet_v1_025'), made_value)
    work = [(model, size, name) for size in (32, 48, 64) for model in (first, second) for name in (None, 'Predictions')]

    def run(item):
        model, size, name = item
        images = tf.random.stateless_uniform([1, size, size, 3], [size, 0], -1, 1)
        return (model(images) if name is None else model.endpoints(images, name)[name]).numpy()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:      # the first calls, which trace, among them
        together = list(pool.map(run, work * 2))
    alone = list(map(run, work)) * 2
    for here, there in zip(together, alone, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)


STRATEGIES = '''
import os, socket, sys
import numpy as np, tensorflow as tf
import nets

def make():
    model = nets.create_model('mobilenet_v1_025', 3, image_size=32, weight_decay=0.01, dropout_keep_prob=1.0)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [number, 0], stddev=0.5))
    return model

def statistics(model):
    return tf.convert_to_tensor(model.by_name['MobilenetV1/Conv2d_1_depthwise/BatchNorm/moving_variance']).numpy()

def step(model):
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images, training=True) ** 2) + model.regularization_loss()
    gradients = tape.gradient(loss, model.trainable_variables)
    return loss, tf.add_n([tf.reduce_sum(gradient ** 2) for gradient in gradients])

def check(name, strategy, run=lambda function: function()):
    with strategy.scope():
        model = make()
    results = run(tf.function(lambda: strategy.run(step, (model,)), autograph=False))
    for value, expected in zip(results, plain):
        for local in strategy.experimental_local_results(value):
            np.testing.assert_allclose(local, expected, rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(statistics(model), moved, rtol=1e-4, err_msg=name)
    print(name, flush=True)
    return model
'''
IN_THIS_PROCESS = '''
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
devices = [device.name for device in tf.config.list_logical_devices('CPU')]
model = make()
plain, moved = [value.numpy() for value in step(model)], statistics(model)
assert np.abs(moved - 1).max() > 1e-4
check('default', tf.distribute.get_strategy())
check('one', tf.distribute.OneDeviceStrategy(devices[1]))
check('mirrored', tf.distribute.MirroredStrategy(devices))
check('central', tf.distribute.experimental.CentralStorageStrategy(devices))
check('several machines', tf.distribute.MultiWorkerMirroredStrategy())
'''
PARAMETER_SERVERS = '''
model = make()
plain, moved = [value.numpy() for value in step(model)], statistics(model)
assert np.abs(moved - 1).max() > 1e-4
sockets = [socket.socket() for _ in range(2)]
for each in sockets:
    each.bind(('127.0.0.1', 0))
worker, server = (f'127.0.0.1:{each.getsockname()[1]}' for each in sockets)
for each in sockets:
    each.close()
cluster = tf.train.ClusterSpec({'worker': [worker], 'ps': [server]})
running = [tf.distribute.Server(cluster, job_name=job, task_index=0, protocol='grpc') for job in ('worker', 'ps')]
strategy = tf.distribute.experimental.ParameterServerStrategy(
    tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer='grpc'))
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
model = check('parameter servers', strategy, lambda function: coordinator.schedule(function).fetch())
assert all('job:ps' in variable.device for variable in model.variables)
os._exit(0)     # servers have no way to stop
'''


@pytest.mark.parametrize('program, names', [
    (IN_THIS_PROCESS, ['default', 'one', 'mirrored', 'central', 'several machines']),
    (PARAMETER_SERVERS, ['parameter servers'])])
def test_every_strategy(program, names):
    """A step's loss, gradients and moving statistics are those without a strategy, whatever holds the variables."""
    done = subprocess.run([sys.executable, '-c', STRATEGIES + program], cwd=ROOT, capture_output=True, text=True,
                          timeout=280)
    assert done.stdout.splitlines() == names and done.returncode == 0, done.stderr


def test_many_models_are_no_reason_to_warn_of_retracing(caplog):
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for size in range(8, 15):
            nets.create_model('lenet', 3, image_size=size)(tf.zeros([1, size, size, 1]))
    finally:
        logger.removeHandler(caplog.handler)
    assert 'retracing' not in caplog.text


# SavedModel.

def test_a_saved_model_needs_tensorflow_alone(model, tmp_path):
    tf.saved_model.save(model, str(tmp_path / 'saved'), signatures=model.signatures(['Mixed_3c', 'Mixed_5*']))
    np.save(tmp_path / 'images.npy', IMAGES)
    program = '''
import sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load('saved')
images = tf.constant(np.load('images.npy'))
np.savez('out.npz', **loaded.signatures['serving_default'](images=images),
         **loaded.signatures['endpoints'](images=images[:1]))
assert not {'nets', 'tf_slim', 'tf_slim_compat'} & set(sys.modules)
'''
    subprocess.run([sys.executable, '-c', program], cwd=tmp_path, check=True, capture_output=True)
    out = np.load(tmp_path / 'out.npz')
    assert set(out) == {'logits', 'probabilities', 'Mixed_3c', 'Mixed_5b', 'Mixed_5c'}
    np.testing.assert_allclose(out['logits'], model(IMAGES), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out['probabilities'].sum(1), 1, rtol=1e-5)
    there = model.endpoints(IMAGES[:1], 'Mixed_5b')['Mixed_5b']
    np.testing.assert_allclose(out['Mixed_5b'], there, rtol=1e-3, atol=1e-4)


def test_features_as_a_saved_model(tmp_path):
    cut = small('inception_v1', None, final_endpoint='Mixed_3b', pool='max')
    tf.saved_model.save(cut, str(tmp_path), signatures=cut.signatures(dtype=tf.bfloat16))
    loaded = tf.saved_model.load(str(tmp_path))
    images = tf.cast(IMAGES, tf.bfloat16)
    np.testing.assert_allclose(loaded.signatures['serving_default'](images=images)['features'], cut(images), rtol=1e-5)


def test_registered_without_a_base_it_is_whole_or_not_at_all(monkeypatch):
    from nets import lenet
    monkeypatch.setattr(registry, '_networks', dict(registry._networks))
    monkeypatch.setattr(registry, 'NETWORKS', registry._networks)
    nets.register(name='whole', arg_scope=lenet.lenet_arg_scope, default_image_size=16, num_classes=10,
                  preprocessing='lenet', channels=1)(lenet.lenet)
    model = nets.create_model('whole', 3)
    assert model.endpoints(tf.zeros([1, 16, 16, 1]), 'pool1')['pool1'].shape == [1, 8, 8, 32]
    with pytest.raises(ValueError, match='registered without a base function'):
        nets.create_model('whole', 3, final_endpoint='pool1')
