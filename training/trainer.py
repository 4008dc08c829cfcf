"""A step of training: images to loss, gradients and new weights, on one replica of a tf.distribute strategy."""
import contextlib
import inspect
import math
import os
from collections.abc import Iterator

import tensorflow as tf

import datasets
import tf_slim_compat
from nets import checkpoints, recompute, registry, weights
from nets.model import Model
from nets.weights import published
from preprocessing import mixing
from preprocessing.images import split_seed
from training import data, distribution, losses, optimizers, schedules
from training.config import ConfigError, TrainConfig

_OWN = 'training/'      # what a checkpoint holds besides TF-Slim's
# The loss of float16 begins so much enlarged, and doubles after so many steps whose gradients were finite.
_LOSS_SCALE, _SCALE_GROWS = 2.0 ** 15, 2000


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


def compute_type(config: TrainConfig) -> str:
    """The type that activations are computed in, for `--precision=auto` the one that the hardware is fast in."""
    if config.precision != 'auto':
        return config.precision
    return 'bfloat16' if config.tpu or _computes_bfloat16(distribution.device_kind(config)) else 'float32'


def _computes_bfloat16(kind):
    if kind == 'GPU':
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices('GPU')[0])
        return details.get('compute_capability', (0, 0)) >= (8, 0)
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return not {'avx512_bf16', 'amx_bf16', 'bf16'}.isdisjoint(file.read().split())
    except OSError:     # not Linux
        return False


