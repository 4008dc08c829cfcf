"""Training parts of a network: cut networks, heads of one's own, frozen batch norm, two classes as one logit."""
import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from datasets import dataset_factory
from nets.checkpoints import CheckpointError, Reader
from training import config, evaluation, extract_config, extraction, loop
from training.config import ConfigError, TrainConfig
from training.data import open_dataset, training_batches
from training.trainer import Trainer, make_model

CUT = dict(model_name='inception_v1', final_endpoint='Mixed_3b', trainable_scopes='Head', dataset_name='digits',
           preprocessing_name='lenet', train_image_size=32, batch_size=8, max_number_of_steps=2,
           num_preprocessing_threads=1)


def quiet(line):
    pass


def values(path):
    reader = Reader(str(path))
    return {name: reader.value(name) for name in reader.shapes}


@pytest.mark.parametrize('freeze', [True, False])
def test_a_head_is_trained_on_a_cut_network(tmp_path, freeze):
    """What is not trained stays; with frozen batch norm its moving averages too, as TF-Slim's did not."""
    network = nets.create_model('inception_v1', 1001, image_size=32, channels=1)
    start = values(network.save(str(tmp_path / 'published')))
    settings = TrainConfig(**CUT, train_dir=str(tmp_path / 'run'), checkpoint_path=str(tmp_path / 'published'),
                           hidden_units='16', freeze_batch_norm=freeze)
    end = values(loop.train(settings, quiet))
    kept = {name for name in end if name in start and name != 'global_step'}
    assert {name for name in kept if 'Mixed_3b' in name} and not {name for name in kept if 'Mixed_3c' in name}
    changed = {name for name in kept if np.any(start[name] != end[name])}
    assert changed == (set() if freeze else {name for name in kept if '/moving_' in name})
    assert {name for name in end if name.startswith('Head/') and 'RMSProp' not in name} == {
        f'Head/{layer}/{leaf}' for layer in ('fc1', 'Logits') for leaf in ('weights', 'biases')}
    results = evaluation.evaluate(config.eval_config({'checkpoint_path': str(tmp_path / 'run')}), quiet)
    assert results['num_images'] == 360
    # Extraction knows the classifier too.
    extract = extract_config.extract_config(dict(
        checkpoint_path=str(tmp_path / 'run'), dataset_name='digits', dataset_split_name='test',
        endpoints='Mixed_3b,Head/fc1,Logits', pool='avg', output_dir=str(tmp_path / 'features'), batch_size=40))
    extraction.extract(extract, quiet)
    found = np.load(tmp_path / 'features/features-00000-of-00001.npz')
    assert (found['Mixed_3b'].shape, found['Head/fc1'].shape) == ((360, 256), (360, 16))
    assert np.mean(found['Logits'].argmax(1) == found['labels']) == results['Accuracy']


def test_the_loss_of_two_classes_is_keras_binary_cross_entropy(tmp_path):
    settings = TrainConfig(**{**CUT, 'trainable_scopes': None}, train_dir=str(tmp_path), label_smoothing=0.1,
                           class_mode='binary')
    dataset = dataset_factory.get_dataset('digits', 'train', None)
    with pytest.raises(ConfigError, match='class_mode=binary: it is for two classes; digits has 10'):
        Trainer(settings, dataset, 32, 1)
    dataset.num_classes = 2
    trainer = Trainer(settings, dataset, 32, 1)
    assert trainer.model.num_classes == 1
    trainer_decay = trainer.model.regularization_loss()
    images, labels = tf.random.stateless_normal([8, 32, 32, 1], [0, 0]), tf.constant([1, 0, 0, 1, 1, 0, 1, 0], tf.int64)
    logits, _ = tf.function(lambda: trainer.model.build(images, True), autograph=False)()
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)(labels[:, None], logits)
    loss, accuracy, _ = tf.function(trainer.step, autograph=False)(images, labels)
    np.testing.assert_allclose(loss - trainer_decay, expected, rtol=1e-4)
    assert accuracy == np.mean((logits[:, 0] > 0) == (labels > 0))


