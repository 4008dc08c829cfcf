import colorsys

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import inception_preprocessing as inception

IMAGE = np.random.RandomState(0).randint(0, 256, (61, 83, 3)).astype('uint8')
METHODS = tf.compat.v1.image.ResizeMethod


def resize(image, height, width, method=METHODS.BILINEAR):
    return tf.compat.v1.image.resize_images(image, [height, width], method, align_corners=False).numpy()


@pytest.mark.parametrize('size', [(224, 224), (31, 97), (47, 63)])
@pytest.mark.parametrize('dtype', ['uint8', 'float32', 'float64', 'float16'])
def test_evaluation_is_a_central_crop_on_the_tf1_grid(size, dtype):
    image = IMAGE if dtype == 'uint8' else (IMAGE / 255).astype(dtype)
    cropped = tf.image.central_crop(tf.image.convert_image_dtype(image, tf.float32), 0.875)
    expected = (tf.compat.v1.image.resize_bilinear(cropped[None], size, align_corners=False)[0] - 0.5) * 2
    dynamic = tf.function(lambda x: inception.preprocess_for_eval(x, *size),
                          input_signature=[tf.TensorSpec([None, None, 3], dtype)])
    np.testing.assert_array_equal(inception.preprocess_for_eval(image, *size), expected)
    np.testing.assert_array_equal(inception.preprocess_image(image, *size), expected)
    np.testing.assert_allclose(dynamic(image), expected, atol=1e-6)
    assert dynamic.get_concrete_function().output_shapes == (*size, 3)


def test_evaluation_of_a_photo_by_hand():
    photo = pytest.importorskip('sklearn.datasets').load_sample_image('china.jpg')  # 427x640
    # (427 - 427 * 0.875) / 2 = 26.7 and 40 are cut off on each side.
    part = photo[26:-26, 40:-40] / 255
    y, x = np.arange(224) * (375 / 224), np.arange(224) * (560 / 224)
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, 374), np.minimum(left + 1, 559)
    v, u = (y - top)[:, None, None], (x - left)[None, :, None]
    upper = part[top][:, left] * (1 - u) + part[top][:, right] * u
    lower = part[bottom][:, left] * (1 - u) + part[bottom][:, right] * u
    expected = 2 * (upper * (1 - v) + lower * v) - 1
    np.testing.assert_allclose(inception.preprocess_for_eval(photo, 224, 224), expected, atol=1e-4)


def test_evaluation_without_crop_or_size():
    np.testing.assert_allclose(inception.preprocess_for_eval(IMAGE, 20, 30, central_crop=False),
                               resize(IMAGE / np.float32(255), 20, 30) * 2 - 1, atol=1e-6)
    np.testing.assert_allclose(inception.preprocess_for_eval(IMAGE, None, None, central_fraction=None),
                               IMAGE / 127.5 - 1, atol=1e-6)


def test_crop_of_the_whole_image_as_documented(sample, assert_uniform):
    y, x = np.mgrid[:256, :256].astype('uint8')
    ramp = np.stack([y, x, x], -1)

    def crop(seed):
        window, box = inception.distorted_bounding_box_crop(ramp, [[[0, 0, 1, 1]]], seed=seed)
        return tf.stack([window[0, 0, :2], window[-1, -1, :2]]), box[0, 0]

    corners, box = sample(crop, 3000)
    first, last = corners[:, 0].astype(int), corners[:, 1].astype(int)
    np.testing.assert_allclose(box * 256, np.hstack([first, last + 1]), atol=0.01)
    height, width = (last - first + 1).T
    aspect = width / height
    assert_uniform(aspect, 0.75, 1.33)
    # The window is to hold a tenth of the image, more than the least area, 0.05. Heights are uniform, not areas.
    least, greatest = 256 * (0.1 / aspect) ** 0.5, np.minimum(256, 256 / aspect)
    assert_uniform((height - least) / (greatest - least), 0, 1)
    assert 0.095 < (height * width).min() / 256 ** 2 < 0.11 and (height * width).max() / 256 ** 2 > 0.95
    for start, side in zip(first.T, (height, width), strict=True):
        assert_uniform((start + 0.5) / (257 - side), 0, 1)


