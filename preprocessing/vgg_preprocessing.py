"""VGG's preprocessing, also of the ResNets: a crop of fixed size out of a resized image, minus ImageNet's mean.

Source: TF-Slim, after "Very deep convolutional networks for large-scale image recognition", arXiv:1409.1556, section 3.
Float images must be in [0, 255].
All randomness is a function of `seed` (int32 [2]); without one, each call draws afresh.

A crop that is larger than the resized image, which TF-Slim refuses, makes the image be resized to just hold it.
"""

import tensorflow as tf

from preprocessing import images

_RGB_MEANS = (123.68, 116.78, 103.94)
_RESIZE_SIDE_MIN = 256
_RESIZE_SIDE_MAX = 512


def preprocess_for_train(image: tf.Tensor, output_height: int, output_width: int,
                         resize_side_min: int = _RESIZE_SIDE_MIN, resize_side_max: int = _RESIZE_SIDE_MAX,
                         use_grayscale: bool = False, seed: tf.Tensor | None = None) -> tf.Tensor:
    """Distorts an image for training: a random crop of the randomly resized image, flipped half of the time.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      resize_side_min: the least length of the resized image's shorter side, in pixels.
      resize_side_max: the greatest, included.
      use_grayscale: the output has one channel.
      seed: int32 [2], or None.

    Returns:
      float32 [output_height, output_width, channels], minus the mean.

    Raises:
      ValueError: an argument is not as above.
    """
    crop_seed, flip_seed = images.split_seed(seed, 2)
    image = begin(image, output_height, output_width, crop_seed, use_grayscale, resize_side_min, resize_side_max)
    return normalize(tf.image.stateless_random_flip_left_right(image, flip_seed))


def begin(image: tf.Tensor, output_height: int, output_width: int, seed: tf.Tensor | None = None,
          use_grayscale: bool = False, resize_side_min: int = _RESIZE_SIDE_MIN,
          resize_side_max: int = _RESIZE_SIDE_MAX) -> tf.Tensor:
    """The part of `preprocess_for_train` that takes images one by one: the resizing and the crop.

    Args and Raises: as there.

    Returns:
      float32 [output_height, output_width, channels], in [0, 255].
    """
    image = images.check_image(image)
    images.check_positive(output_height=output_height, output_width=output_width,
                          resize_side_min=resize_side_min, resize_side_max=resize_side_max)
    if resize_side_min > resize_side_max:
        raise ValueError(f'resize_side_min, {resize_side_min}, is above resize_side_max, {resize_side_max}.')
    side_seed, crop_seed = images.split_seed(seed, 2)
    side = tf.random.stateless_uniform([], side_seed, resize_side_min, resize_side_max + 1, tf.int32)
    image = _aspect_preserving_resize(image, side, output_height, output_width)
    image = tf.image.stateless_random_crop(image, [output_height, output_width, image.shape[-1]], crop_seed)
    return _pixels(image, output_height, output_width, use_grayscale)


def finish(batch: tf.Tensor, seed: tf.Tensor | None = None, use_grayscale: bool = False,
           rows: images.Rows | None = None) -> tf.Tensor:
    """The rest of `preprocess_for_train` for a batch [batch, height, width, channels]: flips, and minus the mean.

    `use_grayscale` makes no difference: `begin` has turned gray. `seed`: int32 [2], or None;
    `rows`: which of a larger batch's these are, or None.
    """
    return normalize(images.random_flip(batch, images.checked_seed(seed), rows))


def preprocess_for_eval(image: tf.Tensor, output_height: int, output_width: int, resize_side: int = _RESIZE_SIDE_MIN,
                        use_grayscale: bool = False, central_fraction: float | None = None,
                        place: tuple[float, float] = images.CENTRE) -> tf.Tensor:
    """Prepares an image for evaluation: the central crop of the resized image.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      resize_side: the length of the resized image's shorter side, in pixels.
      use_grayscale: the output has one channel.
      central_fraction: the output's share of that side, in place of its length; None for `resize_side`.
      place: where the crop is, see `images.crop`.

    Returns:
      float32 [output_height, output_width, channels], minus the mean.

    Raises:
      ValueError: an argument is not as above.
    """
    image = images.check_image(image)
    images.check_positive(output_height=output_height, output_width=output_width, resize_side=resize_side)
    if central_fraction:
        resize_side = round(min(output_height, output_width) / central_fraction)
    image = _aspect_preserving_resize(image, resize_side, output_height, output_width)
    image = images.window(image, tf.constant([output_height, output_width]), place)
    return normalize(_pixels(image, output_height, output_width, use_grayscale))


def preprocess_image(image: tf.Tensor, output_height: int, output_width: int, is_training: bool = False,
                     resize_side_min: int = _RESIZE_SIDE_MIN, resize_side_max: int = _RESIZE_SIDE_MAX,
                     use_grayscale: bool = False, seed: tf.Tensor | None = None, central_fraction: float | None = None,
                     place: tuple[float, float] = images.CENTRE) -> tf.Tensor:
    """Calls `preprocess_for_train` if `is_training`, else `preprocess_for_eval`; arguments and result are theirs.

    `resize_side_min` is the latter's `resize_side`.
    """
    if is_training:
        return preprocess_for_train(image, output_height, output_width, resize_side_min, resize_side_max,
                                    use_grayscale, seed)
    return preprocess_for_eval(image, output_height, output_width, resize_side_min, use_grayscale, central_fraction,
                               place)


def normalize(image: tf.Tensor) -> tf.Tensor:
    """An image, or a batch of them, in [0, 255], minus the mean."""
    means = tf.constant([[_RGB_MEANS]])
    return tf.cast(image, tf.float32) - (means if image.shape[-1] == 3 else images.to_grayscale(means))


def _aspect_preserving_resize(image, side, output_height, output_width):
    # In float32, as TF-Slim: the new sides depend on its rounding.
    size, output = tf.cast(tf.shape(image)[:2], tf.float32), tf.constant([output_height, output_width], tf.float32)
    new_size = tf.math.rint(size * (tf.cast(side, tf.float32) / tf.reduce_min(size)))
    just_fits = tf.math.rint(size * tf.reduce_max(output / size))
    new_size = tf.where(tf.reduce_all(new_size >= output), new_size, just_fits)
    return tf.compat.v1.image.resize(image, tf.cast(new_size, tf.int32))


def _pixels(image, output_height, output_width, use_grayscale):
    image = tf.cast(image, tf.float32)
    if use_grayscale:
        image = images.to_grayscale(image)
    image.set_shape([output_height, output_width, None])
    return image
