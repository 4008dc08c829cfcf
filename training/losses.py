"""What is trained for: targets of labels, their cross-entropy, and how often the network is right."""
import tensorflow as tf

SIGMOID = ('binary', 'multilabel')      # the class modes in which each logit stands for itself


def probabilities(logits: tf.Tensor, class_mode: str) -> tf.Tensor:
    """The probabilities of all classes, float32 [batch, classes]; of `binary`, two columns for the one logit."""
    logits = tf.cast(logits, tf.float32)
    if class_mode not in SIGMOID:
        return tf.nn.softmax(logits)
    yes = tf.sigmoid(logits)
    return tf.concat([1 - yes, yes], -1) if class_mode == 'binary' else yes


def hard_targets(labels: tf.Tensor, class_mode: str, num_classes: int) -> tf.Tensor:
    """The classes of images as probabilities, float32 [batch, num_classes].

    Args:
      labels: integers [batch]; for `multilabel` [batch, num_classes], each 0 or 1.
      class_mode: `categorical`; `binary`, with one column for the second of two classes; or `multilabel`.
      num_classes: the number of logits.
    """
    if class_mode == 'categorical':
        return tf.one_hot(labels, num_classes)
    return tf.cast(labels if class_mode == 'multilabel' else labels[:, tf.newaxis], tf.float32)


def smoothed(targets: tf.Tensor, class_mode: str, smoothing: float) -> tf.Tensor:
    """Targets of which the part `smoothing` is spread evenly over the classes (arXiv:1512.00567, section 7)."""
    classes = 2 if class_mode in SIGMOID else targets.shape[-1]     # each logit stands between yes and no
    return targets * (1 - smoothing) + smoothing / classes


def cross_entropy(logits: tf.Tensor, targets: tf.Tensor, class_mode: str,
                  weights: tf.Tensor | None = None) -> tf.Tensor:
    """The mean cross-entropy of a batch, a float32 scalar.

    Args:
      logits: [batch, classes], of any float type.
      targets: float32 [batch, classes], see `smoothed`.
      class_mode: softmax (`categorical`), or the mean over the sigmoids of all logits.
      weights: float32 [batch], what each image counts, as Keras's `class_weight`: the sum is divided by the number of
        images, not of weights. None for 1.
    """
    logits = tf.cast(logits, tf.float32)
    if class_mode in SIGMOID:
        losses = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), -1)
    else:
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_mean(losses if weights is None else losses * weights)


def right(logits: tf.Tensor, targets: tf.Tensor, class_mode: str) -> tf.Tensor:
    """Whether the network is right, and whether the class is among its first five: float32 [2, batch] of 0 and 1.

    The class of a mixed image is the one that most of it is of. Of sigmoids the first is the part of the logits on the
    right side; of two classes, both are among the first five.
    """
    if class_mode in SIGMOID:
        hits = tf.reduce_mean(tf.cast(tf.equal(logits > 0, targets > 0.5), tf.float32), -1)
        return tf.stack([hits, tf.ones_like(hits) if class_mode == 'binary' else hits])
    best = tf.one_hot(tf.argmax(targets, -1), targets.shape[-1], True, False, dtype=tf.bool)
    own = tf.reduce_max(tf.where(best, logits, logits.dtype.min), -1, keepdims=True)
    # A logit that is no number must not count as right; of equal logits the first comes first, as argmax has it.
    first = tf.cumsum(tf.cast(best, tf.int32), -1, exclusive=True) < 1
    before = tf.logical_or(logits > own, tf.logical_and(tf.equal(logits, own), tf.logical_and(first, ~best)))
    rank = tf.reduce_sum(tf.cast(before, tf.int32), -1)
    known = tf.reduce_all(tf.math.is_finite(logits), -1)
    return tf.cast([(rank < 1) & known, (rank < 5) & known], tf.float32)


def image_weights(targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """What each image counts, [batch], by the weights of the classes that its target, mixed or not, is of."""
    if targets.shape[-1] == 1:      # the second of two classes
        targets = tf.concat([1 - targets, targets], -1)
    return tf.linalg.matvec(targets, weights)


def class_weights(text: str, counts: list[int]) -> list[float]:
    """The weight of each class: of `balanced`, the number of images / (classes x images of this class).

    Args:
      text: `balanced`, or a number for each class with commas between them.
      counts: the images of each class.

    Raises:
      ValueError: there is not one number for each class, or a class has no images to be balanced by.
    """
    if text != 'balanced':
        weights = [float(part) for part in text.split(',') if part.strip()]
        if len(weights) != len(counts):
            raise ValueError(f'it has {len(weights)} weights, and there are {len(counts)} classes.')
        return weights
    if not all(counts):
        raise ValueError(f'class {counts.index(0)} has no images, so that no weight can make up for that.')
    return [sum(counts) / (len(counts) * count) for count in counts]
