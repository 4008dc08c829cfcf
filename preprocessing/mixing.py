"""Mixup, CutMix and random erasing of a batch, on the device, after normalisation.

All randomness is a function of `seed` (int32 [2]), so that a resumed training draws what it would have drawn. Keras's
augmentation layers cannot serve: they draw from a variable of their own, which no checkpoint of the weights holds.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from preprocessing.images import split_seed, uniform

_PROPOSALS = 16  # each is accepted with a probability above 0.95
_ATTEMPTS = 10


def mixup(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends each image and its target with the one before it in the batch, by a share drawn from Beta(alpha, alpha).

    Args:
      images: float [batch, height, width, channels].
      targets: float32 [batch, classes], such as one-hot labels.
      seed: int32 [2].
      alpha: above 0; the greater, the nearer are the shares to a half.

    Returns:
      The blended images and targets.

    Raises:
      ValueError: an argument is not as above.

    Source: "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """
    images, targets = _checked_images(images), _checked_targets(targets)
    share = _beta(alpha, tf.shape(images)[:1], seed)
    share = tf.cast(share, images.dtype)  # the targets get the share that the images, maybe in bfloat16, really have
    return _blend(images, share[:, None, None, None]), _blend(targets, tf.cast(share, targets.dtype)[:, None])


def cutmix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a box of the one before it in the batch into each image; targets are blended by the area that is pasted.

    The box has the image's aspect; its area is one minus a share from Beta(alpha, alpha), its centre anywhere in the
    image. What lies outside is cut off.

    Args, Returns and Raises: as `mixup`.

    Source: "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv:1905.04899.
    """
    images, targets = _checked_images(images), _checked_targets(targets)
    share_seed, centre_seed = split_seed(seed, 2)
    batch, size = tf.shape(images)[0], tf.cast(tf.shape(images)[1:3], tf.float32)
    share = _beta(alpha, [batch, 1], share_seed)
    half = tf.floor(tf.floor(tf.sqrt(1 - share) * size) / 2)
    centre = tf.floor(uniform([batch, 2], centre_seed) * size)
    start, end = tf.maximum(centre - half, 0), tf.minimum(centre + half, size)
    pasted = tf.reduce_prod(end - start, 1) / tf.reduce_prod(size)
    mixed = tf.where(_inside(start, end, size), tf.roll(images, 1, 0), images)
    return mixed, _blend(targets, 1 - tf.cast(pasted, targets.dtype)[:, None])


def mix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0,
        probability: float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `mixup` or `cutmix` to a batch, whichever is on; where both are, either to half of the batches.

    Args:
      images: float [batch, height, width, channels].
      targets: float32 [batch, classes].
      seed: int32 [2].
      mixup_alpha: of `mixup`; 0 for none.
      cutmix_alpha: of `cutmix`; 0 for none.
      probability: the share of the batches that are mixed at all.

    Returns:
      The mixed images and targets.

    Raises:
      ValueError: an argument is not as above.
    """
    images, targets = _checked_images(images), _checked_targets(targets)
    _check_probability(probability)
    draw_seed, seed = split_seed(seed, 2)
    ways = [lambda way=way, alpha=alpha: way(images, targets, seed, alpha)
            for way, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha]
    if not ways or not probability:
        return images, targets
    # Nothing is mixed where the draw falls behind all ways.
    way = uniform([], draw_seed) * (len(ways) / probability)
    return tf.switch_case(tf.cast(way, tf.int32), [*ways, lambda: (images, targets)])


