"""Evaluation: every image of a split once; figures as TF-Slim names them and as scikit-learn defines them."""

import contextlib
import csv
import dataclasses
import heapq
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import datasets
from datasets import pipeline
from datasets.dataset_utils import LABELS_FILENAME
from datasets.provider import READ_ERRORS
from nets import checkpoints, registry
from nets.model import Model
from nets.weights import published
from training import distribution, losses, metrics, restoring, schedules
from training.config import CONFIG_FILE, ConfigError, EvalConfig, load_train_config
from training.console import Interrupted, RunError, StopSignals
from training.data import Skipped, evaluation_batches, held_out, open_dataset
from training.output_file import OutputFile
from training.progress import Progress
from training.trainer import make_model

RESULTS_FILE, TABLE_FILE = 'eval_results.json', 'eval_results.csv'
LARGER_IS_BETTER = {'accuracy': True, 'recall_5': True, 'loss': False}
_RESULT_OF = {'accuracy': 'Accuracy', 'recall_5': 'Recall_5', 'loss': 'loss'}
_MATRIX_UP_TO = 100     # classes, of which the results hold the whole confusion matrix
_PAIRS = 50             # of classes that were taken for one another that are told
# The settings that make figures differ, for the table.
_TELLING = ('class_mode', 'labels_offset', 'preprocessing_name', 'eval_crop_fraction', 'eval_corners', 'eval_flip',
            'max_num_batches')
_SAMPLES = 24           # images of each kind that are kept for the report


class Sample(NamedTuple):
    """An image of which the report tells."""

    score: float            # by which the samples of a kind are ordered, the highest first
    number: int             # in the split
    source: str
    image: np.ndarray       # what the network saw, float32 [size, size, channels]
    label: int
    predicted: int
    probability: float      # of what was predicted


@dataclasses.dataclass
class Findings:
    """What the report and its pictures show besides the results."""

    class_names: list[str]
    figures: dict[str, Any]         # of `metrics.Answers`
    mistakes: list[Sample]          # the most confident first
    uncertain: list[Sample]         # the nearest to an even guess first


def evaluate(config: EvalConfig, say: Callable[[str], None] = print) -> dict:
    """Evaluates a checkpoint, or several, on a split of a dataset, each image exactly once.

    Args:
      config: see `training.config`.
      say: receives the lines that tell what happens.

    Returns:
      What is also written to `eval_results.json`, of the last checkpoint: `Accuracy` and `Recall_5` in 0..1, the number
      of images, the checkpoint and its step, and the figures that `docs/evaluating.md` lists.

    Raises:
      ConfigError, datasets.DatasetError, checkpoints.CheckpointError: the settings, the dataset, the checkpoint or an
      image is wrong, or the results cannot be written.
      RunError: the network answers what is no number, or a file cannot be written; Interrupted after Ctrl-C or SIGTERM
        while waiting for a checkpoint.
    """
    _rows(config.eval_dir)      # what cannot be added to is better known before the work than after it
    dataset = held_out(config) if config.dataset_split_name is None else open_dataset(config)
    evaluation = _Evaluation(config, dataset, say)
    if not config.several:
        return evaluation.of(published.of(registry.get(config.model_name)) if config.pretrained
                             else config.checkpoint_path)
    results, table = None, []
    metric, larger = _RESULT_OF[config.best_metric], LARGER_IS_BETTER[config.best_metric]
    for path in _checkpoints(config, say):
        try:
            results = evaluation.of(path)
        except checkpoints.CheckpointError:
            if tf.io.gfile.exists(f'{path}.index'):
                raise
            say(f'{path} was removed before it was evaluated.')     # the training goes on
            continue
        checkpoints.keep_best(path, config.eval_dir, config.best_metric, results[metric], 1, larger,
                              extra_files=beside(path))
        table.append((results['global_step'], results['Accuracy'], results['Recall_5'], results['loss'],
                      results[metric]))
    if results is None:
        raise checkpoints.CheckpointError(f'No checkpoint of {config.checkpoint_path} was evaluated.')
    say(f'{"step":>10}  accuracy  recall_5      loss')
    best = (max if larger else min)(table, key=lambda row: row[-1])
    for row in table:
        say(f'{str(row[0]):>10}  {row[1]:8.4f}  {row[2]:8.4f}  {row[3]:8.4f}{"  best" if row is best else ""}')
    say(f'The best is kept in {os.path.join(config.eval_dir, checkpoints.BEST)}.')
    return results


def beside(prefix: str) -> tuple[str, ...]:
    """The files beside a checkpoint that tell what it is of, and should go where it goes."""
    return tuple(name for name in (CONFIG_FILE, LABELS_FILENAME)
                 if tf.io.gfile.exists(os.path.join(os.path.dirname(prefix), name)))


