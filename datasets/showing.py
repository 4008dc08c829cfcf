"""A dataset as a picture: samples with their labels, before and after augmentation, and the images of each class."""
import io
import math
import os
import textwrap
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from datasets.checking import check_images, write_whole
from datasets.provider import Dataset, DatasetError, IndexedDataset, decode_image, reason

SHOWN = 50          # classes that get a bar
_SIDE = 1.35        # inches of an image
_BAR = 0.2          # inches of a class
_DOTS = 110         # an inch
_BLUE, _GREY, _PAPER = '#1f6fb4', '#666666', 255
_OTHER_SCRIPTS = ('Noto Sans CJK SC', 'Noto Sans CJK JP', 'Noto Sans SC', 'Noto Sans JP', 'Microsoft YaHei',
                  'PingFang SC', 'Hiragino Sans', 'WenQuanYi Zen Hei', 'Droid Sans Fallback', 'Arial Unicode MS',
                  'Noto Sans Arabic', 'Noto Sans Devanagari', 'Noto Sans Thai', 'Noto Sans Hebrew', 'Noto Emoji')

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From an image, uint8 [height, width, channels], and a seed, int32 [2], to what a network is trained on, uint8."""


def show(dataset: Dataset, augment: Augment, path: str, *, samples: int = 16, seed: int = 0,
         caption: str = 'augmented') -> None:
    """Draws a dataset into a PNG file.

    Args:
      dataset: what to draw.
      augment: as in training.
      path: of the file.
      samples: the number of images.
      seed: of their choice and their augmentation.
      caption: says what the right image of each pair is.

    Raises:
      DatasetError: matplotlib is missing, an example cannot be used, or the file cannot be written. But an image that
        cannot be decoded is an empty cell that says why.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise DatasetError("drawing needs matplotlib, which is not installed: pip install 'slim-zoo[plot]'.") from None
    try:
        counts = count_classes(dataset)
        pairs = [(*_pair(element, dataset, augment, seed, number), element['label'].tolist()) for number, element in
                 enumerate(dataset.as_tf_data(shuffle=True, seed=seed).take(samples).as_numpy_iterator())]
    except tf.errors.OpError as error:
        raise DatasetError(dataset.find_fault() or f'{dataset} cannot be read: {reason(error)}') from None
    with matplotlib.rc_context({'font.family': _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')      # that no font here has: the picture shows a box, and the label
        figure = _figure(Figure, dataset, pairs, counts, caption)
        picture = io.BytesIO()
        figure.savefig(picture, format='png', dpi=_DOTS)
    write_whole(path, picture.getvalue())


def count_classes(dataset: Dataset) -> np.ndarray:
    """The number of images of each label; a pass over the files where only they tell."""
    if isinstance(dataset, IndexedDataset):
        return np.array(dataset.class_counts())
    counts = np.zeros(dataset.num_classes, np.int64)
    labels = dataset.as_tf_data().map(lambda element: tf.reshape(element['label'], [-1])).unbatch().batch(4096)
    for batch in labels.as_numpy_iterator():
        wrong = batch[(batch < 0) | (batch >= len(counts))]
        if len(wrong):
            raise DatasetError(dataset.find_fault() or f'{dataset} has the label {wrong[0]}.')
        counts += np.bincount(batch, minlength=len(counts))
    return counts


def _pair(element, dataset, augment, seed, number):
    try:
        image = decode_image(element['image'], dataset.channels)
    except tf.errors.OpError:
        why, = check_images([element['image']], dataset.channels)
        return None, f'{os.path.basename(element["source"].decode(errors="replace"))}: {why}'
    own_seed = tf.random.stateless_uniform([2], [seed, number], minval=None, maxval=None, dtype=tf.int32)
    return image.numpy(), augment(image, own_seed).numpy()


def _figure(Figure, dataset, pairs, counts, caption):
    names = dataset.labels_to_names or {}
    order = np.arange(len(counts)) if len(counts) <= SHOWN else np.argsort(-counts, kind='stable')[:SHOWN]
    texts = [_named(label, names) for label in order]
    bars_height = _BAR * len(order) + 0.6 + (1.6 if len(counts) > SHOWN else 0)
    columns = max(1, min(len(pairs), round(math.sqrt(len(pairs) / 2 * 1.6))))
    columns = min(columns, math.ceil(len(pairs) / max(1, bars_height // (_SIDE + 0.3))))    # as high as the bars
    rows = math.ceil(len(pairs) / columns)
    grid_width, bars_width = columns * (2 * _SIDE + 0.2), 4.2 + 0.05 * max(map(len, texts))
    height = max(rows * (_SIDE + 0.3), bars_height)
    figure = Figure(figsize=(grid_width + bars_width, height + 0.8), layout='constrained')
    figure.suptitle(f'{dataset.name} {dataset.split_name}: {dataset.num_samples:,} images, {len(counts):,} '
                    f'class{"es" * (len(counts) != 1)}', x=0.01, ha='left', fontsize=14, parse_math=False)
    grid, side = figure.subfigures(1, 2, width_ratios=(grid_width, bars_width))
    grid.suptitle(f'Left as stored, right {caption}', x=0.015, ha='left', fontsize=10, color=_GREY, parse_math=False)
    cells = grid.subplots(rows, columns, squeeze=False).ravel()
    for axes, (image, augmented, label) in zip(cells, pairs, strict=False):
        _draw_pair(axes, image, augmented, label, names)
    for axes in cells[len(pairs):]:
        axes.set_axis_off()
    _draw_counts(side, counts, order, texts, height)
    return figure


def _draw_pair(axes, image, augmented, label, names):
    side = 160
    gap = np.full((side, 6, 3), _PAPER, np.uint8)
    if image is None:
        axes.imshow(np.full((side, 2 * side + 6, 3), _PAPER, np.uint8))
        axes.text(0, 0, textwrap.fill(_short(augmented, 200), 36), va='top', fontsize=8, color=_GREY, parse_math=False)
    else:
        axes.imshow(np.concatenate([_in_square(image, side), gap, _in_square(augmented, side)], axis=1))
        height, width = image.shape[:2]
        axes.set_xlabel(f'{width}x{height}', fontsize=7, color=_GREY, loc='left', labelpad=1)
    text = ', '.join(_named(one, names) for one in label) if isinstance(label, list) else _named(label, names)
    axes.set_title(_short(text or 'no label', 34), fontsize=9, loc='left', pad=3, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _in_square(image, side):
    """The image as large as fits, RGB, in the middle of a white square."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    method = 'area' if scale < 1 else 'nearest' if scale >= 4 else 'bilinear'   # the pixels of small images show
    small = tf.image.resize(image, size, method).numpy().round().clip(0, 255).astype(np.uint8)
    square = np.full((side, side, 3), _PAPER, np.uint8)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    square[top:top + size[0], left:left + size[1]] = small
    return square


def _draw_counts(side, counts, order, texts, height):
    several = len(counts) > SHOWN
    panels = side.subplots(2 if several else 1, 1, squeeze=False,
                           height_ratios=(_BAR * len(order), 1.2) if several else None).flat
    axes, places = panels[0], np.arange(len(order))
    axes.barh(places, counts[order], color=_BLUE, height=0.75)
    axes.set_yticks(places, texts, fontsize=8, parse_math=False)
    axes.set_ylim(max(len(order), height / (1.8 * _BAR)) - 0.4, -0.6)     # few bars are no thicker for it
    for place, count in zip(places, counts[order], strict=True):
        axes.text(count, place, f' {count:,}', va='center', fontsize=7.5, color=_GREY)
    axes.set_xlim(0, max(counts.max(), 1) * 1.15)
    axes.set_title(f'Images of each class, the {SHOWN} largest of {len(counts):,}' if several else
                   'Images of each class', fontsize=11, loc='left')
    axes.tick_params(axis='y', length=0)
    axes.set_xticks([])
    axes.spines[['bottom', 'left']].set_visible(False)
    if several:
        panels[1].fill_between(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], color=_BLUE, alpha=0.8, step='mid')
        panels[1].set_ylim(bottom=0)
        panels[1].set_xlim(1, len(counts))
        panels[1].tick_params(labelsize=8)
        title = f'All classes by size: {counts.min():,} to {counts.max():,}, median {np.median(counts):,.0f}'
        if not counts.all():
            title += f';\n{(counts == 0).sum():,} without any image'
        panels[1].set_title(title, fontsize=9, loc='left')
    for panel in panels:
        panel.spines[['top', 'right']].set_visible(False)


def _named(label, names):
    name = names.get(label, str(label))
    return name if name == str(label) else f'{label}  {_short(name, 30)}'


def _short(text, length):
    return text if len(text) <= length else text[:length - 1] + '…'


def _fonts():
    """The usual font, and after it those on this machine that have other scripts."""
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return ['DejaVu Sans', *(font for font in _OTHER_SCRIPTS if font in there)]
