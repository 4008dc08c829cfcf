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
    keywords = [*inspect.signature(preprocess_image).parameters][3:]
    keywords = [keyword for keyword in keywords if keyword not in ('is_training', 'use_grayscale')]

    def preprocessing_fn(image, output_height, output_width, **kwargs):
        for keyword in kwargs:
            if keyword not in keywords:
                raise ValueError(f'The preprocessing of {name} takes no {keyword!r}{_nearest(keyword, keywords)} '
                                 f'Valid keywords: {", ".join(keywords)}.')
        return preprocess_image(image, output_height, output_width, is_training=is_training,
                                use_grayscale=use_grayscale, **kwargs)

    return preprocessing_fn


class SplitPreprocessing(NamedTuple):
    """A training preprocessing in two parts, so that small uint8 images go to the device and are normalised there."""

    on_host: Callable[..., tf.Tensor]
    """(image, height, width, seed=None, **kwargs) -> uint8 [height, width, channels]: crop, resizing, flip, colours.
    The arguments are those of `get_preprocessing`'s function."""
    on_device: Callable[..., tf.Tensor]
    """(images, seed=None) -> float32 of the shape of `images`, uint8 [batch, height, width, channels]: the
    normalisation. `seed`, int32 [2], decides CifarNet's contrasts, one for each image; elsewhere it changes nothing."""
    window: Callable[..., tf.Tensor] | None
    """(shape of an image, seed, min_area=0.05) -> int32 [4], top, left, height and width of the part that `on_host`
    would crop. Given that part alone, as `tf.image.decode_and_crop_jpeg` decodes it, the same seed and
    `crop_image=False`, `on_host` returns the same (but for the last row and column where the JPEG's colours are
    subsampled). None where all of the image is needed: in all preprocessings but Inception's."""


def get_split_preprocessing(name: str, use_grayscale: bool = False) -> SplitPreprocessing:
    """Returns `get_preprocessing(name, True, use_grayscale)` in two parts, alike but for the rounding to uint8 between.

    Args:
      name: as in `get_preprocessing`.
      use_grayscale: whether the output has one channel.

    Raises:
      ValueError: as `get_preprocessing`.
    """
    preprocessing_fn = get_preprocessing(name, True, use_grayscale)

    def on_host(image, height, width, seed=None, **kwargs):
        distorted = preprocessing_fn(image, height, width, seed=seed, normalized=False, **kwargs)
        return tf.saturate_cast(tf.round(distorted), tf.uint8)

    module = _module(name)
    return SplitPreprocessing(on_host, module.normalize, getattr(module, 'training_window', None))


def takes(name: str, keyword: str) -> bool:
    """Whether the preprocessing of this name has this keyword, `min_area` for one; ValueError for an unknown name."""
    return keyword in inspect.signature(_module(name).preprocess_image).parameters


def _module(name):
    if name not in _MODULES:
        raise ValueError(f'There is no preprocessing {name!r}{_nearest(name, _MODULES)} Valid names: '
                         f'{", ".join(sorted(_MODULES))}.')
    return _MODULES[name]


def _nearest(word, words):
    match = difflib.get_close_matches(str(word), words, n=1)
    return f'; did you mean {match[0]!r}?' if match else '.'
