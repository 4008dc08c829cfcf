"""TensorFlow Datasets, by a dataset of its own kind that is made here."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from datasets import DatasetError
from datasets.dataset_factory import get_dataset

tfds = pytest.importorskip('tensorflow_datasets')

SIZES = {'train': 40, 'test': 9}


class SlimZooShapes(tfds.core.GeneratorBasedBuilder):
    """Images of one grey value, their number, in shards of a few records."""

    VERSION = tfds.core.Version('1.2.0')

    def _info(self):
        parts = tfds.features.ClassLabel(names=['round', 'red', 'big'])
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(encoding_format='png'), 'label': tfds.features.ClassLabel(names=['a', 'ü']),
            'parts': tfds.features.Sequence(parts), 'other': tfds.features.ClassLabel(num_classes=3),
            'text': tfds.features.Text()}), supervised_keys=('image', 'label'), license='CC BY 4.0')

    def _split_generators(self, download_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for i in range(SIZES[split]):
            yield i, {'image': np.full((6, 5, 3), i, np.uint8), 'label': i % 2, 'parts': list(range(i % 4)),
                      'other': i % 3, 'text': 'x'}


class SlimZooAlone(SlimZooShapes):
    """With one split, and nothing that says which label is meant."""

    def _info(self):
        info = super()._info()
        features = {key: info.features[key] for key in ('image', 'label', 'parts')}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {'train': self._generate_examples('train')}

    def _generate_examples(self, split):
        for i, example in super()._generate_examples(split):
            yield i, {key: example[key] for key in ('image', 'label', 'parts')}


class SlimZooText(tfds.core.GeneratorBasedBuilder):
    """No images."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            'text': tfds.features.Text(), 'label': tfds.features.ClassLabel(names=['a', 'b'])}))

    def _split_generators(self, download_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        yield 0, {'text': 'x', 'label': 0}


@pytest.fixture(scope='module', params=['tfrecord', 'array_record'])
def data_dir(request, tmp_path_factory):
    """Prepared by TensorFlow Datasets, in four files for train."""
    folder = str(tmp_path_factory.mktemp(f'tfds {request.param}'))
    for name in ('slim_zoo_shapes', 'slim_zoo_alone'):
        builder = tfds.builder(name, data_dir=folder, file_format=request.param)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=4))
    return folder


def test_there_are_several_files(data_dir):
    assert len(tfds.builder('slim_zoo_shapes', data_dir=data_dir).info.splits['train'].filepaths) == 4


def theirs(data_dir, split, name='slim_zoo_shapes'):
    """What TensorFlow Datasets itself reads."""
    builder = tfds.builder(name, data_dir=data_dir)
    if builder.info.file_format.value == 'array_record':
        return list(builder.as_data_source(split))
    return list(builder.as_dataset(split).as_numpy_iterator())


@pytest.mark.parametrize('split', ['train', 'test', 'train[7:25]', 'train[:10%]+test'])
def test_reads_what_they_read(data_dir, grey, split):
    dataset = get_dataset('tfds:slim_zoo_shapes', split, data_dir)
    expected = theirs(data_dir, split)
    found = list(dataset.as_tf_data().as_numpy_iterator())
    assert dataset.num_samples == len(expected) == len(found)
    assert sorted((grey(e), e['label']) for e in found) == sorted((e['image'][0, 0, 0], e['label']) for e in expected)
    assert all(e['image'].startswith(b'\x89PNG') for e in found)
    assert (dataset.name, dataset.num_classes, dataset.channels) == ('tfds:slim_zoo_shapes', 2, 3)
    assert dataset.labels_to_names == {0: 'a', 1: 'ü'} and dataset.licence == 'CC BY 4.0'
    assert dataset.find_fault() is None and sum(dataset.class_counts()) == len(expected)


def test_several_labels(data_dir, grey):
    dataset = get_dataset('tfds:slim_zoo_shapes', 'train', data_dir, label_key='parts')
    assert dataset.multi_label and dataset.num_classes == 3 and dataset.find_fault() is None
    for element in dataset.as_tf_data(shuffle=True).as_numpy_iterator():
        np.testing.assert_array_equal(element['label'], range(grey(element) % 4))
    assert dataset.class_counts() == [30, 20, 10]


