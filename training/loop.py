"""The training loop: one `tf.function` step under a tf.distribute strategy, summaries, checkpoints, resuming."""

import dataclasses
import inspect
import math
import os
import time
from collections.abc import Callable

import tensorflow as tf

import datasets
from datasets import dataset_factory, pipeline
from nets import checkpoints, registry, weights
from nets.model import Model
from nets.weights import published
from preprocessing import preprocessing_factory
from training import optimizers
from training.config import CONFIG_FILE, ConfigError, TrainConfig
from training.console import Interrupted, RunError, StopSignals
from training.progress import Progress


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
      RunError: the run cannot go on (the loss is not a number, an image is broken); Interrupted after Ctrl-C or
        SIGTERM.
    """
    dataset = open_dataset(config)
    size = config.train_image_size or registry.get(config.model_name).default_image_size
    resumed = checkpoints.latest(config.train_dir)
    start = checkpoints.Reader(resumed).value('global_step').item() if resumed else 0
    batches = input_batches(
        config, dataset, size, config.batch_size * config.num_clones, training=True, start_step=start
    )

    tf.random.set_seed(config.seed)
    strategy = make_strategy(config)
    with strategy.scope():
        trainer = Trainer(config, dataset, size, channels=batches.element_spec[0].shape[-1])
        if resumed:
            trainer.resume(resumed)
            say(f'Going on from {resumed}.'
                + (' --checkpoint_path is for a training that begins, and not used.' if config.checkpoint_path else ''))
        elif config.checkpoint_path or config.pretrained:
            say(f'Starting from the weights of {trainer.warm_start()}.')
    if config.max_number_of_steps is not None and start >= config.max_number_of_steps:
        say(f'The training is at step {start} already; --max_number_of_steps={config.max_number_of_steps} asks for no '
            'more.')
        return str(resumed)
    saved = config
    if config.dataset_dir and '://' not in config.dataset_dir:  # evaluation may be called from another folder
        saved = dataclasses.replace(config, dataset_dir=os.path.abspath(config.dataset_dir))
    checkpoints.write_text(config.train_dir, CONFIG_FILE, saved.to_json())

    say(
        f'Training {config.model_name} ({trainer.num_parameters:,} parameters) on {dataset} at {size}x{size}, '
        f'{config.batch_size * config.num_clones} images a step'
        + (f' on {config.num_clones} clones' if config.num_clones > 1 else '')
        + f'. Checkpoints go to {config.train_dir}.'
    )
    try:
        return _run(config, trainer, strategy, batches, start)
    except tf.errors.ResourceExhaustedError as error:
        if 'No space left' in error.message:
            raise RunError(f'The disk of --train_dir={config.train_dir} is full. {_kept(config)}') from None
        raise RunError(
            f'Out of memory: make --batch_size (now {config.batch_size}) or --train_image_size (now {size}) smaller. '
            f'{_kept(config)}') from None
    except tf.errors.OpError as error:
        position = trainer.optimizer.iterations.numpy().item() * config.batch_size * config.num_clones
        fault = pipeline.explain(
            error, dataset, training=True, seed=config.seed, start=position, labels_offset=config.labels_offset
        )
        if fault is error:
            raise
        raise RunError(f'{fault} {_kept(config)}') from None


def open_dataset(config) -> datasets.Dataset:
    """The dataset that a config names."""
    extra = {} if config.validation_fraction is None else {'validation_fraction': config.validation_fraction}
    dataset = dataset_factory.get_dataset(config.dataset_name, config.dataset_split_name, config.dataset_dir, **extra)
    if not 0 <= config.labels_offset < dataset.num_classes:
        raise ConfigError(
            f'--labels_offset={config.labels_offset}: {dataset.name} has the labels 0 to {dataset.num_classes - 1}.'
        )
    return dataset


def input_batches(
    config, dataset, size: int, batch_size: int, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches (images, labels): float32 [batch, size, size, channels], preprocessed, and int64 [batch]."""
    name = config.preprocessing_name or registry.get(config.model_name).preprocessing
    augmentation = config.augmentation() if training else {}
    try:
        preprocessing = preprocessing_factory.get_preprocessing(name, training, config.use_grayscale)
    except ValueError as error:
        raise ConfigError(f'--preprocessing_name: {error}') from None
    return pipeline.make_batches(
        dataset,
        lambda image, seed: preprocessing(image, size, size, seed=seed, **augmentation),
        batch_size,
        training=training,
        seed=getattr(config, 'seed', 0),
        start_step=start_step,
        labels_offset=config.labels_offset,
        num_threads=config.num_preprocessing_threads,
        num_readers=getattr(config, 'num_readers', None),
    )


