"""The preprocessings by name."""

import difflib
import inspect
import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from preprocessing import (
    cifarnet_preprocessing,
    images,
    inception_preprocessing,
    keras_preprocessing,
    lenet_preprocessing,
    vgg_preprocessing,
)

# Each preprocessing's own name, and the networks that were trained with it; {a,b} stands for either, as in a shell.
_PREPROCESSINGS = {
    inception_preprocessing: 'inception{,_v1,_v2,_v3,_v4,_resnet_v2} i3d s3dg mobilenet_v1{,_075,_050,_025} '
                             'mobilenet_v2{,_140,_035} mobilenet_v3_{small,large}{,_minimalistic} '
                             'mobilenet_edgetpu{,_075} {nasnet,pnasnet}_{mobile,large}',
    vgg_preprocessing: 'vgg{,_a,_16,_19} alexnet_v2 overfeat resnet_{v1,v2}_{50,101,152,200}',
    cifarnet_preprocessing: 'cifarnet nasnet_cifar',
    lenet_preprocessing: 'lenet',
    keras_preprocessing: 'keras',
}


def _expand(pattern):
    return map(''.join, itertools.product(*(part.split(',') for part in re.split('[{}]', pattern))))


_MODULES = {name: module for module, patterns in _PREPROCESSINGS.items()
            for pattern in patterns.split() for name in _expand(pattern)}


_NOT_KEYWORDS = ('image', 'batch', 'height', 'width', 'output_height', 'output_width', 'is_training', 'use_grayscale')


def get_preprocessing(name: str, is_training: bool = False, use_grayscale: bool = False) -> Callable[..., tf.Tensor]:
    """Returns `preprocessing_fn(image, output_height, output_width, **kwargs)`.

    Args:
      name: a preprocessing, `inception`, `vgg`, `cifarnet`, `lenet` or `keras`, or a network, such as `resnet_v1_50`.
      is_training: whether images are distorted for training, or prepared for evaluation.
      use_grayscale: whether the output has one channel.

    Returns:
      A function of one image, [any height, any width, 1 or 3], that returns it as float32 [output_height, output_width,
      channels]. It runs eagerly, in a graph, in a `tf.function` and in tf.data's map; `kwargs` are those of the
      preprocessing's `preprocess_image`. Every one has `seed`, int32 [2], of which all randomness is then a function.

    Raises:
      ValueError: there is no such name; or, from the function, no such keyword, or an image or a size that is none.

    Source: TF-Slim's `preprocessing_factory`; it lacked 8 of the 40 networks.
    """
    preprocess_image = _module(name).preprocess_image

    def preprocessing_fn(image, output_height, output_width, **kwargs):
        _check_keywords(name, preprocess_image, kwargs)
        return preprocess_image(image, output_height, output_width, is_training=is_training,
                                use_grayscale=use_grayscale, **kwargs)

    return preprocessing_fn


def get_views(name: str, use_grayscale: bool = False, crop_fraction: float | None = None, crops: int = 1,
              flip: bool = False) -> Callable[..., tf.Tensor]:
    """Returns the preprocessing for evaluation, of one or more views of an image.

    Args:
      name: as in `get_preprocessing`.
      use_grayscale: whether the output has one channel.
      crop_fraction: how much of each side (`vgg`: of the shorter one) a crop shows; None for the preprocessing's own.
      crops: 1, the centre; or 5, with the four corners.
      flip: whether there is the mirror image of each crop, too.

    Returns:
      A function (image, height, width) -> float32 [views, height, width, channels].

    Raises:
      ValueError: as `get_preprocessing`; or crops of a preprocessing that does not crop to a share: `cifarnet`,
        `lenet` and `keras`.
    """
    if crops not in (1, 5):
        raise ValueError(f'crops is {crops!r}; it must be 1, the centre, or 5, with the corners.')
    if crop_fraction is not None and not 0 < crop_fraction <= 1:
        raise ValueError(f'crop_fraction is {crop_fraction}; it must be above 0 and at most 1.')
    if (crops > 1 or crop_fraction is not None) and not takes(name, 'place'):
        raise ValueError(f'the preprocessing of {name} has no crop to choose; those of inception and vgg have.')
    preprocessing_fn = get_preprocessing(name, False, use_grayscale)
    fraction = {} if crop_fraction is None else {'central_fraction': crop_fraction}
    places = [{'place': place} for place in (images.CENTRE, *images.CORNERS)] if crops == 5 else [{}]

    def views(image, height, width):
        shown = tf.stack([preprocessing_fn(image, height, width, **fraction, **place) for place in places])
        return tf.concat([shown, tf.reverse(shown, [2])], 0) if flip else shown

    return views


