"""Inception's preprocessing: a crop of any area and aspect, a flip and colour distortions; pixels in [-1, 1].

Source: TF-Slim, after "Going deeper with convolutions", arXiv:1409.4842, section 6.
Float images must be in [0, 1] already.
All randomness is a function of `seed` (int32 [2]); without one, each call draws afresh.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from preprocessing import images

_COLOR_ORDERINGS = (
    ('brightness', 'saturation', 'hue', 'contrast'),
    ('saturation', 'brightness', 'contrast', 'hue'),
    ('contrast', 'hue', 'brightness', 'saturation'),
    ('hue', 'saturation', 'contrast', 'brightness'),
)
_FAST_COLOR_ORDERINGS = (('brightness', 'saturation'),) + 3 * (('saturation', 'brightness'),)

_WHOLE = (((0.0, 0.0, 1.0, 1.0),),)

_MAX_BRIGHTNESS = 32 / 255
_SATURATION = 0.5, 1.5
_DISTORTIONS = {
    'brightness': functools.partial(tf.image.stateless_random_brightness, max_delta=_MAX_BRIGHTNESS),
    'saturation': functools.partial(tf.image.stateless_random_saturation, lower=_SATURATION[0], upper=_SATURATION[1]),
    'hue': functools.partial(tf.image.stateless_random_hue, max_delta=0.2),
    'contrast': functools.partial(tf.image.stateless_random_contrast, lower=0.5, upper=1.5),
}


def apply_with_random_selector(x: tf.Tensor, func: Callable, num_cases: int,
                               seed: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `func(x, case)` for a random int `case` in [0, num_cases); only that case is computed."""
    if num_cases == 1:
        return func(x, 0)
    (seed,) = images.split_seed(seed, 1)
    case = tf.random.stateless_uniform([], seed, maxval=num_cases, dtype=tf.int32)
    return tf.switch_case(case, [functools.partial(func, x, case) for case in range(num_cases)])


def distort_color(image: tf.Tensor, color_ordering: int = 0, fast_mode: bool = True, scope: str | None = None,
                  seed: tf.Tensor | None = None) -> tf.Tensor:
    """Distorts the colours of an image.

    Args:
      image: [height, width, 1 or 3]; float in [0, 1], or uint8. On one channel, saturation and hue are left out.
      color_ordering: which order of the distortions, 0 to 3.
      fast_mode: brightness (by up to 32/255) and saturation (0.5 to 1.5) alone; else also hue (by up to 0.2) and
        contrast (0.5 to 1.5).
      scope: name scope.
      seed: int32 [2], or None.

    Returns:
      float32, `image`'s shape, in [0, 1].

    Raises:
      ValueError: `color_ordering` is not in [0, 3], or `image` is no image.
    """
    if color_ordering not in range(4):
        raise ValueError(f'color_ordering is {color_ordering!r}; it must be in [0, 3].')
    image = tf.image.convert_image_dtype(images.check_image(image), tf.float32)
    ordering = list((_FAST_COLOR_ORDERINGS if fast_mode else _COLOR_ORDERINGS)[color_ordering])
    if image.shape[-1] == 1:
        ordering = [name for name in ordering if name not in ('saturation', 'hue')]
    with tf.compat.v1.name_scope(scope, 'distort_color', [image]):
        seeds = dict(zip(_DISTORTIONS, images.split_seed(seed, len(_DISTORTIONS)), strict=True))
        for name in ordering:
            image = _DISTORTIONS[name](image, seed=seeds[name])
        return tf.clip_by_value(image, 0.0, 1.0)


