"""Evaluation: every image of a split once; accuracy as TF-Slim names it, and as JSON."""

import itertools
import json
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import datasets
from datasets import pipeline
from datasets.provider import READ_ERRORS
from nets import checkpoints, registry
from nets.model import Model
from training import distribution, losses
from training.config import EvalConfig
from training.data import Skipped, evaluation_batches, held_out, open_dataset
from training.progress import Progress
from training.trainer import make_model

RESULTS_FILE = 'eval_results.json'


def evaluate(config: EvalConfig, say: Callable[[str], None] = print) -> dict:
    """Evaluates a checkpoint on a split of a dataset, each image exactly once.

    Args:
      config: see `training.config`.
      say: receives the lines that tell what happens.

    Returns:
      What is also written to `eval_results.json`: `Accuracy` and `Recall_5` in 0..1, the number of images, the
      checkpoint and its step.

    Raises:
      ConfigError, datasets.DatasetError, checkpoints.CheckpointError: the settings, the dataset, the checkpoint or an
      image is wrong, or the results cannot be written.
    """
    dataset = held_out(config) if config.dataset_split_name is None else open_dataset(config)
    size = _size(config)
    checkpoints.resolve(config.checkpoint_path)  # fails early where there is none
    model = make_model(config, dataset, size, evaluation_batches(config, dataset, size).element_spec[0].shape[-1])
    reader = checkpoints.Reader(config.checkpoint_path)  # late, as a training may go on and remove it
    averages = config.moving_average_decay is not None
    if averages and not any(name.endswith(checkpoints.AVERAGE) for name in reader.shapes):
        raise checkpoints.CheckpointError(f'{reader.path} holds no moving averages; leave out --moving_average_decay.')
    checkpoints.restore(
        reader,
        model.by_name,
        moving_averages=averages,
        hint=(
            f'It must be a checkpoint of {config.model_name} with {dataset.num_classes - config.labels_offset} classes '
            f'(--labels_offset={config.labels_offset}) and {model.channels} channels, at {size}x{size}.'
        ),
    )
    step = reader.value('global_step').item() if 'global_step' in reader.shapes else None
    say(f'Evaluating {reader.path} ({config.model_name}) on {dataset} at {size}x{size}.')
    began = time.monotonic()
    figures = measure(config, model, dataset)
    images_seen = figures['num_images']
    results = {
        **figures,
        'checkpoint': reader.path,
        'global_step': step,
        'model_name': config.model_name,
        'dataset_name': dataset.name,
        'dataset_split_name': dataset.split_name,
        'image_size': size,
        'moving_averages': averages,
    }
    if results.get('skipped'):
        say(f'{len(results["skipped"])} images could not be used, and were passed over.')
    say(f'{images_seen} images in {time.monotonic() - began:.1f} s')
    for name in ('Accuracy', 'Recall_5'):
        say(f'eval/{name}[{results[name]:.6g}]')
    path = checkpoints.write_text(config.eval_dir, RESULTS_FILE, json.dumps(results, indent=2) + '\n')
    say(f'Results are in {path}.')
    return results


def counter(config: EvalConfig, model: Model, strategy: tf.distribute.Strategy | None = None) -> Callable:
    """The function of a batch by which `measure` counts; a training that evaluates often makes it once.

    It returns float32 [4]: of all replicas, how many images are right, how many are so among the first five classes,
    the sum of their cross-entropies, and their number.
    """
    strategy, mode = strategy or tf.distribute.get_strategy(), config.class_mode

    def count(images, labels):
        logits = _mean_logits(model, images, mode)
        targets = losses.hard_targets(labels, mode, logits.shape[-1])
        number = tf.cast(_length(labels), tf.float32)
        # The mean of none is not a number.
        entropy = tf.where(number > 0, losses.cross_entropy(logits, targets, mode) * number, 0.0)
        return tf.concat([tf.reduce_sum(losses.right(logits, targets, mode), -1), [entropy, number]], 0)

    @tf.function(autograph=False, reduce_retracing=True)
    def count_all(images, labels):
        return strategy.reduce('SUM', strategy.run(count, (images, labels)), axis=None)

    return count_all


def measure(config: EvalConfig, model: Model, dataset: datasets.Dataset,
            strategy: tf.distribute.Strategy | None = None, count_all: Callable | None = None) -> dict:
    """Evaluates a model as it is, each image exactly once.

    Args:
      config: size, preprocessing and batches.
      model: the network.
      dataset: the split.
      strategy: whose replicas share the images; None for one.
      count_all: from `counter`, of the same arguments; None makes one.

    Returns:
      `Accuracy` and `Recall_5` in 0..1, `loss`, the mean cross-entropy, and `num_images`; with `skip_corrupt` also
      `skipped`, the sources of what was passed over.

    Raises:
      datasets.DatasetError: an image cannot be used.
    """
    strategy, size = strategy or tf.distribute.get_strategy(), _size(config)
    count_all = count_all or counter(config, model, strategy)
    skipped = Skipped(lambda line: progress.note(line)) if config.skip_corrupt else None
    batches = distribution.distribute(strategy, lambda shards, shard: evaluation_batches(
        config, dataset, size, shards, shard, skipped), endless=False)
    replicas = strategy.num_replicas_in_sync
    total = -(-dataset.num_samples // (config.batch_size * replicas))
    total = min(total, config.max_num_batches or total)
    sums = np.zeros([4])
    progress = Progress(total, 0, config.batch_size * replicas, 'batch')
    try:
        for number, (images, labels) in enumerate(itertools.islice(batches, total), 1):
            sums += count_all(images, labels).numpy()
            progress.step()
            if number % 10 == 0:
                progress.report(number, f'accuracy {sums[0] / sums[3]:.4f}')
    except READ_ERRORS as error:
        fault = pipeline.explain(error, dataset, start=int(sums[3]), labels_offset=config.labels_offset)
        if fault is error:
            raise
        raise fault from None
    finally:
        progress.close()
    right, recalled, entropy, images_seen = sums
    if not images_seen:
        raise datasets.DatasetError(f'no image of {dataset} can be used.')
    passed_over = {} if skipped is None else {'skipped': sorted(skipped.sources)}
    return {'Accuracy': right / images_seen, 'Recall_5': recalled / images_seen, 'loss': entropy / images_seen,
            'num_images': int(images_seen), **passed_over}


def _mean_logits(model, images, mode):
    """The logits for images [batch, views, ...]: those of the mean probabilities of an image's views."""
    def of_view(view):
        return tf.cast(model(_with_spare(view)), tf.float32)[:_length(view)]

    if images.shape[1] == 1:
        return of_view(images[:, 0])
    logits = tf.map_fn(of_view, tf.experimental.numpy.moveaxis(images, 1, 0), parallel_iterations=1)
    log_views = tf.math.log(float(images.shape[1]))
    if mode in losses.SIGMOID:      # log(p / (1 - p)) of the mean p
        true, false = (tf.reduce_logsumexp(tf.math.log_sigmoid(sign * logits), 0) for sign in (1, -1))
        return true - false
    return tf.reduce_logsumexp(tf.nn.log_softmax(logits), 0) - log_views


def _with_spare(images):
    # A replica that has no more images gets a batch of none, at which TensorFlow's fused convolutions fail.
    missing = tf.cast(tf.equal(_length(images), 0), tf.int32)
    return tf.pad(images, [[0, missing]] + [[0, 0]] * (images.shape.rank - 1))


def _length(labels):
    return tf.shape(labels)[0]


def _size(config):
    return config.eval_image_size or registry.get(config.model_name).default_image_size