def _checkpoints(config, say) -> Iterator[str]:
    """The checkpoints of a folder, the oldest first; with an interval also those that are yet to come.

    Without `all_checkpoints` the waiting begins with the newest.
    """
    folder, seen = config.checkpoint_path, set()
    if any(map(tf.io.gfile.exists, (f'{folder}.index', folder))) and not tf.io.gfile.isdir(folder):
        raise ConfigError(f'--checkpoint_path={folder} is one checkpoint: --all_checkpoints and --eval_interval_secs '
                          'are for a folder of them.')
    if not config.eval_interval_secs:
        found = checkpoints.kept(folder)
        if not found:
            raise checkpoints.CheckpointError(f'There is no checkpoint in {folder}.')
        yield from reversed(found)
        return
    say(f'Looking for new checkpoints in {folder}, every {config.eval_interval_secs} s; Ctrl-C ends it.')
    changed, last = time.monotonic(), None
    with StopSignals() as stop:
        while True:
            new = [path for path in reversed(checkpoints.kept(folder)) if path not in seen]
            seen.update(new)
            # Without `all_checkpoints` those are left out that a newer one replaced before they were looked at.
            for path in new if config.all_checkpoints else new[-1:]:
                yield path
                changed = time.monotonic()
                last = last or _last_step(folder)
            if stop.signal:
                raise Interrupted('Stopped waiting; the results so far are in '
                                  f'{os.path.join(config.eval_dir, TABLE_FILE)}.', stop.signal)
            if last and any(path.endswith(f'-{last}') for path in seen):
                return
            if config.timeout is not None and time.monotonic() - changed >= config.timeout:
                say(f'No new checkpoint for {config.timeout} s.')
                return
            if not new:
                _wait(config.eval_interval_secs, stop)


def _last_step(folder):
    """The step at which the training in a folder ends; None where nothing tells."""
    trained = load_train_config(folder)
    if trained is None:
        return None
    samples = open_dataset(trained).num_samples if trained.num_epochs else 0
    return schedules.last_step(trained, samples, trained.num_clones * max(1, len(trained.workers())))


def _wait(seconds, stop):
    """Sleeps, but not for long after a signal."""
    until = time.monotonic() + seconds
    while not stop.signal and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))


class _Evaluation:
    """One network on one split, for weights that come one after another."""

    def __init__(self, config: EvalConfig, dataset: datasets.Dataset, say: Callable[[str], None]):
        self.config, self.dataset, self.say = config, dataset, say
        self.size = _size(config)
        self.model: Model | None = None     # made when the first weights are there

    def of(self, path: str) -> dict[str, Any]:
        """Evaluates some weights; returns the results, which are written."""
        config, row, began = self.config, registry.get(self.config.model_name), time.monotonic()
        averages = config.moving_average_decay is not None
        reader = restoring.read_weights(path, row, averages)    # fails early where there is none
        model = self.model
        if model is None:
            model = self.model = self._build(reader, row)
            if '://' not in path:
                reader = restoring.read_weights(path, row, averages)    # a training may have gone on and removed it
        config = self.config
        # The accuracies of published weights are those of their averages, where they have some.
        averages = averages or config.pretrained and any(name.endswith(checkpoints.AVERAGE) for name in reader.shapes)
        restoring.restore(
            reader, model, averages,
            f'It must be a checkpoint of {config.model_name} with {self.dataset.num_classes - config.labels_offset} '
            f'classes (--labels_offset={config.labels_offset}) and {model.channels} channels, at '
            f'{self.size}x{self.size}.')
        step = reader.value('global_step').item() if 'global_step' in reader.shapes else None
        self.say(f'Evaluating {reader.path} ({config.model_name}) on {self.dataset} at {self.size}x{self.size}.')
        results, findings = examine(config, model, self.dataset)
        results.update({
            'checkpoint': reader.path, 'global_step': step, 'model_name': config.model_name,
            'dataset_name': self.dataset.name, 'dataset_split_name': self.dataset.split_name, 'image_size': self.size,
            'moving_averages': averages, 'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'), 'settings': json.loads(
                config.to_json())})
        if results.get('skipped'):
            self.say(f'{len(results["skipped"])} images could not be used, and were passed over.')
        self.say(f'{results["num_images"]} images in {time.monotonic() - began:.1f} s')
        for name in ('Accuracy', 'Recall_5'):
            self.say(f'eval/{name}[{results[name]:.6g}]')
        self._write(results, findings)
        return results

    def _build(self, reader, row):
        channels = evaluation_batches(self.config, self.dataset, self.size).element_spec[0].shape[-1]
        model = make_model(self.config, self.dataset, self.size, channels)
        wanted = int(model.num_classes or 0)
        fitting, _ = restoring.fitting(model.by_name, reader.shapes, wanted, channels)
        if fitting == wanted - 1 and row.labels_offset == 1 and not self.config.labels_offset:
            self.say(f'The weights have {fitting} classes, those without background: --labels_offset=1 is taken.')
            self.config = dataclasses.replace(self.config, labels_offset=1)
            model = make_model(self.config, self.dataset, self.size, channels)
        return model

    def _write(self, results, findings):
        folder = self.config.eval_dir
        path = checkpoints.write_text(folder, RESULTS_FILE, json.dumps(results, indent=2) + '\n')
        _add_row(folder, results)
        self.say(f'Results are in {path}.')
        if not self.config.report:
            return
        from training import report

        written = report.write(folder, results, findings)
        self.say(f'The report is {written}.' if written else
                 "The report needs matplotlib: pip install 'slim-zoo[plot]'.")


