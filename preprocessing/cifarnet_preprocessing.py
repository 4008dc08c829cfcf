"""CifarNet's preprocessing: a crop of the padded image, its brightness and contrast distorted, then standardised.

Source: TF-Slim, after cuda-convnet's CIFAR-10 recipe. Float images must be in [0, 255].
All randomness is a function of `seed` (int32 [2]); without one, each call draws afresh.
"""

import operator

import tensorflow as tf

from preprocessing import images

_PADDING = 4
_CONTRAST = 0.2, 1.8


def preprocess_for_train(image: tf.Tensor, output_height: int, output_width: int, padding: int = _PADDING,
                         add_image_summaries: bool = True, use_grayscale: bool = False,
                         seed: tf.Tensor | None = None) -> tf.Tensor:
    """Distorts an image for training: a random crop of the padded image, a flip, brightness and contrast.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      padding: zeros on each side, in pixels; an image that is still smaller than the output gets as many as it lacks.
      add_image_summaries: in a TF1 graph, adds image summaries.
      use_grayscale: the output has one channel.
      seed: int32 [2], or None.

    Returns:
      float32 [output_height, output_width, channels], with mean 0 and variance 1.

    Raises:
      ValueError: an argument is not as above.
    """
    crop_seed, flip_seed, brightness_seed, contrast_seed = images.split_seed(seed, 4)
    image = begin(image, output_height, output_width, crop_seed, use_grayscale, padding, add_image_summaries)
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    if add_image_summaries:
        images.summary('distorted_image', image)
    # The standardisation undoes the brightness (float images are not clipped): TF-Slim's recipe has it nonetheless.
    image = tf.image.stateless_random_brightness(image, 63, brightness_seed)
    image = tf.image.stateless_random_contrast(image, *_CONTRAST, contrast_seed)
    return tf.image.per_image_standardization(image)


def begin(image: tf.Tensor, output_height: int, output_width: int, seed: tf.Tensor | None = None,
          use_grayscale: bool = False, padding: int = _PADDING, add_image_summaries: bool = False) -> tf.Tensor:
    """The part of `preprocess_for_train` that takes images one by one: the crop of the padded image.

    Args and Raises: as there.

    Returns:
      float32 [output_height, output_width, channels], in [0, 255].
    """
    image = _prepared(image, output_height, output_width, add_image_summaries, use_grayscale)
    if operator.index(padding) < 0:
        raise ValueError(f'padding is {padding}; it must not be negative.')
    size = tf.maximum(tf.shape(image)[:2] + 2 * padding, [output_height, output_width])
    image = tf.image.resize_with_crop_or_pad(image, size[0], size[1])
    image = tf.image.stateless_random_crop(image, [output_height, output_width, image.shape[-1]],
                                           images.checked_seed(seed))
    image.set_shape([output_height, output_width, None])
    return image


def finish(batch: tf.Tensor, seed: tf.Tensor | None = None, use_grayscale: bool = False,
           rows: images.Rows | None = None) -> tf.Tensor:
    """The rest of `preprocess_for_train` for a batch: flips, a contrast of each one's own, then standardisation.

    Args:
      batch: uint8, or float in [0, 255]; [batch, height, width, channels].
      seed: int32 [2], or None.
      use_grayscale: makes no difference: `begin` has turned gray.
      rows: which of a larger batch's these are, or None.
    """
    flip_seed, contrast_seed = images.split_seed(seed, 2)
    batch = tf.cast(images.random_flip(batch, flip_seed, rows), tf.float32)
    low, high = _CONTRAST
    contrast = low + (high - low) * images.draw(batch, contrast_seed, rows)
    mean = tf.reduce_mean(batch, [1, 2], keepdims=True)
    return tf.image.per_image_standardization((batch - mean) * contrast + mean)


def preprocess_for_eval(image: tf.Tensor, output_height: int, output_width: int, add_image_summaries: bool = True,
                        use_grayscale: bool = False) -> tf.Tensor:
    """Prepares an image for evaluation: cropped or padded at the centre, then standardised.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      add_image_summaries: in a TF1 graph, adds image summaries.
      use_grayscale: the output has one channel.

    Returns:
      float32 [output_height, output_width, channels], with mean 0 and variance 1.

    Raises:
      ValueError: an argument is not as above.
    """
    image = _prepared(image, output_height, output_width, add_image_summaries, use_grayscale)
    image = tf.image.resize_with_crop_or_pad(image, output_height, output_width)
    if add_image_summaries:
        images.summary('resized_image', image)
    return tf.image.per_image_standardization(image)


def preprocess_image(image: tf.Tensor, output_height: int, output_width: int, is_training: bool = False,
                     add_image_summaries: bool = True, use_grayscale: bool = False,
                     seed: tf.Tensor | None = None) -> tf.Tensor:
    """Calls `preprocess_for_train` if `is_training`, else `preprocess_for_eval`; arguments and result are theirs."""
    if is_training:
        return preprocess_for_train(image, output_height, output_width, add_image_summaries=add_image_summaries,
                                    use_grayscale=use_grayscale, seed=seed)
    return preprocess_for_eval(image, output_height, output_width, add_image_summaries, use_grayscale)


def _prepared(image, output_height, output_width, add_image_summaries, use_grayscale):
    """The checked image as float32, with one channel if asked for."""
    image = images.check_image(image)
    images.check_positive(output_height=output_height, output_width=output_width)
    if add_image_summaries:
        images.summary('image', image)
    image = tf.cast(image, tf.float32)
    return images.to_grayscale(image) if use_grayscale else image
