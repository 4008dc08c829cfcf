"""Weights of Keras Applications against the applications themselves."""
import re
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import checkpoints, create_model, registry
from nets.weights import keras_applications

CLASSES = 7


class Pair(NamedTuple):
    """An application and a network with its weights, which came from `path`."""

    network: str
    keras_model: Any
    path: str
    values: checkpoints.Values
    model: Any
    images: np.ndarray


def application(network, size, classes=CLASSES):
    """The application of a network with random weights under which activations stay in range; without top for None."""
    row = keras_applications.APPLICATIONS[network]
    own = {'include_preprocessing': False} if row.name.startswith('MobileNetV3') else {}
    build = getattr(keras.applications, row.name)
    model = build(weights=None, include_top=classes is not None, classes=classes or 1000, classifier_activation=None,
                  input_shape=(size, size, 3), **row.options, **own)
    random = np.random.RandomState(0)

    def value(layer, weight):
        if weight.name in ('gamma', 'moving_variance'):
            return random.uniform(0.5, 1.5, weight.shape)
        if len(weight.shape) == 1:
            return random.uniform(-0.1, 0.1, weight.shape)
        depthwise = weight.name == 'depthwise_kernel' or isinstance(layer, keras.layers.DepthwiseConv2D)
        bound = np.sqrt(6 / np.prod(weight.shape[:2] if depthwise else weight.shape[:-1]))
        return random.uniform(-bound, bound, weight.shape)

    for layer in model.layers:
        layer.set_weights([value(layer, weight).astype(np.float32) for weight in layer.weights])
    return model


def images_of(size):
    return np.random.RandomState(1).uniform(-1, 1, [2, size, size, 3]).astype(np.float32)


def pair(network, size, folder, classes=CLASSES):
    keras_model = application(network, size, classes)
    path = str(folder / f'{network}.weights.h5')
    keras_model.save_weights(path)
    values = keras_applications.read(path, registry.get(network))
    arguments = {'create_aux_logits': False} if network.startswith('inception') and classes else {}
    model = create_model(network, classes, image_size=size, **arguments)
    if not network.startswith('nasnet'):        # whose Model always has the auxiliary classifier's variables
        assert set(model.by_name) >= set(values.shapes)
    assert set(checkpoints.restore(values, model.by_name)) == {
        name for name in model.by_name if name.startswith(values.lacks or ('/',))}
    return Pair(network, keras_model, path, values, model, images_of(size))


def assert_same(ours, theirs, name=None):
    theirs = np.asarray(theirs)
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max(), err_msg=str(name))


def assert_answers_agree(pair, endpoints, keras_images=None):
    """The endpoints, Keras's layer -> ours, and the logits are the same."""
    layers = [pair.keras_model.get_layer(name).output for name in endpoints]
    *theirs, logits = keras.Model(pair.keras_model.inputs, [*layers, pair.keras_model.outputs[0]])(
        pair.images if keras_images is None else keras_images)
    _, ours = tf.function(pair.model.build, autograph=False)(tf.constant(pair.images), False)
    for name, value in zip(endpoints.values(), theirs, strict=True):
        assert_same(ours[name], value, name)
    if pair.model.num_classes:
        assert_same(pair.model(pair.images), logits, 'logits')


# Network, size of the images, and three endpoints: Keras's layer -> ours.
CASES = {
    'inception_v3': (75, {'mixed2': 'Mixed_5d', 'mixed7': 'Mixed_6e', 'mixed10': 'Mixed_7c'}),
    'mobilenet_v1_025': (64, {'conv1_relu': 'Conv2d_0', 'conv_dw_6_relu': 'Conv2d_6_depthwise',
                              'conv_pw_13_relu': 'Conv2d_13_pointwise'}),
    'mobilenet_v2_035': (64, {'Conv1_relu': 'layer_1', 'block_8_add': 'layer_10', 'out_relu': 'layer_19'}),
    'mobilenet_v2_140': (33, {'expanded_conv_project_BN': 'layer_2', 'block_6_depthwise_relu':
                              'layer_8/depthwise_output', 'block_16_project_BN': 'layer_18'}),
    'mobilenet_v3_small': (64, {'expanded_conv_project_bn': 'layer_2', 'expanded_conv_5_add': 'layer_7',
                                'expanded_conv_10_add': 'layer_12'}),
    'mobilenet_v3_large': (64, {'expanded_conv_add': 'layer_2', 'expanded_conv_8_add': 'layer_10',
                                'expanded_conv_14_add': 'layer_16'}),
    'mobilenet_v3_small_minimalistic': (33, {'expanded_conv_project_bn': 'layer_2', 'expanded_conv_5_add': 'layer_7',
                                             'expanded_conv_10_add': 'layer_12'}),
}


