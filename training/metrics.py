"""Figures of an evaluation, by scikit-learn's definitions, from the labels of images and the answers to them.

Precision and recall of a class that was never predicted, or that no image has, are 0, as there with `zero_division=0`;
means over classes are over those that an image has or an answer names.
"""
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 15               # of the calibration error, as in arXiv:1706.04599
CONFIDENCE = 0.95
_Z = 1.959963984540054  # the normal distribution's quantile for that
_RESAMPLES = 1000       # of the bootstrap
# How the intervals are made, for those who read the results.
METHOD = {'level': CONFIDENCE, 'of shares': 'Wilson score',
          'of macro_f1 and balanced_accuracy': 'bootstrap: standard error over resampled images'}
_THRESHOLD = 0.5        # from which on a sigmoid says yes


class PerClass(NamedTuple):
    """Figures of each class, arrays [classes]."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    images: np.ndarray      # that have it
    predicted: np.ndarray   # that were said to


class Answers:
    """The labels of images and what was answered; of the probabilities it keeps no more than the figures need.

    Args:
      class_mode: `categorical`, `binary` or `multilabel`, see `training.config`.
      num_classes: the number of classes; 2 for `binary`.
    """

    def __init__(self, class_mode: str, num_classes: int):
        self.class_mode, self.num_classes = class_mode, num_classes
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch.

        Args:
          labels: int [batch]; of `multilabel` [batch, classes], 0 or 1.
          probabilities: float32 [batch, classes].
        """
        if self.class_mode == 'multilabel':
            self._parts.append((labels.astype(bool), probabilities.astype(np.float32)))
            return
        rows = np.arange(len(labels))
        own = probabilities[rows, labels]
        # A class comes before others that are as probable if its number is lower.
        earlier = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
        rank = ((probabilities > own[:, np.newaxis]) | (probabilities == own[:, np.newaxis]) & earlier).sum(1)
        predicted = probabilities.argmax(1)
        # A copy: a view of the last column would keep the others too.
        self._parts.append((labels, predicted, probabilities[rows, predicted], own, rank, probabilities[:, -1].copy()))

    def _columns(self):
        return [np.concatenate(column) for column in zip(*self._parts, strict=True)]

    def figures(self) -> dict[str, Any]:
        """All figures, as JSON takes them; see `docs/evaluating.md` for what each is."""
        return self._multilabel() if self.class_mode == 'multilabel' else self._single()

    def _single(self):
        labels, predicted, confidence, own, rank, last = self._columns()
        right = labels == predicted
        cells, counts = np.unique(labels * self.num_classes + predicted, return_counts=True)
        of_classes = per_class(cells // self.num_classes, cells % self.num_classes, counts, self.num_classes)
        found = {
            'Accuracy': float(right.mean()), 'Recall_5': float((rank < 5).mean()),
            **averages(of_classes), 'log_loss': float(-np.log(np.clip(own, 1e-15, 1)).mean()),
            'calibration_error': calibration_error(confidence, right),
        }
        intervals = {'Accuracy': wilson(int(right.sum()), len(right)),
                     'Recall_5': wilson(int((rank < 5).sum()), len(rank)),
                     **bootstrap(cells, counts, self.num_classes)}
        if self.num_classes == 2:
            found.update(roc_auc=roc_auc(labels == 1, last), average_precision=average_precision(labels == 1, last))
        order = np.argsort(-counts, kind='stable')
        wrong = [cell for cell in order if cells[cell] // self.num_classes != cells[cell] % self.num_classes]
        return {**found, 'confidence_intervals': intervals, 'confidence_method': METHOD, 'per_class': of_classes,
                'calibration': reliability(confidence, right),
                'confused': [(int(cells[cell] // self.num_classes), int(cells[cell] % self.num_classes),
                              int(counts[cell])) for cell in wrong],
                'confusion': (cells // self.num_classes, cells % self.num_classes, counts)}

    def _multilabel(self):
        labels, scores = self._columns()
        said = scores >= _THRESHOLD
        hits, images, predicted = (labels & said).sum(0), labels.sum(0), said.sum(0)
        of_classes = _figures(hits, images, predicted)
        micro = _figures(hits.sum(), images.sum(), predicted.sum())
        aucs = [roc_auc(labels[:, number], scores[:, number]) for number in range(labels.shape[1])]
        precisions = [average_precision(labels[:, number], scores[:, number]) for number in range(labels.shape[1])]
        exact = (labels == said).all(1)
        right = labels == said
        confidence = np.where(said, scores, 1 - scores)
        own = np.clip(np.where(labels, scores, 1 - scores), 1e-15, 1)
        return {
            'Accuracy': float(right.mean()), 'Recall_5': float(right.mean()), 'subset_accuracy': float(exact.mean()),
            **averages(of_classes), 'micro_precision': float(micro.precision), 'micro_recall': float(micro.recall),
            'micro_f1': float(micro.f1), 'log_loss': float(-np.log(own).mean()),
            'calibration_error': calibration_error(confidence.ravel(), right.ravel()),
            'roc_auc': _mean(aucs), 'average_precision': _mean(precisions),
            'confidence_intervals': {'subset_accuracy': wilson(int(exact.sum()), len(exact))},
            'confidence_method': METHOD,
            'per_class': of_classes, 'roc_auc_of_classes': aucs,
            'calibration': reliability(confidence.ravel(), right.ravel())}


def per_class(labels: np.ndarray, predicted: np.ndarray, counts: np.ndarray, num_classes: int) -> PerClass:
    """Precision, recall and F1 of each class.

    Args:
      labels, predicted: int [cells], the cells of the confusion matrix that are not empty.
      counts: of the images in them.
      num_classes: the number of classes.
    """
    def sums(classes, weights):
        return np.bincount(classes, weights, num_classes)

    same = labels == predicted
    return _figures(sums(labels[same], counts[same]), sums(labels, counts), sums(predicted, counts))


def _figures(hits, images, predicted):
    def ratio(part, whole):
        return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)

    return PerClass(ratio(hits, predicted), ratio(hits, images), ratio(2 * hits, images + predicted),
                    np.asarray(images).astype(int), np.asarray(predicted).astype(int))


def averages(of_classes: PerClass) -> dict[str, float]:
    """The means over the classes: each alike (macro), or by its images (weighted); and the balanced accuracy."""
    present = (of_classes.images > 0) | (of_classes.predicted > 0)
    has_images = of_classes.images > 0
    found = {}
    for name in ('precision', 'recall', 'f1'):
        values = getattr(of_classes, name)
        found[f'macro_{name}'] = float(values[present].mean()) if present.any() else 0.0
        found[f'weighted_{name}'] = float(np.average(values, weights=of_classes.images)) if has_images.any() else 0.0
    found['balanced_accuracy'] = float(of_classes.recall[has_images].mean()) if has_images.any() else 0.0
    return found


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """For bins of confidence, equally wide: the images in each, their mean confidence, and how many are right."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    found = []
    for number in np.flatnonzero(counts):
        inside = bins == number
        found.append({'from': number / BINS, 'to': (number + 1) / BINS, 'images': int(counts[number]),
                      'confidence': float(confidence[inside].mean()), 'accuracy': float(right[inside].mean())})
    return found


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error, arXiv:1706.04599: how far confidence and accuracy of a bin are apart, weighted.

    Args:
      confidence: float [answers], the probability of what was answered.
      right: bool [answers].
    """
    return sum(abs(one['confidence'] - one['accuracy']) * one['images'] for one in reliability(confidence, right)
               ) / len(confidence)


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """The area under the ROC curve; None where all are of one kind.

    It is the probability that a positive has a higher score than a negative, and a half where they are equal.
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return None
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return float((ranks[place][positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """The mean precision over the recalls that thresholds give, without interpolation; None without a positive."""
    if not positive.any():
        return None
    order = np.argsort(-scores, kind='stable')
    last = np.append(np.diff(scores[order]) != 0, True)     # equal scores pass a threshold together
    hits = np.cumsum(positive[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / positive.sum())


def wilson(hits: int, count: int) -> list[float]:
    """The Wilson score interval of a share, at 95%: its ends."""
    share, square = hits / count, _Z ** 2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count ** 2)) / (1 + square / count)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def bootstrap(cells: np.ndarray, counts: np.ndarray, num_classes: int) -> dict[str, list[float]]:
    """The intervals of macro F1 and balanced accuracy, at 95%, by their standard errors over resampled images.

    Quantiles would not do: where classes have few images, resampled ones lack some, and their figures are all lower.

    Args:
      cells: int, label * num_classes + answer, of the cells of the confusion matrix that are not empty.
      counts: of the images in them.
      num_classes: the number of classes.
    """
    random, total = np.random.default_rng(0), counts.sum()
    # The larger the table, the fewer the samples: a few seconds at most.
    resamples = int(np.clip(10**8 / (len(cells) + num_classes), 100, _RESAMPLES))
    found = [averages(per_class(cells // num_classes, cells % num_classes, random.multinomial(total, counts / total),
                                num_classes)) for _ in range(resamples)]
    figures = averages(per_class(cells // num_classes, cells % num_classes, counts, num_classes))
    intervals = {}
    for name in ('macro_f1', 'balanced_accuracy'):
        half = _Z * float(np.std([one[name] for one in found], ddof=1))
        intervals[name] = [max(0.0, figures[name] - half), min(1.0, figures[name] + half)]
    return intervals


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
