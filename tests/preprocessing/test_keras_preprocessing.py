"""Keras's distortions against Keras's ImageDataGenerator itself, and their distribution against their definition."""
import numpy as np
import pytest
import tensorflow as tf

from preprocessing import keras_preprocessing, preprocessing_factory

PHOTO = np.random.RandomState(0).uniform(0, 255, [6, 6, 3]).repeat(5, 0).repeat(5, 1).astype(np.float32)  # 30x30


@pytest.mark.parametrize('fill_mode', keras_preprocessing.FILL_MODES)
@pytest.mark.parametrize('parameters', [
    dict(theta=33.0), dict(tx=4.0), dict(ty=-3.5), dict(shear=20.0), dict(zx=0.8, zy=1.15),
    dict(theta=-25.0, tx=2.0, ty=5.0, shear=10.0, zx=1.2, zy=0.9)])
def test_the_transform_is_that_of_keras(fill_mode, parameters):
    generator = tf.keras.preprocessing.image.ImageDataGenerator(fill_mode=fill_mode, cval=7.0)
    expected = generator.apply_transform(PHOTO, {'zx': 1, 'zy': 1, **parameters})
    given = {**dict(theta=0.0, tx=0.0, ty=0.0, shear=0.0, zx=1.0, zy=1.0), **parameters}
    matrix = keras_preprocessing.affine_matrix(30, 30, *map(tf.constant, given.values()))
    ours = keras_preprocessing.transform(tf.constant(PHOTO), matrix, fill_mode, 7.0).numpy()
    if fill_mode in ('constant', 'wrap'):   # at the seam, SciPy and TensorFlow interpolate with different neighbours
        differ = np.abs(ours - expected).max(-1) > 0.1
        assert differ.mean() < 0.15
        assert not differ[10:-10, 10:-10].any()
    else:
        np.testing.assert_allclose(ours, expected, atol=0.05)


def distorted(count, **kwargs):
    preprocess = preprocessing_factory.get_preprocessing('keras', is_training=True)
    seeds = np.stack([np.arange(count), np.full(count, 5)], 1).astype(np.int32)
    return tf.map_fn(lambda seed: preprocess(tf.constant(PHOTO), 30, 30, seed=seed, **kwargs), seeds,
                     fn_output_signature=tf.float32).numpy()


def test_ranges():
    """Shifts reach as far as they may and no further; flips come half of the time; a seed decides."""
    ramp = np.tile(np.arange(25, dtype=np.float32)[None, :, None] * 10, (30, 1, 3))
    preprocess = preprocessing_factory.get_preprocessing('keras', is_training=True)
    centres = np.array([(preprocess(ramp, 30, 25, seed=[n, 0], width_shift_range=0.2).numpy()[15, 12, 0] + 1) * 12.75
                        for n in range(120)]) - 12
    assert 4.5 < centres.max() <= 5.01 and -5.01 <= centres.min() < -4.5      # 0.2 of 25 pixels
    plain = preprocessing_factory.get_preprocessing('keras')(PHOTO, 30, 30).numpy()
    flips = [np.allclose(image, plain[:, ::-1], atol=1e-5) for image in distorted(200, horizontal_flip=True)]
    assert 70 < sum(flips) < 130
    assert np.allclose(distorted(4), plain, atol=1e-5)                         # nothing was asked for
    first, again = (distorted(3, rotation_range=40, shear_range=0.2, zoom_range=0.2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - first[1]).max() > 0.1 and -1 <= first.min() and first.max() <= 1


def test_for_evaluation_the_whole_photo_is_resized():
    ours = preprocessing_factory.get_preprocessing('keras')(PHOTO, 12, 14, rotation_range=90)
    np.testing.assert_allclose(ours, tf.image.resize(PHOTO, [12, 14]) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize('arguments, words', [
    (dict(fill_mode='mirror'), "fill_mode is 'mirror'; it must be one of nearest"),
    (dict(zoom_range=1.5), 'zoom_range is 1.5; it must be 0 or more, and below 1'),
    (dict(rotation_range=-3), 'rotation_range is -3; it must be 0 or more'),
    (dict(rotation=3), "takes no 'rotation'; did you mean 'rotation_range'"),
])
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        preprocessing_factory.get_preprocessing('keras', True)(PHOTO, 12, 14, **arguments)