@pytest.fixture(scope='module')
def found(request, tmp_path_factory):
    return pair(request.param, CASES[request.param][0], tmp_path_factory.mktemp(request.param))


def of(*networks):
    return pytest.mark.parametrize('found', networks, indirect=True)


@of(*CASES)
def test_answers_are_keras_s(found):
    assert_answers_agree(found, CASES[found.network][1])


@of('inception_v3', 'mobilenet_v1_025', 'mobilenet_v2_035', 'mobilenet_v3_small')
def test_keras_takes_what_is_written(found, tmp_path):
    path = str(tmp_path / 'new' / 'ours.weights.h5')
    keras_applications.write(found.model.by_name, registry.get(found.network), path)
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['ours.weights.h5']
    before, held = found.keras_model(found.images), found.keras_model.get_weights()
    found.keras_model.set_weights([np.zeros_like(value) for value in held])
    found.keras_model.load_weights(path)
    assert_same(found.keras_model(found.images), before)
    found.keras_model.set_weights(held)


def write_keras_2(path, layers, group=None, cut=False):
    """Writes layers, name -> name of the weight -> array, as Keras 2's `save_weights` did."""
    with h5py.File(path, 'w') as file:
        root = file.create_group(group) if group else file
        names = [name.encode() for name in layers]
        half = len(names) // 2
        for key, value in ({'layer_names0': names[:half], 'layer_names1': names[half:]} if cut else
                           {'layer_names': names}).items():
            root.attrs[key] = np.array(value)
        for name, weights in layers.items():
            layer = root.create_group(name)
            layer.attrs['weight_names'] = np.array([f'{name}/{weight}:0'.encode() for weight in weights])
            for weight, value in weights.items():
                layer[f'{name}/{weight}:0'] = value


def layers_of(keras_model, rename=str):
    return {rename(layer.name): {weight.name: np.asarray(weight) for weight in layer.weights}
            for layer in keras_model.layers}


def renumber(name):
    """The name of a layer that Keras numbered, where numbers began elsewhere."""
    match = re.fullmatch(r'(conv2d|batch_normalization)(?:_(\d+))?', name)
    return f'{match[1]}_{int(match[2] or 0) + 95}' if match else name


def assert_reads(path, found, network=None):
    values = keras_applications.read(str(path), registry.get(network or found.network))
    assert values.shapes == found.values.shapes
    for name in values.shapes:
        np.testing.assert_array_equal(values.value(name), found.values.value(name), err_msg=name)


@of('inception_v3')
def test_keras_2_numbers_layers_from_anywhere_and_files_sort_them_by_name(found, tmp_path):
    layers = layers_of(found.keras_model, renumber)
    write_keras_2(tmp_path / 'inception_v3.h5', dict(sorted(layers.items())), cut=True)
    assert_reads(tmp_path / 'inception_v3.h5', found)


@of('inception_v3')
def test_files_of_keras_3_5_hold_no_names(found, tmp_path):
    def forget(name, item):
        item.attrs.pop('name', None)

    (tmp_path / 'old.weights.h5').write_bytes(open(found.path, 'rb').read())
    with h5py.File(tmp_path / 'old.weights.h5', 'a') as file:
        file.visititems(forget)
        file.move('layers', '_layer_checkpoint_dependencies')
    assert_reads(tmp_path / 'old.weights.h5', found)


@of('mobilenet_v3_small')
def test_keras_2_named_the_layers_of_mobilenet_v3_as_tf_slim(found, tmp_path):
    def rename(name):
        name = re.sub(r'^(expanded_conv(?:_\d+)?)_', r'\1/', name).replace('squeeze_excite_', 'squeeze_excite/')
        return re.sub('(^|/)conv', r'\1Conv', re.sub('_bn$', '/BatchNorm', name)).replace('logits', 'Logits')

    write_keras_2(tmp_path / 'v3.h5', layers_of(found.keras_model, rename))
    with h5py.File(tmp_path / 'v3.h5') as file:
        assert {b'Conv_1/BatchNorm', b'expanded_conv_4/depthwise/BatchNorm', b'Logits'} <= set(
            file.attrs['layer_names'])
    assert_reads(tmp_path / 'v3.h5', found)


@of('mobilenet_v1_025')
def test_a_whole_model_saved_by_keras_3(found, tmp_path):
    found.keras_model.save(tmp_path / 'whole.h5')
    assert_reads(tmp_path / 'whole.h5', found)