def make_model(config, dataset: datasets.Dataset, image_size: int, channels: int, **kwargs) -> Model:
    """The network that a config names, for the classes of a dataset."""
    num_classes = dataset.num_classes - config.labels_offset
    if config.class_mode == 'binary':
        if num_classes != 2:
            raise ConfigError(f'--class_mode=binary: it is for two classes; {dataset.name} has {num_classes}.')
        num_classes = 1
    kwargs.update(padding_arguments(config))
    try:
        return Model(config.model_name, num_classes, image_size=image_size, channels=channels,
                     final_endpoint=config.final_endpoint, pool=config.pool, hidden_units=config.hidden_layers(),
                     **kwargs)
    except ValueError as error:
        raise ConfigError(f'{config.model_name} cannot be built so: {error}') from None


def padding_arguments(config) -> dict[str, bool]:
    """What makes a network pad as the config says."""
    if config.padding == 'tf_slim':
        return {}
    argument = f'{config.padding}_padding'
    if argument not in inspect.signature(registry.get(config.model_name).build).parameters:
        raise ConfigError(f'--padding={config.padding}: {config.model_name} has no other padding than TF-Slim\'s; see '
                          '--help for the networks that have.')
    return {argument: True}


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """One device, or `MirroredStrategy` over the first `num_clones` devices."""
    kind = _device_kind(config)
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if config.num_clones > len(devices):
        raise ConfigError(
            f'--num_clones={config.num_clones}: there {"is" if len(devices) == 1 else "are"} {len(devices)} {kind}.'
        )
    if config.num_clones == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices[: config.num_clones])


def _device_kind(config):
    return 'CPU' if config.clone_on_cpu or not tf.config.list_physical_devices('GPU') else 'GPU'


