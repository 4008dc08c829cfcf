"""From a dataset to the batches that a network is trained or evaluated on."""
from collections.abc import Callable

import tensorflow as tf

from datasets.provider import Dataset, DatasetError, decode_image

FAULTS_NEAR = 1024  # An error is searched for in this many examples from where it came before anywhere else.


def make_batches(dataset: Dataset, preprocess: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batch_size: int, *,
                 training: bool, seed: int = 0, start_step: int = 0, labels_offset: int = 0,
                 num_threads: int | None = None, num_readers: int | None = None, num_shards: int = 1,
                 shard_index: int = 0,
                 window: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
    """Batches of preprocessed images and labels.

    In training they are shuffled, endless and all full, and batch n is a function of (seed, n) alone: beginning at
    `start_step` continues exactly where a run stopped. In evaluation they are one pass over every image, in order; the
    last batch is smaller where need be.

    Args:
      dataset: what to read.
      preprocess: from an image, uint8 [height, width, channels], and its seed, int32 [2], to the network's input. The
        seed is a function of `seed` and the example's position.
      batch_size: the number of images in a batch (of one shard).
      training: training or evaluation.
      seed: of the order and of the preprocessing.
      start_step: the number of batches already used.
      labels_offset: subtracted from the labels, as in TF-Slim.
      num_threads: for preprocessing; None for as many as help.
      num_readers: files read in parallel; None for as many as help.
      num_shards: the number of workers that share each step, with a batch each.
      shard_index: which of them this one is.
      window: from the shape of an image, int32 [3], and its seed to the part that `preprocess` is to be given: top,
        left, height and width, int32 [4]. Of a JPEG no more is decoded than that. None for all of it.

    Returns:
      A `tf.data.Dataset` of (images, labels), labels int64 [batch]. Reading it raises tf.errors.OpError where an
      example cannot be used; see `explain`.

    Raises:
      DatasetError: if an argument does not fit.
    """
    if batch_size < 1:
        raise DatasetError(f'batch_size must be 1 or more, not {batch_size}.')
    if not 0 <= labels_offset < dataset.num_classes:
        raise DatasetError(f'labels_offset must be from 0 to {dataset.num_classes - 1}, the last label of '
                           f'{dataset.name}, not {labels_offset}.')
    start = start_step * batch_size * num_shards
    threads = num_threads or tf.data.AUTOTUNE

    def example(number, element):
        label = element['label']
        valid = tf.logical_and(label >= labels_offset, label < dataset.num_classes)
        with tf.control_dependencies([tf.debugging.Assert(valid, ['label out of range', label, element['source']])]):
            encoded = tf.identity(element['image'])
        position = start + number * num_shards + shard_index
        # Drawn, so that neighbouring positions have nothing in common.
        own_seed = tf.random.stateless_uniform([2], tf.stack([tf.constant(seed, tf.int64), position]),
                                               minval=None, maxval=None, dtype=tf.int32)
        if window is None:
            image = decode_image(encoded, dataset.channels)
        else:
            image = tf.cond(tf.io.is_jpeg(encoded), lambda: decode_part(encoded, own_seed),
                            lambda: cut(decode_image(encoded, dataset.channels), own_seed))
            image.set_shape([None, None, dataset.channels])
        return preprocess(image, own_seed), label - labels_offset

    def decode_part(encoded, own_seed):
        part = window(tf.io.extract_jpeg_shape(encoded), own_seed)
        return tf.image.decode_and_crop_jpeg(encoded, part, dataset.channels)

    def cut(image, own_seed):
        top, left, height, width = tf.unstack(window(tf.shape(image), own_seed))
        return image[top:top + height, left:left + width]

    examples = dataset.as_tf_data(shuffle=training, seed=seed, start=start, repeat=training,
                                  num_shards=num_shards, shard_index=shard_index, num_readers=num_readers)
    batches = examples.enumerate().map(example, num_parallel_calls=threads, deterministic=True).batch(
        batch_size, drop_remainder=training)
    options = tf.data.Options()
    options.deterministic = True
    # The shards are those above; tf.distribute must not divide them once more.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def explain(error: Exception, dataset: Dataset, *, training: bool = False, seed: int = 0, start: int = 0,
            labels_offset: int = 0) -> Exception:
    """Finds the example behind an error that reading batches raised.

    Args:
      error: what was raised.
      dataset: what was being read.
      training: whether it was read as in training.
      seed: as given to `make_batches`.
      start: the position reached, in examples: batches used * batch size * shards.
      labels_offset: as given to `make_batches`.

    Returns:
      A DatasetError that names the file (and record) and says what is wrong with it; or `error` itself if that did not
      come from the data or all examples are sound.
    """
    if not isinstance(error, tf.errors.OpError):
        return error
    fault = dataset.find_fault(labels_offset, shuffle=training, seed=seed, start=start, count=FAULTS_NEAR)
    if not fault and 'GetNext' in error.message:  # It did come from reading, and from further on.
        fault = dataset.find_fault(labels_offset)
    return DatasetError(fault) if fault else error
