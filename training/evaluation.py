"""Evaluation: every image of a split once; accuracy as TF-Slim names it, and as JSON."""

import dataclasses
import json
import time
from collections.abc import Callable

import tensorflow as tf

from datasets import DatasetError, dataset_factory, pipeline
from nets import checkpoints, registry
from training.config import EvalConfig
from training.loop import input_batches, make_model, open_dataset
from training.progress import Progress

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
    dataset = _held_out(config) if config.dataset_split_name is None else open_dataset(config)
    network = registry.get(config.model_name)
    size = config.eval_image_size or network.default_image_size
    batches = input_batches(config, dataset, size, config.batch_size, training=False)
    if config.max_num_batches:
        batches = batches.take(config.max_num_batches)
    checkpoints.resolve(config.checkpoint_path)  # fails early where there is none
    model = make_model(config, dataset, size, batches.element_spec[0].shape[-1])
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

    @tf.function(autograph=False, reduce_retracing=True)
    def count(images, labels):
        logits = model(images)
        if config.class_mode == 'binary':       # one logit, of the second class against the first
            logits = tf.concat([tf.zeros_like(logits), logits], -1)
        right = tf.equal(tf.argmax(logits, -1), labels)
        recalled = tf.math.in_top_k(labels, logits, min(5, logits.shape[-1]))
        return tf.reduce_sum(tf.cast([right, recalled], tf.int64), axis=1)

    counts, images_seen, began = tf.zeros([2], tf.int64), 0, time.monotonic()
    total = -(-dataset.num_samples // config.batch_size)
    progress = Progress(min(total, config.max_num_batches or total), 0, config.batch_size, 'batch')
    try:
        for number, (images, labels) in enumerate(batches, 1):
            counts += count(images, labels)
            images_seen += labels.shape[0]
            progress.step()
            if number % 10 == 0:
                progress.report(number, f'accuracy {int(counts[0]) / images_seen:.4f}')
    except tf.errors.OpError as error:
        fault = pipeline.explain(error, dataset, start=images_seen, labels_offset=config.labels_offset)
        if fault is error:
            raise
        raise fault from None
    finally:
        progress.close()
    results = {
        'Accuracy': int(counts[0]) / images_seen,
        'Recall_5': int(counts[1]) / images_seen,
        'num_images': images_seen,
        'checkpoint': reader.path,
        'global_step': step,
        'model_name': config.model_name,
        'dataset_name': dataset.name,
        'dataset_split_name': dataset.split_name,
        'image_size': size,
        'moving_averages': averages,
    }
    say(f'{images_seen} images in {time.monotonic() - began:.1f} s')
    for name in ('Accuracy', 'Recall_5'):
        say(f'eval/{name}[{results[name]:.6g}]')
    path = checkpoints.write_text(config.eval_dir, RESULTS_FILE, json.dumps(results, indent=2) + '\n')
    say(f'Results are in {path}.')
    return results


def _held_out(config):
    """The dataset's split that is not for training."""
    row = dataset_factory.find_row(config.dataset_name)
    splits = [name for name in row.splits if name != 'train'] or ['validation', 'test']
    faults = []
    for name in splits:
        try:
            return open_dataset(dataclasses.replace(config, dataset_split_name=name))
        except DatasetError as fault:
            faults.append(fault)
    raise faults[0]