def random_erasing(images: tf.Tensor, seed: tf.Tensor, probability: float, area: Sequence[float] = (0.02, 1 / 3),
                   aspect: Sequence[float] = (0.3, 3.3), noise: bool = True) -> tf.Tensor:
    """Erases a rectangle of its own from some of the images of a batch.

    Args:
      images: float [batch, height, width, channels].
      seed: int32 [2].
      probability: the share of the images that lose a rectangle.
      area: the rectangle's share of the image, from and to; drawn uniformly.
      aspect: its height / width, from and to; drawn uniformly in the logarithm.
      noise: whether it is filled with normal noise of each channel's mean and deviation over the batch (timm's `pixel`,
        for images that are standardised); else with zeros.

    Returns:
      The images.

    Raises:
      ValueError: an argument is not as above.

    Source: "Random Erasing Data Augmentation", arXiv:1708.04896.
    """
    images = _checked_images(images)
    _check_probability(probability)
    for name, (low, high), most in ('area', area, 1), ('aspect', aspect, math.inf):
        if not 0 < low <= high <= most:
            raise ValueError(f'{name} is {(low, high)}; it must be two numbers above 0, the smaller first'
                             f'{", at most 1." if name == "area" else "."}')
    if not probability:
        return images
    draws, noise_seed = split_seed(seed, 2)
    batch, size = tf.shape(images)[0], tf.cast(tf.shape(images)[1:3], tf.float32)
    draw, area_part, aspect_part, top, left = tf.unstack(uniform([5, batch, _ATTEMPTS], draws))
    areas = (area[0] + area_part * (area[1] - area[0])) * tf.reduce_prod(size)
    aspects = tf.exp(math.log(aspect[0]) + aspect_part * math.log(aspect[1] / aspect[0]))
    rectangles = tf.round(tf.sqrt(tf.stack([areas * aspects, areas / aspects], -1)))  # [batch, attempts, 2]
    # Of all attempts the first whose rectangle fits, as in the paper's loop.
    fits = tf.reduce_all(rectangles < size, -1)
    first = _first(fits)
    rectangle = tf.einsum('ba,bas->bs', first, rectangles)
    place = tf.einsum('ba,bas->bs', first, tf.stack([top, left], -1))
    erased = tf.logical_and(draw[:, :1] < probability, tf.reduce_any(fits, 1, keepdims=True))
    start = tf.floor(place * (size - rectangle + 1))
    end = start + rectangle * tf.cast(erased, tf.float32)
    if not noise:
        return tf.where(_inside(start, end, size), tf.zeros([], images.dtype), images)
    some = tf.cast(images[:, ::4, ::4], tf.float32)  # tells mean and deviation as well as all, for less
    mean, variance = tf.nn.moments(some, [0, 1, 2])
    # One field of noise for the batch: to draw one for each image costs more than all the rest, and shows only where
    # two rectangles overlap.
    draws = tf.unstack(uniform(tf.concat([[2], tf.shape(images)[1:]], 0), noise_seed))
    field = mean + tf.sqrt(variance) * _normal(*draws)
    return tf.where(_inside(start, end, size), tf.cast(field, images.dtype), images)


def _blend(values, share):
    """`share` of each element of the batch, the rest of the one before it."""
    before = tf.roll(values, 1, 0)
    return before + share * (values - before)


def _inside(start, end, size):
    """Which pixels, [batch, height, width, 1], lie in the boxes from `start` up to `end`, [batch, 2] (row, column)."""
    rows, columns = tf.range(size[0]), tf.range(size[1])
    rows = tf.logical_and(rows >= start[:, :1], rows < end[:, :1])
    columns = tf.logical_and(columns >= start[:, 1:], columns < end[:, 1:])
    return tf.logical_and(rows[:, :, None], columns[:, None, :])[..., None]


def _beta(alpha, shape, seed):
    """Draws from Beta(alpha, alpha), float32: X / (X + Y) of two gamma variables.

    tf.random.stateless_gamma has no XLA kernel; this is Marsaglia and Tsang's method (doi:10.1145/358407.358414) with a
    fixed number of proposals, of which the first accepted is taken. In logarithms: for a small alpha the variables
    themselves would underflow.
    """
    if not alpha > 0:
        raise ValueError(f'alpha is {alpha}; it must be above 0.')
    draws = tf.unstack(uniform(tf.concat([[4, 2], shape, [_PROPOSALS]], 0), seed))
    d = alpha + 1 - 1 / 3  # gamma(alpha) is gamma(alpha + 1) * uniform ** (1 / alpha)
    x = _normal(draws[0], draws[1])
    cube = 3 * tf.math.log(tf.maximum(1 + x / math.sqrt(9 * d), 1e-30))
    accepted = tf.math.log1p(-draws[2]) < x ** 2 / 2 + d - d * tf.exp(cube) + d * cube
    log_gamma = tf.reduce_sum(_first(accepted) * cube, -1) + tf.math.log1p(-draws[3][..., 0]) / alpha
    return tf.sigmoid(log_gamma[0] - log_gamma[1])


def _first(mask):
    """1.0 where the first True of the last dimension is, else 0.0; of equal values tf.argmax may take any."""
    return tf.cast(tf.logical_and(mask, tf.cumsum(tf.cast(mask, tf.float32), -1) == 1), tf.float32)


def _normal(first, second):
    """Box and Muller's method, of two uniform draws: tf.random.stateless_normal draws others with XLA than without."""
    return tf.sqrt(-2 * tf.math.log1p(-first)) * tf.cos(2 * math.pi * second)


def _checked_images(images):
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating or images.shape.rank != 4:
        raise ValueError(f'images are {images.dtype.name} of shape {images.shape}; they must be float '
                         '[batch, height, width, channels].')
    return images


def _checked_targets(targets):
    targets = tf.convert_to_tensor(targets)
    if not targets.dtype.is_floating or targets.shape.rank != 2:
        raise ValueError(f'targets are {targets.dtype.name} of shape {targets.shape}; they must be float '
                         '[batch, classes], such as tf.one_hot(labels, classes).')
    return targets


def _check_probability(probability):
    if not 0 <= probability <= 1:
        raise ValueError(f'probability is {probability}; it must be from 0 to 1.')
