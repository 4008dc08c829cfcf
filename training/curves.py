"""The curves of a training as a picture: what its `summary.csv` tells, over its steps."""
import io

import numpy as np

from nets import checkpoints
from training import records

CURVES_FILE = 'curves.png'
_WINDOW = 0.03      # part of a curve's points that the weights of its smoothing reach over
_DOTS = 120         # an inch
_BLUE, _RED = '#1f6fb4', '#d1495b'      # told apart by those who see no red or green too
_TRAINED, _HELD_OUT = (_BLUE, 'training'), (_RED, 'held out')


def draw(folder: str) -> str | None:
    """Draws loss, accuracy, learning rate and images per second of a training into `curves.png` in its folder.

    Returns:
      The picture's path; None where matplotlib is not installed, or no step was recorded.

    Raises:
      RunError: `summary.csv` is no such table.
      checkpoints.CheckpointError: the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = records.read(folder)
    if not columns:
        return None
    figure = Figure(figsize=(12, 7.5), layout='constrained')
    loss, accuracy, rate, speed = figure.subplots(2, 2, sharex=True, gridspec_kw={'height_ratios': (3, 2)}).flat
    _draw_loss(loss, columns)
    _draw_accuracy(accuracy, columns)
    _plot(rate, columns, 'learning_rate', _BLUE)
    _plot(speed, columns, 'images_per_second', _BLUE, smooth=True)
    _finish(loss, 'Loss')
    _finish(accuracy, 'Accuracy, %')
    _finish(rate, 'Learning rate')
    _finish(speed, 'Images per second')
    for axes in (rate, speed):
        axes.set_ylim(bottom=0)
        axes.set_xlabel('Step')
    loss.set_xlim(left=0)
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=_DOTS)
    return checkpoints.write_text(folder, CURVES_FILE, picture.getvalue())


def smoothed(values: np.ndarray) -> np.ndarray:
    """Values averaged with their neighbours, by weights of a bell that is cut and scaled at the ends.

    Unlike TensorBoard's running average it does not lag behind.
    """
    width = max(_WINDOW * len(values) / 2, 1e-3)
    places = np.arange(len(values))
    reach = int(np.ceil(3 * width))
    sums = np.zeros(len(values))
    weights = np.zeros(len(values))
    for shift in range(-reach, reach + 1):
        weight = np.exp(-0.5 * (shift / width)**2)
        there = (places + shift >= 0) & (places + shift < len(values))
        sums[there] += weight * values[places[there] + shift]
        weights[there] += weight
    return sums / weights


def _draw_loss(axes, columns):
    _plot(axes, columns, 'total_loss', *_TRAINED, smooth=True)
    _plot(axes, columns, 'eval_loss', *_HELD_OUT, marker='o')
    values = np.array([value for name in ('total_loss', 'eval_loss') for value in columns.get(name, {}).values()])
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() < values.max() / 30:
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')


def _draw_accuracy(axes, columns):
    percent = {name: {step: 100 * value for step, value in points.items()} for name, points in columns.items()
               if name.endswith(('_accuracy', '_recall_5'))}
    _plot(axes, percent, 'train_accuracy', *_TRAINED, smooth=True)
    _plot(axes, percent, 'train_recall_5', _BLUE, 'training, top 5', smooth=True, linestyle='--')
    _plot(axes, percent, 'eval_accuracy', *_HELD_OUT, marker='o')
    _plot(axes, percent, 'eval_recall_5', _RED, 'held out, top 5', marker='o', linestyle='--')
    held_out = {step: value for step, value in percent.get('eval_accuracy', {}).items() if np.isfinite(value)}
    if held_out:
        step = max(held_out, key=lambda step: held_out[step])
        axes.plot(step, held_out[step], '*', color=_RED, markersize=16, markeredgecolor='white', zorder=5,
                  label=f'best held out: {held_out[step]:.2f} % at step {step:,}')


def _plot(axes, columns, name, color, label=None, *, smooth=False, marker=None, linestyle='-'):
    """Draws a column, if it is there; smoothed, over its faint self."""
    points = {step: value for step, value in columns.get(name, {}).items() if np.isfinite(value)}
    if not points:
        return
    steps, values = np.array(list(points)), np.array(list(points.values()))
    if smooth and len(values) > 20:
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        values = smoothed(values)
    if len(values) == 1:
        marker = 'o'
    axes.plot(steps, values, color=color, label=label, linewidth=1.6, linestyle=linestyle, marker=marker, markersize=4)


def _finish(axes, title):
    axes.set_title(title, fontsize=12, loc='left')
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)
    axes.locator_params(axis='x', nbins=6, integer=True)
    axes.xaxis.set_major_formatter('{x:,.0f}')
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)
    if not axes.lines:
        axes.text(0.5, 0.5, 'not recorded', transform=axes.transAxes, ha='center', va='center', color='grey')
        axes.set_yticks([])
