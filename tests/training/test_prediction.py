"""Prediction: the answers, where names come from, the formats, what cannot be read, and what is refused."""
import csv
import io
import json
import os
import signal
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import eval_image_classifier
import nets
import predict_image_classifier
import train_image_classifier
from datasets import dataset_factory
from datasets.registry import DATASETS
from nets import checkpoints
from nets.weights import published
from preprocessing import preprocessing_factory
from training import prediction
from training.classifier import Classifier, open_classifier
from training.classifier_config import classifier_config
from training.config import ConfigError
from training.console import Interrupted, RunError
from training.predict_config import PredictConfig


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A LeNet that has learnt the digits somewhat."""
    folder = tmp_path_factory.mktemp('trained')
    assert train_image_classifier.main([
        'train', '--model_name=lenet', '--dataset_name=digits', '--train_image_size=16', '--optimizer=adam',
        '--opt_epsilon=1e-7', '--learning_rate=0.003', '--learning_rate_decay_type=fixed', '--max_number_of_steps=60',
        '--moving_average_decay=0.9', f'--train_dir={folder}']) == 0
    return folder


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """The held-out digits as files, with their labels for names: `digits/7/12.png`."""
    folder, labels = tmp_path_factory.mktemp('photos') / 'digits', {}
    dataset = dataset_factory.get_dataset('digits', 'test')
    for number, example in enumerate(dataset.as_tf_data().as_numpy_iterator()):
        path = folder / str(example['label']) / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example['image'])
        labels[str(path)] = int(example['label'])
    return folder, labels


def weights(folder, num_classes, network='mobilenet_v1_025', **kwargs):
    tf.random.set_seed(1)
    model = nets.create_model(network, num_classes, **kwargs)
    return model, model.save(str(folder))


def run(capfdbinary, *arguments):
    code = predict_image_classifier.main(['predict', *map(str, arguments)])
    out, err = capfdbinary.readouterr()
    assert b'Traceback' not in err
    return code, out, err.decode()


def configured(**given):
    return classifier_config(PredictConfig, given)


def predicted(images, stdin=None, **given):
    out = io.BytesIO()
    prediction.predict(configured(**given), [str(image) for image in images], stdin, out, lambda line: None)
    return out.getvalue().decode('utf-8', 'surrogateescape')


def noise(path, size=(20, 24), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.RandomState(seed).randint(0, 256, (*size, 3), np.uint8)).save(path)
    return path


class Terminal(io.BytesIO):
    def isatty(self):
        return True


def test_as_the_evaluation_counts(trained, photos, capfdbinary):
    """Nothing need be said but where the training is: the same size, averages, names and answers."""
    folder, labels = photos
    code, out, err = run(capfdbinary, folder, f'--checkpoint_path={trained}', '--format=csv', '--top_k=5')
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out.decode())))
    assert [row['image'] for row in rows] == sorted(labels, key=lambda path: path.split('/'))
    assert eval_image_classifier.main(['eval', f'--checkpoint_path={trained}']) == 0
    capfdbinary.readouterr()
    results = json.loads((trained / 'eval' / 'eval_results.json').read_text())
    first = np.mean([int(row['label']) == labels[row['image']] for row in rows])
    fifth = np.mean([labels[row['image']] in [int(row[f'label{rank}']) for rank in ('', '_2', '_3', '_4', '_5')]
                     for row in rows])
    assert 0.5 < first < 1
    assert (first, fifth) == pytest.approx((results['Accuracy'], results['Recall_5']))
    assert all(row['class'] == row['label'] for row in rows)       # the digits' names
    assert 'names from' in err and 'labels.txt' in err and '360 images in' in err


def test_the_probabilities_are_the_networks(tmp_path):
    """Of a network of another origin: decoded by Pillow, TF-Slim's preprocessing, the network itself."""
    model, path = weights(tmp_path / 'weights', 1001, image_size=128)
    image = noise(tmp_path / 'a.png', (150, 130))
    pixels = tf.constant(np.asarray(PIL.Image.open(image)))
    seen = preprocessing_factory.get_preprocessing('mobilenet_v1_025')(pixels, 128, 128)
    expected = tf.nn.softmax(model(seen[tf.newaxis]))[0].numpy()
    found, = predicted([image], model_name='mobilenet_v1_025', checkpoint_path=path, format='jsonl',
                       top_k=2000).splitlines()
    found = json.loads(found)['predictions']
    assert len(found) == 1001 and sorted(found, key=lambda row: -row['probability']) == found
    for row in found:
        assert row['probability'] == pytest.approx(expected[row['label']], rel=1e-3, abs=2e-7)
        assert row['class'] == DATASETS['imagenet'].class_names[row['label']]