class Trainer(tf.Module):
    """All that a step changes: the model, the optimizer, the moving averages; and the step itself.

    Made inside the scope of the strategy that will run it.
    """

    def __init__(self, config: TrainConfig, dataset: datasets.Dataset, image_size: int, channels: int):
        super().__init__(name='trainer')
        self.config = config
        kwargs = {} if config.create_aux_logits is None else {'create_aux_logits': config.create_aux_logits}
        self.model = make_model(config, dataset, image_size, channels, weight_decay=config.weight_decay, **kwargs)
        self.trained = self._trained_variables()
        self.rate = optimizers.learning_rate(config, dataset.num_samples)
        self.optimizer = optimizers.make_optimizer(config, self.rate, self.trained)
        self.averages = [
            tf.Variable(variable, trainable=False, aggregation=tf.VariableAggregation.MEAN)
            for variable in (self.model.variables if config.moving_average_decay else [])
        ]
        self.aux_loss_weight = registry.get(config.model_name).aux_loss_weight
        self._gradients = self._loss_and_gradients
        if config.jit_compile == 'true' or (config.jit_compile == 'auto' and _device_kind(config) == 'GPU'):
            # The optimizer stays outside: it talks to the other replicas, which XLA cannot.
            self._gradients = tf.function(self._loss_and_gradients, autograph=False, jit_compile=True)

    @property
    def num_parameters(self) -> int:
        """Trained parameters."""
        return sum(math.prod(variable.shape) for variable in self.trained)

    def _trained_variables(self):
        variables, scopes = self.model.trainable_variables, self.config.trainable_scopes
        if not scopes:
            return variables
        for scope in checkpoints.split_scopes(scopes):
            if not any(name.startswith(scope) for name in self.model.by_name):
                valid = sorted({'/'.join(name.split('/')[:2]) for name in self.model.by_name})
                raise ConfigError(
                    f'--trainable_scopes: no variable of {self.config.model_name} begins with {scope!r}. '
                    f'Its scopes are {", ".join(valid)}.'
                )
        trained = {
            id(variable) for name, variable in self.model.by_name.items() if checkpoints.starts_with_any(name, scopes)
        }
        if self.config.freeze_batch_norm:
            self.model.freeze([name for name in self.model.by_name if not checkpoints.starts_with_any(name, scopes)])
        chosen = [variable for variable in variables if id(variable) in trained]
        if not chosen:
            raise ConfigError(f'--trainable_scopes={scopes} leaves nothing to train.')
        return chosen

    def step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """One step of one replica, run by the strategy; returns its part of the loss, a float32 scalar."""
        step = tf.identity(self.optimizer.iterations)
        loss, gradients = self._gradients(images, labels, step, self._dropout_seed(step))
        self.optimizer.apply(gradients, self.trained)
        if self.averages:
            # TF1's rule: the decay starts low, so that the average of a short run is not that of its first steps.
            decay = _warmed_up(step + 1)(self.config.moving_average_decay)
            for average, variable in zip(self.averages, self.model.variables, strict=True):
                average.assign_sub((average - variable) * (1 - decay))
        return loss

    def _loss_and_gradients(self, images, labels, step, dropout_seed):
        config, model = self.config, self.model
        warm = _warmed_up(step) if config.batch_norm_warmup else None
        with tf.GradientTape() as tape:
            logits, end_points = model.build(tf.cast(images, config.precision), True, warm, dropout_seed, step)
            loss = self._cross_entropy(logits, labels)
            for name, aux in end_points.items():
                if name.startswith('AuxLogits'):
                    loss += self.aux_loss_weight * self._cross_entropy(aux, labels)
            # The replicas' gradients are summed.
            loss = (loss + model.regularization_loss()) / tf.distribute.get_strategy().num_replicas_in_sync
        return loss, tape.gradient(loss, self.trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _dropout_seed(self, step):
        # A function of the step and the replica, so that a training that is taken up again drops what it would have.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.stack([self.config.seed, tf.cast(step, tf.int64) * 65536 + tf.cast(replica, tf.int64)])

    def _cross_entropy(self, logits, labels):
        smoothing, classes = self.config.label_smoothing, logits.shape[-1]
        if self.config.class_mode == 'binary':
            targets = tf.cast(labels, tf.float32)[:, tf.newaxis] * (1 - smoothing) + smoothing / 2
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32)))
        targets = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32)))

    def slots(self) -> dict:
        """The optimizer's slots by their names in a TF1 checkpoint."""
        names = {id(variable): name for name, variable in self.model.by_name.items()}
        return {
            f'{names[id(variable)]}/{slot}': value
            for ending, slot in optimizers.SLOTS[self.config.optimizer].items()
            for variable, value in zip(self.trained, optimizers.slot_variables(self.optimizer, ending), strict=True)
        }

    def state(self) -> dict:
        """All that the training needs to go on, by name in the checkpoint, but for `global_step`."""
        averages = zip(self.model.by_name, self.averages, strict=True) if self.averages else ()
        return {**self.model.by_name, **self.slots(), **{name + checkpoints.AVERAGE: value for name, value in averages}}

    def save(self, step: int) -> str:
        """Writes a checkpoint; returns its prefix."""
        config, values = self.config, self.state()
        if config.optimizer == 'adam':  # TF1 keeps these beside the slots
            values.update(
                beta1_power=tf.pow(config.adam_beta1, float(step + 1)),
                beta2_power=tf.pow(config.adam_beta2, float(step + 1)),
            )
        return checkpoints.save(
            config.train_dir, step, {**values, 'global_step': tf.constant(step, tf.int64)}, config.keep_checkpoints
        )

    def resume(self, path: str) -> None:
        """Takes up the state of a checkpoint of the same training."""
        reader = checkpoints.Reader(path)
        checkpoints.restore(reader, self.state(), hint=(
            f'{self.config.train_dir} holds a training with other settings (network, classes, optimizer or moving '
            'averages): use another --train_dir, with --checkpoint_path to start from these weights.'))
        self.optimizer.iterations.assign(reader.value('global_step'))

    def warm_start(self) -> str:
        """Takes the weights to start from, but for the excluded scopes and a head of one's own; the averages follow.

        Returns:
          Where they come from.
        """
        config, row = self.config, registry.get(self.config.model_name)
        reader = weights.read(published.of(row) if config.pretrained else str(config.checkpoint_path), row)
        wanted = {name: variable for name, variable in self.model.by_name.items()
                  if not checkpoints.starts_with_any(name, config.checkpoint_exclude_scopes)
                  and (name in reader.shapes or not name.startswith('Head/'))}
        if not wanted:
            raise ConfigError(
                f'--checkpoint_exclude_scopes={config.checkpoint_exclude_scopes} leaves nothing to restore.')
        unfit = {os.path.dirname(name) for name, variable in wanted.items()
                 if reader.shapes.get(name, tuple(variable.shape)) != tuple(variable.shape)}
        hint = '--ignore_missing_vars leaves what is missing at its initial value.'
        if 0 < len(unfit) <= 2:     # the classifiers
            hint = (f'--checkpoint_exclude_scopes={",".join(sorted(unfit))} leaves out what should be trained anew; '
                    + hint)
        averages = config.pretrained and any(name.endswith(checkpoints.AVERAGE) for name in reader.shapes)
        checkpoints.restore(reader, wanted, ignore_missing=config.ignore_missing_vars, moving_averages=averages,
                            hint=hint)
        for average, variable in zip(self.averages, self.model.variables if self.averages else [], strict=True):
            average.assign(variable)
        return reader.path


