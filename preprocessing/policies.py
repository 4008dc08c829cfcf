"""RandAugment and TrivialAugment: random operations on one uint8 image, before its normalisation.

The operations are Pillow's, and their ranges torchvision's. All randomness is a function of `seed` (int32 [2]), so that
a resumed training draws what it would have drawn. Keras's augmentation layers cannot serve: they draw from a variable
of their own, which no checkpoint of the weights holds.
"""

import math

import tensorflow as tf

from preprocessing import images

POLICIES = ('randaugment', 'trivialaugment')
MAX_MAGNITUDE = 30
_LUMA = (0.299, 0.587, 0.114)


def augment(image: tf.Tensor, policy: str, seed: tf.Tensor | None = None, num_ops: int = 2, magnitude: float = 9,
            fill: int = 128) -> tf.Tensor:
    """Applies operations drawn by a policy; only those are computed.

    Args:
      image: uint8 [any height, any width, 1 or 3].
      policy: `randaugment`: `num_ops` operations, all of the same `magnitude`; or `trivialaugment`: one operation, of
        any magnitude, from wider ranges.
      seed: int32 [2], or None.
      num_ops: of `randaugment` alone.
      magnitude: of `randaugment` alone; from 0 to 30.
      fill: the grey, 0 to 255, of what a shifted, turned or sheared image leaves empty.

    Returns:
      uint8, of `image`'s shape.

    Raises:
      ValueError: an argument is not as above.

    Source: "RandAugment: Practical automated data augmentation with a reduced search space", arXiv:1909.13719;
    "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", arXiv:2103.10158, its wide space.
    """
    image = images.check_image(image)
    if image.dtype != tf.uint8:
        raise ValueError(f'image has type {image.dtype.name}; a policy takes uint8.')
    if policy not in POLICIES:
        raise ValueError(f'policy is {policy!r}; it must be one of {", ".join(POLICIES)}.')
    if not 0 <= magnitude <= MAX_MAGNITUDE:
        raise ValueError(f'magnitude is {magnitude}; it must be from 0 to {MAX_MAGNITUDE}.')
    images.check_positive(num_ops=num_ops)
    trivial = policy == 'trivialaugment'
    shape = image.shape
    for op_seed in images.split_seed(seed, 1 if trivial else num_ops):
        kind_seed, magnitude_seed, sign_seed = images.split_seed(op_seed, 3)
        if trivial:
            magnitude = tf.random.stateless_uniform([], magnitude_seed, 0, MAX_MAGNITUDE + 1, tf.int32)
        sign = tf.random.stateless_uniform([], sign_seed, 0, 2, tf.int32) * 2 - 1
        operations = _operations(image, tf.cast(magnitude, tf.float32), tf.cast(sign, tf.float32), fill, trivial)
        kind = tf.random.stateless_uniform([], kind_seed, 0, len(operations), tf.int32)
        image = tf.ensure_shape(tf.switch_case(kind, [*operations.values()]), shape)
    return image