@of('mobilenet_v1_025')
def test_a_head_of_one_s_own_is_left_out(found, tmp_path):
    base = keras.Model(found.keras_model.inputs, found.keras_model.get_layer('conv_pw_13_relu').output)
    net = keras.layers.Dense(5, name='flowers')(keras.layers.GlobalAveragePooling2D()(base.output))
    keras.Model(base.inputs, net).save_weights(tmp_path / 'own.weights.h5')
    values = keras_applications.read(str(tmp_path / 'own.weights.h5'), registry.get('mobilenet_v1_025'))
    assert values.lacks == ('MobilenetV1/Logits',)
    assert set(found.values.shapes) - set(values.shapes) == {
        'MobilenetV1/Logits/Conv2d_1c_1x1/weights', 'MobilenetV1/Logits/Conv2d_1c_1x1/biases'}


def test_mobilenet_v1_pads_maps_of_odd_size_as_keras_does_not(tmp_path):
    found = pair('mobilenet_v1_025', 33, tmp_path)
    theirs = np.asarray(found.keras_model(found.images))
    assert np.abs(found.model(found.images) - theirs).max() > 1e-2 * np.abs(theirs).max()


def test_vgg_without_top(tmp_path):
    keras_model = application('vgg_19', 32, None)
    path = str(tmp_path / 'vgg_19.weights.h5')
    keras_model.save_weights(path)
    values = keras_applications.read(path, registry.get('vgg_19'))
    assert values.lacks == ('vgg_19/fc6', 'vgg_19/fc7', 'vgg_19/fc8')
    model = create_model('vgg_19', final_endpoint='vgg_19/pool5', image_size=32)
    assert checkpoints.restore(values, model.by_name) == []
    images = images_of(32)
    blue_first = images[..., ::-1]
    assert_answers_agree(Pair('vgg_19', keras_model, path, values, model, images), {
        'block1_conv1': 'vgg_19/conv1/conv1_1', 'block3_conv4': 'vgg_19/conv3/conv3_4',
        'block5_pool': 'vgg_19/pool5'}, blue_first)


@pytest.mark.slow
def test_vgg_with_top(tmp_path):
    found = pair('vgg_16', 224, tmp_path)
    assert_answers_agree(found, {'block5_pool': 'vgg_16/pool5'}, found.images[..., ::-1])
    theirs = keras.Model(found.keras_model.inputs, found.keras_model.get_layer('fc1').output)(found.images[..., ::-1])
    assert_same(found.model.endpoints(found.images, 'vgg_16/fc6')['vgg_16/fc6'][:, 0, 0], theirs)


@pytest.mark.slow
def test_inception_resnet_v2(tmp_path):
    found = pair('inception_resnet_v2', 75, tmp_path)
    assert_answers_agree(found, {'mixed_5b': 'Mixed_5b', 'mixed_6a': 'Mixed_6a', 'conv_7b_ac': 'Conv2d_7b_1x1'})
    path = str(tmp_path / 'ours.weights.h5')
    keras_applications.write(found.model.by_name, registry.get('inception_resnet_v2'), path)
    before = found.keras_model(found.images)
    found.keras_model.set_weights([np.zeros_like(value) for value in found.keras_model.get_weights()])
    found.keras_model.load_weights(path)
    assert_same(found.keras_model(found.images), before)


@pytest.mark.slow
@pytest.mark.parametrize('size', [64, 75])
def test_nasnet_is_keras_s_with_keras_s_padding(tmp_path, size):
    """Without, what reduction cells pool at the edges is another."""
    found = pair('nasnet_mobile', size, tmp_path)
    assert found.values.lacks == ('aux_7',)
    theirs = np.asarray(found.keras_model(found.images))
    assert np.abs(found.model(found.images) - theirs).max() > 1e-3 * np.abs(theirs).max()
    padded = create_model('nasnet_mobile', CLASSES, image_size=size, keras_padding=True)
    padded.adopt(found.model.by_name)
    assert_answers_agree(found._replace(model=padded), {
        'reduction_concat_stem_2': 'Stem', 'normal_concat_3': 'Cell_3', 'normal_concat_12': 'Cell_11'})


def refused(path, network):
    with pytest.raises(checkpoints.CheckpointError) as error:
        keras_applications.read(str(path), registry.get(network))
    message = str(error.value)
    assert message.startswith(str(path)) or str(path) in message
    assert message.endswith('.') and '\n' not in message
    return message


