"""The preprocessing of Keras's ImageDataGenerator: the whole photo, turned, shifted, sheared, zoomed and mirrored.

As `ImageDataGenerator(rotation_range=40, ..., preprocessing_function=lambda x: x / 127.5 - 1).flow_from_directory`, but
for the resizing, which is bilinear here, and for shifts, which are along the side that they are named for (Keras 3
exchanges them). All randomness is a function of `seed` (int32 [2]); without one, each call
draws afresh.
"""
import math

import tensorflow as tf

from preprocessing import images

FILL_MODES = ('nearest', 'constant', 'reflect', 'wrap')


def affine_matrix(width: int, height: int, degrees: tf.Tensor, x_shift: tf.Tensor, y_shift: tf.Tensor,
                  shear: tf.Tensor, x_zoom: tf.Tensor, y_zoom: tf.Tensor) -> tf.Tensor:
    """Where in the image each pixel of the distorted one comes from; Keras's for square images (see the comment).

    Args:
      width, height: of the image, in pixels.
      degrees: of the rotation about the centre; positive ones turn the image counter-clockwise.
      x_shift, y_shift: in pixels; positive ones move the image to the left and up.
      shear: in degrees.
      x_zoom, y_zoom: below 1 they enlarge.

    Returns:
      float32 [3, 3], from (x, y, 1) of the result to (x, y, 1) of the image, in pixels.
    """
    # Keras takes the centre of an image that is not square with its sides exchanged, and a shift of the height for one
    # of the width.
    angle, shear = degrees * (math.pi / 180), shear * (math.pi / 180)
    rotation = _matrix([tf.cos(angle), -tf.sin(angle), 0, tf.sin(angle), tf.cos(angle), 0])
    shift = _matrix([1, 0, x_shift, 0, 1, y_shift])
    sheared = _matrix([1, -tf.sin(shear), 0, 0, tf.cos(shear), 0])
    zoom = _matrix([x_zoom, 0, 0, 0, y_zoom, 0])
    x, y = width / 2 - 0.5, height / 2 - 0.5
    return _matrix([1, 0, x, 0, 1, y]) @ rotation @ shift @ sheared @ zoom @ _matrix([1, 0, -x, 0, 1, -y])


def _matrix(values):
    return tf.reshape(tf.stack([tf.cast(value, tf.float32) for value in [*values, 0, 0, 1]]), [3, 3])


def transform(image: tf.Tensor, matrix: tf.Tensor, fill_mode: str = 'nearest', cval: float = 0.0) -> tf.Tensor:
    """The image [height, width, channels] seen through a matrix of `affine_matrix`, with bilinear interpolation.

    Args:
      image: float.
      matrix: [3, 3].
      fill_mode: what lies outside: the nearest pixel, `cval` (constant), the image mirrored, or repeated (wrap).
      cval: see `fill_mode`.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis], transforms=tf.reshape(matrix, [1, 9])[:, :8],
        output_shape=tf.shape(image)[:2], fill_value=cval, interpolation='BILINEAR', fill_mode=fill_mode.upper())[0]


def preprocess_image(image: tf.Tensor, output_height: int, output_width: int, is_training: bool = False,
                     use_grayscale: bool = False, rotation_range: float = 0.0, width_shift_range: float = 0.0,
                     height_shift_range: float = 0.0, shear_range: float = 0.0, zoom_range: float = 0.0,
                     horizontal_flip: bool = False, vertical_flip: bool = False, fill_mode: str = 'nearest',
                     cval: float = 0.0, seed: tf.Tensor | None = None) -> tf.Tensor:
    """Resizes a photo as a whole and, for training, distorts it.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      is_training: whether to distort.
      use_grayscale: the output has one channel.
      rotation_range: degrees to turn by, either way at most.
      width_shift_range, height_shift_range: part of the width and of the height to shift by, either way at most.
      shear_range: degrees of shear, either way at most.
      zoom_range: each side is scaled by a factor from 1 - zoom_range to 1 + zoom_range of its own.
      horizontal_flip, vertical_flip: whether half of the images are mirrored so.
      fill_mode: one of `FILL_MODES`, see `transform`.
      cval: the value, from 0 to 255, that `constant` fills with.
      seed: int32 [2], or None.

    Returns:
      float32 [output_height, output_width, channels] in [-1, 1].

    Raises:
      ValueError: an argument is not as above.
    """
    image = begin(image, output_height, output_width, seed, use_grayscale, rotation_range, width_shift_range,
                  height_shift_range, shear_range, zoom_range, horizontal_flip, vertical_flip, fill_mode, cval,
                  is_training)
    images.summary('final_image', image)
    return finish(image)


def begin(image: tf.Tensor, output_height: int, output_width: int, seed: tf.Tensor | None = None,
          use_grayscale: bool = False, rotation_range: float = 0.0, width_shift_range: float = 0.0,
          height_shift_range: float = 0.0, shear_range: float = 0.0, zoom_range: float = 0.0,
          horizontal_flip: bool = False, vertical_flip: bool = False, fill_mode: str = 'nearest', cval: float = 0.0,
          is_training: bool = True) -> tf.Tensor:
    """`preprocess_image` but for the normalisation: float32 [output_height, output_width, channels] in [0, 255]."""
    image = images.check_image(image)
    images.check_positive(output_height=output_height, output_width=output_width)
    if fill_mode not in FILL_MODES:
        raise ValueError(f'fill_mode is {fill_mode!r}; it must be one of {", ".join(FILL_MODES)}.')
    for name, value in dict(rotation_range=rotation_range, width_shift_range=width_shift_range, shear_range=shear_range,
                            height_shift_range=height_shift_range, zoom_range=zoom_range).items():
        if value < 0 or name == 'zoom_range' and value >= 1:
            raise ValueError(f'{name} is {value}; it must be 0 or more{", and below 1" if value > 0 else ""}.')
    image = images.to_grayscale(image) if use_grayscale else image
    image = tf.image.resize(tf.cast(image, tf.float32), [output_height, output_width])
    if is_training:
        draws, left_right, up_down = images.split_seed(seed, 3)
        part = tf.random.stateless_uniform([6], draws, -1, 1)
        image = transform(image, affine_matrix(
            output_width, output_height, part[0] * rotation_range, part[1] * width_shift_range * output_width,
            part[2] * height_shift_range * output_height, part[3] * shear_range, 1 + part[4] * zoom_range,
            1 + part[5] * zoom_range), fill_mode, cval)
        image = tf.image.stateless_random_flip_left_right(image, left_right) if horizontal_flip else image
        image = tf.image.stateless_random_flip_up_down(image, up_down) if vertical_flip else image
    image.set_shape([output_height, output_width, None])
    return image


def finish(batch: tf.Tensor, seed: tf.Tensor | None = None, use_grayscale: bool = False,
           rows: images.Rows | None = None) -> tf.Tensor:
    """An image, or a batch of them, from [0, 255] to [-1, 1]; nothing else makes a difference."""
    return tf.cast(batch, tf.float32) / 127.5 - 1
