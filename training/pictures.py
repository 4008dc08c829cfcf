"""The pictures of an evaluation, by matplotlib."""
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation import Findings, Sample

_BLUE, _RED, _GREY = '#1f6fb4', '#d1495b', '#5a5a5a'   # told apart by those who see no red or green too
_LABELLED = 30      # classes, up to which a matrix and bars have names
_NUMBERED = 20      # ... and numbers
_MATRIX = 400       # classes, up to which a matrix can be seen
_PAIRS = 20         # bars, where there are too many classes or pairs for all
_WIDTH = 4.8        # inches, in which letters can be read on a phone
_COLUMNS = 6
DOTS = 160          # an inch
_LONGEST = 18       # letters of a name beside an axis


def draw(findings: Findings) -> dict[str, bytes]:
    """The pictures as PNG files: name -> bytes.

    Raises:
      ImportError: matplotlib is not installed.
    """
    figures, names = findings.figures, findings.class_names
    found = {'reliability': _reliability(figures['calibration'], figures['calibration_error']),
             'per_class': _class_bars(names, figures['per_class'])}
    if 'confusion' in figures:
        if len(names) <= _MATRIX:
            found['confusion_matrix'] = _matrix(names, *figures['confusion'])
        if figures['confused']:
            found['most_confused'] = _pairs(names, figures['confused'][:_PAIRS])
    for kind, title in (('mistakes', 'The most confident mistakes'), ('uncertain', 'The most uncertain')):
        samples = getattr(findings, kind)
        if samples:
            found[kind] = _grid(samples, names, title)
    return {name: _png(figure) for name, figure in found.items()}


def short(name: str, longest: int = 28) -> str:
    """A class's name in one short line."""
    name = ' '.join(name.split(',')[0].split()) or name
    return name if len(name) <= longest else f'{name[:longest - 1]}…'


def scaled(image: np.ndarray) -> np.ndarray:
    """What a network saw, in any range, as uint8 [height, width, 3]."""
    low, high = image.min(), image.max()
    image = (image - low) / max(high - low, 1e-6) * 255 + 0.5
    return np.repeat(image.astype(np.uint8), 3 // image.shape[-1], -1)


def _figure(width, height, title):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout='constrained')
    figure.suptitle(title, x=0.02, ha='left', fontsize=12)
    return figure


def _png(figure):
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=DOTS)
    return picture.getvalue()


def _plain(axes):
    axes.spines[['top', 'right']].set_visible(False)


def _name_ticks(axis, names):
    # A name may hold a dollar, which would begin a formula.
    axis.set_ticks(range(len(names)), [short(name, _LONGEST) for name in names], fontsize=9, parse_math=False)


def _matrix(names, labels, answers, counts):
    count = len(names)
    matrix = np.zeros((count, count))
    matrix[labels, answers] = counts
    images = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, images, out=np.zeros_like(matrix), where=images > 0)
    side = float(np.clip(0.4 * count + 2, 4.2, 9.9))
    figure = _figure(side + 0.6, side + 0.2, 'Confusion matrix')
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
    figure.colorbar(shown, shrink=0.6, label="part of the class's images")
    if count <= _LABELLED:
        _name_ticks(axes.xaxis, names)
        _name_ticks(axes.yaxis, names)
        axes.tick_params('x', rotation=90 if count > 4 else 0)
    if count <= _NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            axes.text(column, row, f'{matrix[row, column]:.0f}', ha='center', va='center', fontsize=8,
                      color='white' if shares[row, column] > 0.55 else 'black')
    axes.set_xlabel('answer')
    axes.set_ylabel('class')
    return figure


def _pairs(names, pairs):
    figure = _figure(_WIDTH, 0.28 * len(pairs) + 1.1, 'Most often taken for another class')
    axes = figure.subplots()
    texts = [f'{short(names[label], _LONGEST)} → {short(names[answer], _LONGEST)}' for label, answer, _ in pairs]
    bars = axes.barh(range(len(pairs)), [count for *_, count in pairs], color=_RED)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.set_yticks(range(len(pairs)), texts, fontsize=9, parse_math=False)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xmargin(0.12)
    axes.locator_params('x', integer=True, nbins=4)
    axes.set_xlabel('images')
    _plain(axes)
    return figure


def _reliability(bins, error):
    figure = _figure(_WIDTH, 5, f'Reliability: calibration error {error:.3f}')
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={'height_ratios': (4, 1)})
    middles = [(one['from'] + one['to']) / 2 for one in bins]
    width = bins[0]['to'] - bins[0]['from']
    above.bar(middles, [one['accuracy'] for one in bins], width * 0.92, color=_BLUE, label='accuracy')
    above.plot([one['confidence'] for one in bins], [one['accuracy'] for one in bins], 'o', color=_RED, markersize=4,
               label='at the mean confidence')
    above.plot([0, 1], [0, 1], '--', color=_GREY, linewidth=1, label='calibrated')
    above.set_ylim(0, 1.02)
    above.set_xlim(0, 1)
    above.set_ylabel('accuracy')
    figure.legend(loc='outside lower left', ncols=3, fontsize=9, frameon=False)
    below.bar(middles, [one['images'] for one in bins], width * 0.92, color=_GREY)
    below.set_ylabel('answers')
    below.set_xlabel('confidence')
    for axes in (above, below):
        _plain(axes)
    return figure


def _class_bars(names, of_classes):
    present = np.flatnonzero((of_classes.images > 0) | (of_classes.predicted > 0))
    order = present[np.argsort(of_classes.f1[present], kind='stable')]
    title = 'Precision and recall, by F1'
    if len(order) > _LABELLED:
        title, order = f'The {_PAIRS} classes with the lowest F1', order[:_PAIRS]
    figure = _figure(_WIDTH, 0.36 * len(order) + 1.3, title)
    axes, places = figure.subplots(), np.arange(len(order))
    axes.barh(places - 0.2, of_classes.precision[order], 0.38, color=_BLUE, label='precision')
    axes.barh(places + 0.2, of_classes.recall[order], 0.38, color=_RED, label='recall')
    axes.plot(of_classes.f1[order], places, 'o', color='black', markersize=4, label='F1')
    texts = [f'{short(names[label], _LONGEST)} ({of_classes.images[label]})' for label in order]
    axes.set_yticks(places, texts, fontsize=9, parse_math=False)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(len(order) - 0.4, -0.6)
    figure.legend(loc='outside lower left', ncols=3, fontsize=9, frameon=False)
    _plain(axes)
    return figure


def _grid(samples: Sequence[Sample], names: Sequence[str], title: str) -> Any:
    columns = min(_COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    figure = _figure(max(1.9 * columns, 4), 2.35 * rows + 0.4, title)
    for axes in (cells := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.axis('off')
    for axes, sample in zip(cells.flat, samples, strict=False):
        axes.imshow(scaled(sample.image), interpolation='nearest' if sample.image.shape[0] < 64 else None)
        axes.set_title(f'{short(names[sample.label])}\n→ {short(names[sample.predicted])} {sample.probability:.0%}',
                       fontsize=8, color=_GREY if sample.label == sample.predicted else _RED, parse_math=False)
    return figure
