"""From a dataset to the batches that a network is trained or evaluated on."""
from collections.abc import Callable

import tensorflow as tf

from datasets.image_size import refuse_huge
from datasets.provider import READ_ERRORS, Dataset, DatasetError, decode_image

PREFETCHED = 4      # Batches that are ready ahead of the step; AUTOTUNE takes as much memory as there is.
FAULTS_NEAR = 1024  # An error is searched for in this many examples from where it came before anywhere else.


def make_batches(dataset: Dataset, preprocess: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batch_size: int, *,
                 training: bool, seed: int = 0, start_step: int = 0, labels_offset: int = 0,
                 num_threads: int | None = None, num_readers: int | None = None, num_shards: int = 1,
                 shard_index: int = 0, window: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
                 window_side: int | None = None, skip_corrupt: Callable[[str], None] | None = None,
                 with_sources: bool = False) -> tf.data.Dataset:
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
      window_side: with `window`, a JPEG is decoded at a half, a quarter or an eighth of its size where both sides of
        the part are still as long as this, in pixels. None: never.
      skip_corrupt: is called with the source of each example that cannot be used, and it is passed over: in training,
        another one of its batch takes its place, so that all that follow stay where they are. `preprocess` must return
        images of one shape. None: reading raises.
      with_sources: whether a third tensor, string [batch], tells where each example comes from.

    Returns:
      A `tf.data.Dataset` of (images, labels), labels int64 [batch], or of a dataset with `multi_label` int64 [batch,
      classes], 1 for each class that the image has and 0 elsewhere. Reading it raises one of `provider.READ_ERRORS`
      where an example cannot be used; see `explain`.

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
        valid = tf.reduce_all(tf.logical_and(label >= labels_offset, label < dataset.num_classes))
        with tf.control_dependencies([tf.debugging.Assert(valid, ['label out of range', label, element['source']])]):
            encoded, label = tf.identity(element['image']), label - labels_offset
        if dataset.multi_label:
            label = tf.reduce_max(tf.one_hot(label, dataset.num_classes - labels_offset, dtype=tf.int64), 0)
            label = tf.maximum(label, 0)    # of an image without any, the maximum is the least integer
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
        return (preprocess(image, own_seed), label, *([element['source']] if with_sources else []))

    def decode_part(encoded, own_seed):
        encoded = refuse_huge(encoded)
        part = window(tf.io.extract_jpeg_shape(encoded), own_seed)
        if window_side is None:
            return tf.image.decode_and_crop_jpeg(encoded, part, dataset.channels)
        # libjpeg leaves out what a smaller size does not show: up to 8 times smaller, by powers of 2.
        smaller = [tf.reduce_all(part[2:] >= window_side * ratio) for ratio in (2, 4, 8)]
        return tf.switch_case(tf.reduce_sum(tf.cast(smaller, tf.int32)), [
            lambda ratio=ratio: tf.image.decode_and_crop_jpeg(encoded, part // ratio, dataset.channels, ratio=ratio)
            for ratio in (1, 2, 4, 8)])

    def cut(image, own_seed):
        top, left, height, width = tf.unstack(window(tf.shape(image), own_seed))
        return image[top:top + height, left:left + width]

    order = dataset.as_tf_data if skip_corrupt is None else dataset.order
    examples = order(shuffle=training, seed=seed, start=start, repeat=training, num_shards=num_shards,
                     shard_index=shard_index, num_readers=num_readers).enumerate()
    if skip_corrupt is None:
        batches = examples.map(example, num_parallel_calls=threads, deterministic=True).batch(
            batch_size, drop_remainder=training)
    else:
        batches = _skipping(examples, dataset, example, threads, batch_size, training, skip_corrupt)
    options = tf.data.Options()
    options.deterministic = True
    # The shards are those above; tf.distribute must not divide them once more.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options).prefetch(PREFETCHED)


def _skipping(examples, dataset, example, threads, batch_size, training, skip_corrupt):
    """The batches of `example`, without those that loading or it fails for."""
    load, source_of = dataset.loader(), dataset.sources()

    def loaded(number, element):
        return example(number, load(*element) if isinstance(element, tuple) else load(element))

    specs = examples.map(loaded).element_spec

    def attempt(number, element):
        tried = tf.data.Dataset.from_tensors((number, element)).map(loaded).ignore_errors()
        source = source_of(*element) if isinstance(element, tuple) else source_of(element)
        stand_in = [tf.zeros(spec.shape, spec.dtype) for spec in specs]
        found = tried.map(lambda *values: (*values, True, ''))
        return found.concatenate(tf.data.Dataset.from_tensors((*stand_in, False, source))).take(1)

    def report(used, sources):
        def tell(sources):
            for source in sources:
                skip_corrupt(source.decode(errors='replace'))

        lost = tf.boolean_mask(sources, ~used)
        return tf.cond(tf.size(lost) > 0, lambda: [tf.numpy_function(tell, [lost], []), tf.no_op()][1], tf.no_op)

    def without(*values):
        *values, used, sources = values
        with tf.control_dependencies([report(used, sources)]):
            sound = tf.where(used)[:, 0]
        if not training:
            return tuple(tf.gather(value, sound) for value in values)
        some = tf.debugging.Assert(tf.size(sound) > 0, ['no example of a batch can be used', sources])
        with tf.control_dependencies([some]):
            numbers = tf.range(tf.shape(used)[0])
        other = tf.gather(sound, numbers % tf.maximum(tf.size(sound), 1))
        chosen = tf.where(used, tf.cast(numbers, tf.int64), other)
        return tuple(tf.gather(value, chosen) for value in values)

    tried = examples.interleave(attempt, cycle_length=16 if threads < 1 else threads, block_length=1,
                                num_parallel_calls=threads, deterministic=True)
    batches = tried.batch(batch_size, drop_remainder=training).map(without)
    return batches if training else batches.filter(lambda images, *others: tf.shape(images)[0] > 0)


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
    if not isinstance(error, READ_ERRORS):
        return error
    fault = dataset.find_fault(labels_offset, shuffle=training, seed=seed, start=start, count=FAULTS_NEAR)
    if not fault and 'GetNext' in getattr(error, 'message', 'GetNext'):  # It came from reading, from further on.
        fault = dataset.find_fault(labels_offset)
    return DatasetError(fault) if fault else error
