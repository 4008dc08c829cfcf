"""The figures of an evaluation are scikit-learn's and SciPy's."""
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as theirs

from training import metrics

warnings.filterwarnings('ignore', module='sklearn')


def answers(classes, images, seed=0, absent=(), decimals=9):
    """Labels and probabilities, of which few decimals make some equal; no image is of the absent classes."""
    random = np.random.RandomState(seed)
    labels = random.choice([label for label in range(classes) if label not in absent], images)
    logits = random.normal(size=(images, classes)).round(decimals)
    logits[np.arange(images), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def figures(mode, classes, labels, probabilities, batch=7):
    found = metrics.Answers(mode, classes)
    for first in range(0, len(labels), batch):
        found.add(labels[first:first + batch], probabilities[first:first + batch])
    return found.figures()


@pytest.mark.parametrize('classes, images, absent', [(10, 300, ()), (10, 25, (3, 4)), (50, 40, range(30, 50)),
                                                     (2, 50, ()), (1, 5, ()), (7, 1, ()), (3, 20, (0, 1))])
def test_of_one_class_each(classes, images, absent):
    labels, probabilities = answers(classes, images, absent=absent)
    found, predicted = figures('categorical', classes, labels, probabilities), probabilities.argmax(1)
    assert found['Accuracy'] == pytest.approx(theirs.accuracy_score(labels, predicted))
    if classes > 5:
        assert found['Recall_5'] == pytest.approx(theirs.top_k_accuracy_score(
            labels, probabilities, k=5, labels=range(classes)))
    else:
        assert found['Recall_5'] == 1
    assert found['balanced_accuracy'] == pytest.approx(theirs.balanced_accuracy_score(labels, predicted))
    for average in ('macro', 'weighted'):
        for name, score in (('precision', theirs.precision_score), ('recall', theirs.recall_score),
                            ('f1', theirs.f1_score)):
            assert found[f'{average}_{name}'] == pytest.approx(score(labels, predicted, average=average,
                                                                     zero_division=0))
    expected = theirs.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    np.testing.assert_allclose(np.array(found['per_class'][:4]), expected)
    if classes > 1:
        expected = theirs.log_loss(labels, probabilities, labels=range(classes))
        assert found['log_loss'] == pytest.approx(expected, rel=1e-4)
    matrix = np.zeros((classes, classes))
    matrix[found['confusion'][0], found['confusion'][1]] = found['confusion'][2]
    np.testing.assert_array_equal(matrix, theirs.confusion_matrix(labels, predicted, labels=range(classes)))
    off = matrix - np.diag(np.diag(matrix))
    assert [count for _, _, count in found['confused']] == sorted(off[off > 0], reverse=True)
    assert all(off[label, answer] == count for label, answer, count in found['confused'])


@pytest.mark.parametrize('mode', ['categorical', 'binary'])
def test_of_two_classes(mode):
    labels, probabilities = answers(2, 80, decimals=1)
    found = figures(mode, 2, labels, probabilities)
    assert found['roc_auc'] == pytest.approx(theirs.roc_auc_score(labels, probabilities[:, 1]))
    assert found['average_precision'] == pytest.approx(theirs.average_precision_score(labels, probabilities[:, 1]))
    one_kind = figures(mode, 2, np.zeros(9, int), probabilities[:9])
    assert one_kind['roc_auc'] is None and one_kind['average_precision'] is None


def test_of_several_classes_each():
    random = np.random.RandomState(1)
    labels = random.rand(60, 5) < [0.5, 0.1, 0.9, 0.3, 0]       # no image has the last
    scores = np.clip(labels * 0.4 + random.rand(60, 5) * 0.7, 0, 1).round(2).astype(np.float32)
    found, said = figures('multilabel', 5, labels.astype(int), scores), scores >= 0.5
    assert found['Accuracy'] == pytest.approx(1 - theirs.hamming_loss(labels, said))
    assert found['subset_accuracy'] == pytest.approx(theirs.accuracy_score(labels, said))
    for average in ('macro', 'micro', 'weighted'):
        expected = theirs.precision_recall_fscore_support(labels, said, average=average, zero_division=0)[:3]
        assert [found[f'{average}_{name}'] for name in ('precision', 'recall', 'f1')] == pytest.approx(expected)
    for name, score in (('roc_auc', theirs.roc_auc_score), ('average_precision', theirs.average_precision_score)):
        assert found[name] == pytest.approx(score(labels[:, :4], scores[:, :4], average='macro'))
    expected = np.mean([theirs.log_loss(labels[:, k], scores[:, k].astype(float), labels=[0, 1]) for k in range(5)])
    assert found['log_loss'] == pytest.approx(expected, rel=1e-4)


def test_calibration_error():
    """arXiv:1706.04599, equation 3, bin by bin."""
    random = np.random.RandomState(0)
    confidence, error = np.append(random.rand(500), [0.0, 1.0]), 0.0
    right = random.rand(502) < confidence ** 2
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15 + (0.1 if low > 0.93 else 0))
        error += inside.sum() / 502 * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(confidence, right) == pytest.approx(error)
    always = np.full(100, 0.75)
    assert metrics.calibration_error(always, np.arange(100) < 75) == pytest.approx(0)
    assert metrics.calibration_error(always, np.arange(100) < 50) == pytest.approx(0.25)


@pytest.mark.parametrize('hits, count', [(0, 1), (1, 1), (7, 10), (345, 360), (50000, 50000), (3, 1000)])
def test_intervals_of_shares(hits, count):
    expected = scipy.stats.binomtest(hits, count).proportion_ci(method='wilson')
    assert metrics.wilson(hits, count) == pytest.approx([expected.low, expected.high])


def test_intervals_by_the_bootstrap():
    """The standard errors that SciPy's bootstrap finds; and it holds the figure where classes have few images."""
    labels, probabilities = answers(4, 200)
    predicted = probabilities.argmax(1)
    found = figures('categorical', 4, labels, probabilities)['confidence_intervals']
    for name, score in (('macro_f1', lambda y, p: theirs.f1_score(y, p, average='macro')),
                        ('balanced_accuracy', theirs.balanced_accuracy_score)):
        expected = scipy.stats.bootstrap((labels, predicted), score, paired=True, vectorized=False, n_resamples=1000,
                                         method='percentile', random_state=np.random.default_rng(1))
        value, half = score(labels, predicted), 1.96 * expected.standard_error
        assert found[name] == pytest.approx([value - half, value + half], abs=0.005)
    few = figures('categorical', 300, *answers(300, 600))
    for name in ('macro_f1', 'balanced_accuracy'):
        low, high = few['confidence_intervals'][name]
        assert low < few[name] < high


def test_memory_is_that_of_the_images_and_not_of_their_classes():
    found = metrics.Answers('categorical', 10_000)
    tracemalloc.start()
    for _ in range(20):
        found.add(np.zeros(50, int), np.full([50, 10_000], 1e-4, np.float32))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1000 * 100       # bytes; all probabilities would be 40 million


def test_many_classes_take_no_matrix():
    labels, probabilities = answers(10_000, 64)
    found = figures('categorical', 10_000, labels, probabilities)
    assert len(found['confusion'][0]) <= 64 and found['per_class'].images.sum() == 64