def test_crop_holds_a_tenth_of_some_box(sample):
    boxes = np.array([[[0.4, 0.4, 0.6, 0.6], [0.8, 0.1, 0.9, 0.3]]], np.float32)
    image = tf.zeros([1000, 1000, 3], tf.uint8)
    windows = sample(lambda seed: inception.distorted_bounding_box_crop(image, boxes, seed=seed)[1][0, 0], 1000)
    ymin, xmin, ymax, xmax = windows.T[:, :, None]
    box = boxes[0].T[:, None]
    overlap = (np.clip(np.minimum(ymax, box[2]) - np.maximum(ymin, box[0]), 0, None)
               * np.clip(np.minimum(xmax, box[3]) - np.maximum(xmin, box[1]), 0, None))
    covered = overlap / ((box[2] - box[0]) * (box[3] - box[1]))
    assert covered.max(1).min() > 0.099
    assert (covered < 0.05).any(0).all()
    assert ((ymax - ymin) * (xmax - xmin)).min() < 0.08


def test_crop_with_no_boxes_takes_the_image_as_the_box():
    seed = [3, 4]
    without, _ = inception.distorted_bounding_box_crop(IMAGE, tf.zeros([1, 0, 4]), seed=seed)
    whole, _ = inception.distorted_bounding_box_crop(IMAGE, [[[0, 0, 1, 1]]], seed=seed)
    np.testing.assert_array_equal(without, whole)


COLOR = np.float32([0.55, 0.5, 0.45])


def hues(pixels):
    return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels])


@pytest.mark.parametrize('fast_mode, ordering, letters', [
    (True, 0, 'bs'), (True, 1, 'sb'), (True, 2, 'sb'), (True, 3, 'sb'),
    (False, 0, 'bshc'), (False, 1, 'sbch'), (False, 2, 'chbs'), (False, 3, 'hscb')])
def test_colours_are_tf_images_in_the_documented_order(sample, assert_uniform, fast_mode, ordering, letters):
    image = COLOR + np.random.RandomState(0).uniform(-0.1, 0.1, (4, 4, 3)).astype('float32')
    flat = tf.constant([[COLOR]])  # it shows all but the contrast, whatever the order
    pixels, images = sample(lambda seed: tuple(inception.distort_color(x, ordering, fast_mode, seed=seed)
                                               for x in (flat, image)), 500)
    pixels = pixels[:, 0, 0]
    brightness = pixels.max(1) - COLOR.max()
    saturation = np.ptp(pixels, 1) / np.ptp(COLOR)
    hue = (hues(pixels) - hues([COLOR]) + 0.5) % 1 - 0.5
    assert_uniform(brightness, -32 / 255, 32 / 255)
    assert_uniform(saturation, 0.5, 1.5)
    assert abs(np.corrcoef(brightness, saturation)[0, 1]) < 0.15
    if fast_mode:
        assert np.abs(hue).max() < 1e-4
    else:
        assert_uniform(hue, -0.2, 0.2)

    def apply(i, contrast):
        steps = {'b': lambda x: tf.image.adjust_brightness(x, brightness[i]),
                 's': lambda x: tf.image.adjust_saturation(x, saturation[i]),
                 'h': lambda x: tf.image.adjust_hue(x, hue[i]),
                 'c': lambda x: tf.image.adjust_contrast(x, contrast)}
        x = image
        for letter in letters:
            x = steps[letter](x)
        return tf.clip_by_value(x, 0, 1).numpy()

    for i in range(12):
        low, high = 0.5, 1.5  # the spread grows with the contrast: halve the interval
        for _ in range(18 if 'c' in letters else 0):
            middle = (low + high) / 2
            grows = apply(i, middle).std((0, 1)).sum() < images[i].std((0, 1)).sum()
            low, high = (middle, high) if grows else (low, middle)
        np.testing.assert_allclose(images[i], apply(i, (low + high) / 2), atol=1e-4)


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('scene', ['soft', 'vivid'])
def test_colours_of_a_batch_are_tf_images(assert_uniform, compiled, scene):
    """As `distort_color` does, brightness and then saturation; vivid colours are saturated and go below 0."""
    color = np.uint8(COLOR * 255) if scene == 'soft' else np.uint8([90, 0, 20])
    others = np.random.RandomState(0).randint(0, 256, (3, 5, 3)) if scene == 'vivid' else np.full((3, 5, 3), 128)
    image = np.concatenate([np.tile(color, (2, 5, 1)), others]).astype('uint8')
    finish = tf.function(inception.finish, jit_compile=True) if compiled else inception.finish
    outputs = finish(tf.constant(np.stack(500 * [image])), tf.constant([3, 4])).numpy() / 2 + 0.5
    pixel, color = outputs[:, 0, 0], color / 255
    brightness = pixel.max(1) - color.max()
    assert_uniform(brightness, -32 / 255, 32 / 255)
    if scene == 'soft':
        saturation = np.ptp(pixel, 1) / np.ptp(color)
        assert_uniform(saturation, 0.5, 1.5)
        assert abs(np.corrcoef(brightness, saturation)[0, 1]) < 0.15
    draws = tf.random.split([3, 4], 3, alg='philox')
    factors = 0.5 + tf.random.stateless_uniform([500], draws[2], 0, 2 ** 24, tf.int32, alg='philox').numpy() / 2 ** 24
    for output, delta, factor in zip(outputs[:60], brightness, factors, strict=False):
        expected = tf.image.adjust_saturation(tf.image.adjust_brightness(image / np.float32(255), delta), factor)
        expected = tf.clip_by_value(expected, 0, 1).numpy()
        assert min(np.abs(output[:, ::side] - expected).max() for side in (1, -1)) < 1e-5


