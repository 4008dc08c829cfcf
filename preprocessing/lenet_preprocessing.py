"""LeNet's preprocessing: cropped or padded at the centre, pixels in [-1, 1), with no randomness.

Source: TF-Slim.
"""

import tensorflow as tf

from preprocessing import images


def preprocess_image(image: tf.Tensor, output_height: int, output_width: int, is_training: bool = False,
                     use_grayscale: bool = False, seed: tf.Tensor | None = None) -> tf.Tensor:
    """Preprocesses an image, alike for training and evaluation.

    Args:
      image: uint8, or float in [0, 255]; [any height, any width, 1 or 3].
      output_height: in pixels.
      output_width: in pixels.
      is_training: makes no difference.
      use_grayscale: the output has one channel.
      seed: makes no difference.

    Returns:
      float32 [output_height, output_width, channels]: (pixel - 128) / 128.

    Raises:
      ValueError: an argument is not as above.
    """
    return finish(begin(image, output_height, output_width, use_grayscale=use_grayscale))


def begin(image: tf.Tensor, output_height: int, output_width: int, seed: tf.Tensor | None = None,
          use_grayscale: bool = False) -> tf.Tensor:
    """`preprocess_image` but for the normalisation: float32 [output_height, output_width, channels] in [0, 255]."""
    image = tf.cast(images.check_image(image), tf.float32)
    images.check_positive(output_height=output_height, output_width=output_width)
    if use_grayscale:
        image = images.to_grayscale(image)
    return tf.image.resize_with_crop_or_pad(image, output_height, output_width)


def finish(batch: tf.Tensor, seed: tf.Tensor | None = None, use_grayscale: bool = False,
           rows: images.Rows | None = None) -> tf.Tensor:
    """(pixel - 128) / 128 of an image, or of a batch of them; nothing else makes a difference."""
    return (tf.cast(batch, tf.float32) - 128.0) / 128.0