@pytest.mark.parametrize('count, names', [(1000, DATASETS['imagenet'].class_names[1:]),
                                          (7, [f'class {label}' for label in range(7)])])
def test_names_of_other_weights(tmp_path, count, names):
    _, path = weights(tmp_path, count, image_size=32)
    config = configured(model_name='mobilenet_v1_025', checkpoint_path=path, image_size=32)
    assert Classifier(config).class_names == list(names)


def test_names_of_a_file(tmp_path):
    _, path = weights(tmp_path / 'weights', 3, image_size=32)
    file = tmp_path / 'my names.txt'
    given = dict(model_name='mobilenet_v1_025', checkpoint_path=path, image_size=32, labels_file=str(file))
    file.write_bytes('\ufeff0:Gänseblümchen\r\n2:rose, "red"\r\n'.encode())
    assert Classifier(configured(**given)).class_names == ['Gänseblümchen', 'class 1', 'rose, "red"']
    file.write_text('0:background\n1:a\n2:b\n3:c\n')
    assert Classifier(configured(**given)).class_names == ['a', 'b', 'c']
    file.write_text('0:z\n1:a\n2:b\n3:c\n')
    with pytest.raises(ConfigError, match='names.txt names the classes 0 to 3, but the network has 3'):
        Classifier(configured(**given))
    file.write_text('0:a\n1:b\n')     # as 1000 names for 1001 classes
    with pytest.raises(ConfigError, match="0 to 1, but the network has 3; TF-Slim's have a class 0, background"):
        Classifier(configured(**given))


def test_a_training_with_an_offset_keeps_its_names(tmp_path):
    for name in ('background', 'lark', 'wren'):
        for number in range(4):
            noise(tmp_path / 'birds' / name / f'{number}.png', seed=number)
    assert train_image_classifier.main([
        'train', '--model_name=lenet', '--dataset_name=image_folder', f'--dataset_dir={tmp_path}/birds',
        '--train_image_size=16', '--batch_size=4', '--labels_offset=1', '--max_number_of_steps=1',
        '--trainable_scopes=LeNet/fc4', f'--train_dir={tmp_path}/run']) in (0, 1)   # labels below 0 may stop it
    assert (tmp_path / 'run' / 'labels.txt').read_text() == '0:lark\n1:wren\n'


@pytest.mark.parametrize('mode', ['binary', 'multilabel'])
def test_probabilities_of_sigmoids(tmp_path, mode):
    model, path = weights(tmp_path / 'weights', 1 if mode == 'binary' else 3, 'lenet', image_size=16, channels=3)
    image = noise(tmp_path / 'a.png')
    seen = preprocessing_factory.get_preprocessing('lenet')(np.asarray(PIL.Image.open(image)), 16, 16)
    logits = model(seen[tf.newaxis])[0].numpy()
    yes = 1 / (1 + np.exp(-logits))
    expected = [1 - yes[0], yes[0]] if mode == 'binary' else yes
    found = json.loads(predicted([image], model_name='lenet', checkpoint_path=path, image_size=16, class_mode=mode,
                                 format='jsonl'))['predictions']
    np.testing.assert_allclose([row['probability'] for row in sorted(found, key=lambda row: row['label'])], expected,
                               rtol=1e-4)