def examine(config: EvalConfig, model: Model, dataset: datasets.Dataset) -> tuple[dict[str, Any], Findings]:
    """Evaluates a model as it is, each image exactly once, and looks at all that it answers.

    Args:
      config: size, preprocessing, batches, and where the answers are written.
      model: the network.
      dataset: the split.

    Returns:
      The results, as JSON takes them, and what the report shows besides.

    Raises:
      datasets.DatasetError: an image cannot be used.
      RunError: an answer is no number, or the file of the answers cannot be written.
    """
    mode, size, offset = config.class_mode, _size(config), config.labels_offset
    names = [(dataset.labels_to_names or {}).get(label + offset, f'class {label + offset}')
             for label in range(dataset.num_classes - offset)]
    answers = metrics.Answers(mode, len(names))
    mistakes, uncertain = _Best(_SAMPLES), _Best(_SAMPLES)

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(images, labels):
        logits = _mean_logits(model, images, mode)
        targets = losses.hard_targets(labels, mode, logits.shape[-1])
        return (losses.probabilities(logits, mode), losses.cross_entropy(logits, targets, mode),
                tf.reduce_all(tf.math.is_finite(logits)))

    skipped = Skipped(lambda line: progress.note(line)) if config.skip_corrupt else None
    batches = evaluation_batches(config, dataset, size, skipped=skipped, with_sources=True)
    total = -(-dataset.num_samples // config.batch_size)
    total = min(total, config.max_num_batches or total)
    progress, count, entropy, right = Progress(total, 0, config.batch_size, 'batch'), 0, 0.0, 0.0
    try:
        with _writer(config.predictions, names, mode, offset) as write:
            for number, (images, labels, sources) in enumerate(itertools.islice(batches, total), 1):
                found, loss, finite = (tensor.numpy() for tensor in answer(images, labels))
                if not finite:
                    raise RunError('The network answers what is no number: its weights are damaged, or its training '
                                   'had diverged.')
                labels, sources = labels.numpy(), [os.fsdecode(source) for source in sources.numpy()]
                answers.add(labels, found)
                write(sources, labels, found)
                if mode == 'multilabel':
                    right += ((found >= 0.5) == labels).mean(1).sum()
                else:
                    _collect(mistakes, uncertain, count, images, labels, sources, found)
                    right += (found.argmax(1) == labels).sum()
                count, entropy = count + len(sources), entropy + float(loss) * len(sources)
                progress.step()
                if number % 10 == 0:
                    progress.report(number, f'accuracy {right / count:.4f}')
    except READ_ERRORS as error:
        fault = pipeline.explain(error, dataset, start=count, labels_offset=offset)
        if fault is error:
            raise
        raise fault from None
    finally:
        progress.close()
    if not count:
        raise datasets.DatasetError(f'no image of {dataset} can be used.')
    figures = answers.figures()
    results = {'Accuracy': figures.pop('Accuracy'), 'Recall_5': figures.pop('Recall_5'), 'loss': entropy / count,
               'num_images': count, **_told(figures, names)}
    if skipped is not None:
        results['skipped'] = sorted(skipped.sources)
    return results, Findings(names, figures, mistakes.sorted(), uncertain.sorted())


class _Best:
    """The samples with the highest scores."""

    def __init__(self, count):
        self._count, self._heap = count, []

    def wants(self, score):
        return len(self._heap) < self._count or score > self._heap[0][0]

    def add(self, sample):
        # By the score, and of equals the first; images have no order.
        item = (sample.score, -sample.number, sample)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def sorted(self):
        return [sample for *_, sample in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


def _collect(mistakes, uncertain, start, images, labels, sources, found):
    predicted = found.argmax(1)
    confidence = found.max(1)
    # Of a network that has no idea, the entropy is the highest.
    doubt = -(found * np.log(np.clip(found, 1e-12, 1))).sum(1)
    for place, (label, answered) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        for kind, score, applies in ((mistakes, confidence[place], label != answered), (uncertain, doubt[place], True)):
            if applies and kind.wants(score):
                # The first view is the centre.
                kind.add(Sample(float(score), start + place, sources[place], images[place, 0].numpy(), label, answered,
                                float(confidence[place])))


def _told(figures, names):
    """The figures as JSON takes them."""
    of_classes = figures['per_class']
    told = {name: value for name, value in figures.items()
            if name not in ('per_class', 'confusion', 'confused', 'roc_auc_of_classes')}
    told['per_class'] = [
        {'class': names[label], 'precision': float(of_classes.precision[label]),
         'recall': float(of_classes.recall[label]), 'f1': float(of_classes.f1[label]),
         'images': int(of_classes.images[label]), 'predicted': int(of_classes.predicted[label])}
        for label in range(len(names))]
    for row, area in zip(told['per_class'], figures.get('roc_auc_of_classes', ()), strict=False):
        row['roc_auc'] = area
    if 'confused' in figures:
        told['confused'] = [{'class': names[label], 'predicted': names[answer], 'images': count}
                            for label, answer, count in figures['confused'][:_PAIRS]]
        if len(names) <= _MATRIX_UP_TO:
            matrix = np.zeros((len(names), len(names)), int)
            matrix[figures['confusion'][0], figures['confusion'][1]] = figures['confusion'][2]
            told['confusion_matrix'] = matrix.tolist()
    return told


@contextlib.contextmanager
def _writer(path, names, mode, offset):
    """A function that writes what was answered for the images of a batch."""
    if not path:
        yield lambda sources, labels, found: None
        return

    def rows(sources, labels, found):
        for source, label, row in zip(sources, labels, found, strict=True):
            has = np.flatnonzero(label if mode == 'multilabel' else [label] == np.arange(len(names)))
            said = np.flatnonzero(row >= 0.5) if mode == 'multilabel' else [row.argmax()]
            yield {'image': source, 'label': ';'.join(str(one + offset) for one in has),
                   'class': ';'.join(names[one] for one in has),
                   'predicted_label': ';'.join(str(one + offset) for one in said),
                   'predicted_class': ';'.join(names[one] for one in said),
                   'probability': float(f'{row.max():.6g}'),
                   'probability_of_class': float(f'{row[has].min() if len(has) else 0:.6g}'),
                   'right': list(has) == list(said),
                   **{f'{what}_{rank}': value for rank, one in enumerate(np.argsort(-row, kind='stable')[1:5], 2)
                      for what, value in (('class', names[one]), ('probability', float(f'{row[one]:.6g}')))}}

    with OutputFile(path) as file:
        if path.endswith('.csv'):
            begun = []

            def write(*batch):
                text = io.StringIO()
                for row in rows(*batch):
                    writer = csv.DictWriter(text, row, lineterminator='\n')
                    if not begun:
                        begun.append(writer.writeheader())
                    writer.writerow(row)
                file.write(text.getvalue())
        else:
            def write(*batch):
                for row in rows(*batch):
                    row['image'] = os.fsencode(row['image']).decode('utf-8', 'replace')
                    file.write(json.dumps(row, ensure_ascii=False) + '\n')
        yield write


def _rows(folder):
    """The table of all runs in a folder; RunError where a file of its name is something else."""
    path = os.path.join(folder, TABLE_FILE)
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path, 'rb') as file:
        try:
            rows = list(csv.DictReader(io.StringIO(file.read().decode('utf-8'), newline=''), strict=True))
        except (UnicodeDecodeError, csv.Error):
            rows = [{}]
    # A row with more or fewer cells than there are columns has None among its names or values.
    if any('checkpoint' not in row or None in row or None in row.values() for row in rows):
        raise RunError(f'{path} is no table of evaluations: move it away, or use another --eval_dir.')
    return rows


def _add_row(folder, results):
    """Adds the run to the table of all runs in the folder, whole or not at all; other columns of old rows stay."""
    row = {name: value for name, value in results.items() if isinstance(value, str | int | float | None)}
    for name, (low, high) in results['confidence_intervals'].items():
        row.update({f'{name}_low': low, f'{name}_high': high})
    row['skipped'] = len(results.get('skipped', ()))
    row.update({name: results['settings'][name] for name in _TELLING})
    old = _rows(folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys([*(name for one in old for name in one), *row])),
                            lineterminator='\n')
    writer.writeheader()
    writer.writerows([*old, row])
    checkpoints.write_text(folder, TABLE_FILE, text.getvalue())


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
    row = registry.get(config.model_name)
    return config.eval_image_size or config.pretrained and row.eval_image_size or row.default_image_size