class SplitPreprocessing(NamedTuple):
    """A training preprocessing in two parts, so that small uint8 images go to the device, which does the rest."""

    on_host: Callable[..., tf.Tensor]
    """(image, height, width, seed=None, **kwargs) -> uint8 [height, width, channels]: crop and resizing of an image.
    The arguments are those of the preprocessing's `begin`."""
    on_device: Callable[..., tf.Tensor]
    """(batch, seed=None, **kwargs) -> float32 for `batch`, uint8 [batch, height, width, channels]: flips, colours and
    normalisation. The arguments are those of the preprocessing's `finish`. Best compiled: `tf.function(on_device,
    jit_compile=True)`."""
    window: Callable[..., tf.Tensor] | None
    """(shape of an image, seed, min_area=0.05) -> int32 [4], top, left, height and width of the part that `on_host`
    would crop. Given that part alone, as `tf.image.decode_and_crop_jpeg` decodes it, the same seed and
    `crop_image=False`, `on_host` returns the same (but for the last row and column where the JPEG's colours are
    subsampled). None where all of the image is needed: in all preprocessings but Inception's."""


def get_split_preprocessing(name: str, use_grayscale: bool = False) -> SplitPreprocessing:
    """Returns the distortions of `get_preprocessing(name, True, use_grayscale)` in two parts.

    Args:
      name: as in `get_preprocessing`.
      use_grayscale: whether the output of `on_device` has one channel.

    Raises:
      ValueError: as `get_preprocessing`.
    """
    module = _module(name)

    def on_host(image, height, width, seed=None, **kwargs):
        _check_keywords(name, module.begin, kwargs)
        distorted = module.begin(image, height, width, seed, use_grayscale, **kwargs)
        return tf.cast(distorted + 0.5, tf.uint8)   # rounds; all are in [0, 255]

    def on_device(batch, seed=None, **kwargs):
        _check_keywords(name, module.finish, kwargs)
        return module.finish(batch, seed, use_grayscale=use_grayscale, **kwargs)

    return SplitPreprocessing(on_host, on_device, getattr(module, 'training_window', None))


def takes(name: str, keyword: str) -> bool:
    """Whether the preprocessing of this name has this keyword, `min_area` for one; ValueError for an unknown name."""
    return keyword in inspect.signature(_module(name).preprocess_image).parameters


def _check_keywords(name, function, kwargs):
    """Raises ValueError for a keyword that the function has not, or that is not for the caller to say."""
    keywords = [keyword for keyword in inspect.signature(function).parameters if keyword not in _NOT_KEYWORDS]
    for keyword in kwargs:
        if keyword not in keywords:
            raise ValueError(f'The preprocessing of {name} takes no {keyword!r}{_nearest(keyword, keywords)} '
                             f'Valid keywords: {", ".join(keywords)}.')


def _module(name):
    if name not in _MODULES:
        raise ValueError(f'There is no preprocessing {name!r}{_nearest(name, _MODULES)} Valid names: '
                         f'{", ".join(sorted(_MODULES))}.')
    return _MODULES[name]


def _nearest(word, words):
    match = difflib.get_close_matches(str(word), words, n=1)
    return f'; did you mean {match[0]!r}?' if match else '.'