def distorted_bounding_box_crop(image: tf.Tensor, bbox: tf.Tensor, min_object_covered: float = 0.1,
                                aspect_ratio_range: Sequence[float] = (0.75, 1.33),
                                area_range: Sequence[float] = (0.05, 1.0), max_attempts: int = 100,
                                scope: str | None = None, seed: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Crops a random window out of an image.

    Args:
      image: [height, width, 1 or 3].
      bbox: float32 [1, number of boxes, 4], boxes (ymin, xmin, ymax, xmax) in [0, 1]; with none, the image is the box.
      min_object_covered: the least share of some box that the window holds.
      aspect_ratio_range: the window's width / height, from and to.
      area_range: the window's share of the image's area, from and to.
      max_attempts: after so many windows that do not fit, the whole image is taken.
      scope: name scope.
      seed: int32 [2], or None.

    Returns:
      The window, in `image`'s type, and its box, float32 [1, 1, 4].

    Raises:
      ValueError: `bbox` has another shape, or `image` is no image.
    """
    image, bbox = images.check_image(image), tf.convert_to_tensor(bbox, tf.float32)
    if not bbox.shape.is_compatible_with([1, None, 4]):
        raise ValueError(f'bbox has shape {bbox.shape}; it must be [1, number of boxes, 4].')
    with tf.compat.v1.name_scope(scope, 'distorted_bounding_box_crop', [image, bbox]):
        begin, size, window = _sample_window(tf.shape(image), bbox, seed, min_object_covered, aspect_ratio_range,
                                             area_range, max_attempts)
        crop = tf.slice(image, begin, size)
        crop.set_shape([None, None, image.shape[-1]])
        return crop, window


def training_window(shape: tf.Tensor, seed: tf.Tensor, min_area: float = 0.05) -> tf.Tensor:
    """The part of an image that `preprocess_for_train` crops, without boxes: the rest need not be decoded.

    `begin` of the part, with `crop_image=False` and the same seed, is what it is of the image.

    Args:
      shape: the image's, int32 [3].
      seed: int32 [2], that of `begin`.
      min_area: that of `begin`.

    Returns:
      int32 [4]: top, left, height and width, as `tf.image.decode_and_crop_jpeg` takes it.
    """
    begin, size, _ = _sample_window(shape, _WHOLE, seed, area_range=(min_area, 1.0))
    return tf.concat([begin[:2], size[:2]], 0)


def _sample_window(shape, bbox, seed, min_object_covered=0.1, aspect_ratio_range=(0.75, 1.33), area_range=(0.05, 1.0),
                   max_attempts=100):
    return tf.image.stateless_sample_distorted_bounding_box(
        shape, bbox, images.checked_seed(seed), min_object_covered=min_object_covered,
        aspect_ratio_range=aspect_ratio_range, area_range=area_range, max_attempts=max_attempts,
        use_image_if_no_bounding_boxes=True)


def preprocess_for_train(image: tf.Tensor, height: int, width: int, bbox: tf.Tensor | None, fast_mode: bool = True,
                         scope: str | None = None, add_image_summaries: bool = True, random_crop: bool = True,
                         use_grayscale: bool = False, seed: tf.Tensor | None = None, min_area: float = 0.05,
                         distort_colors: bool = True) -> tf.Tensor:
    """Distorts an image for training: a random crop, resized, flipped half of the time, in distorted colours.

    Args:
      image: uint8, or float in [0, 1]; [any height, any width, 1 or 3].
      height: of the output, in pixels.
      width: of the output, in pixels.
      bbox: boxes that the crop minds, as in `distorted_bounding_box_crop`, or None: the whole image.
      fast_mode: bilinear resizing alone, not one of four methods, and the fast colour distortions.
      scope: name scope.
      add_image_summaries: in a TF1 graph, adds image summaries.
      random_crop: whether to crop.
      use_grayscale: the output has one channel.
      seed: int32 [2], or None.
      min_area: the least share of the image's area that the crop has. It also holds a tenth of some box: without
        boxes, no less than 0.1 comes of it.
      distort_colors: whether to distort the colours.

    Returns:
      float32 [height, width, channels], in [-1, 1].

    Raises:
      ValueError: an argument is not as above.
    """
    image = images.check_image(image)
    images.check_positive(height=height, width=width)
    if bbox is None:
        bbox = tf.constant(_WHOLE)
    add_image_summaries = add_image_summaries and images.writes_summaries()
    with tf.compat.v1.name_scope(scope, 'distort_image', [image, bbox]):
        seed = images.checked_seed(seed)
        resize_seed, flip_seed, ordering_seed, color_seed = images.split_seed(seed, 4)
        if add_image_summaries:
            _boxes_summary('image_with_bounding_boxes', image, bbox)
        distorted = image
        if random_crop:
            distorted, window = distorted_bounding_box_crop(image, bbox, area_range=(min_area, 1.0), seed=seed)
            if add_image_summaries:
                _boxes_summary('images_with_distorted_bounding_box', image, window)
        # Converting after the crop gives the same pixels for less work.
        distorted = apply_with_random_selector(
            tf.image.convert_image_dtype(distorted, tf.float32),
            lambda x, method: tf.compat.v1.image.resize(x, [height, width], method), 1 if fast_mode else 4, resize_seed)
        if add_image_summaries:
            images.summary('cropped_resized_image' if random_crop else 'resized_image', distorted)
        distorted = tf.image.stateless_random_flip_left_right(distorted, flip_seed)
        if distort_colors:
            distorted = apply_with_random_selector(
                distorted, lambda x, ordering: distort_color(x, ordering, fast_mode, seed=color_seed),
                1 if fast_mode else 4, ordering_seed)
        if use_grayscale:
            distorted = images.to_grayscale(distorted)
        if add_image_summaries:
            images.summary('final_distorted_image', distorted)
        distorted.set_shape([height, width, None])
        return normalize(distorted)


def begin(image: tf.Tensor, height: int, width: int, seed: tf.Tensor | None = None, use_grayscale: bool = False,
          crop_image: bool = True, min_area: float = 0.05) -> tf.Tensor:
    """The part of `preprocess_for_train`, in its fast mode, that takes images one by one: the crop and its resizing.

    Args:
      image: uint8; [any height, any width, 1 or 3].
      height: of the output, in pixels.
      width: of the output, in pixels.
      seed: int32 [2], or None.
      use_grayscale: makes no difference here: `finish` turns gray, after the colours.
      crop_image: whether to crop; not where the image is the part already that `training_window` says.
      min_area: see `preprocess_for_train`.

    Returns:
      float32 [height, width, channels], in [0, 255].

    Raises:
      ValueError: an argument is not as above.
    """
    image = images.check_image(image)
    images.check_positive(height=height, width=width)
    if crop_image:
        image, _ = distorted_bounding_box_crop(image, _WHOLE, area_range=(min_area, 1.0), seed=seed)
    return tf.compat.v1.image.resize(tf.cast(image, tf.float32), [height, width])


def finish(batch: tf.Tensor, seed: tf.Tensor | None = None, distort_colors: bool = True,
           use_grayscale: bool = False, rows: images.Rows | None = None) -> tf.Tensor:
    """The rest of `preprocess_for_train`, in its fast mode, for a batch: flips, colours, gray, normalisation.

    XLA makes one pass over the pixels of it. TensorFlow's own operations for an image take six times as long.

    Args:
      batch: uint8, or float in [0, 1]; [batch, height, width, 1 or 3].
      seed: int32 [2], or None; each image has draws of its own.
      distort_colors: whether to distort the colours.
      use_grayscale: the output has one channel.
      rows: which of a larger batch's these are, or None.

    Returns:
      float32, the shape of `batch` but for the channels, in [-1, 1].
    """
    flip_seed, brightness_seed, saturation_seed = images.split_seed(seed, 3)
    batch = tf.image.convert_image_dtype(images.random_flip(batch, flip_seed, rows), tf.float32)
    if distort_colors:
        batch += _MAX_BRIGHTNESS * (2 * images.draw(batch, brightness_seed, rows) - 1)
        if batch.shape[-1] == 3:
            low, high = _SATURATION
            batch = _adjust_saturation(batch, low + (high - low) * images.draw(batch, saturation_seed, rows))
        batch = tf.clip_by_value(batch, 0.0, 1.0)
    return normalize(images.to_grayscale(batch) if use_grayscale else batch)


def _adjust_saturation(batch, factor):
    """`tf.image.adjust_saturation`, without the way to HSV and back: hue and value stay, so each channel moves along
    the line to the greatest."""
    red, green, blue = tf.split(batch, 3, -1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # The saturation, chroma / value, stays at most 1.
    scale = tf.minimum(factor, tf.maximum(value, 0.0) / tf.where(chroma > 0, chroma, 1.0))
    return value - (value - batch) * scale


def preprocess_for_eval(image: tf.Tensor, height: int | None, width: int | None, central_fraction: float | None = 0.875,
                        scope: str | None = None, central_crop: bool = True, use_grayscale: bool = False,
                        place: tuple[float, float] = images.CENTRE) -> tf.Tensor:
    """Prepares an image for evaluation: its central part, resized bilinearly on TF1's grid (no half-pixel centres).

    Args:
      image: uint8, or float in [0, 1]; [any height, any width, 1 or 3].
      height: of the output, in pixels; None, with `width`, does not resize.
      width: of the output, in pixels.
      central_fraction: the share of each side that is kept; None or 0 keeps all.
      scope: name scope.
      central_crop: whether to crop.
      use_grayscale: the output has one channel.
      place: where the crop is, see `images.crop`.

    Returns:
      float32 [height, width, channels], in [-1, 1].

    Raises:
      ValueError: an argument is not as above.
    """
    image = images.check_image(image)
    resize = height is not None or width is not None
    if resize:
        images.check_positive(height=height, width=width)
    with tf.compat.v1.name_scope(scope, 'eval_image', [image]):
        if central_crop and central_fraction:
            image = images.crop(image, central_fraction, place)
        image = tf.image.convert_image_dtype(image, tf.float32)
        if use_grayscale:
            image = images.to_grayscale(image)
        if resize:
            image = tf.compat.v1.image.resize(image, [height, width])
        return normalize(image)


def preprocess_image(image: tf.Tensor, height: int, width: int, is_training: bool = False,
                     bbox: tf.Tensor | None = None, fast_mode: bool = True, add_image_summaries: bool = True,
                     crop_image: bool = True, use_grayscale: bool = False, seed: tf.Tensor | None = None,
                     min_area: float = 0.05, distort_colors: bool = True, central_fraction: float | None = 0.875,
                     place: tuple[float, float] = images.CENTRE) -> tf.Tensor:
    """Calls `preprocess_for_train` if `is_training`, else `preprocess_for_eval`; arguments and result are theirs.

    `crop_image` is the one's `random_crop` and the other's `central_crop`.
    """
    if is_training:
        return preprocess_for_train(image, height, width, bbox, fast_mode, add_image_summaries=add_image_summaries,
                                    random_crop=crop_image, use_grayscale=use_grayscale, seed=seed,
                                    min_area=min_area, distort_colors=distort_colors)
    return preprocess_for_eval(image, height, width, central_fraction, central_crop=crop_image,
                               use_grayscale=use_grayscale, place=place)


def normalize(image: tf.Tensor) -> tf.Tensor:
    """An image, or a batch of them, uint8 or float in [0, 1], to [-1, 1]."""
    return (tf.image.convert_image_dtype(image, tf.float32) - 0.5) * 2.0


def _boxes_summary(name, image, bbox):
    image = tf.image.convert_image_dtype(image, tf.float32)
    images.summary(name, tf.image.draw_bounding_boxes(image[tf.newaxis], bbox, colors=None)[0])