def test_a_batch_turns_gray_after_its_colours():
    batch = tf.constant(IMAGE[None])
    color = inception.finish(batch, [1, 2]) / 2 + 0.5
    gray = inception.finish(batch, [1, 2], use_grayscale=True)
    np.testing.assert_allclose(gray, tf.image.rgb_to_grayscale(color) * 2 - 1, atol=1e-5)
    assert inception.finish(batch[..., :1], [1, 2]).shape == (1, *IMAGE.shape[:2], 1)


def test_one_channel_skips_saturation_and_hue(sample, assert_uniform):
    image = np.random.RandomState(0).uniform(0.4, 0.6, (5, 6, 1)).astype('float32')
    fast, slow = sample(lambda seed: tuple(inception.distort_color(image, 0, fast_mode, seed=seed)
                                           for fast_mode in (True, False)), 500)
    brightness = (fast - image).mean((1, 2, 3))
    assert_uniform(brightness, -32 / 255, 32 / 255)
    assert_uniform(slow.std((1, 2, 3)) / np.std(image), 0.5, 1.5)
    np.testing.assert_allclose(slow.mean((1, 2, 3)), fast.mean((1, 2, 3)), atol=1e-5)


def test_colours_stay_in_range():
    image = np.float32(np.random.RandomState(1).rand(8, 8, 3).round())
    for seed in range(10):
        distorted = inception.distort_color(image, 3, False, seed=[seed, 0]).numpy()
        assert 0 <= distorted.min() and distorted.max() <= 1