@pytest.mark.parametrize('name, network, reason', [
    ('ResNet50', 'resnet_v1_50', 'ResNet, which is not resnet_v1_50.*stride'),
    ('ResNet50V2', 'resnet_v2_50', 'ResNetV2, which is not resnet_v2_50.*stride'),
    ('Xception', 'inception_v3', 'Xception, which is not inception_v3: no network here'),
    ('MobileNetV2', 'mobilenet_v1', 'MobileNetV2, which is not mobilenet_v1: its network here is mobilenet_v2'),
])
def test_the_file_of_another_architecture(name, network, reason, tmp_path):
    keras_model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(96, 96, 3))
    keras_model.save_weights(tmp_path / 'other.weights.h5')
    assert re.search(reason, refused(tmp_path / 'other.weights.h5', network))


@of('mobilenet_v1_025')
def test_another_alpha(found, tmp_path):
    assert 'MobileNet(alpha=0.25), which is not mobilenet_v1: its network here is mobilenet_v1_025' in refused(
        found.path, 'mobilenet_v1')


@of('mobilenet_v3_small')
def test_the_minimalistic_form(found):
    assert 'its network here is mobilenet_v3_small' in refused(found.path, 'mobilenet_v3_small_minimalistic')


@of('mobilenet_v1_025')
def test_damaged_and_foreign_files(found, tmp_path):
    assert 'There is no file' in refused(tmp_path / 'none.h5', found.network)
    whole = open(found.path, 'rb').read()
    for name, content in (('short.h5', whole[:len(whole) // 2]), ('page.h5', b'<html>'), ('empty.h5', b'')):
        (tmp_path / name).write_bytes(content)
        assert 'HDF5' in refused(tmp_path / name, found.network)
    with h5py.File(tmp_path / 'other.h5', 'w') as file:
        file['images'] = np.zeros(3)
    assert 'not a file of Keras weights' in refused(tmp_path / 'other.h5', found.network)
    layers = layers_of(found.keras_model)
    write_keras_2(tmp_path / 'part.h5', {name: weights for name, weights in layers.items() if name != 'conv_dw_3'})
    assert 'Conv2d_3_depthwise/depthwise_weights' in refused(tmp_path / 'part.h5', found.network)
    layers['conv_dw_3']['kernel'] = layers['conv_dw_3']['kernel'][..., :-1, :]
    write_keras_2(tmp_path / 'shape.h5', layers)
    assert re.search(r'conv_dw_3 holds \[3, 3, 31, 1\], where', refused(tmp_path / 'shape.h5', found.network))
    write_keras_2(tmp_path / 'own.h5', {'dense': {'kernel': np.zeros([2, 2])}})
    assert 'no Keras application that is known here: its layers are dense' in refused(tmp_path / 'own.h5', 'lenet')


@of('mobilenet_v1_025')
def test_what_cannot_be_written(found, tmp_path, full_disk):
    row, values = registry.get(found.network), dict(found.model.by_name)
    path = tmp_path / 'ours.weights.h5'

    def refused(reason, values=values, row=row, path=path):
        with pytest.raises(checkpoints.CheckpointError, match=reason):
            keras_applications.write(values, row, str(path))

    refused('stride', row=registry.get('resnet_v1_50'))
    refused('inception_v1.*no such network', row=registry.get('inception_v1'))
    refused('ends with .weights.h5', path=tmp_path / 'ours.h5')
    refused('Conv2d_3_pointwise/weights.*is not there',
            {name: value for name, value in values.items() if not name.endswith('Conv2d_3_pointwise/weights')})
    refused(r'Conv2d_0/weights of mobilenet_v1_025 is \[3, 3, 1, 8\], where Keras has \[3, 3, 3, 8\]',
            {**values, 'MobilenetV1/Conv2d_0/weights': np.zeros([3, 3, 1, 8])})
    path.write_text('mine')
    with full_disk(100_000):
        refused('ours.weights.h5 cannot be written: File too large.$')
    assert path.read_text() == 'mine' and [file.name for file in tmp_path.iterdir()] == [path.name]


@of('mobilenet_v1_025')
def test_without_a_classifier_it_is_written_without_top(found, tmp_path):
    values = {name: value for name, value in found.model.by_name.items() if '/Logits/' not in name}
    path = str(tmp_path / 'notop.weights.h5')
    keras_applications.write(values, registry.get(found.network), path)
    model = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.25)
    model.load_weights(path)
    assert_same(found.model.endpoints(found.images)['Conv2d_13_pointwise'], model(found.images))