class Trainer(tf.Module):
    """All that a step changes: the model, the optimizer, the moving averages; and the step itself.

    Made inside the scope of the strategy that will run it.
    """

    def __init__(self, config: TrainConfig, dataset: datasets.Dataset, image_size: int, channels: int):
        super().__init__(name='trainer')
        self.config = config
        self.dtype = compute_type(config)
        strategy = tf.distribute.get_strategy()
        self.replicas = strategy.num_replicas_in_sync
        self.local_replicas = self.replicas // distribution.num_workers(strategy)
        kwargs = {} if config.create_aux_logits is None else {'create_aux_logits': config.create_aux_logits}
        self.model = make_model(config, dataset, image_size, channels, weight_decay=config.weight_decay, **kwargs)
        self.trained_names = self._trained_names()
        self.trained = [self.model.by_name[name] for name in self.trained_names]
        self.rate_factor = self._scalar(1.0)
        self.rate = schedules.learning_rate(config, dataset.num_samples, self.replicas, self.rate_factor)
        self.optimizer = optimizers.make_optimizer(config, self.rate, self.trained, *self._own_rates())
        self.averages = [
            tf.Variable(variable, trainable=False, aggregation=tf.VariableAggregation.MEAN,
                        synchronization=tf.VariableSynchronization.ON_READ)
            for variable in (self.model.variables if config.moving_average_decay else [])
        ]
        # float16 has no gradients below 6e-8: the loss is enlarged by as much as they can bear.
        self.loss_scale = self._scalar(_LOSS_SCALE) if self.dtype == 'float16' else None
        self.steps_at_scale = self._scalar(0.0)
        self.aux_loss_weight = registry.get(config.model_name).aux_loss_weight
        self.class_weights = _class_weights(config, dataset)
        self._device_part = data.device_part(config)
        self._gradients, self._prepare = self._loss_and_gradients, self._prepared
        on_device = config.tpu or distribution.device_kind(config) == 'GPU'
        if config.jit_compile == 'true' or (config.jit_compile == 'auto' and on_device and not config.sync_batch_norm):
            # The optimizer stays outside: it talks to the other replicas, which XLA cannot.
            self._gradients = tf.function(self._loss_and_gradients, autograph=False, jit_compile=True)
        elif config.jit_compile == 'auto':
            # XLA makes one pass over the pixels of it, TensorFlow's own operations a dozen.
            self._prepare = tf.function(self._prepared, autograph=False, jit_compile=True)

    @staticmethod
    def _scalar(value):
        return tf.Variable(value, trainable=False, dtype=tf.float32,
                           aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    @property
    def num_parameters(self) -> int:
        """Trained parameters."""
        return sum(math.prod(variable.shape) for variable in self.trained)

    @property
    def step_images(self) -> int:
        """The images of a step, over all replicas."""
        return self.config.batch_size * self.config.accumulate_steps * self.replicas

    def _trained_names(self):
        scopes, by_name = self.config.trainable_scopes, self.model.by_name
        for scope in checkpoints.split_scopes(scopes):
            if not any(name.startswith(scope) for name in by_name):
                valid = sorted({'/'.join(name.split('/')[:2]) for name in by_name})
                raise ConfigError(
                    f'--trainable_scopes: no variable of {self.config.model_name} begins with {scope!r}. '
                    f'Its scopes are {", ".join(valid)}.'
                )
        if self.config.freeze_batch_norm:
            self.model.freeze([name for name in by_name if not checkpoints.starts_with_any(name, scopes)])
        trainable = {id(variable) for variable in self.model.trainable_variables}
        chosen = [name for name, variable in by_name.items() if id(variable) in trainable
                  and (not scopes or checkpoints.starts_with_any(name, scopes))]
        if not chosen:
            raise ConfigError(f'--trainable_scopes={scopes} leaves nothing to train.')
        return chosen

    def _own_rates(self):
        """(scales, weight decays) of `optimizers.make_optimizer`."""
        config, names = self.config, self.trained_names
        scales = None if config.layer_decay == 1 else optimizers.layer_scales(
            list(self.model.by_name), names, config.layer_decay)
        if config.optimizer != 'adamw':
            return scales, None
        return scales, [config.weight_decay * self._decays(name) for name in names]

    def _decays(self, name):
        return not self.config.no_decay_on_bias_and_norm or optimizers.decays(name)

    def step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """One step of one replica, run by the strategy.

        Args:
          images: of `batch_size * accumulate_steps` examples: uint8, as the pipeline has them, or float, normalised.
          labels: integers [images]; for `multilabel` [images, classes].

        Returns:
          float32 [3], this replica's part of the loss and of the images whose class is the first, and among the first
          five: summed over the replicas, they are the step's.
        """
        step = tf.identity(self.optimizer.iterations)
        figures, gradients = self._accumulated(images, labels, step)
        gradients = self._unscaled(gradients)
        if self.config.clip_gradient_norm:
            gradients = self._clipped(gradients)
        self.optimizer.apply(gradients, self.trained)
        if self.averages:
            # TF1's rule: the decay starts low, so that the average of a short run is not that of its first steps.
            decay = _warmed_up(step + 1)(self.config.moving_average_decay)
            for average, variable in zip(self.averages, self.model.variables, strict=True):
                average.assign_sub((average - variable) * (1 - decay))
        return figures

    def _accumulated(self, images, labels, step):
        """The figures, and the gradients of the mean loss over the batches of a step."""
        count = self.config.accumulate_steps
        if count == 1:
            return self._gradients(images, labels, step, self._seed(step), self._rows(0))

        def parts(value):
            return tf.reshape(value, [count, self.config.batch_size, *value.shape[1:]])

        images, labels = parts(images), parts(labels)

        def add(number, figures, sums):
            own = self._seed(step * count + tf.cast(number, step.dtype))
            more, gradients = self._gradients(images[number], labels[number], step, own, self._rows(number))
            return number + 1, figures + more, [total + part for total, part in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros(variable.shape) for variable in self.trained]
        _, figures, sums = tf.while_loop(lambda number, *unused: number < count, add,
                                         (tf.constant(0), tf.zeros([3]), zeros), parallel_iterations=1)
        return figures / count, [total / count for total in sums]

    def _loss_and_gradients(self, images, labels, step, seed, rows):
        config, model = self.config, self.model
        warm = _warmed_up(step) if config.batch_norm_warmup else None
        images, hard = self._prepare(images, labels, step, seed, rows)
        weights = None if self.class_weights is None else losses.image_weights(hard, self.class_weights)
        targets = losses.smoothed(hard, config.class_mode, config.label_smoothing)
        with tf.GradientTape() as tape:
            with recompute.recomputed(config.recompute) as rows, \
                    tf_slim_compat.synchronized_batch_norm(config.sync_batch_norm):
                logits, end_points = model.build(images, True, warm, seed, step)
            if config.recompute and not rows:
                raise ConfigError(f'--recompute: {config.model_name} is not built row by row, and cannot; make '
                                  '--batch_size smaller, with --accumulate_steps.')
            loss = losses.cross_entropy(logits, targets, config.class_mode, weights)
            for name, aux in end_points.items():
                if name.startswith('AuxLogits'):
                    loss += self.aux_loss_weight * losses.cross_entropy(aux, targets, config.class_mode, weights)
            # The replicas' gradients are summed.
            loss = (loss + self._regularization_loss()) / self.replicas
            scaled = loss if self.loss_scale is None else loss * self.loss_scale
        right = tf.reduce_mean(losses.right(logits, hard, config.class_mode), -1) / self.replicas
        gradients = tape.gradient(scaled, self.trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.concat([[loss], right], 0), gradients

    def _prepared(self, images, labels, step, seed, rows):
        """Images as the network takes them, and the probabilities of their classes."""
        config = self.config
        num_classes = 1 if config.class_mode == 'binary' else self.model.num_classes
        targets = losses.hard_targets(labels, config.class_mode, num_classes)
        if images.dtype == tf.uint8:
            # Each draws from a seed of its own, none from dropout's.
            mix_seed, erase_seed = split_seed(seed, 2)
            own_seed = tf.stack([self.config.seed, tf.cast(step, tf.int64) * 65536 + 65535])    # no replica's
            images = self._device_part(images, own_seed, rows=(rows, self.step_images))
            if config.random_erasing:
                images = mixing.random_erasing(images, erase_seed, config.random_erasing)
            if config.mixes:
                images, targets = mixing.mix(images, targets, mix_seed, config.mixup_alpha, config.cutmix_alpha,
                                             config.mix_probability)
        return tf.cast(images, self.dtype), targets

    def _regularization_loss(self):
        if self.config.optimizer == 'adamw':        # which decays the weights itself
            return tf.constant(0.0)
        return self.model.regularization_loss(self._decays)

    def _rows(self, number):
        """Which of all images of a step are in this replica's batch of this number; see `distribution.distribute`."""
        config, replica = self.config, tf.distribute.get_replica_context().replica_id_in_sync_group
        machine, local = replica // self.local_replicas, replica % self.local_replicas
        first = (local * config.accumulate_steps + number) * config.batch_size
        return (first + tf.range(config.batch_size)) * (self.replicas // self.local_replicas) + machine

    def _seed(self, step):
        # A function of the step and the replica, so that a training that is taken up again draws what it would have.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.stack([self.config.seed, tf.cast(step, tf.int64) * 65536 + tf.cast(replica, tf.int64)])

    def _unscaled(self, gradients):
        """The gradients without the loss's scale; zero where they are beyond float16, and then the scale is halved."""
        if self.loss_scale is None:
            return gradients
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        if self.replicas > 1:
            faults = tf.distribute.get_replica_context().all_reduce('SUM', tf.cast(~finite, tf.float32))
            finite = tf.equal(faults, 0)
        scale, steps = tf.identity(self.loss_scale), self.steps_at_scale + 1
        grows = tf.logical_and(finite, steps >= _SCALE_GROWS)
        self.loss_scale.assign(tf.where(finite, tf.where(grows, scale * 2, scale), tf.maximum(scale / 2, 1.0)))
        self.steps_at_scale.assign(tf.where(tf.logical_or(grows, ~finite), 0.0, steps))
        return [tf.where(finite, gradient / scale, 0.0) for gradient in gradients]

    def _clipped(self, gradients):
        """This replica's part of the gradients, whose sum over the replicas has at most the norm."""
        if self.replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce('SUM', gradients)
        clipped, _ = tf.clip_by_global_norm(gradients, self.config.clip_gradient_norm)
        return [gradient / self.replicas for gradient in clipped]

    def slots(self) -> dict:
        """The optimizer's slots by their names in a TF1 checkpoint."""
        return {
            f'{name}/{slot}': value
            for ending, slot in optimizers.SLOTS[self.config.optimizer].items()
            for name, value in zip(
                self.trained_names, optimizers.slot_variables(self.optimizer, ending), strict=True)
        }

    def state(self) -> dict:
        """All that the training needs to go on, by name in the checkpoint, but for `global_step` and `_extras`."""
        averages = zip(self.model.by_name, self.averages, strict=True) if self.averages else ()
        return {**self.model.by_name, **self.slots(), **{name + checkpoints.AVERAGE: value for name, value in averages}}

    def _extras(self):
        """What TF-Slim has not; a checkpoint without it has the values at the start."""
        scaled = {} if self.loss_scale is None else {'loss_scale': self.loss_scale,
                                                     'steps_at_scale': self.steps_at_scale}
        return {_OWN + name: value for name, value in {'learning_rate_factor': self.rate_factor, **scaled}.items()}

    def values(self, step: int) -> dict:
        """What a checkpoint of this step holds, name -> value."""
        config, values = self.config, self.state()
        if config.optimizer in ('adam', 'adamw'):  # TF1 keeps these beside the slots
            values.update(
                beta1_power=tf.pow(config.adam_beta1, float(step + 1)),
                beta2_power=tf.pow(config.adam_beta2, float(step + 1)),
            )
        # A run that does without stays TF-Slim's to the last name.
        extras = self._extras() if self.loss_scale is not None or self.rate_factor.numpy() != 1 else {}
        return {**values, **extras, 'global_step': tf.constant(step, tf.int64)}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the model has the moving averages, where the training keeps some."""
        kept = [tf.identity(variable) for variable in self.model.variables] if self.averages else []
        try:
            for average, variable in zip(self.averages, self.model.variables if kept else [], strict=True):
                variable.assign(average)
            yield
        finally:
            for value, variable in zip(kept, self.model.variables if kept else [], strict=True):
                variable.assign(value)

    def resume(self, path: str) -> None:
        """Takes up the state of a checkpoint of the same training."""
        reader = checkpoints.Reader(path)
        checkpoints.restore(reader, self.state(), hint=(
            f'{self.config.train_dir} holds a training with other settings (network, classes, optimizer or moving '
            'averages): use another --train_dir, with --checkpoint_path to start from these weights.'))
        for name, variable in self._extras().items():
            if name in reader.shapes:
                variable.assign(reader.value(name))
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


def _class_weights(config, dataset):
    if not config.class_weights:
        return None
    counts = dataset.class_counts()[config.labels_offset:]
    try:
        return tf.constant(losses.class_weights(config.class_weights, counts))
    except ValueError as error:
        raise ConfigError(f'--class_weights={config.class_weights}: {error}') from None
