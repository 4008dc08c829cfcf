"""The feature maps of one photo as a picture that a person can read."""
import os
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from datasets import DatasetError
from training.config import ConfigError
from training.console import RunError
from training.extract_config import ExtractConfig
from training.extract_images import find_faults, make_batches, open_images
from training.extract_shards import whole_file, writing
from training.extraction import FrozenNetwork

_COLUMNS, _ROWS = 8, 2      # of the grid of an endpoint
_TILE, _GAP = 112, 6        # pixels of a map, and between two
_LARGEST = 5                # values of a vector that are told
_WIDTHS = (3.0, 11.0)       # inches: the photo, the maps
_TITLE = 0.6                # inches of height; below it a vector, or rows of maps
_VECTOR = 1.4
_DOTS = 100                 # an inch


def plot(config: ExtractConfig, say: Callable[[str], None] = print) -> None:
    """Draws the strongest feature maps of the image `config.images` at the endpoints into `config.plot`.

    Args:
      config: see `training.extract_config`.
      say: receives the line that tells what was drawn.

    Raises:
      ConfigError: a setting is wrong: there are several images for one.
      datasets.DatasetError: the image cannot be found or read.
      checkpoints.CheckpointError: the weights cannot be read, or are of another network.
      RunError: matplotlib is missing, or the file cannot be written.
    """
    path = str(config.plot)
    kind = os.path.splitext(path)[1][1:].lower()
    if kind not in _kinds():
        raise ConfigError(f'--plot={path}: its name must end in one of {", ".join(f".{kind}" for kind in _kinds())}.')
    images = open_images(config)
    if images.count > 1:
        raise ConfigError(f'--plot draws one image, and {config.images} has {images.count}: name it, '
                          f'--images={os.path.join(str(config.images), "photo.jpg")}.')
    network = FrozenNetwork(config)
    channels, preprocess = network.preprocessing_of(images)
    try:
        batch = next(iter(make_batches(images, [0], 1, 1, channels, preprocess, 1, False)))
    except tf.errors.OpError:
        for fault in find_faults(images, [0], channels).values():
            raise DatasetError(fault) from None
        raise
    values = {name: value.numpy()[0] for name, value in network.compute(batch['image']).items()}
    title = f'{os.path.basename(str(config.images))}\n{config.model_name} at {network.size}x{network.size}'
    figure = draw(batch['image'].numpy()[0], values, title)
    with writing(path, then=''):
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
        with whole_file(path) as part:
            figure.savefig(part, format=kind, dpi=_DOTS)
    say(f'{path} shows {", ".join(values)} of {config.images}.')


def _kinds():
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise RunError("--plot needs matplotlib: pip install 'slim-zoo[plot]'.") from None
    return FigureCanvasAgg.filetypes


def draw(image: np.ndarray, values: Mapping[str, np.ndarray], title: str):
    """Draws an image, and of each endpoint its strongest maps, each from its own lowest (dark) to its highest value.

    Args:
      image: what the network saw, [height, width, 1 or 3], in any range.
      values: endpoint -> its values [height, width, channels], or [channels].
      title: of the image.

    Returns:
      A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    heights = [_TITLE + (_VECTOR if _is_vector(value) else _rows(value) * _WIDTHS[1] / _COLUMNS)
               for value in values.values()]
    figure = Figure(figsize=(sum(_WIDTHS), max(sum(heights), _WIDTHS[0] + 2 * _TITLE)), layout='constrained')
    grid = figure.add_gridspec(len(values), 2, width_ratios=_WIDTHS, height_ratios=heights)
    photo = figure.add_subplot(grid[:, 0], anchor='N')
    photo.imshow(_scaled(image), cmap='gray')
    photo.set_title(title, fontsize=10)
    photo.axis('off')
    for row, (name, value) in enumerate(values.items()):
        axes = figure.add_subplot(grid[row, 1], anchor='NW')
        draw_values = _draw_vector if _is_vector(value) else _draw_maps
        shape = 'x'.join(map(str, value.shape))
        axes.set_title(f'{name}  {shape}, {draw_values(axes, value)}', fontsize=11, loc='left')
    return figure


def _is_vector(value):
    return value.size == value.shape[-1]


def _rows(maps):
    return min(_ROWS, -(-maps.shape[-1] // _COLUMNS))


def strongest(maps: np.ndarray) -> list[int]:
    """The channels of maps [height, width, channels] that vary most over the image, by standard deviation.

    Not those of the highest mean: a map that is high everywhere shows nothing of the image.
    """
    order = np.argsort(-maps.std((0, 1)), kind='stable')
    return order[:_ROWS * _COLUMNS].tolist()


def _scaled(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _draw_maps(axes, maps):
    shown = strongest(maps)
    height, width = maps.shape[:2]
    enlarged = max(1, round(_TILE / max(height, width)))     # so that gaps are as wide beside small maps as large ones
    step = np.array([height, width]) * enlarged + max(1, round(_GAP * max(height, width) * enlarged / _TILE))
    picture = np.full((_rows(maps) * step[0], _COLUMNS * step[1]), np.nan)
    for place, channel in enumerate(shown):
        top, left = np.array(divmod(place, _COLUMNS)) * step
        tile = np.kron(_scaled(maps[..., channel]), np.ones((enlarged, enlarged)))
        picture[top:top + tile.shape[0], left:left + tile.shape[1]] = tile
        axes.text(left + step[1] * 0.03, top + step[0] * 0.03, str(channel), color='white', fontsize=8, va='top',
                  bbox={'facecolor': 'black', 'alpha': 0.5, 'pad': 1, 'linewidth': 0})
    axes.imshow(picture, cmap='viridis', vmin=0, vmax=1)
    axes.axis('off')
    count = maps.shape[-1]
    return f'the {len(shown)} of its {count} maps that vary most' if len(shown) < count else f'its {count} maps'


def _draw_vector(axes, value):
    values = value.ravel()
    axes.vlines(np.arange(len(values)), 0, values, linewidth=0.8, color='#31688e')
    axes.set_xlim(-1, len(values))
    axes.spines[['top', 'right']].set_visible(False)
    largest = np.argsort(-values, kind='stable')[:_LARGEST]
    return f'the largest: {", ".join(f"{place} ({values[place]:.3g})" for place in largest)}'