def test_the_table(trained, photos):
    image = next(iter(photos[1]))
    lines = predicted([image, image], checkpoint_path=str(trained), top_k=2).splitlines()
    width = len(image)
    assert lines[0] == f'{"image":<{width}}  probability  class' and len(lines) == 5
    assert lines[1].startswith(f'{image}  ') and lines[2].startswith(' ' * width) and lines[3:] == lines[1:3]


def test_unreadable_images_are_told_and_passed_over(trained, photos, tmp_path, capfdbinary):
    good = noise(tmp_path / 'mixed' / 'c.png')
    (tmp_path / 'mixed' / 'a.jpg').write_bytes(b'')
    (tmp_path / 'mixed' / 'b.png').write_bytes(good.read_bytes()[:300])
    (tmp_path / 'mixed' / 'd.txt').write_text('no image')
    code, out, err = run(capfdbinary, tmp_path / 'mixed', f'--checkpoint_path={trained}', '--format=csv')
    assert code == 0 and [row[0] for row in csv.reader(io.StringIO(out.decode()))] == ['image', str(good)]
    for name in 'a.jpg', 'b.png':
        assert err.count(f'mixed/{name} cannot be read as an image: ') == 1
    assert '1 image in ' in err and '2 cannot be read, and were passed over' in err
    os.remove(good)
    code, out, err = run(capfdbinary, tmp_path / 'mixed', f'--checkpoint_path={trained}')
    assert code == 1 and out == b'' and err.endswith('predict: none of the 2 images can be read.\n')


def test_standard_input(trained, photos):
    folder, labels = photos
    images = list(labels)[:3]
    options = dict(checkpoint_path=str(trained), format='jsonl', top_k=1)
    expected = predicted(images, **options)
    assert predicted(['-'], io.BytesIO('\r\n'.join(['', *images]).encode()), **options) == expected
    one = predicted(['-'], open(images[0], 'rb'), **options)
    assert json.loads(one) == {**json.loads(expected.splitlines()[0]), 'image': '-'}


def test_names_that_no_format_may_break(trained, tmp_path):
    names = ['a,"b"\n.png', 'ünï 日本.png', os.fsdecode(b'\xff\xfe.png'), '\x1b[31mred.png']
    images = [noise(tmp_path / name) for name in names]
    options = dict(checkpoint_path=str(trained), top_k=1)
    rows = list(csv.DictReader(io.StringIO(predicted(images, format='csv', **options), newline='')))
    assert [row['image'] for row in rows] == [str(image) for image in images]
    lines = [json.loads(line) for line in predicted(images, format='jsonl', **options).splitlines()]
    assert [line['image'] for line in lines][:2] == [str(image) for image in images[:2]] and len(lines) == 4
    table = predicted(images, **options)
    assert table.count('\n') == 5 and '\x1b' not in table


def test_images_are_read_as_they_are_needed(trained, photos):
    """However long the list, only some batches of it are in memory."""
    taken, image = [], next(iter(photos[1]))

    class Endless(io.RawIOBase):
        def readline(self, size=-1):
            taken.append(image)
            return f'{image}\n'.encode()

        def __iter__(self):
            while True:
                yield self.readline()

    class Full(Exception):
        pass

    class Out(io.BytesIO):
        def write(self, data):
            if self.tell() > 20_000:
                raise Full
            return super().write(data)

    with pytest.raises(Full):
        prediction.predict(configured(checkpoint_path=str(trained), batch_size=4, format='csv'), ['-'], Endless(),
                           out := Out(), lambda line: None)
    written = out.getvalue().count(b'\n')
    assert 100 < written and len(taken) - written < 20


def test_the_file_is_whole_or_not_there(trained, photos, tmp_path, monkeypatch):
    images, path = list(photos[1])[:9], tmp_path / 'found.csv'
    options = dict(checkpoint_path=str(trained), output=str(path), batch_size=4, top_k=1)
    inner = Classifier.predict

    def stopped(self, batch):
        signal.raise_signal(signal.SIGINT)
        return inner(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, 'predict', stopped)
        with pytest.raises(Interrupted, match='Stopped after 4 images; they are in .*found.csv.part.') as caught:
            predicted(images, **options)
    assert caught.value.exit_code == 130
    assert os.listdir(tmp_path) == ['found.csv.part'] and path.with_suffix('.csv.part').read_text().count('\n') == 5
    predicted(images, **options)
    assert os.listdir(tmp_path) == ['found.csv'] and len(list(csv.DictReader(path.open()))) == 9
    with pytest.raises(ConfigError, match='found.csv is there already: --overwrite replaces it'):
        configured(**options)
    predicted(images[:2], **options, overwrite=True)
    assert len(list(csv.DictReader(path.open()))) == 2


