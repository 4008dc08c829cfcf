import io

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

import tf_slim_compat  # noqa: F401
from datasets import DatasetError, decode_image, pipeline
from datasets.dataset_factory import get_dataset


def preprocess(image, seed):
    """The grey value of the image, and its seed."""
    return tf.concat([tf.cast(image[0, 0, :1], tf.int32), seed], 0)


def batches(dataset, batch_size=6, count=None, **kwargs):
    data = pipeline.make_batches(dataset, preprocess, batch_size, **{'training': False, **kwargs})
    return [(images, labels) for images, labels in (data.take(count) if count else data).as_numpy_iterator()]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        np.array_equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))


def test_evaluation_is_one_pass_in_order(flowers):
    found = batches(get_dataset('flowers', 'train', flowers))
    assert [len(labels) for _, labels in found] == [6, 6, 6, 2]
    np.testing.assert_array_equal(np.concatenate([images[:, 0] for images, _ in found]), range(20))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), [i % 5 for i in range(20)])
    assert found[0][1].dtype == np.int64


def test_training_resumes_exactly(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    whole = batches(dataset, training=True, seed=4, count=12)
    assert all(len(labels) == 6 for _, labels in whole)
    for step in (1, 3, 7):
        assert same(batches(dataset, training=True, seed=4, start_step=step, count=5), whole[step:step + 5])
    assert same(batches(dataset, training=True, seed=4, count=12, num_threads=1), whole)
    assert not same(batches(dataset, training=True, seed=5, count=12), whole)


def test_seeds_differ_by_position_and_run(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    seeds = np.concatenate([images[:, 1:] for seed in (0, 1)
                            for images, _ in batches(dataset, training=True, seed=seed, count=10)])
    assert len({tuple(seed) for seed in seeds}) == 120
    assert np.abs(np.corrcoef(seeds[:-1].T, seeds[1:].T)[0, 2]) < 0.4
    evaluation = np.concatenate([images[:, 1:] for images, _ in batches(dataset)])
    assert len({tuple(seed) for seed in evaluation}) == 20


def test_workers_share_a_step(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    one = batches(dataset, 4, training=True, start_step=1, count=6)
    two = [batches(dataset, 2, training=True, start_step=1, count=6, num_shards=2, shard_index=i) for i in range(2)]
    for step, (images, labels) in enumerate(one):
        for index in range(2):
            np.testing.assert_array_equal(two[index][step][0], images[index::2])
            np.testing.assert_array_equal(two[index][step][1], labels[index::2])


def test_labels_offset_is_subtracted(records, encode):
    folder = records('validation-00000-of-00001', [(encode(i), i) for i in range(1, 5)])
    dataset = get_dataset('imagenet', 'validation', folder)
    (_, labels), = batches(dataset, labels_offset=1)
    np.testing.assert_array_equal(labels, [0, 1, 2, 3])


@pytest.mark.parametrize('argument, value', [('batch_size', 0), ('labels_offset', 5), ('labels_offset', -1)])
def test_bad_arguments(flowers, argument, value):
    with pytest.raises(DatasetError, match=f'{argument} must be .* not {value}'):
        batches(get_dataset('flowers', 'train', flowers), **{argument: value})


@pytest.mark.parametrize('in_function', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_errors_are_explained(flowers, records, encode, training, in_function):
    dataset = get_dataset('flowers', 'train', flowers)
    name = 'flowers_train_00001-of-00003.tfrecord'

    def explained(examples):
        records(name, examples)
        data = pipeline.make_batches(dataset, preprocess, 4, training=training)

        def run():
            total = tf.constant(0)
            for images, _ in data.take(10):
                total += tf.reduce_sum(images)
            return total

        with pytest.raises(tf.errors.OpError) as error:
            (tf.function(run) if in_function else run)()
        found = pipeline.explain(error.value, dataset, training=training)
        assert isinstance(found, DatasetError)
        return str(found)

    good = [(encode(i), 0) for i in range(4)]
    assert f'{name} record 3 has the label 7' in explained([*good[:3], (encode(0), 7)])
    photo = encode(0, 'jpg', (64, 64))
    assert f'{name} record 0 cannot be decoded' in explained([(photo[:len(photo) // 2], 0), *good[1:]])


def test_an_error_far_from_the_position_is_found(flowers, records, encode, monkeypatch):
    monkeypatch.setattr(pipeline, 'FAULTS_NEAR', 2)
    dataset = get_dataset('flowers', 'train', flowers)
    records('flowers_train_00002-of-00003.tfrecord', [(b'junk', 0)])
    with pytest.raises(tf.errors.OpError) as error:
        batches(dataset)
    assert '00002-of-00003.tfrecord record 0 cannot' in str(pipeline.explain(error.value, dataset))


def test_errors_of_others_stay_as_they_are(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    for error in (KeyError('x'), tf.errors.ResourceExhaustedError(None, None, 'out of memory')):
        assert pipeline.explain(error, dataset) is error


@pytest.mark.parametrize('extension, mode, channels', [
    ('jpg', 'RGB', 3), ('jpg', 'L', 3), ('jpg', 'L', 1), ('jpg', 'CMYK', 3), ('png', 'RGB', 3), ('png', 'L', 1),
    ('png', 'RGBA', 3), ('png', 'P', 3), ('bmp', 'RGB', 3), ('gif', 'P', 3)])
def test_decode_image_is_slims(extension, mode, channels):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    buffer = io.BytesIO()
    smooth = noise.resize((43, 65), Image.Resampling.BICUBIC)
    smooth.convert(mode).save(buffer, {'jpg': 'JPEG'}.get(extension, extension.upper()))
    image = decode_image(buffer.getvalue(), channels).numpy()
    assert image.shape == (65, 43, channels) and image.dtype == np.uint8
    pillows = np.asarray(Image.open(buffer).convert('RGB' if channels == 3 else 'L'), int).reshape(65, 43, channels)
    assert np.abs(image - pillows).max() <= (0 if extension != 'jpg' else 16)
    if extension in ('jpg', 'png'):
        handler = slim.tfexample_decoder.Image(channels=channels)
        slims = handler.tensors_to_item({'image/encoded': tf.constant(buffer.getvalue()),
                                         'image/format': tf.constant(extension)})
        np.testing.assert_array_equal(image, slims)


@pytest.mark.parametrize('extension', ['PNG', 'JPEG'])
def test_a_window_is_cut_out_of_the_image(tmp_path, extension):
    """As Pillow cuts it; of a JPEG only the window is decoded, whose edges may round another way."""
    rows, columns = np.mgrid[:90, :120]
    photo = Image.fromarray(np.stack([rows * 2, columns * 2, rows + columns], -1).astype(np.uint8))
    for label in 'ab':
        (tmp_path / 'train' / label).mkdir(parents=True)
        photo.save(tmp_path / 'train' / label / f'1.{extension.lower()}', extension, **(
            {'quality': 95} if extension == 'JPEG' else {}))
    dataset = get_dataset('image_folder', 'train', str(tmp_path))

    def window(shape, seed):
        return tf.stack([7 + shape[0] * 0, 11, 33, 45])

    found, _ = next(pipeline.make_batches(dataset, lambda image, seed: image, 1, training=True, window=window)
                    .as_numpy_iterator())
    assert found.shape == (1, 33, 45, 3)
    with Image.open(next((tmp_path / 'train' / 'a').iterdir())) as image:
        expected = np.asarray(image.convert('RGB').crop((11, 7, 11 + 45, 7 + 33)), int)
    difference = np.abs(found[0].astype(int) - expected)
    assert difference.max() <= (0 if extension == 'PNG' else 3)


@pytest.mark.parametrize('size, ratio', [((700, 500), 1), ((720, 900), 2), ((1500, 1300), 4), ((2400, 2600), 8)])
def test_a_large_window_of_a_jpeg_is_decoded_smaller(tmp_path, size, ratio):
    """As Pillow decodes it at a half, a quarter or an eighth: the sides of the window stay at least 256 pixels."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    photo = Image.fromarray(np.uint8(np.stack([rows % 256, columns % 256, (rows + columns) // 16], -1)))
    for label in 'ab':
        (tmp_path / 'train' / label).mkdir(parents=True)
        photo.save(tmp_path / 'train' / label / '1.jpg', quality=90)
    dataset = get_dataset('image_folder', 'train', str(tmp_path))

    def window(shape, seed):
        return tf.stack([16, 32, shape[0] - 64, shape[1] - 96])

    found, _ = next(pipeline.make_batches(dataset, lambda image, seed: image, 1, training=True, window=window,
                                          window_side=256).as_numpy_iterator())
    assert found.shape == (1, (size[0] - 64) // ratio, (size[1] - 96) // ratio, 3)
    with Image.open(tmp_path / 'train' / 'a' / '1.jpg') as image:
        image.draft('RGB', (size[1] // ratio, size[0] // ratio))
        pillows = np.asarray(image, int)
    assert pillows.shape[:2] == tuple(-(-side // ratio) for side in size)
    pillows = pillows[16 // ratio:, 32 // ratio:][:found.shape[1], :found.shape[2]]
    assert np.abs(found[0][1:-1, 1:-1] - pillows[1:-1, 1:-1]).mean() < 1


@pytest.mark.parametrize('training', [False, True])
def test_corrupt_examples_are_passed_over_and_told(records, encode, training):
    junk = {3: b'junk', 4: encode(4, 'jpg', (64, 64))[:300], 10: b''}
    folder = records('flowers_train_00000-of-00001.tfrecord', [
        (junk.get(i, encode(i)), 9 if i == 7 else i % 5) for i in range(12)])
    dataset, skipped = get_dataset('flowers', 'train', folder), []

    def run(start_step, count):
        data = pipeline.make_batches(dataset, lambda image, seed: tf.image.resize(image, [2, 2])[..., :1], 4, seed=3,
                                     training=training, start_step=start_step, skip_corrupt=skipped.append)
        return [(images.ravel()[::4].astype(int), labels) for images, labels in data.take(count).as_numpy_iterator()]

    found = run(0, 12)
    bad = {3, 4, 7, 10}
    assert set(skipped) == {f'flowers_train_00000-of-00001.tfrecord record {i}' for i in bad}
    if not training:
        assert np.concatenate([images for images, _ in found]).tolist() == [i for i in range(12) if i not in bad]
        assert np.concatenate([labels for _, labels in found]).tolist() == [i % 5 for i in range(12) if i not in bad]
        return
    for images, labels in found:
        assert len(images) == 4 and not bad.intersection(images) and (labels == images % 5).all()
    # What is sound stands where it does in a run without damage.
    sound = dataset.as_tf_data(shuffle=True, seed=3, repeat=True).take(48).as_numpy_iterator()
    names = [int(element['source'].decode().split()[-1]) for element in sound]
    kept = [(image, name) for image, name in zip(np.concatenate([images for images, _ in found]), names, strict=True)
            if name not in bad]
    assert len(kept) == 32 and all(image == name for image, name in kept)
    for (images, _), (again, _) in zip(found[5:], run(5, 7), strict=True):
        np.testing.assert_array_equal(images, again)


def test_a_batch_without_a_sound_example_stops(records, encode):
    folder = records('flowers_train_00000-of-00001.tfrecord', [(b'junk', 0)] * 4)
    data = pipeline.make_batches(
        get_dataset('flowers', 'train', folder), lambda image, seed: tf.image.resize(image, [2, 2]), 2, training=True,
        skip_corrupt=lambda source: None)
    with pytest.raises(tf.errors.InvalidArgumentError, match='no example of a batch can be used'):
        next(iter(data))


def test_multi_label_is_one_column_a_class(flowers):
    dataset = get_dataset('flowers', 'train', flowers)
    dataset.multi_label = True
    labels = [[0, 3], [], [4]]
    elements = tf.data.Dataset.from_generator(
        lambda: ({'image': encode_png(), 'label': label, 'source': 'x'} for label in labels),
        output_signature={'image': tf.TensorSpec([], tf.string), 'label': tf.TensorSpec([None], tf.int64),
                          'source': tf.TensorSpec([], tf.string)})
    dataset.as_tf_data = lambda **kwargs: elements
    (_, found), = batches(dataset, 3)
    np.testing.assert_array_equal(found, [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]])


def encode_png():
    buffer = io.BytesIO()
    Image.new('RGB', (12, 10)).save(buffer, 'PNG')
    return buffer.getvalue()