def test_order_is_a_function_of_seed_and_position(data_dir):
    dataset = get_dataset('tfds:slim_zoo_shapes', 'train[3:33]', data_dir)

    def sources(count=None, **kwargs):
        data = dataset.as_tf_data(shuffle=True, repeat=True, **kwargs).take(count)
        return [element['source'] for element in data.as_numpy_iterator()]

    whole = sources(90, seed=5)
    assert all(len(set(whole[i:i + 30])) == 30 for i in (0, 30, 60)) and whole[:30] != whole[30:60]
    assert sources(20, seed=5, start=17) == whole[17:37] and sources(30, seed=6) != whole[:30]


def test_versions_and_configs_are_tensorflow_datasets_own(data_dir):
    assert get_dataset('tfds:slim_zoo_shapes:1.2.0', 'test', data_dir).num_samples == 9
    assert get_dataset('tfds:slim_zoo_shapes:1.*.*', 'test', data_dir).num_samples == 9
    with pytest.raises(DatasetError, match='2.0.0'):
        get_dataset('tfds:slim_zoo_shapes:2.0.0', 'test', data_dir)


def test_of_train_alone_a_fraction_is_held_out(data_dir, grey):
    def greys(split, **options):
        dataset = get_dataset('tfds:slim_zoo_alone', split, data_dir, label_key='label', **options)
        return [grey(element) for element in dataset.as_tf_data().as_numpy_iterator()]

    assert len(greys('validation')) == 4 and len(greys('train', validation_fraction=0)) == 40
    train, held_out = (greys(split, validation_fraction=0.25) for split in ('train', 'validation'))
    assert len(held_out) == 10 and sorted(train + held_out) == list(range(40))
    with pytest.raises(DatasetError, match='splits train, test, so there is no validation_fraction'):
        get_dataset('tfds:slim_zoo_shapes', 'train', data_dir, validation_fraction=0.1)


def test_what_is_not_prepared_is(tmp_path):
    assert get_dataset('tfds:slim_zoo_shapes', 'test', str(tmp_path)).num_samples == 9


@pytest.mark.parametrize('name, split, options, words', [
    ('slim_zoo_shape', 'train', {}, ["'slim_zoo_shape'", "did you mean 'slim_zoo_shapes'"]),
    ('slim_zoo_shapes', 'trian', {}, ["'trian' is no split of tfds:slim_zoo_shapes", "'train'"]),
    ('slim_zoo_shapes', 'train[90:]', {}, ['train[90:]']),
    ('slim_zoo_shapes', 'train', {'label_key': 'labels'}, ["'labels' is no label", 'label, parts, other']),
    ('slim_zoo_alone', 'train', {}, ['more than one label', 'label_key should be label or parts']),
    ('slim_zoo_text', 'train', {}, ['not images with classes', 'text, label', 'an image']),
    ('slim_zoo_shapes', 'train', {'file_pattern': '*'}, ['no file_pattern']),
])
def test_errors(tmp_path, name, split, options, words):
    with pytest.raises(DatasetError) as error:
        get_dataset(f'tfds:{name}', split, str(tmp_path), **options)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert '\n' not in str(error.value)


def test_in_a_graph(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = get_dataset('tfds:slim_zoo_shapes', 'test', str(tmp_path))
        provider = slim.dataset_data_provider.DatasetDataProvider(dataset, num_readers=1, shuffle=False)
        image, label = provider.get(['image', 'label'])
        session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.local_variables_initializer()])
        coordinator = tf.compat.v1.train.Coordinator()
        threads = tf.compat.v1.train.start_queue_runners(session, coordinator)
        found = [session.run([image, label]) for _ in range(9)]
        coordinator.request_stop()
        coordinator.join(threads, stop_grace_period_secs=20)
    assert sorted((int(image[0, 0, 0]), int(label)) for image, label in found) == [(i, i % 2) for i in range(9)]


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'tensorflow_datasets', None)
    with pytest.raises(DatasetError, match=r"pip install 'slim-zoo\[tfds\]'"):
        get_dataset('tfds:mnist', 'train')
