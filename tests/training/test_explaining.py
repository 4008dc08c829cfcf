"""Explanations: the class's object is where the heat is."""
import os

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf

import nets
import predict_image_classifier
from training import explaining
from training.classifier import Classifier
from training.classifier_config import classifier_config
from training.config import ConfigError
from training.predict_config import PredictConfig

SIZE, OBJECT = 64, 20


def scenes(count, seed):
    """Parts of a real photo, every second of which has a striped square on it; and where that is: top and left."""
    photo = sklearn.datasets.load_sample_image('china.jpg')
    random = np.random.RandomState(seed)
    images, labels, places = [], np.arange(count) % 2, []
    stripes = np.where((np.arange(OBJECT) // 2 % 2)[:, None, None], [230, 40, 40], [20, 200, 60])
    for label in labels:
        top, left = random.randint(0, 427 - SIZE), random.randint(0, 640 - SIZE)
        image = photo[top:top + SIZE, left:left + SIZE].copy()
        place = random.randint(0, SIZE - OBJECT + 1, 2)
        if label:
            image[place[0]:place[0] + OBJECT, place[1]:place[1] + OBJECT] = stripes
        images.append(image)
        places.append(place)
    return np.array(images), labels, np.array(places)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A small network that has learnt to see the square; its two classes are `no` and `yes`."""
    folder = tmp_path_factory.mktemp('trained')
    tf.random.set_seed(0)
    model = nets.create_model('mobilenet_v1_025', 2, image_size=SIZE, final_endpoint='Conv2d_5_pointwise')
    images, labels, _ = scenes(256, 0)
    images = images.astype(np.float32) / 127.5 - 1
    optimizer = tf.keras.optimizers.Adam(0.003)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits, _ = model.build(images, True, batch_norm_decay=lambda decay: 0.9)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables,
                                      strict=True))

    for number in range(120):
        batch = np.random.RandomState(number).choice(256, 32)
        step(images[batch], labels[batch])
    path = model.save(str(folder))
    (folder / 'labels.txt').write_text('0:no\n1:yes\n')
    return dict(model_name='mobilenet_v1_025', checkpoint_path=path, final_endpoint='Conv2d_5_pointwise',
                image_size=SIZE, eval_crop_fraction=1.0)


@pytest.fixture(scope='module')
def network(config):
    return Classifier(classifier_config(PredictConfig, config))


@pytest.fixture(scope='module')
def seen(network):
    """New scenes, as the network sees them, of those with the square; and where it is."""
    images, labels, places = scenes(40, 1)
    prepared = np.stack([network.preprocess(tf.constant(image)).numpy() for image in images])
    found = network.predict(prepared).argmax(1)
    assert (found == labels).mean() > 0.9   # it has learnt what is to be explained
    both = (labels == 1) & (found == 1)
    return prepared[both], places[both]


def shares(heats, places):
    """The part of the heat that lies on the square, of each image; by chance it is the square's part of the image."""
    return np.array([heat[top:top + OBJECT, left:left + OBJECT].sum() / heat.sum()
                     for heat, (top, left) in zip(heats, places, strict=True)])


def hits(heats, places):
    """How often the hottest point is on the square, or no further from it than a cell of the last map."""
    margin, count = 8, 0
    for heat, (top, left) in zip(heats, places, strict=True):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        count += top - margin <= row < top + OBJECT + margin and left - margin <= column < left + OBJECT + margin
    return count / len(places)


def test_gradcam_finds_the_object(network, seen):
    prepared, places = seen
    explain = explaining.GradCam(network)
    assert explain.endpoint == 'Conv2d_5_pointwise'
    heats = explain(prepared, np.ones(len(prepared), np.int64))
    assert heats.shape == (len(prepared), SIZE, SIZE) and heats.min() >= 0
    assert hits(heats, places) >= 0.9
    assert np.mean(shares(heats, places)) > 3 * (OBJECT / SIZE) ** 2


def test_occlusion_finds_the_object(network, seen):
    prepared, places = seen[0][:8], seen[1][:8]
    heats = explaining.occlusion(network, prepared, np.ones(8, np.int64))
    assert heats.shape == (8, SIZE, SIZE) and heats.min() >= 0
    assert hits(heats, places) >= 0.9
    assert np.mean(shares(heats, places)) > 3 * (OBJECT / SIZE) ** 2


def test_gradcam_is_the_papers(network, seen):
    """arXiv:1610.02391, equations 1 and 2, by a tape over the classifier that stands behind the map."""
    image = seen[0][:1]
    model = network.model
    maps = model.endpoints(tf.constant(image), ['Conv2d_5_pointwise'])['Conv2d_5_pointwise']
    kernel, bias = model.by_name['Head/Logits/weights'], model.by_name['Head/Logits/biases']
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = (tf.reduce_mean(maps, [1, 2]) @ tf.reshape(kernel, [-1, 2]) + bias)[0, 1]
    alpha = tf.reduce_mean(tape.gradient(score, maps), [1, 2])
    expected = tf.image.resize(tf.nn.relu(tf.einsum('bc,bhwc->bhw', alpha, maps))[..., tf.newaxis], [SIZE, SIZE])
    np.testing.assert_allclose(explaining.GradCam(network)(image, np.array([1]))[0], expected[0, ..., 0], rtol=1e-3,
                               atol=1e-6)


@pytest.mark.parametrize('kind', ['gradcam', 'occlusion'])
def test_the_pictures(config, tmp_path, capfd, kind):
    """As a user asks for them: one for each image, whatever the names."""
    images, labels, places = scenes(2, 2)
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(images[1]).save(tmp_path / folder / 'ü $x.png')
    flags = [f'--{name}={value}' for name, value in config.items()]
    code = predict_image_classifier.main(['predict', str(tmp_path / 'a'), str(tmp_path / 'b'), *flags,
                                          f'--explain={kind}', f'--explain_dir={tmp_path}/out', '--explain_class=yes'])
    out, err = capfd.readouterr()
    assert code == 0 and f'The pictures are in {tmp_path}/out.' in err
    assert sorted(os.listdir(tmp_path / 'out')) == [f'b_ü $x.yes.{kind}.png', f'ü $x.yes.{kind}.png']
    picture = np.asarray(PIL.Image.open(tmp_path / 'out' / f'ü $x.yes.{kind}.png').convert('RGB'))
    height, width = picture.shape[:2]
    assert (width, height) == (800, 440)


@pytest.mark.parametrize('flags, message', [
    (['--explain_class=maybe'], "--explain_class: Unknown class 'maybe'"),
    (['--explain_class=2'], "--explain_class: Unknown class '2'"),
    (['--explain_endpoint=Mixed_5c'], "Unknown endpoint with a map 'Mixed_5c'"),
    (['--explain=grad'], '--explain=grad: did you mean gradcam?'),
    (['--explain=occlusion', '--explain_endpoint=Conv2d_5_pointwise'], '--explain_endpoint is of --explain=gradcam.'),
])
def test_a_mistake(config, tmp_path, capfd, flags, message):
    PIL.Image.fromarray(scenes(1, 0)[0][0]).save(tmp_path / 'a.png')
    given = [f'--{name}={value}' for name, value in config.items()]
    code = predict_image_classifier.main(['predict', str(tmp_path / 'a.png'), *given, '--explain=gradcam', *flags,
                                          f'--explain_dir={tmp_path}/out'])
    out, err = capfd.readouterr()
    assert code == 2 and out == '' and message in err and not (tmp_path / 'out').exists()


def test_networks_without_maps(tmp_path):
    model = nets.create_model('lenet', 2, image_size=16)
    path = model.save(str(tmp_path))
    config = classifier_config(PredictConfig, dict(model_name='lenet', checkpoint_path=path, image_size=16))
    network = Classifier(config)
    assert explaining.GradCam(network).endpoint == 'pool2'
    network.model.endpoint_shapes = {name: [None, 10] for name in network.model.endpoint_shapes}
    with pytest.raises(ConfigError, match='lenet has no endpoint with a map; --explain=occlusion needs none'):
        explaining.GradCam(network)