def _warmed_up(step):
    step = tf.cast(step, tf.float32)
    return lambda decay: tf.minimum(decay, (1 + step) / (10 + step))


def _run(config, trainer, strategy, batches, start):
    @tf.function(autograph=False)
    def train_step(images, labels):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(trainer.step, (images, labels)), axis=None)

    last, saved_at, step = config.max_number_of_steps, time.monotonic(), start
    progress = Progress(last, start, config.batch_size * config.num_clones, 'step')
    summaries = tf.summary.create_file_writer(config.train_dir, flush_millis=config.save_summaries_secs * 1000)
    data = iter(strategy.experimental_distribute_dataset(batches))
    prefix = checkpoints.latest(config.train_dir)
    with StopSignals() as stop, summaries.as_default():
        try:
            while last is None or step < last:
                loss = train_step(*next(data))
                step += 1
                progress.step()
                stopped = stop.signal  # read once: a signal that comes later ends the next step
                saves = step == last or stopped or time.monotonic() - saved_at >= config.save_interval_secs
                if saves or step % config.log_every_n_steps == 0:
                    value, rate = float(loss), float(trainer.rate(step))
                    if not math.isfinite(value):
                        raise RunError(f'The loss is {value} at step {step}: try a lower --learning_rate '
                                       f'(now {rate:.4g}). {_kept(config)}')
                    progress.report(step, f'loss {value:.4f}  learning rate {rate:.4g}')
                    _summarize(step, total_loss=value, learning_rate=rate, images_per_second=progress.images_per_second)
                if saves:
                    prefix, saved_at = trainer.save(step), time.monotonic()
                if stopped:
                    raise Interrupted(
                        f'Stopped at step {step}; {prefix} is saved, and the same command goes on from there.', stopped)
        finally:
            progress.close()
            summaries.close()
    return prefix


def _summarize(step, **scalars):
    # tf.summary.scalar needs the tensorboard package, only to mark the value as a scalar; TensorBoard can read it
    # without.
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name='scalars'))
    for tag, value in scalars.items():
        tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)


def _kept(config):
    last = checkpoints.latest(config.train_dir)
    return f'The last checkpoint is {last}.' if last else 'No checkpoint was written yet.'