def _operations(image, magnitude, sign, fill, wide):
    """The operations by name; one with two directions takes that of `sign`."""
    part = magnitude / MAX_MAGNITUDE
    bits = 8 - tf.cast(tf.round(part * (6 if wide else 4)), tf.int32)
    shear = sign * part * (0.99 if wide else 0.3)
    angle = sign * part * (135 if wide else 30)
    factor = 1 + sign * part * (0.99 if wide else 0.9)

    def shift(side):  # in whole pixels
        most = 32.0 if wide else 150 / 331 * tf.cast(tf.shape(image)[side], tf.float32)
        return sign * tf.floor(magnitude * most / MAX_MAGNITUDE)

    operations = {
        'identity': lambda: image,
        'autocontrast': lambda: autocontrast(image),
        'equalize': lambda: equalize(image),
        'solarize': lambda: solarize(image, 255 - magnitude * (255 / MAX_MAGNITUDE)),
        'posterize': lambda: posterize(image, bits),
        'color': lambda: color(image, factor),
        'contrast': lambda: contrast(image, factor),
        'brightness': lambda: brightness(image, factor),
        'sharpness': lambda: sharpness(image, factor),
        'rotate': lambda: rotate(image, angle, fill),
        'shear_x': lambda: affine(image, [1, shear, 0, 0, 1, 0], fill),
        'shear_y': lambda: affine(image, [1, 0, 0, shear, 1, 0], fill),
        'translate_x': lambda: affine(image, [1, 0, shift(1), 0, 1, 0], fill),
        'translate_y': lambda: affine(image, [1, 0, 0, 0, 1, shift(0)], fill),
    }
    if image.shape[-1] == 1:
        del operations['color']
    return operations


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel's values to [0, 255]."""
    pixels = tf.cast(image, tf.float32)
    low, high = (reduce(pixels, [0, 1]) for reduce in (tf.reduce_min, tf.reduce_max))
    stretched = tf.saturate_cast((pixels - low) * 255 / tf.maximum(high - low, 1), tf.uint8)
    return tf.where(high > low, stretched, image)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Makes each channel's histogram as even as a map of its values can."""
    channels = image.shape[-1]
    values = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=256 * channels)
    counts = tf.reshape(counts, [channels, 256])
    below = tf.cumsum(counts, 1, exclusive=True)
    # As in Pillow: the pixels of the greatest value do not count.
    last = tf.reduce_max(tf.where(counts > 0, below, 0), 1, keepdims=True)
    step = last // 255
    table = tf.minimum((step // 2 + below) // tf.maximum(step, 1), 255)
    table = tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8)
    return tf.gather(tf.reshape(table, [-1]), values)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the values from `threshold` on."""
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest `bits` of each value."""
    return tf.bitwise.bitwise_and(image, tf.cast(256 - tf.bitwise.left_shift(1, 8 - bits), tf.uint8))


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From grey (factor 0) over the image itself (1) to stronger colours."""
    return _blend(_gray(image), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From the mean grey (factor 0) over the image itself (1) to more contrast."""
    return _blend(tf.round(tf.reduce_mean(_gray(image))), image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From black (factor 0) over the image itself (1) to brighter."""
    return _blend(0.0, image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From smooth (factor 0) over the image itself (1) to sharper; the outermost pixels stay."""
    pixels = tf.cast(image, tf.float32)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = pixels[1:-1, 1:-1]
    smoother = tf.round((box + 4 * inner) / 13) - inner
    return _blend(pixels + tf.pad(smoother, [[1, 1], [1, 1], [0, 0]]), image, factor)


def rotate(image: tf.Tensor, degrees: tf.Tensor, fill: float = 0) -> tf.Tensor:
    """Turns the image about its centre, counter-clockwise."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32) / 2)
    angle = degrees * (math.pi / 180)
    sin, cos = tf.sin(angle), tf.cos(angle)
    return affine(image, [cos, -sin, width - cos * width + sin * height,
                          sin, cos, height - sin * width - cos * height], fill)


def affine(image: tf.Tensor, matrix: list, fill: float = 0) -> tf.Tensor:
    """The image seen through an affine map, with bilinear interpolation, or `fill` where the map leads outside.

    Args:
      image: uint8 [height, width, channels].
      matrix: a, b, c, d, e, f, as Pillow's: (x, y) of the result comes from (ax + by + c, dx + ey + f) of the image, in
        pixels from its upper left corner.
      fill: 0 to 255.
    """
    a, b, c, d, e, f = (tf.cast(value, tf.float32) for value in matrix)
    # TensorFlow counts from the centre of the first pixel.
    c, f = c + (a + b - 1) / 2, f + (d + e - 1) / 2
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[tf.newaxis], transforms=[[a, b, c, d, e, f, 0.0, 0.0]],
        output_shape=tf.shape(image)[:2], fill_value=float(fill), interpolation='BILINEAR', fill_mode='CONSTANT')[0]
    return tf.saturate_cast(pixels, tf.uint8)


def _gray(image):
    """The luma, float32 [height, width, 1], in whole numbers."""
    image = tf.cast(image, tf.float32)
    return image if image.shape[-1] == 1 else tf.round(tf.tensordot(image, tf.constant(_LUMA)[:, tf.newaxis], 1))


def _blend(start, image, factor):
    """From `start` (factor 0) to `image` (1) and beyond."""
    return tf.saturate_cast(start + factor * (tf.cast(image, tf.float32) - start), tf.uint8)
