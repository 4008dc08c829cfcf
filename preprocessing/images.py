"""What the preprocessings share: checks of their arguments, seeds, grayscale, summaries."""

import numbers

import tensorflow as tf

CENTRE = 0.5, 0.5
CORNERS = (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)


def check_image(image: tf.Tensor) -> tf.Tensor:
    """Returns `image` as a tensor.

    Raises:
      ValueError: `image` is not uint8 or float, or its shape is not [height, width, 1 or 3].
    """
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8 and not image.dtype.is_floating:
        raise ValueError(f'image has type {image.dtype.name}; a preprocessing takes a decoded image, uint8 or float.')
    if image.shape.rank != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f'image has shape {image.shape}; a preprocessing takes one image, [height, width, 1 or 3] '
                         '(where the channels cannot be known, say image.set_shape([None, None, 3]) first).')
    return image


def check_positive(**sizes: object) -> None:
    """Raises ValueError, with its name, for a size (in pixels) that is not a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or size <= 0:
            raise ValueError(f'{name} is {size!r}; it must be a positive integer, in pixels.')


def split_seed(seed: tf.Tensor | None, count: int) -> list[tf.Tensor]:
    """Returns `count` independent seeds that are a function of `seed` alone, or fresh ones where it is None.

    Args:
      seed: integers of shape [2], or None.
      count: how many are wanted.

    Raises:
      ValueError: `seed` is something else.
    """
    return tf.unstack(tf.random.split(checked_seed(seed), count, alg='philox'), count)


def uniform(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws float32 from [0, 1), the same with XLA, on a GPU and without; ValueError as `split_seed`.

    Of tf.random.stateless_uniform only the integers are: XLA makes its floats of the other end of the same bits.
    """
    draws = tf.random.stateless_uniform(shape, checked_seed(seed), 0, 2 ** 24, tf.int32, alg='philox')
    return tf.cast(draws, tf.float32) / 2 ** 24


Rows = tuple[tf.Tensor, int]
"""Which rows a batch has of a larger one, int32 [batch], and the number of those. What is drawn for a part, on one of
several devices, is then what would be drawn for the whole."""


def draw(batch: tf.Tensor, seed: tf.Tensor, rows: Rows | None) -> tf.Tensor:
    """Draws a number from [0, 1) for each image of a batch: float32 [batch, 1, 1, 1]."""
    if rows is None:
        return uniform([tf.shape(batch)[0], 1, 1, 1], seed)
    numbers, total = rows
    return tf.gather(uniform([total], seed), numbers)[:, tf.newaxis, tf.newaxis, tf.newaxis]


def random_flip(batch: tf.Tensor, seed: tf.Tensor, rows: Rows | None) -> tf.Tensor:
    """A batch of images, [batch, height, width, channels], of which each is mirrored half of the time."""
    return tf.where(draw(batch, seed, rows) < 0.5, tf.reverse(batch, [2]), batch)


def checked_seed(seed: tf.Tensor | None) -> tf.Tensor:
    """Returns `seed` as a tensor, a fresh one where it is None; ValueError as `split_seed`."""
    if seed is None:
        return tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)
    seed = tf.convert_to_tensor(seed)
    if seed.dtype not in (tf.int32, tf.int64) or not seed.shape.is_compatible_with([2]):
        raise ValueError(f'seed is {seed.dtype.name} of shape {seed.shape}; it must be two integers, int32 (2,).')
    return seed


def crop(image: tf.Tensor, fraction: float, place: tuple[float, float] = CENTRE) -> tf.Tensor:
    """Returns the part of `image`, [height, width, channels], with `fraction` of each side that lies at `place`.

    `place` is a share of the room above the part, and one of the room left of it, from 0 to 1. In the centre this is
    `tf.image.central_crop`.
    """
    if place == CENTRE:
        return tf.image.central_crop(image, fraction)
    size = tf.shape(image)[:2] - 2 * tf.cast(tf.cast(tf.shape(image)[:2], tf.float64) * (1 - fraction) / 2, tf.int32)
    return window(image, size, place)


def window(image: tf.Tensor, size: tf.Tensor, place: tuple[float, float] = CENTRE) -> tf.Tensor:
    """Returns the part of `image`, [height, width, channels], of a size, int32 [2], at `place`; see `crop`."""
    room = tf.cast(tf.shape(image)[:2] - size, tf.float32)
    top, left = tf.unstack(tf.cast(room * tf.constant(place, tf.float32), tf.int32))
    return image[top:top + size[0], left:left + size[1]]


def to_grayscale(image: tf.Tensor) -> tf.Tensor:
    """Returns `image`, [height, width, 1 or 3], with one channel: its luma."""
    return image if image.shape[-1] == 1 else tf.image.rgb_to_grayscale(image)


def writes_summaries() -> bool:
    """Whether TF1 summaries have a graph to go to: not eagerly, nor in a tf.function or tf.data's map."""
    return not tf.executing_eagerly() and not tf.inside_function()


def summary(name: str, image: tf.Tensor) -> None:
    """Adds an image summary of `image`, [height, width, channels], to a TF1 graph; elsewhere does nothing."""
    if writes_summaries():
        tf.compat.v1.summary.image(name, image[tf.newaxis])
