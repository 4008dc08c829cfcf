"""LeNet's preprocessing: cropped or padded at the centre, pixels in [-1, 1), with no randomness.

Source: TF-Slim.
"""

import tensorflow as tf

from preprocessing import images


def preprocess_image(image: tf.Tensor, output_height: int, output_width: int, is_training: bool = False,
                     use_grayscale: bool = False, seed: tf.Tensor | None = None, normalized: bool = True) -> tf.Tensor:
    """Preprocesses an image, alike for training and evaluation.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      is_training: makes no difference.
      use_grayscale: the output has one channel.
      seed: makes no difference.
      normalized: whether `normalize` ends it; else the pixels stay float32 in [0, 255].

    Returns:
      float32 [output_height, output_width, channels]: (pixel - 128) / 128.

    Raises:
      ValueError: an argument is not as above.
    """
    image = tf.cast(images.check_image(image), tf.float32)
    images.check_positive(output_height=output_height, output_width=output_width)
    if use_grayscale:
        image = images.to_grayscale(image)
    image = tf.image.resize_with_crop_or_pad(image, output_height, output_width)
    return normalize(image) if normalized else image


def normalize(image: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
    """(pixel - 128) / 128 of an image, or of a batch of them, in [0, 255]; `seed` makes no difference."""
    return (tf.cast(image, tf.float32) - 128.0) / 128.0
