"""Losses and hits against Keras's, scikit-learn's and TensorFlow's own."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import top_k_accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from training import losses

CLASSES = 7
RANDOM = np.random.RandomState(0)
LOGITS = RANDOM.normal(scale=3, size=(40, CLASSES)).astype('f')
LABELS = RANDOM.randint(CLASSES, size=40)
ANY_NUMBER = RANDOM.randint(2, size=(40, CLASSES))      # classes an image


def entropy(logits, labels, mode, smoothing=0.0, weights=None):
    targets = losses.smoothed(losses.hard_targets(tf.constant(labels), mode, logits.shape[-1]), mode, smoothing)
    return float(losses.cross_entropy(tf.constant(logits), targets, mode, weights))


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 1.0])
def test_cross_entropies_are_kerass(smoothing):
    categorical = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert entropy(LOGITS, LABELS, 'categorical', smoothing) == pytest.approx(
        float(categorical(np.eye(CLASSES)[LABELS], LOGITS)), rel=1e-5)
    binary = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert entropy(LOGITS, ANY_NUMBER, 'multilabel', smoothing) == pytest.approx(
        float(binary(ANY_NUMBER, LOGITS)), rel=1e-5)
    assert entropy(LOGITS[:, :1], ANY_NUMBER[:, 0], 'binary', smoothing) == pytest.approx(
        float(binary(ANY_NUMBER[:, :1], LOGITS[:, :1])), rel=1e-5)


def test_low_precision_logits_have_a_float32_loss():
    logits = LOGITS.astype(np.float16)
    assert entropy(logits, LABELS, 'categorical') == pytest.approx(
        float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, logits.astype('f'))), rel=1e-5)


def test_a_label_without_a_class_has_no_target():
    """As in TF-Slim, whose one_hot_encoding is TensorFlow's: labels_offset makes -1 of the background."""
    np.testing.assert_array_equal(losses.hard_targets(tf.constant([-1, 2]), 'categorical', 3), [[0, 0, 0], [0, 0, 1]])


def test_class_weights_count_as_in_keras():
    weights = RANDOM.uniform(0, 3, CLASSES).astype('f')
    hard = losses.hard_targets(tf.constant(LABELS), 'categorical', CLASSES)
    found = entropy(LOGITS, LABELS, 'categorical', 0.1, losses.image_weights(hard, tf.constant(weights)))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    assert found == pytest.approx(float(loss(np.eye(CLASSES)[LABELS], LOGITS, sample_weight=weights[LABELS])), rel=1e-5)
    # The same through Keras's own training: a model that gives the logits that it is given.
    model = keras.Sequential([keras.Input([CLASSES]), keras.layers.EinsumDense('bi,ij->bj', CLASSES)])
    model.set_weights([np.eye(CLASSES)])
    model.compile(keras.optimizers.SGD(0.0), loss)
    kerass = model.train_on_batch(LOGITS, np.eye(CLASSES)[LABELS], class_weight=dict(enumerate(weights.tolist())))
    assert found == pytest.approx(float(np.ravel(kerass)[0]), rel=1e-4)


def test_weights_of_two_classes():
    weights, labels = np.array([0.5, 3.0], 'f'), ANY_NUMBER[:, 0]
    targets = losses.hard_targets(tf.constant(labels), 'binary', 1)
    found = entropy(LOGITS[:, :1], labels, 'binary', 0.0, losses.image_weights(targets, tf.constant(weights)))
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(
        labels[:, None], LOGITS[:, :1], sample_weight=weights[labels])
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_the_weight_of_a_mixed_image_is_mixed():
    targets = tf.constant([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(losses.image_weights(targets, tf.constant([1.0, 2.0, 5.0])), [1.75, 5.0])


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat(range(4), [5, 1, 30, 12])
    expected = compute_class_weight('balanced', classes=np.arange(4), y=labels)
    np.testing.assert_allclose(losses.class_weights('balanced', np.bincount(labels).tolist()), expected)


def test_weights_that_do_not_fit():
    assert losses.class_weights('1, 2.5,0', [3, 3, 3]) == [1.0, 2.5, 0.0]
    with pytest.raises(ValueError, match='it has 2 weights, and there are 3 classes'):
        losses.class_weights('1,2', [3, 3, 3])
    with pytest.raises(ValueError, match='class 1 has no images'):
        losses.class_weights('balanced', [3, 0, 3])


def test_hits_are_scikit_learns():
    first, first_five = losses.right(tf.constant(LOGITS), tf.one_hot(LABELS, CLASSES), 'categorical').numpy()
    for k, hits in (1, first), (5, first_five):
        assert hits.mean() == pytest.approx(top_k_accuracy_score(LABELS, LOGITS, k=k, labels=range(CLASSES)))
        np.testing.assert_array_equal(hits, tf.math.in_top_k(LABELS, LOGITS, k))
    assert set(first) == {0.0, 1.0}


def test_of_equal_logits_the_first_comes_first():
    """As argmax and top_k have it; in_top_k, which counts all, would call a network right that says nothing."""
    logits, labels = tf.zeros([CLASSES, CLASSES]), np.arange(CLASSES)
    expected = [tf.argmax(logits, -1) == labels,
                tf.reduce_any(tf.math.top_k(logits, 5).indices == labels[:, None].astype('i'), -1)]
    np.testing.assert_array_equal(losses.right(logits, tf.one_hot(labels, CLASSES), 'categorical'), expected)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_never_right(value):
    logits = np.where(np.arange(CLASSES) == 2, np.float32(value), LOGITS)
    found = losses.right(tf.constant(logits), tf.one_hot([2] * 40, CLASSES), 'categorical')
    assert not np.any(found) and not np.any(tf.math.in_top_k([2] * 40, logits, 5) if value != -np.inf else False)


def test_a_mixed_image_is_of_the_class_that_most_of_it_is_of():
    targets = tf.constant([[0.4, 0.6, 0.0], [0.7, 0.3, 0.0]])
    first, _ = losses.right(tf.constant([[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]]), targets, 'categorical').numpy()
    assert first.tolist() == [1.0, 0.0]


def test_hits_of_sigmoids_are_kerass_binary_accuracy():
    expected = keras.metrics.BinaryAccuracy(threshold=0.0)
    first, first_five = losses.right(tf.constant(LOGITS), tf.constant(ANY_NUMBER, tf.float32), 'multilabel').numpy()
    assert first.mean() == pytest.approx(float(expected(ANY_NUMBER, LOGITS)))
    np.testing.assert_array_equal(first, first_five)
    expected.reset_state()
    first, first_five = losses.right(tf.constant(LOGITS[:, :1]), tf.constant(ANY_NUMBER[:, :1], tf.float32),
                                     'binary').numpy()
    assert first.mean() == pytest.approx(float(expected(ANY_NUMBER[:, :1], LOGITS[:, :1])))
    assert first_five.tolist() == [1.0] * 40
