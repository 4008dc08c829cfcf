"""Extraction of endpoints: the values, the order, the formats, resuming, workers, and what is refused."""
import dataclasses
import filecmp
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import extract_endpoints
import nets
from datasets import DatasetError, dataset_factory, decode_image
from nets import checkpoints, registry
from preprocessing import preprocessing_factory
from training import extraction, restoring
from training.config import ConfigError
from training.console import Interrupted, RunError
from training.extract_config import ExtractConfig, extract_config
from training.extract_shards import Shard

ROOT = pathlib.Path(__file__).parents[2]
SIZE = 16
NAMES = ['a-b.png', 'a.png', 'a/2.png', 'a/b/1.png', 'a/é.jpg', 'c/10.png', 'c/9.png']     # sorted
ENDPOINTS = ['conv1', 'fc3', 'Logits']
FORMATS = ['npz', 'npy', 'hdf5', 'tfrecord']


@pytest.fixture(scope='module')
def model():
    tf.random.set_seed(0)
    return nets.create_model('lenet', 10, image_size=SIZE)


@pytest.fixture(scope='module')
def weights(model, tmp_path_factory):
    return checkpoints.save(str(tmp_path_factory.mktemp('weights')), 7, dict(model.by_name), keep=1)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A tree of noise, with files that are no images and hidden ones."""
    folder, random = tmp_path_factory.mktemp('photos'), np.random.RandomState(0)
    for name in [*NAMES, '.hidden.png', '.cache/1.png']:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(random.randint(0, 256, (20, 24), np.uint8)).save(folder / name)
    (folder / 'a' / 'read.me').write_text('no image')
    return folder


@pytest.fixture
def settings(weights, photos, tmp_path):
    """The config of a small extraction, with changes."""
    def make(**changes):
        source = {} if {'dataset_name', 'file_list'} & set(changes) else {'images': str(photos)}
        return ExtractConfig(**{**source, **dict(
            model_name='lenet', checkpoint_path=weights, image_size=SIZE, endpoints=','.join(ENDPOINTS), batch_size=2,
            images_per_shard=4, output_dir=str(tmp_path / 'features'), num_preprocessing_threads=2), **changes})

    return make


def quiet(*unused):
    pass


def index_of(folder):
    return json.loads((pathlib.Path(folder) / 'index.json').read_text())


def load(folder):
    """What the shards of a folder hold, by key, put together."""
    index = index_of(folder)
    assert index['complete']
    paths = [str(pathlib.Path(folder) / shard['name']) for shard in index['shards']]
    parts = [{'npz': np.load, 'npy': load_npy, 'hdf5': load_hdf5, 'tfrecord': load_tfrecord}[index['format']](path)
             for path in paths]
    for part, shard in zip(parts, index['shards'], strict=True):
        assert all(len(part[key]) == shard['num_images'] for key in part)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def load_npy(path):
    return {file.stem: np.load(file, mmap_mode='r') for file in pathlib.Path(path).iterdir()}


def load_hdf5(path):
    with h5py.File(path) as file:
        return {key: file[key].asstr()[:] if key == 'names' else file[key][:] for key in file}


def load_tfrecord(path):
    types = {name: row['dtype'] for name, row in index_of(pathlib.Path(path).parent)['endpoints'].items()}
    labels = index_of(pathlib.Path(path).parent)['has_labels']
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ['image/name', *types]}
    features |= {'image/class/label': tf.io.FixedLenFeature([], tf.int64)} if labels else {}

    def parse(record):
        example = tf.io.parse_single_example(record, features)
        return {**example, **{name: tf.io.parse_tensor(example[name], dtype) for name, dtype in types.items()}}

    examples = list(tf.data.TFRecordDataset(path).map(parse).as_numpy_iterator())
    told = {'names': np.array([example.pop('image/name').decode() for example in examples])}
    told |= {'labels': np.array([example.pop('image/class/label') for example in examples])} if labels else {}
    return {**told, **{name: np.stack([example[name] for example in examples]) for name in types}}


def one_by_one(model, files, names=ENDPOINTS):
    """The endpoints of images that are read, prepared and computed each by itself."""
    prepare = preprocessing_factory.get_preprocessing('lenet', use_grayscale=True)
    found = [model.endpoints(prepare(decode_image(tf.io.read_file(str(file)), 3), SIZE, SIZE)[None], names)
             for file in files]
    return {name: np.concatenate([row[name] for row in found]) for name in names}


def assert_close(found, expected):
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=key)


def assert_same_files(one, other):
    names = sorted(str(path.relative_to(one)) for path in pathlib.Path(one).rglob('*') if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in pathlib.Path(other).rglob('*') if path.is_file())
    assert filecmp.cmpfiles(one, other, names, shallow=False)[1:] == ([], [])


def test_values_are_those_of_the_images_one_by_one_in_sorted_order(settings, model, photos):
    index = extraction.extract(settings(), quiet)
    found = load(settings().output_dir)
    assert found['names'].tolist() == NAMES and 'labels' not in found
    assert_close(found, one_by_one(model, [photos / name for name in NAMES]))
    assert index == index_of(settings().output_dir)
    assert [shard['name'] for shard in index['shards']] == ['features-00000-of-00002.npz',
                                                            'features-00001-of-00002.npz']
    assert index['endpoints']['conv1'] == {'key': 'conv1', 'shape': [16, 16, 32], 'dtype': 'float32'}
    assert index['num_images'] == 7 and index['checkpoint'] == settings().checkpoint_path


@pytest.mark.parametrize('file_format', FORMATS)
def test_formats_and_a_dataset(settings, model, file_format):
    config = settings(dataset_name='digits', dataset_split_name='test', format=file_format, endpoints='Logits,conv1',
                      batch_size=50, images_per_shard=200)
    extraction.extract(config, quiet)
    found = load(config.output_dir)
    elements = list(dataset_factory.get_dataset('digits', 'test').as_tf_data().as_numpy_iterator())
    assert found['names'].tolist() == [element['source'].decode() for element in elements]
    assert found['labels'].tolist() == [element['label'] for element in elements]
    prepare = preprocessing_factory.get_preprocessing('lenet')
    images = tf.stack([prepare(decode_image(element['image'], 1), SIZE, SIZE) for element in elements])
    assert_close(found, model.endpoints(images, ['conv1', 'Logits']))


def test_records_by_pattern_and_several_labels(settings, tmp_path):
    example = tf.train.Example()
    example.features.feature['image/encoded'].bytes_list.value.append(
        tf.io.encode_png(np.zeros([9, 9, 1], np.uint8)).numpy())
    for file, labels in (('left', [4, 0]), ('right', [1])):
        with tf.io.TFRecordWriter(str(tmp_path / file)) as writer:
            for label in labels:
                example.features.feature['image/class/label'].int64_list.value[:] = [label]
                writer.write(example.SerializeToString())
    given = dict(dataset_name='tfrecord', dataset_dir=str(tmp_path), endpoints='Logits')
    extraction.extract(settings(**given, file_pattern='left', num_classes=7), quiet)
    assert load(settings().output_dir)['labels'].tolist() == [4, 0]
    assert extraction.open_images(settings(**given, file_pattern='left', num_classes=7))._dataset.num_classes == 7
    with pytest.raises(ConfigError, match=r'file_pattern is left there and l\*t here'):
        extraction.extract(settings(**given, file_pattern='l*t'), quiet)
    (tmp_path / 'train.csv').write_text('path,labels\na.png,cat|dog\nb.png,dog\n')
    with pytest.raises(DatasetError, match='--dataset_name=file_list: its images have several labels'):
        extraction.extract(settings(dataset_name='file_list', dataset_dir=str(tmp_path / 'train.csv'),
                                    validation_fraction=0.1), quiet)


def test_pooling_types_and_patterns(settings):
    extraction.extract(settings(output_dir=settings().output_dir + '0'), quiet)
    whole = load(settings().output_dir + '0')
    for number, (changes, expected, tolerance) in enumerate([
        (dict(pool='avg'), lambda values: values.mean((1, 2)), 1e-6),
        (dict(pool='max'), lambda values: values.max((1, 2)), 0),
        (dict(output_type='float16'), lambda values: values, 1e-3),
        (dict(precision='bfloat16'), lambda values: values, 3e-2),
    ], 1):
        config = settings(output_dir=f'{settings().output_dir}{number}', endpoints='conv1,Log*', **changes)
        extraction.extract(config, quiet)
        found = load(config.output_dir)
        assert set(found) == {'names', 'conv1', 'Logits'} and found['conv1'].dtype == config.output_type
        wanted = expected(whole['conv1'])
        assert np.abs(found['conv1'] - wanted).max() <= tolerance * np.abs(wanted).max()
        assert found['Logits'].shape == whole['Logits'].shape


# Runs an extraction that kills itself at a call of a method of Shard: settings as JSON, the method, the number of the
# call, and whether after it.
KILLED = '''
import json, os, signal, sys
from training import extract_config, extraction, extract_shards

settings, method, call = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, calls = getattr(extract_shards.Shard, method), []

def deadly(self, *args):
    calls.append(1)
    if len(calls) == call:
        if method == 'close':
            self._writer.close(self._names, self._labels)   # all is written, and not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args)

setattr(extract_shards.Shard, method, deadly)
extraction.extract(extract_config.ExtractConfig(**settings), print)
'''


def test_killed_three_times_gives_the_same_bytes(settings, tmp_path):
    whole, parts = (settings(dataset_name='digits', batch_size=20, images_per_shard=200,
                             output_dir=str(tmp_path / name)) for name in ('whole', 'parts'))
    extraction.extract(whole, quiet)
    there = []
    for method, call in ('add', 25), ('close', 2), ('add', 1):
        arguments = [json.dumps(json.loads(parts.to_json())), method, str(call)]
        done = subprocess.run([sys.executable, '-c', KILLED, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        there.append(sorted(os.path.basename(path) for path in (tmp_path / 'parts').glob('features-*')))
        assert not index_of(parts.output_dir)['complete']
    assert list(map(len, there)) == [2, 3, 3]       # 1,437 images are 8 shards of 10 batches
    before = {name: (tmp_path / 'parts' / name).stat().st_mtime_ns for name in there[-1]}
    said = []
    extraction.extract(parts, said.append)
    assert '3 of 8 shards are there.' in said
    assert before == {name: (tmp_path / 'parts' / name).stat().st_mtime_ns for name in before}
    assert_same_files(whole.output_dir, parts.output_dir)
    extraction.extract(parts, said.append)
    assert_same_files(whole.output_dir, parts.output_dir)


@pytest.mark.parametrize('file_format', FORMATS)
def test_two_workers_are_equal_to_one(settings, tmp_path, file_format):
    # One shard is written twice, so that nothing in a file depends on when it was written.
    changes = dict(format=file_format, images_per_shard=2, endpoints='fc3,Logits')
    extraction.extract(settings(output_dir=str(tmp_path / 'one'), **changes), quiet)
    workers = [settings(output_dir=str(tmp_path / 'two'), num_shards=2, shard_index=index, **changes)
               for index in range(2)]
    said = []
    first = extraction.extract(workers[1], said.append)
    assert not first['complete'] and not index_of(tmp_path / 'two')['complete'] and '2 of 4 shards' in said[-1]
    assert extraction.extract(workers[0], quiet)['complete']
    assert_same_files(tmp_path / 'one', tmp_path / 'two')


def test_a_file_list_keeps_its_order(settings, model, photos, tmp_path):
    names = [str(photos / name) for name in ('c/9.png', 'a.png', 'c/9.png')]
    (tmp_path / 'list').write_text('\ufeff' + '\r\n'.join(names) + '\r\n\r\n', encoding='utf-8')
    config = settings(file_list=str(tmp_path / 'list'))
    extraction.extract(config, quiet)
    found = load(config.output_dir)
    assert found['names'].tolist() == names
    assert_close(found, one_by_one(model, names))


def test_lines_without_a_file_are_named(settings, photos, tmp_path):
    (tmp_path / 'list').write_text(f'{photos / "a.png"}\nno.png\n\n{photos}\n')
    with pytest.raises(DatasetError) as caught:
        extraction.extract(settings(file_list=str(tmp_path / 'list')), quiet)
    assert f'line 2: no.png; line 4: {photos}. ' in str(caught.value)


@pytest.fixture
def damaged(photos, tmp_path):
    folder = tmp_path / 'damaged'
    shutil.copytree(photos, folder)
    (folder / 'a.png').write_bytes((photos / 'a.png').read_bytes()[:100])
    (folder / 'c' / '9.png').write_text('no image')
    return folder


def test_an_unreadable_image_is_named(settings, damaged):
    with pytest.raises(RunError, match=r'^a\.png is no image .* --skip_unreadable leaves such images out\.$'):
        extraction.extract(settings(images=str(damaged)), quiet)


def test_an_unreadable_image_of_a_dataset_is_named(settings, damaged):
    (damaged / 'a-b.png').unlink()
    with pytest.raises(RunError, match=r'9\.png is no image'):
        extraction.extract(settings(dataset_name='image_folder', dataset_dir=str(damaged), validation_fraction=0.1),
                           quiet)


def test_a_dataset_whose_image_was_removed(settings, photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / 'photos')
    config = settings(dataset_name='image_folder', dataset_dir=str(tmp_path / 'photos'), validation_fraction=0.1)
    begin = extraction._Job.begin
    monkeypatch.setattr(extraction._Job, 'begin', lambda job: ((tmp_path / 'photos/c/9.png').unlink(), begin(job)))
    with pytest.raises((RunError, DatasetError), match=r'9\.png'):
        extraction.extract(config, quiet)


def test_a_dataset_with_fewer_images_than_it_says(settings, monkeypatch):
    config = settings(dataset_name='digits', batch_size=100, images_per_shard=100)
    images = extraction.open_images(config)
    images.count += 100
    monkeypatch.setattr(extraction, 'open_images', lambda config: images)
    with pytest.raises(DatasetError, match='the images end at the 1500th, and there should be 1537'):
        extraction.extract(config, quiet)


@pytest.mark.parametrize('file_format', FORMATS)
def test_a_shard_may_be_left_without_images(settings, damaged, tmp_path, file_format):
    (tmp_path / 'list').write_text(f'{damaged}/a.png\n{damaged}/c/9.png\n{damaged}/c/10.png\n')
    config = settings(file_list=str(tmp_path / 'list'), skip_unreadable=True, format=file_format, images_per_shard=2)
    index = extraction.extract(config, quiet)
    assert [shard['num_images'] for shard in index['shards']] == [0, 1] and len(index['skipped']) == 2
    if file_format != 'tfrecord':       # a file without records
        assert load(config.output_dir)['names'].tolist() == [f'{damaged}/c/10.png']


def test_unreadable_images_can_be_left_out_when_the_first_one_was_met(settings, damaged, tmp_path):
    names = ['c/10.png', 'a-b.png', 'a.png', 'a/2.png']
    (tmp_path / 'list').write_text(''.join(f'{damaged}/{name}\n' for name in names))
    config = settings(file_list=str(tmp_path / 'list'), images_per_shard=2, output_dir=str(tmp_path / 'of' / 'one'))
    with pytest.raises(RunError, match='--skip_unreadable leaves such images out'):
        extraction.extract(config, quiet)
    for folder in ('one', 'two'):       # gone on with, and at once
        extraction.extract(dataclasses.replace(config, skip_unreadable=True, output_dir=str(tmp_path / 'of' / folder)),
                           quiet)
    one, two = (load(tmp_path / 'of' / folder) for folder in ('one', 'two'))
    assert one['names'].tolist() == [f'{damaged}/{name}' for name in names if name != 'a.png']
    for key in two:
        np.testing.assert_array_equal(one[key], two[key])
    assert index_of(tmp_path / 'of' / 'one')['skip_unreadable']


@pytest.mark.parametrize('file_format', FORMATS)
def test_unreadable_images_are_left_out(settings, damaged, file_format, tmp_path):
    """The others keep their order, and their bits."""
    for folder, images in ('sound', settings().images), ('damaged', str(damaged)):
        extraction.extract(settings(images=images, skip_unreadable=True, format=file_format,
                                    output_dir=str(tmp_path / 'of' / folder)), quiet)
    sound, found = (load(tmp_path / 'of' / folder) for folder in ('sound', 'damaged'))
    kept = [name not in ('a.png', 'c/9.png') for name in NAMES]
    for key in sound:
        np.testing.assert_array_equal(found[key], sound[key][kept])
    index = index_of(tmp_path / 'of' / 'damaged')
    assert [fault.split(' ')[0] for fault in index['skipped']] == ['a.png', 'c/9.png']
    assert [shard['num_images'] for shard in index['shards']] == [3, 2]


def test_classes_and_channels_are_those_of_the_weights(settings, photos, tmp_path):
    model = nets.create_model('lenet', 3, image_size=SIZE, channels=3)
    path = checkpoints.save(str(tmp_path / 'train'), 0, dict(model.by_name), keep=1)
    config = settings(checkpoint_path=path)
    assert extraction.extract(config, quiet)['endpoints']['Logits']['shape'] == [3]
    prepare = preprocessing_factory.get_preprocessing('lenet')
    images = tf.stack([prepare(decode_image(tf.io.read_file(str(photos / name)), 3), SIZE, SIZE) for name in NAMES])
    assert_close(load(config.output_dir), model.endpoints(images, ENDPOINTS))


def test_only_the_weights_that_are_needed(settings, model, photos, tmp_path):
    kept = {name: variable for name, variable in model.by_name.items() if '/fc' not in name}
    path = checkpoints.save(str(tmp_path / 'train'), 0, kept, keep=1)
    config = settings(checkpoint_path=path, endpoints='conv*')
    extraction.extract(config, quiet)
    assert_close(load(config.output_dir), one_by_one(model, [photos / name for name in NAMES], ['conv1', 'conv2']))
    with pytest.raises(checkpoints.CheckpointError, match='LeNet/fc3/weights'):
        extraction.extract(settings(checkpoint_path=path, output_dir=str(tmp_path / 'other')), quiet)


def test_weights_without_a_classifier_give_no_logits(settings, model, monkeypatch):
    values = {name: variable.numpy() for name, variable in model.by_name.items() if '/fc4' not in name}
    headless = checkpoints.Values('headless.h5', values, lacks=['LeNet/fc4'])
    monkeypatch.setattr(restoring.weights, 'read', lambda path, network: headless)
    with pytest.raises(checkpoints.CheckpointError, match='headless.h5 .*LeNet/fc4'):
        extraction.extract(settings(), quiet)
    assert extraction.extract(settings(endpoints='conv1,fc3'), quiet)['complete']


def test_moving_averages(settings, model, tmp_path):
    averages = {name + checkpoints.AVERAGE: variable * 2 for name, variable in model.by_name.items()}
    path = checkpoints.save(str(tmp_path / 'train'), 0, {**model.by_name, **averages}, keep=1)
    found = []
    for number, decay in enumerate((None, 0.9)):
        config = settings(checkpoint_path=path, moving_average_decay=decay, endpoints='conv1',
                          output_dir=str(tmp_path / str(number)))
        extraction.extract(config, quiet)
        found.append(load(config.output_dir)['conv1'])
    np.testing.assert_allclose(found[1], found[0] * 2, rtol=1e-5)     # biases are zero
    with pytest.raises(checkpoints.CheckpointError, match='holds no moving averages'):
        extraction.extract(settings(moving_average_decay=0.9), quiet)


def test_float16_does_not_overflow_in_silence(settings, model, tmp_path):
    large = {name: variable * 1e6 if name.endswith('conv1/weights') else variable
             for name, variable in model.by_name.items()}
    path = checkpoints.save(str(tmp_path / 'train'), 0, large, keep=1)
    with pytest.raises(RunError, match='conv1 has values that float16 cannot hold'):
        extraction.extract(settings(checkpoint_path=path, output_type='float16'), quiet)
    assert sorted(os.listdir(settings().output_dir)) == ['index.json']


@pytest.fixture
def slashes():
    """A network with endpoints of such names, and with one of training alone."""
    @nets.register(arg_scope=lambda weight_decay: {}, default_image_size=SIZE, num_classes=2, preprocessing='lenet')
    def slashes(images, num_classes=2, is_training=True):
        return images, {'unit': images + 1, 'unit/conv': images + 2, **({'AuxLogits': images} if is_training else {})}

    yield 'slashes'
    del registry._networks['slashes']


@pytest.mark.parametrize('file_format', FORMATS)
def test_endpoints_with_slashes(slashes, settings, file_format, tmp_path):
    path = checkpoints.save(str(tmp_path / 'train'), 0, {'global_step': np.int64(3)}, keep=1)
    config = settings(model_name=slashes, checkpoint_path=path, endpoints='unit*', format=file_format)
    index = extraction.extract(config, quiet)
    found = load(config.output_dir)
    assert index['endpoints']['unit/conv']['key'] == ('unit/conv' if file_format in ('npz', 'tfrecord') else
                                                      'unit.conv')
    np.testing.assert_allclose(found[index['endpoints']['unit/conv']['key']], found['unit'] + 1, rtol=1e-6)


def test_an_endpoint_of_training_alone(slashes, settings, tmp_path):
    path = checkpoints.save(str(tmp_path / 'train'), 0, {'global_step': np.int64(3)}, keep=1)
    with pytest.raises(ConfigError, match="the endpoint 'AuxLogits' in training alone"):
        extraction.extract(settings(model_name=slashes, checkpoint_path=path, endpoints='Aux*'), quiet)


@pytest.mark.parametrize('file_format', FORMATS)
def test_a_full_disk(settings, full_disk, file_format):
    config = settings(format=file_format)
    with full_disk(50_000), pytest.raises(RunError) as caught:      # a shard has 131,072 bytes of conv1
        extraction.extract(config, quiet)
    assert 'features-00000-of-00002' in str(caught.value) and 'cannot be written: File too large' in str(caught.value)
    assert os.listdir(config.output_dir) == ['index.json']
    assert extraction.extract(config, quiet)['complete']


def test_asked_to_stop_it_ends_at_a_whole_shard(settings, monkeypatch):
    add = Shard.add

    def stopped(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(Shard, 'add', add)
        add(self, *args)

    monkeypatch.setattr(Shard, 'add', stopped)
    said = []
    with pytest.raises(Interrupted, match='1 of 2 shards are whole, and the same command goes on') as caught:
        extraction.extract(settings(), said.append)
    assert said[-1] == 'Stopping at the end of this shard; asked again, at once.'
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert sorted(os.listdir(settings().output_dir)) == ['features-00000-of-00002.npz', 'index.json']


def test_stopped_at_once_it_leaves_nothing_half_done(settings, monkeypatch):
    def stopped(*unused):
        raise KeyboardInterrupt

    monkeypatch.setattr(Shard, 'add', stopped)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(settings(), quiet)
    assert os.listdir(settings().output_dir) == ['index.json']


def test_other_settings_in_the_same_folder_are_refused(settings, model, tmp_path):
    extraction.extract(settings(), quiet)
    before = index_of(settings().output_dir)
    other = checkpoints.save(str(tmp_path / 'other'), 7, {name: variable + 1 for name, variable in
                                                          model.by_name.items()}, keep=1)
    for changes, difference in [
        (dict(pool='avg'), 'endpoints is conv1 [16, 16, 32] float32,'),
        (dict(pool='avg'), 'pool is none there and avg here'),
        (dict(batch_size=4), 'batch_size is 2 there and 4 here'), (dict(format='npy'), 'format is npz there'),
        (dict(checkpoint_path=other), 'weights_sha256'), (dict(precision='bfloat16'), 'precision is float32 there'),
        (dict(images=str(pathlib.Path(settings().images) / 'a')), 'num_images is 7 there and 3 here'),
    ]:
        with pytest.raises(ConfigError, match='holds an extraction with other settings') as caught:
            extraction.extract(settings(**changes), quiet)
        assert difference in str(caught.value)
    assert index_of(settings().output_dir) == before


def test_shards_without_their_index_are_refused(settings):
    extraction.extract(settings(), quiet)
    os.remove(os.path.join(settings().output_dir, 'index.json'))
    with pytest.raises(ConfigError, match='holds features-00000-of-00002.npz but no index.json'):
        extraction.extract(settings(), quiet)


@pytest.mark.parametrize('changes, error, message', [
    (dict(endpoints='conv1,fc4'), ConfigError, "--endpoints: Unknown endpoint of lenet 'fc4': did you mean 'fc3'?"),
    (dict(preprocessing_name='incepton'), ConfigError, "--preprocessing_name: There is no preprocessing 'incepton'"),
    (dict(checkpoint_path='/nowhere'), checkpoints.CheckpointError, 'There is no checkpoint /nowhere.'),
    (dict(images='/nowhere'), DatasetError, '--images=/nowhere: there is no such folder or image.'),
    (dict(model_name='mobilenet_v1_025', endpoints='Conv2d_0'), checkpoints.CheckpointError, 'MobilenetV1'),
    (dict(image_size=32), checkpoints.CheckpointError, 'It must be a checkpoint of lenet, at 32x32.'),
])
def test_what_does_not_fit(settings, changes, error, message):
    with pytest.raises(error) as caught:
        extraction.extract(settings(**changes), quiet)
    assert message in str(caught.value)
    assert not os.path.exists(settings().output_dir)


GIVEN = dict(images='photos', checkpoint_path='model.ckpt', endpoints='Logits')


@pytest.mark.parametrize('changes, message', [
    (dict(images=None), 'One of --images (a folder, or an image), --file_list and --dataset_name says what to read; '
                        'given: none.'),
    (dict(file_list='list'), 'given: --images and --file_list.'),
    (dict(checkpoint_path=None), '--checkpoint_path is needed'),
    (dict(endpoints=' , '), '--endpoints is needed, such as --endpoints=Mixed_3c,Mixed_5*; `python -m nets'),
    (dict(shard_index=2, num_shards=2), '--shard_index=2: with --num_shards=2 it must be from 0 to 1.'),
    (dict(images_per_shard=100), '--images_per_shard=100: it must be a multiple of --batch_size=32, such as 96 or 128'),
    (dict(output_dir='gs://bucket'), '--output_dir=gs://bucket: it must be a folder of this machine.'),
    (dict(format='csv'), '--format=csv: it must be one of npz, npy, hdf5, tfrecord.'),
    (dict(images=None, file_list='list', plot='maps.png'), '--plot draws one image: name it, --images=photo.jpg.'),
    (dict(pool='avg', plot='maps.png'), '--plot draws whole maps: leave out --pool=avg.'),
    (dict(model_name='s3dg'), '--model_name=s3dg: it takes videos; this program reads images.'),
])
def test_wrong_flags(changes, message):
    assert ExtractConfig(**GIVEN).shard_size == 1024
    with pytest.raises(ConfigError) as caught:
        ExtractConfig(**{**GIVEN, **changes})
    assert message in str(caught.value)


def test_a_training_is_used_as_it_was_trained(tmp_path):
    (tmp_path / 'train_config.json').write_text(json.dumps(dict(
        model_name='lenet', train_image_size=SIZE, preprocessing_name='cifarnet', moving_average_decay=0.9)))
    given = {**GIVEN, 'checkpoint_path': str(tmp_path)}
    config = extract_config(given)
    assert (config.model_name, config.image_size, config.preprocessing_name, config.moving_average_decay) == (
        'lenet', SIZE, 'cifarnet', 0.9)
    assert extract_config({**given, 'model_name': 'vgg_16'}).image_size is None


# Runs the script where TensorFlow is made to believe in a GPU, for which it takes measures of its own.
SCRIPT = '''
import sys
import tensorflow as tf
import extract_endpoints

tf.config.list_physical_devices = lambda kind=None: ['a GPU']
code = extract_endpoints.main(['extract_endpoints.py', *sys.argv[1:]])
try:
    with tf.Graph().as_default():       # which has no seed
        tf.random.normal([1])
except RuntimeError as error:
    sys.exit(code or 'determinism is enabled' not in str(error))
sys.exit('operations are not deterministic')
'''


def test_the_script(settings):
    given = [f'--{name}={value}' for name, value in json.loads(settings().to_json()).items() if value is not None]
    done = subprocess.run([sys.executable, '-c', SCRIPT, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('Extracting conv1 [16, 16, 32], fc3 [1024], Logits [10] of lenet')
    assert index_of(settings().output_dir)['complete']


def test_exit_codes(settings, capsys):
    given = [f'--{name}={value}' for name, value in json.loads(settings().to_json()).items() if value is not None]
    assert extract_endpoints.main(['extract_endpoints.py', *given, '--format=csv']) == 2
    assert extract_endpoints.main(['extract_endpoints.py', *given, '--checkpoint_path=/nowhere']) == 1
    assert capsys.readouterr().err.endswith('extract_endpoints.py: There is no checkpoint /nowhere.\n')


@pytest.fixture
def plotting(settings, photos, tmp_path):
    """The config of a picture."""
    pytest.importorskip('matplotlib')
    from training import feature_maps

    def plot(name='maps.png', **changes):
        config = settings(**{'images': str(photos / 'a.png'), 'plot': str(tmp_path / name), **changes})
        feature_maps.plot(config, quiet)
        return PIL.Image.open(tmp_path / name)

    return plot


def test_a_picture_of_the_maps(plotting, settings, tmp_path):
    picture = np.asarray(plotting('new/maps.png', endpoints='conv1,pool2,Logits').convert('RGB'))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200        # no empty page
    assert picture.shape[1] == 1400 and picture.shape[0] > np.asarray(plotting(endpoints='conv1')).shape[0]
    assert sorted(os.listdir(tmp_path)) == ['maps.png', 'new'] and os.listdir(tmp_path / 'new') == ['maps.png']


def test_what_a_picture_shows():
    pytest.importorskip('matplotlib')
    from training import feature_maps

    maps = np.zeros([4, 4, 40], np.float32)
    maps[:, 0, 7], maps[:, :, 8], maps[0, 0, 30] = 2, 100, 3        # 8 is strong, but the same everywhere
    assert feature_maps.strongest(maps)[:2] == [7, 30]
    values = {'Mixed_3c': maps, 'Logits': np.array([0.5, 9, 3]), 'unit': np.ones([2, 3, 4])}
    figure = feature_maps.draw(np.zeros([8, 8, 3]), values, 'a photo')
    photo, *axes = figure.axes
    assert photo.get_title() == 'a photo'
    assert [panel.get_title(loc='left') for panel in axes] == [
        'Mixed_3c  4x4x40, the 16 of its 40 maps that vary most', 'Logits  3, the largest: 1 (9), 2 (3), 0 (0.5)',
        'unit  2x3x4, its 4 maps']
    assert [text.get_text() for text in axes[0].texts][:2] == ['7', '30']
    drawn = axes[0].images[0].get_array()
    assert drawn[5, 5] == 1 and drawn[5, 100] == 0


def test_what_cannot_be_drawn(plotting, photos, damaged):
    for changes, error, message in [
        (dict(images=str(photos)), ConfigError, 'draws one image, and .* has 7: name it, --images='),
        (dict(name='maps.jpeg2'), ConfigError, r'its name must end in one of .*\.png'),
        (dict(images=str(damaged / 'a.png')), DatasetError, r'^a\.png is no image that can be read'),
        (dict(name='damaged/a.png/maps.png'), RunError, r'a\.png/maps\.png cannot be written: \w[\w ]+\.$'),
    ]:
        with pytest.raises(error, match=message):
            plotting(**changes)


def test_without_matplotlib(settings, photos, monkeypatch):
    from training import feature_maps

    monkeypatch.setitem(sys.modules, 'matplotlib.backends.backend_agg', None)
    with pytest.raises(RunError, match=r"--plot needs matplotlib: pip install 'slim-zoo\[plot\]'\."):
        feature_maps.plot(settings(images=str(photos / 'a.png'), plot='maps.png'), quiet)