def test_training_resizes_flips_and_lightens(sample, assert_uniform):
    gray = (100 + IMAGE[..., :1] // 5)
    resized = resize(gray / np.float32(255), 9, 12)
    outputs = sample(lambda seed: inception.preprocess_for_train(gray, 9, 12, None, random_crop=False, seed=seed), 1000)
    straight, flipped = (outputs / 2 + 0.5 - x for x in (resized, resized[:, ::-1]))
    is_straight = straight.std((1, 2, 3)) < 1e-5
    assert np.all(is_straight != (flipped.std((1, 2, 3)) < 1e-5))
    assert 0.45 < is_straight.mean() < 0.55
    assert_uniform(np.where(is_straight, straight.mean((1, 2, 3)), flipped.mean((1, 2, 3))), -32 / 255, 32 / 255)


def test_training_crops(sample):
    y, x = np.mgrid[:64, :64]
    ramp = np.float32(np.stack([x, x, x], -1) / 128 + 0.25)
    outputs = sample(lambda seed: inception.preprocess_image(ramp, 16, 16, True, seed=seed), 1000)
    slopes = np.median(np.diff(outputs[..., 0].mean(1)), 1)  # of a window of width w: 2 * w / 16 / 128
    widths = np.abs(slopes) * 1024
    assert 0.26 < widths.min() / 64 < 0.32 and 0.95 < widths.max() / 64 <= 1.01
    assert 0.45 < (slopes > 0).mean() < 0.55


def test_training_crops_no_less_than_the_least_area(sample):
    ramp = np.tile(np.float32(np.arange(64) / 128 + 0.25)[None, :, None], (64, 1, 3))
    ramp[..., 1] = ramp[..., 0].T
    outputs = sample(lambda seed: inception.preprocess_image(ramp, 16, 16, True, seed=seed, min_area=0.6,
                                                             distort_colors=False), 500)
    # Of a window of w times h pixels the first channel rises by w / 16 / 64 to the right, the second by h down.
    widths, heights = (np.abs(np.median(np.diff(outputs[..., n], axis=2 - n), (1, 2))) * 1024 for n in (0, 1))
    area = widths * heights / 64 ** 2
    assert 0.58 < area.min() < 0.63 and 0.95 < area.max() < 1.02


def test_training_without_colour_distortion_only_crops_and_flips(sample):
    outputs = sample(lambda seed: inception.preprocess_image(IMAGE, 9, 12, True, crop_image=False, seed=seed,
                                                             distort_colors=False), 50)
    straight = resize(IMAGE / np.float32(255), 9, 12) * 2 - 1
    flips = [np.allclose(output, straight[:, ::-1], atol=1e-5) for output in outputs]
    assert 15 < sum(flips) < 35
    for output, flip in zip(outputs, flips, strict=True):
        np.testing.assert_allclose(output, straight[:, ::-1] if flip else straight, atol=1e-5)


def test_slow_training_draws_one_of_four_resizings(sample):
    gray = (110 + IMAGE[:23, :17, :1] // 10)
    outputs = sample(lambda seed: inception.preprocess_image(gray, 7, 6, True, fast_mode=False, crop_image=False,
                                                             seed=seed), 600)
    methods = METHODS.BILINEAR, METHODS.NEAREST_NEIGHBOR, METHODS.BICUBIC, METHODS.AREA
    candidates = [resize(gray / np.float32(255), 7, 6, method) for method in methods]
    candidates = np.stack([x[:, ::side] for x in candidates for side in (1, -1)])
    # Brightness and contrast are affine, and leave the correlation 1.
    correlation = np.corrcoef(np.vstack([outputs.reshape(600, -1), candidates.reshape(8, -1)]))[:600, 600:]
    assert correlation.max(1).min() > 0.9999
    counts = np.bincount(correlation.argmax(1), minlength=8) / 600
    assert np.all((0.08 < counts) & (counts < 0.17))


def test_random_selector(sample):
    cases = sample(lambda seed: inception.apply_with_random_selector(
        tf.constant(10), lambda x, case: x + case, 3, seed), 900)
    assert np.all(np.abs(np.bincount(cases - 10) - 300) < 60)
    assert inception.apply_with_random_selector(5, lambda x, case: (x, case), 1) == (5, 0)


def test_grayscale():
    color = tf.image.central_crop(tf.image.convert_image_dtype(IMAGE, tf.float32), 0.875)
    expected = resize(tf.image.rgb_to_grayscale(color), 24, 32) * 2 - 1
    np.testing.assert_allclose(inception.preprocess_for_eval(IMAGE, 24, 32, use_grayscale=True), expected, atol=1e-6)
    color = inception.preprocess_image(IMAGE, 24, 32, True, seed=[1, 2]) / 2 + 0.5
    np.testing.assert_allclose(inception.preprocess_image(IMAGE, 24, 32, True, use_grayscale=True, seed=[1, 2]),
                               tf.image.rgb_to_grayscale(color) * 2 - 1, atol=1e-3)


def test_a_tf1_graph_gets_summaries():

    def summaries(**kwargs):
        with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
            output = inception.preprocess_image(IMAGE, 24, 32, is_training=True, **kwargs)
            assert session.run(output).shape == (24, 32, 3)
            collected = graph.get_collection(tf.compat.v1.GraphKeys.SUMMARIES)
            assert all(len(session.run(summary)) > 100 for summary in collected)
            return [summary.op.name.split('/')[-1] for summary in collected]

    assert summaries() == ['image_with_bounding_boxes', 'images_with_distorted_bounding_box', 'cropped_resized_image',
                           'final_distorted_image']
    assert summaries(add_image_summaries=False) == []


@pytest.mark.parametrize('call, message', [
    (lambda: inception.distort_color(IMAGE, 4), r'color_ordering is 4; it must be in \[0, 3\]'),
    (lambda: inception.distorted_bounding_box_crop(IMAGE, [0, 0, 1, 1]), r'bbox has shape \(4,\)'),
    (lambda: inception.preprocess_for_eval(IMAGE, 24, None), 'width is None; it must be a positive integer'),
    (lambda: inception.preprocess_image(IMAGE, 24, 24, True, seed=5), r'seed is int32 of shape \(\)'),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
