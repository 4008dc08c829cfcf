"""The training loop: steps under a tf.distribute strategy, records, checkpoints, evaluations, resuming."""

import contextlib
import dataclasses
import math
import os
import signal
import time
from collections.abc import Callable

import tensorflow as tf

from datasets import pipeline
from datasets.dataset_utils import LABELS_FILENAME
from datasets.provider import READ_ERRORS
from nets import checkpoints, registry
from training import curves, distribution, evaluation, run_folder, schedules
from training.config import CONFIG_FILE, ConfigError, TrainConfig, evaluation_of
from training.console import Interrupted, RunError, StopSignals
from training.data import Skipped, held_out, open_dataset, training_batches, training_channels
from training.progress import Progress
from training.records import Records
from training.records import read as read_records
from training.trainer import Trainer


class _NotFinite(Exception):
    """A loss or a weight is not a number; the message says what and when."""


def train(config: TrainConfig, say: Callable[[str], None] = print) -> str:
    """Trains a network as the config says, or goes on with the training that `config.train_dir` holds.

    Args:
      config: see `training.config`.
      say: receives the lines that tell what happens.

    Returns:
      The last checkpoint's prefix.

    Raises:
      ConfigError, datasets.DatasetError: a setting or the dataset is wrong; nothing has been written.
      checkpoints.CheckpointError: a checkpoint does not fit, or cannot be read or written.
      RunError: the run cannot go on (the loss is not a number, an image is broken, another training is at work in
        train_dir); Interrupted after Ctrl-C or SIGTERM.
      distribution.WorkerLost: another machine is gone.
    """
    strategy = distribution.make_strategy(config)
    chief = distribution.is_chief(strategy)
    changed = run_folder.changes(config)
    dataset = open_dataset(config)
    with distribution.noticing_loss(strategy), \
            run_folder.locked(config.train_dir) if chief else contextlib.nullcontext():
        return _train(config, dataset, strategy, chief, changed, say if chief else _silent)


def _silent(line):
    pass


def _train(config, dataset, strategy, chief, changed, say):
    size = config.train_image_size or registry.get(config.model_name).default_image_size
    resumed, faults = checkpoints.latest_whole(config.train_dir)
    for fault in faults:
        say(f'{fault} The one before it is taken.')
    start = checkpoints.Reader(resumed).value('global_step').item() if resumed else 0
    if not distribution.same_everywhere(strategy, start):
        raise ConfigError(f'--train_dir={config.train_dir}: here it is at step {start}, and on another machine at '
                          'another: all must have the same folder, on a disk that they share.')
    last = schedules.last_step(config, dataset.num_samples, strategy.num_replicas_in_sync)
    channels = training_channels(config, dataset)

    tf.random.set_seed(config.seed)
    with strategy.scope():
        trainer = Trainer(config, dataset, size, channels)
        if resumed:
            trainer.resume(resumed)
            say(f'Going on from {resumed}.'
                + (f' Changed: {", ".join(changed)}.' if changed else '')
                + (' --checkpoint_path is for a training that begins, and not used.' if config.checkpoint_path else ''))
        elif config.checkpoint_path or config.pretrained:
            say(f'Starting from the weights of {trainer.warm_start()}.')
    # A kill may have come after the last checkpoint, and before the evaluation that was to follow.
    owed = config.eval_every and start == last and start not in read_records(config.train_dir).get('eval_loss', {})
    if last is not None and start >= last and not owed:
        say(f'The training is at step {start} already; {_asked(config)} asks for no more.')
        if chief:
            _draw(config, say)      # a kill may have come before
        return str(resumed)
    if chief:
        saved = config
        if config.dataset_dir and '://' not in config.dataset_dir:  # evaluation may be called from another folder
            saved = dataclasses.replace(config, dataset_dir=os.path.abspath(config.dataset_dir))
        checkpoints.write_text(config.train_dir, CONFIG_FILE, saved.to_json())
        if dataset.labels_to_names:     # of the network's classes, for whoever uses what was trained
            names = {label - config.labels_offset: name for label, name in sorted(dataset.labels_to_names.items())}
            checkpoints.write_text(config.train_dir, LABELS_FILENAME, ''.join(
                f'{label}:{name}\n' for label, name in names.items() if label >= 0))

    replicas, steps = trainer.replicas, f'{last} steps' if last else 'until it is stopped'
    batch = f'{trainer.step_images} images a step'
    if trainer.step_images != config.batch_size:
        accumulated = f' x {config.accumulate_steps} batches' if config.accumulate_steps > 1 else ''
        batch += f' ({config.batch_size} x {replicas} replicas{accumulated})'
    say(f'Training {config.model_name} ({trainer.num_parameters:,} parameters) on {dataset} at {size}x{size} in '
        f'{trainer.dtype}: {batch}, {steps}. Checkpoints go to {config.train_dir}.')
    try:
        with distribution.noticing_loss(strategy), \
                _records(config, start) if chief else contextlib.nullcontext() as records:
            path = _Loop(config, trainer, strategy, dataset, size, records, start, last, say).run(start)
            distribution.total(strategy, 0)     # nobody leaves before the chief has written all
    except tf.errors.ResourceExhaustedError as error:
        if 'No space left' in error.message:
            raise RunError(f'The disk of --train_dir={config.train_dir} is full. {_kept(config)}') from None
        raise RunError(
            f'Out of memory: make --batch_size (now {config.batch_size}) or --train_image_size (now {size}) smaller, '
            f'or split a step by --accumulate_steps (now {config.accumulate_steps}). {_kept(config)}') from None
    except READ_ERRORS as error:
        position = trainer.optimizer.iterations.numpy().item() * trainer.step_images
        fault = pipeline.explain(
            error, dataset, training=True, seed=config.seed, start=position, labels_offset=config.labels_offset
        )
        if fault is error:
            raise
        raise RunError(f'{fault} {_kept(config)}') from None
    if chief:
        _draw(config, say)
    return path


