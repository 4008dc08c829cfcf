import numpy as np
import pytest
import tensorflow as tf

from preprocessing import vgg_preprocessing as vgg

MEANS = np.float32([123.68, 116.78, 103.94])


def photo(height, width):
    return np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype('uint8')


@pytest.mark.parametrize('size, resized, crop', [
    ((375, 500), (256, 341), (16, 58)),
    ((601, 400), (385, 256), (80, 16)),
    ((500, 333), (384, 256), (80, 16)),
    ((100, 100), (256, 256), (16, 16)),
    ((256, 257), (256, 257), (16, 16)),
    ((64, 33), (496, 256), (136, 16)),
])
@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_evaluation_is_the_central_crop_of_the_resized_image(size, resized, crop, dtype):
    image = photo(*size).astype(dtype)
    expected = tf.compat.v1.image.resize_bilinear(image[None], resized, align_corners=False)[0]
    expected = expected[crop[0]:crop[0] + 224, crop[1]:crop[1] + 224] - MEANS
    dynamic = tf.function(lambda x: vgg.preprocess_image(x, 224, 224),
                          input_signature=[tf.TensorSpec([None, None, 3], dtype)])
    np.testing.assert_array_equal(vgg.preprocess_image(image, 224, 224), expected)
    np.testing.assert_array_equal(dynamic(image), expected)
    assert dynamic.get_concrete_function().output_shapes == (224, 224, 3)


@pytest.mark.parametrize('size, output, resized, crop', [
    ((375, 500), (299, 299), (299, 399), (0, 50)),
    ((200, 300), (100, 400), (267, 400), (83, 0)),
    ((50, 50), (300, 260), (300, 300), (0, 20)),
])
def test_a_larger_crop_enlarges_the_image_to_just_hold_it(size, output, resized, crop):
    image = photo(*size)
    expected = tf.compat.v1.image.resize_bilinear(image[None], resized, align_corners=False)[0]
    expected = expected[crop[0]:crop[0] + output[0], crop[1]:crop[1] + output[1]] - MEANS
    np.testing.assert_array_equal(vgg.preprocess_for_eval(image, *output), expected)
    assert vgg.preprocess_for_train(image, *output, seed=[1, 2]).shape == (*output, 3)


def test_resize_side():
    image = photo(40, 60)
    expected = tf.compat.v1.image.resize_bilinear(image[None], [20, 30], align_corners=False)[0][5:15, 10:20] - MEANS
    np.testing.assert_array_equal(vgg.preprocess_for_eval(image, 10, 10, 20), expected)
    np.testing.assert_array_equal(vgg.preprocess_image(image, 10, 10, resize_side_min=20), expected)


def test_training_resizes_crops_and_flips(sample, assert_uniform):
    y, x = np.mgrid[:16, :16]
    ramp = np.float32(np.stack([x, y, x], -1))
    outputs = sample(lambda seed: vgg.preprocess_for_train(ramp, 10, 10, 20, 30, seed=seed), 2000) + MEANS
    # Resized to a side s, the ramp rises by 16 / s a pixel.
    slopes = np.median(np.diff(outputs[:, 0, :, 0]), 1)
    sides = np.rint(16 / np.abs(slopes)).astype(int)
    assert sides.min() == 20 and sides.max() == 30
    within = np.random.RandomState(0).uniform(size=2000)  # makes integers continuous
    assert_uniform(sides + within, 20, 31)
    for channel in 0, 1:
        starts = np.rint(outputs[..., channel].min((1, 2)) * sides / 16)
        assert np.all((starts >= 0) & (starts <= sides - 10))
        assert starts.min() == 0 and (starts == sides - 10).any()
        assert_uniform((starts + within) / (sides - 9), 0, 1)
    assert 0.46 < (slopes > 0).mean() < 0.54


def test_default_sides(sample):
    y, x = np.mgrid[:64, :80]
    ramp = np.float32(np.stack([x, x, x], -1))
    outputs = sample(lambda seed: vgg.preprocess_image(ramp, 32, 32, True, seed=seed)[0], 400)
    sides = np.rint(64 / np.abs(np.median(np.diff(outputs[..., 0]), 1)))
    assert 254 < sides.min() < 262 and 506 < sides.max() < 514


def test_grayscale_is_that_of_the_colours():
    image = photo(60, 50)
    one_channel = tf.image.rgb_to_grayscale(tf.cast(image, tf.float32))
    for is_training in False, True:
        color, gray = (vgg.preprocess_image(image, 24, 24, is_training, use_grayscale=use_grayscale, seed=[1, 2])
                       for use_grayscale in (False, True))
        np.testing.assert_allclose(gray, tf.image.rgb_to_grayscale(color), atol=1e-3)
        np.testing.assert_allclose(vgg.preprocess_image(one_channel, 24, 24, is_training, seed=[1, 2]), gray, atol=1e-3)


@pytest.mark.parametrize('sides, message', [
    ((300, 200), 'resize_side_min, 300, is above resize_side_max, 200'),
    ((0, 200), 'resize_side_min is 0; it must be a positive integer'),
])
def test_errors(sides, message):
    with pytest.raises(ValueError, match=message):
        vgg.preprocess_for_train(photo(9, 9), 5, 5, *sides)