def test_a_full_disk(trained, photos, tmp_path, full_disk):
    predicted([next(iter(photos[1]))], checkpoint_path=str(trained))
    with full_disk(4096), pytest.raises(RunError, match='found.csv cannot be written: File too large'):
        predicted([photos[0]], checkpoint_path=str(trained), output=str(tmp_path / 'found.csv'))
    assert not (tmp_path / 'found.csv').exists()


@pytest.mark.parametrize('arguments, code, message', [
    ([], 2, 'Say which images: files, folders, or - for a list of files on standard input.'),
    (['-', '-'], 2, '- stands for standard input, which can be read once.'),
    (['nothing.jpg'], 2, 'There is no image or folder nothing.jpg.'),
    (['.', '--checkpoint_path=nowhere'], 2, 'There is no checkpoint nowhere: '),
    (['.'], 1, 'There are no images in . (.jpg, '),
    (['.', '--model_name=lenet'], 2, 'Give --checkpoint_path, or --pretrained for the published weights of lenet.'),
    (['.', '--pretrained'], 2, '--pretrained: say of which network, by --model_name'),
    (['.', '--pretrained', '--model_name=lenet'], 2, 'there are no published weights of lenet, only of vgg_16, '),
    (['.', '--top_k=0'], 2, '--top_k=0: it must be at least 1.'),
    (['.', '--fromat=csv'], 2, '--fromat is not a flag: did you mean --format?'),
    (['.', '--explain_class=3'], 2, '--explain_class says what is explained: add --explain=gradcam.'),
    (['.', '--preprocessing_name=lenett'], 2, "did you mean 'lenet'?"),
    (['.', '--preprocessing_name=lenet', '--eval_crop_fraction=0.5'], 2, 'has no crop to choose'),
    (['.', '--labels_file=none.txt'], 1, 'none.txt cannot be read'),
    (['.', '--image_size=1000000'], 2, '--image_size=1000000: it must be at most 8192.'),
])
def test_a_mistake(trained, tmp_path, monkeypatch, capfdbinary, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    if arguments[:1] == ['.'] and len(arguments) > 1:
        noise(tmp_path / 'a.png')
    named = any(word.startswith(('--checkpoint_path', '--pretrained', '--model')) for word in arguments)
    found, out, err = run(capfdbinary, *arguments, *([] if named else [f'--checkpoint_path={trained}']))
    assert found == code and out == b'' and message in err and err.count('\n') == 1


def test_published_weights(tmp_path, monkeypatch):
    """An archive as TF-Slim publishes them: unpacked, with ImageNet's names, at its own size."""
    monkeypatch.setenv('SLIM_ZOO_CACHE', str(tmp_path / 'cache'))
    model, path = weights(tmp_path / 'weights', 1001)
    with tarfile.open(tmp_path / 'mobilenet_v1_0.25_128.tar.gz', 'w:gz') as archive:
        for file in (tmp_path / 'weights').glob('model.ckpt-*'):
            archive.add(file, file.name)
    monkeypatch.setattr(published, 'of', lambda row: str(tmp_path / 'mobilenet_v1_0.25_128.tar.gz'))
    network = Classifier(configured(model_name='mobilenet_v1_025', pretrained=True))
    assert network.size == 128 and network.class_names[20] == 'chickadee'
    images = np.random.RandomState(0).uniform(-1, 1, (2, 128, 128, 3)).astype(np.float32)
    np.testing.assert_allclose(network.predict(images), tf.nn.softmax(model(images)), rtol=1e-3, atol=1e-7)


class Foreign(tf.Module):
    """A network of somebody else's: the mean colour decides."""

    def __init__(self, outputs, size=8, channels=3):
        super().__init__()
        self.kernel = tf.Variable(np.random.RandomState(0).normal(size=(channels, 4)).astype(np.float32))
        self.outputs, self.spec = outputs, tf.TensorSpec([None, size, size, channels], name='pixels')

    def signature(self):
        def serve(pixels):
            logits = tf.reduce_mean(pixels, [1, 2]) @ self.kernel
            every = {'logits': logits, 'probabilities': tf.nn.softmax(logits), 'anything': logits,
                     'features': tf.reduce_mean(pixels, 3)[..., tf.newaxis]}
            return {name: every[name] for name in self.outputs}

        return tf.function(serve, input_signature=[self.spec])


@pytest.mark.parametrize('outputs', [['logits', 'probabilities'], ['features', 'logits'], ['anything', 'features']])
def test_a_saved_model_of_others(tmp_path, outputs):
    module = Foreign(outputs)
    tf.saved_model.save(module, str(tmp_path / 'saved'), signatures={'serving_default': module.signature()})
    image = noise(tmp_path / 'a.png')
    (tmp_path / 'names.txt').write_text('0:a\n1:b\n2:c\n3:d\n')
    found = json.loads(predicted([image], checkpoint_path=str(tmp_path / 'saved'), format='jsonl',
                                 labels_file=str(tmp_path / 'names.txt'), preprocessing_name='cifarnet'))
    seen = preprocessing_factory.get_preprocessing('cifarnet')(np.asarray(PIL.Image.open(image)), 8, 8).numpy()
    expected = tf.nn.softmax(seen.mean((0, 1)) @ module.kernel.numpy()).numpy()
    for row in found['predictions']:
        assert row['probability'] == pytest.approx(expected[row['label']], rel=1e-4)
        assert row['class'] == 'abcd'[row['label']]


def test_a_saved_model_with_sigmoids(tmp_path):
    module = Foreign(['anything'])
    tf.saved_model.save(module, str(tmp_path / 'saved'), signatures={'serving_default': module.signature()})
    network = open_classifier(configured(checkpoint_path=str(tmp_path / 'saved'), class_mode='multilabel'))
    images = np.random.RandomState(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
    expected = 1 / (1 + np.exp(-images.mean((1, 2)) @ module.kernel.numpy()))
    np.testing.assert_allclose(network.predict(images), expected, rtol=1e-5)
    np.testing.assert_allclose(network.predict(images[:1] * 0), [[0.5] * 4], rtol=1e-5)     # as the first batch was


@pytest.mark.parametrize('given, message', [
    (dict(outputs=['features']), 'gives no row of probabilities or logits for each image'),
    (dict(outputs=['logits'], size=None), r'takes pixels float32 \(None, None, None, 3\), but should take a batch of'),
    (dict(outputs=['logits'], channels=5), r'\(None, 8, 8, 5\), but should take a batch of square images'),
])
def test_saved_models_that_are_no_classifiers(tmp_path, given, message):
    module = Foreign(**given)
    tf.saved_model.save(module, str(tmp_path), signatures={'serving_default': module.signature()})
    with pytest.raises(ConfigError, match=message):
        open_classifier(configured(checkpoint_path=str(tmp_path)))


def test_saved_models_that_are_damaged(tmp_path):
    (tmp_path / 'saved_model.pb').write_bytes(b'nothing')
    with pytest.raises(checkpoints.CheckpointError, match='is no SavedModel that can be loaded'):
        open_classifier(configured(checkpoint_path=str(tmp_path)))
    with pytest.raises(ConfigError, match='--image_size: .* is a SavedModel, whose network is what it is; leave it ou'):
        configured(checkpoint_path=str(tmp_path), image_size=32)
    with pytest.raises(ConfigError, match='--explain=gradcam: a SavedModel gives no gradients; take --explain=occlus'):
        configured(checkpoint_path=str(tmp_path), explain='gradcam')