def _draw(config, say):
    picture = curves.draw(config.train_dir)
    if picture:
        say(f'The curves are in {picture}.')


def _asked(config):
    return next(f'--{name}={getattr(config, name)}' for name in ('num_epochs', 'max_number_of_steps')
                if getattr(config, name))


def _records(config, start):
    try:
        return Records(config.train_dir, start, flush_secs=config.save_summaries_secs,
                       wandb_project=config.wandb_project, settings=dataclasses.asdict(config))
    except checkpoints.CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(f'--wandb_project={config.wandb_project}: {error}') from None


class _Loop:
    """One run of a training, from the step that it is at to the last."""

    def __init__(self, config, trainer, strategy, dataset, size, records, start, last, say):
        self.config, self.trainer, self.strategy, self.dataset, self.last = config, trainer, strategy, dataset, last
        self.records, self.chief, self.say = records, records is not None, say
        self.rollbacks, self.saved_at = config.rollbacks, time.monotonic()
        self.prefix = checkpoints.latest(config.train_dir)
        on_cpu = distribution.device_kind(config) == 'CPU' and not config.tpu
        self.steps_per_loop = config.steps_per_loop or (1 if on_cpu else 10)
        self._train = tf.function(self._train_steps, autograph=False)
        self.stages = self._stages_of(schedules.image_sizes(config, size, last))
        if config.eval_every:
            self.evaluation = evaluation_of(config, config.train_dir, batch_size=config.eval_batch_size,
                                            max_num_batches=config.eval_max_batches)
            self.held_out = held_out(self.evaluation)
            self._count = evaluation.counter(self.evaluation, trainer.model, strategy)
        self.skipped: Skipped | None = None
        self.metric = f'eval_{config.best_metric}'
        self.history = [(at, value) for at, value in sorted(read_records(config.train_dir).get(self.metric, {}).items())
                        if at < start]

    def _train_steps(self, data, count):
        """`count` steps: the sum of their figures, and the seconds in which they waited for data."""
        def step(number, figures, waited):
            began = tf.timestamp()
            with tf.control_dependencies([began]):      # nothing else would keep the three in their order
                batch = next(data)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - began
            own = self.strategy.run(self.trainer.step, batch)
            return number + 1, figures + self.strategy.reduce('SUM', own, axis=None), waited

        state = tf.constant(0), tf.zeros([3]), tf.constant(0.0, tf.float64)
        if isinstance(count, int):
            return step(*state)[1:]
        return tf.while_loop(lambda number, *unused: number < count, step, state, parallel_iterations=1)[1:]

    def _stages_of(self, stages):
        """(first step, image size) of each stage; one alone where the network takes one size alone."""
        model, name = self.trainer.model, self.config.model_name
        size = min(size for _, size in stages)
        images = tf.TensorSpec([self.config.batch_size, size, size, model.channels], self.trainer.dtype)
        if len(stages) > 1:
            try:
                with self.strategy.scope():
                    build = tf.function(lambda images: model.build(images, True)[0], autograph=False)
                    build.get_concrete_function(images)
            except ValueError as error:
                if not self.config.recipe:
                    raise ConfigError(f'--initial_image_scale={self.config.initial_image_scale}: {name} does not take '
                                      f'images of {size}x{size}: {error}') from None
                self.say(f'{name} takes images of one size alone: they do not grow.')
                return [(0, stages[-1][1])]
        return stages

    def run(self, start: int) -> str:
        """Trains up to the last step; returns the last checkpoint's prefix."""
        config, step, last = self.config, start, self.last
        progress = Progress(last, start, self.trainer.step_images, 'step', None if self.chief else _nowhere())
        if config.skip_corrupt:
            self.skipped = Skipped(progress.note)
        with StopSignals() as stop, contextlib.closing(progress):
            evaluated = config.eval_every and step and (step % config.eval_every == 0 or step == last)
            if evaluated and self._evaluate(step, progress):
                return self.prefix      # a kill came before what this evaluation said was done
            while last is None or step < last:
                try:
                    step = self._stage(step, stop, progress)
                except _NotFinite as fault:
                    step = self._roll_back(fault)
                    progress.restart(step)
                if step is None:
                    break
        return self.prefix

    def _stage(self, step, stop, progress):
        """Trains at one size of images; returns the step at its end, None where the training is at its end."""
        config, last = self.config, self.last
        stages = self.stages
        size = [size for first, size in stages if first <= step][-1]
        until = next((first for first, _ in stages if first > step), last)
        first_step = step
        data = iter(distribution.distribute(self.strategy, lambda machines, number: training_batches(
            config, self.dataset, size, first_step * self.trainer.replicas // machines, machines, number,
            self.skipped)))
        if len(stages) > 1:
            self.say(f'Images are {size}x{size} from step {step} on.')
        figures, waited, since, noted = tf.zeros([3]), tf.constant(0.0, tf.float64), step, time.monotonic()
        while until is None or step < until:
            count = self._steps_to_stop(step, until)
            more, wait = self._train(data, count if count == 1 else tf.constant(count))
            figures, waited, step = figures + more, waited + wait, step + count
            progress.step(count)
            # A signal that comes later ends the next step. All machines stop, and save, at the same step.
            stopped, overdue = distribution.total(
                self.strategy, stop.signal or 0,
                self.chief and time.monotonic() - self.saved_at >= config.save_interval_secs)
            evaluates = config.eval_every and (step % config.eval_every == 0 or step == last)
            saves = (step == last or stopped or evaluates or overdue
                     or config.save_interval_steps and step % config.save_interval_steps == 0)
            if saves or step % config.log_every_n_steps == 0:
                now = time.monotonic()
                self._report(step, figures.numpy() / (step - since), float(waited) / max(now - noted, 1e-9), progress)
                figures, waited, since, noted = tf.zeros([3]), tf.constant(0.0, tf.float64), step, now
            if saves:
                self._save(step)
            if stopped:
                raise Interrupted(f'Stopped at step {step}; {self.prefix} is saved, and the same command goes on from '
                                  'there.', stop.signal or signal.SIGTERM)
            if evaluates:
                if self._evaluate(step, progress):
                    return None
                noted = time.monotonic()
        return step

    def _steps_to_stop(self, step, until):
        """How many steps the next call may take: none of the steps at which something is due lies within."""
        config = self.config
        every = (self.steps_per_loop, config.log_every_n_steps, config.eval_every, config.save_interval_steps)
        count = min([self.steps_per_loop] + [number - step % number for number in every[1:] if number])
        return count if until is None else min(count, until - step)

    def _report(self, step, figures, waited, progress):
        loss, accuracy, recall = map(float, figures)
        rate = float(self.trainer.rate(step))
        if not math.isfinite(loss):
            raise _NotFinite(f'The loss is {loss} at step {step}: try a lower --learning_rate (now {rate:.4g})')
        passed_over = f'  passed over {len(self.skipped.sources)}' if self.skipped and self.skipped.sources else ''
        progress.report(step, f'loss {loss:.4f}  accuracy {accuracy:.3f}  learning rate {rate:.4g}  '
                              f'waits for data {waited:.0%}{passed_over}')
        if self.chief:
            self.records.write(
                step, epoch=step * self.trainer.step_images / self.dataset.num_samples, total_loss=loss,
                learning_rate=rate, images_per_second=progress.images_per_second, data_wait=waited,
                train_accuracy=accuracy, train_recall_5=recall)

    def _save(self, step):
        if self.chief:
            self.records.flush()
        self.prefix, self.saved_at = self._write(step), time.monotonic()

    def _write(self, step):
        """Writes a checkpoint of all that is a number; all machines read, and the chief writes."""
        names, values = zip(*self.trainer.values(step).items(), strict=True)
        values = dict(zip(names, distribution.reader(self.strategy, values)(), strict=True))
        for name, value in values.items():
            if value.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(value)):
                raise _NotFinite(f'{name} is not a number after step {step}: try a lower --learning_rate '
                                 f'(now {float(self.trainer.rate(step)):.4g})')
        if not self.chief:
            return os.path.join(self.config.train_dir, f'model.ckpt-{step}')
        return checkpoints.save(self.config.train_dir, step, values, self.config.keep_checkpoints)

    def _roll_back(self, fault):
        """Goes back to the last checkpoint at half the learning rate, if that is asked for; returns its step."""
        if not self.rollbacks or not self.prefix:
            hint = '' if self.config.rollbacks else ', or --rollbacks=3'
            raise RunError(f'{fault}{hint}. {_kept(self.config)}') from None
        self.rollbacks -= 1
        factor = self.trainer.rate_factor.numpy() / 2     # float() takes no variable of several replicas
        # Should this course have begun by going back, where it began may be spoilt: the rates tell what is older.
        kept = checkpoints.kept(self.config.train_dir)
        older = [path for path in kept if _saved_rate_factor(path) != _saved_rate_factor(self.prefix)]
        self.prefix = next(iter(older), self.prefix)
        with self.strategy.scope():
            self.trainer.resume(self.prefix)
            self.trainer.rate_factor.assign(factor)
        step = int(self.trainer.optimizer.iterations)
        self.history = [(at, value) for at, value in self.history if at <= step]
        self.prefix = self._write(step)     # with the rate, so that a kill does not undo it
        if self.chief:
            self.records.rewind(step)
        self.say(f'{fault}. Back to {self.prefix}, at half the learning rate.')
        return step

    def _evaluate(self, step, progress):
        """Evaluates, keeps the best; returns whether the training should stop."""
        config, larger = self.config, evaluation.LARGER_IS_BETTER[self.config.best_metric]
        with progress.paused(), self.trainer.averaged():
            figures = evaluation.measure(self.evaluation, self.trainer.model, self.held_out, self.strategy, self._count)
        progress.note(f'step {step}: held-out {self.held_out.split_name}: accuracy {figures["Accuracy"]:.4f}  '
                      f'recall_5 {figures["Recall_5"]:.4f}  loss {figures["loss"]:.4f}')
        found = {'eval_accuracy': figures['Accuracy'], 'eval_recall_5': figures['Recall_5'],
                 'eval_loss': figures['loss']}
        value = found[self.metric]
        if self.chief:
            checkpoints.keep_best(self.prefix, config.train_dir, config.best_metric, value, config.keep_best, larger,
                                  extra_files=evaluation.beside(self.prefix))
            self.records.write(step, **found)       # last: by it an evaluation is known to be done
            self.records.flush()
        self.history = [(at, other) for at, other in self.history if at < step] + [(step, value)]
        return self._follow([value for _, value in self.history], larger)

    def _follow(self, history, larger):
        """Does what the evaluations ask for: a lower learning rate, an end."""
        config = self.config
        if config.learning_rate_decay_type == 'plateau':
            before, now = (schedules.plateau_factor(config, values, larger) for values in (history[:-1], history))
            if now < before:
                with self.strategy.scope():
                    self.trainer.rate_factor.assign(self.trainer.rate_factor * (now / before))
                self.say(f'No better for {config.plateau_evaluations} evaluations: the learning rate falls to '
                         f'{now / before:.3g} of what it was.')
        if not config.early_stopping:
            return False
        best = max(history) if larger else min(history)
        since = len(history) - 1 - history.index(best)
        if since < config.early_stopping:
            return False
        self.say(f'Stopped early: the best {config.best_metric} ({best:.4f}) is {since} evaluations old. Its '
                 f'checkpoint is in {os.path.join(config.train_dir, "best")}.')
        return True


def _saved_rate_factor(prefix):
    reader, name = checkpoints.Reader(prefix), 'training/learning_rate_factor'
    return reader.value(name).item() if name in reader.shapes else 1.0


def _nowhere():
    return open(os.devnull, 'w', encoding='utf-8')


def _kept(config):
    last = checkpoints.latest(config.train_dir)
    return f'The last checkpoint is {last}.' if last else 'No checkpoint was written yet.'