def test_published_weights_are_asked_for_by_name(tmp_path, monkeypatch):
    """Where they come from is tested in tests/nets/test_published.py; here, that it is the network's own."""
    prefix = nets.create_model('inception_v1', 1001, image_size=32, channels=1).save(str(tmp_path / 'published'))
    asked = []
    monkeypatch.setattr('nets.weights.published.of', lambda row: asked.append(row.name) or prefix)
    lines = []
    loop.train(TrainConfig(**CUT, train_dir=str(tmp_path / 'run'), pretrained=True), lines.append)
    assert asked == ['inception_v1'] and f'Starting from the weights of {prefix}.' in lines


def test_weights_of_another_network_are_refused_before_anything_is_written(tmp_path):
    other = nets.create_model('lenet', 10).save(str(tmp_path / 'lenet'))
    with pytest.raises(CheckpointError, match=r'another network \(lenet\)'):
        loop.train(TrainConfig(**CUT, train_dir=str(tmp_path / 'run'), checkpoint_path=other), quiet)
    assert not (tmp_path / 'run').exists()


def test_augmentation_reaches_the_images(tmp_path):
    def batch(**augmentation):
        settings = TrainConfig(**{**CUT, 'preprocessing_name': 'keras'}, train_dir=str(tmp_path), **augmentation)
        return next(iter(training_batches(settings, open_dataset(settings), 32)))[0].numpy().astype(float)

    plain, turned = batch(), batch(rotation_range=40.0, fill_mode='constant')
    assert np.abs(plain - turned).max(axis=(1, 2, 3)).min() > 0.05 * 255    # of pixels; 0.1 where they lie in [-1, 1]
    np.testing.assert_array_equal(plain, batch(fill_mode='wrap'))      # nothing leaves the picture


@pytest.mark.parametrize('given, words', [
    (dict(hidden_units='1024;512'), '--hidden_units=1024;512: it must be whole numbers with commas'),
    (dict(hidden_units='0'), '--hidden_units=0: each must be above 0'),
    (dict(pool='mean'), '--pool=mean: .*must be one of avg, max, avgmax, catavgmax, flatten'),
    (dict(pretrained=True, checkpoint_path='x'), '--pretrained and --checkpoint_path both'),
    (dict(freeze_batch_norm=True), 'nothing is frozen without --trainable_scopes'),
    (dict(rotation_range=3.0), '--rotation_range is of the preprocessing `keras`: add --preprocessing_name=keras'),
    (dict(fill_mode='mirror'), '--fill_mode=mirror: it must be one of nearest'),
])
def test_wrong_settings_are_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig(model_name='inception_v1', **given)


def test_padding_as_pytorchs_reaches_the_network(tmp_path):
    dataset = dataset_factory.get_dataset('digits', 'train', None)
    plain, padded = (make_model(TrainConfig(**CUT, train_dir=str(tmp_path), padding=padding), dataset, 32, 1)
                     for padding in ('tf_slim', 'torch'))
    padded.adopt({name: plain.by_name[name] for name in padded.by_name})
    images = tf.random.stateless_uniform([1, 32, 32, 1], [0, 0], -1, 1)
    ours, theirs = (model.endpoints(images, 'Conv2d_1a_7x7')['Conv2d_1a_7x7'].numpy() for model in (plain, padded))
    np.testing.assert_allclose(theirs, tf.nn.relu(_normalised(tf.nn.conv2d(
        images, plain.by_name['InceptionV1/Conv2d_1a_7x7/weights'], 2, [[0, 0], [3, 3], [3, 3], [0, 0]]))), atol=1e-4)
    assert np.abs(ours - theirs).max() > 0.01
    with pytest.raises(ConfigError, match="--padding=torch: vgg_a has no other padding than TF-Slim's"):
        make_model(TrainConfig(model_name='vgg_a', padding='torch'), dataset, 224, 1)


def _normalised(net):
    return net / np.sqrt(1 + 1e-3)      # by batch norm's initial statistics


def test_the_names_of_poolings_are_those_of_the_networks():
    from nets import heads
    assert config.POOLS == heads.POOLS


def test_a_cut_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be built so: .*endpoint .*'Mixed_9z'.*did you mean"):
        loop.train(TrainConfig(**{**CUT, 'final_endpoint': 'Mixed_9z'}, train_dir=str(tmp_path / 'run')), quiet)
    assert not (tmp_path / 'run').exists()
