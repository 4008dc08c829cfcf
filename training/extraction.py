"""Extraction: the values of a network's endpoints for any number of images, in files of many images each.

A shard holds whole batches, so that what a batch is does not depend on where a run began: a run that was killed and
taken up again, or shared by several workers, gives the same bits as one that was not. What is done is told by the
shards that are there; nothing else is kept.
"""
import contextlib
import glob
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from datasets import DatasetError
from datasets.provider import READ_ERRORS
from nets import checkpoints, heads, registry
from preprocessing import preprocessing_factory
from training import restoring
from training.config import ConfigError, load_train_config
from training.console import Interrupted, RunError, StopSignals
from training.extract_config import ExtractConfig
from training.extract_images import Files, FromDataset, find_faults, make_batches, open_images
from training.extract_shards import INDEX_FILE, Output, Shard, key_of, shard_name, write_json, writing
from training.progress import Progress

_HALF_MAX = float(np.finfo(np.float16).max)
# Settings of the index that may be others when an extraction is taken up again: where things lie, and what is found.
_MAY_DIFFER = ('checkpoint', 'images', 'complete', 'shards', 'skipped', 'skip_unreadable')


def extract(config: ExtractConfig, say: Callable[[str], None] = print, *, own_process: bool = False) -> dict[str, Any]:
    """Writes the endpoints of all images, or of this worker's part; goes on where an earlier run stopped.

    Args:
      config: see `training.extract_config`.
      say: receives the lines that tell what happens.
      own_process: whether to make GPUs give the same bits for a batch in every run, as CPUs do; TensorFlow cannot undo
        that.

    Returns:
      What `index.json` holds; its `complete` is false while shards of other workers are missing.

    Raises:
      ConfigError: a setting is wrong, or `output_dir` holds an extraction with other settings.
      datasets.DatasetError: the images cannot be found, or one cannot be read.
      checkpoints.CheckpointError: the weights cannot be read, or are of another network.
      RunError: a file cannot be written; Interrupted after Ctrl-C or SIGTERM, at the end of a shard.
    """
    images = open_images(config)
    network = FrozenNetwork(config)
    job = _Job(config, images, network)
    job.begin()
    if own_process and tf.config.list_physical_devices('GPU'):
        tf.random.set_seed(0)   # without one, initial values could no longer be drawn
        tf.config.experimental.enable_op_determinism()
    todo = [number for number in range(config.shard_index, job.count, config.num_shards) if not job.has(number)]
    outputs = ', '.join(f'{name} {list(output.shape)}' for name, output in job.outputs.items())
    say(f'Extracting {outputs} of {config.model_name} ({network.path}) from {images.count:,} images, '
        f'about {_megabytes(job.bytes)}, to {job.count} {config.format} '
        f'shard{"s" if job.count > 1 else ""} in {config.output_dir}.')
    mine = len(range(config.shard_index, job.count, config.num_shards))
    if len(todo) < mine:
        say(f'{mine - len(todo)} of {mine} shards are there.')
    began = time.monotonic()
    done = _run(config, images, network, job, todo, say) if todo else 0
    index = job.finish()
    if done:
        seconds = time.monotonic() - began
        say(f'{done:,} images in {seconds:.1f} s ({done / seconds:.4g} images/s).')
    if index['skipped']:
        say(f'{len(index["skipped"])} images could not be read and are left out; {job.index_path} lists them.')
    say(f'All is there; {job.index_path} tells what.' if index['complete'] else
        f'{len(job.missing())} of {job.count} shards are still missing: the other workers\'. Whoever is last writes '
        f'{job.index_path}.')
    return index


def _megabytes(count):
    return f'{count / 1e6:,.0f} MB' if count >= 1e7 else f'{count / 1e6:.2g} MB'


class FrozenNetwork:
    """A network with the weights that the wanted endpoints need, made for their number of classes and channels.

    Attributes:
      path: where the weights were read from.
      size: height and width of the images.
      channels: of the images that are decoded; `preprocess` makes of them what the network takes.
      preprocessing: its name.
      shapes: endpoint -> its shape for one image, in the order of the network.
    """

    def __init__(self, config: ExtractConfig):
        """Builds the network and reads its weights."""
        row = registry.get(config.model_name)
        self.size = config.image_size or row.default_image_size
        self.preprocessing = config.preprocessing_name or row.preprocessing
        try:
            preprocessing_factory.get_preprocessing(self.preprocessing)
        except ValueError as error:
            raise ConfigError(f'--preprocessing_name: {error}') from None
        averages = config.moving_average_decay is not None
        reader = restoring.read_weights(str(config.checkpoint_path), row, averages)
        self.path = reader.path
        head = _head(config, reader)
        self._model = restoring.build(config, row.num_classes, self.size, None, **head)
        try:
            self.names = self._model.find_endpoints(config.endpoint_names)
        except ValueError as error:
            raise ConfigError(f'--endpoints: {error}') from None
        needed = self._trace(config)
        classes, channels = restoring.fitting(needed, reader.shapes, row.num_classes, row.channels)
        if (classes, channels) != (row.num_classes, row.channels):
            self._model = restoring.build(config, classes, self.size, channels, **head)
            needed = self._trace(config)
        missing = checkpoints.restore(
            reader, needed, moving_averages=averages,
            hint=f'It must be a checkpoint of {config.model_name}, at {self.size}x{self.size}.')
        if missing:     # which may be: a classifier that a library leaves out
            raise checkpoints.CheckpointError(f'{self.path} lacks what {", ".join(self.names)} need: '
                                              f'{", ".join(missing)}.')
        self.sha256 = _digest(needed)
        self.takes = self._model.channels

    def _trace(self, config):
        """Makes `compute`; returns the variables that it uses, by name."""
        model, names, pool = self._model, self.names, config.pool

        def endpoints(images):
            found = model.endpoints(tf.cast(images, config.precision), names)
            return {name: _pooled(tf.cast(found[name], tf.float32), pool) for name in names}

        try:
            self._compute = tf.function(endpoints, autograph=False).get_concrete_function(
                tf.TensorSpec([None, self.size, self.size, model.channels]))
        except ValueError as error:     # auxiliary classifiers, in some networks
            raise ConfigError(f'--endpoints: {error} Name the others, or give patterns that leave it out.') from None
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in self._compute.structured_outputs.items()}
        used = _inputs_used(self._compute)
        return {name: variable for name, variable in model.by_name.items() if id(variable.handle) in used}

    def compute(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The endpoints, float32 [batch, *shape], of images [batch, size, size, channels]."""
        return self._compute(images)

    def preprocessing_of(self, images: Files | FromDataset) -> tuple[int, Callable[[tf.Tensor], tf.Tensor]]:
        """The channels to decode images to, and the function that makes the network's input of one so decoded."""
        channels = images.channels if images.channels and self.takes == 1 else 3
        function = preprocessing_factory.get_preprocessing(self.preprocessing, False, self.takes < channels)
        return channels, lambda image: function(image, self.size, self.size, seed=[0, 0])


def _head(config, reader):
    """How a training of ours cut the network, and the classifier that it put there; nothing for a whole network."""
    if 'Head/Logits/weights' not in reader.shapes:
        return {}
    path = str(config.checkpoint_path)
    trained = load_train_config(path if os.path.isdir(path) else os.path.dirname(path) or '.')
    if trained is None or trained.model_name != config.model_name:
        raise checkpoints.CheckpointError(f'{reader.path} has a classifier of its own, and no train_config.json of '
                                          f'{config.model_name} beside it, which would tell where it stands.')
    return dict(final_endpoint=trained.final_endpoint, pool=trained.pool, hidden_units=trained.hidden_layers())


def _pooled(values, pool):
    return values if pool == 'none' or values.shape.rank != 4 else heads.pooled(values, pool)


def _inputs_used(function):
    """The ids of what a concrete function captured and its outputs depend on."""
    captured = function.captured_inputs
    placeholders = {tensor.op: id(source) for tensor, source in
                    zip(function.inputs[len(function.inputs) - len(captured):], captured, strict=True)}
    seen, stack = set(), [tensor.op for tensor in function.outputs]
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(tensor.op for tensor in op.inputs)
    return {placeholders[op] for op in seen if op in placeholders}


def _digest(variables):
    digest = hashlib.sha256()
    for name, variable in sorted(variables.items()):
        digest.update(name.encode())
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


class _Job:
    """The files of an extraction, and which of them are there."""

    def __init__(self, config: ExtractConfig, images: Files | FromDataset, network: FrozenNetwork):
        self._config, self._images = config, images
        self.count = -(-images.count // config.shard_size)
        self.outputs = {name: Output(key_of(name, config.format), shape, config.output_type)
                        for name, shape in network.shapes.items()}
        width = np.dtype(config.output_type).itemsize
        self.bytes = images.count * width * sum(int(np.prod(shape)) for shape in network.shapes.values())
        self.index_path = os.path.join(config.output_dir, INDEX_FILE)
        self.settings = {
            'model_name': config.model_name, 'checkpoint': network.path, 'weights_sha256': network.sha256,
            'moving_averages': config.moving_average_decay is not None, 'precision': config.precision,
            'preprocessing_name': network.preprocessing, 'image_size': network.size, 'channels': network.takes,
            'endpoints': {name: {'key': output.key, 'shape': list(output.shape), 'dtype': output.dtype}
                          for name, output in self.outputs.items()},
            'pool': config.pool, 'padding': config.padding, 'format': config.format, 'batch_size': config.batch_size,
            'images_per_shard': config.shard_size, 'skip_unreadable': config.skip_unreadable,
            'images': config.images or config.file_list or config.dataset_dir, 'order': images.order,
            'has_labels': images.has_labels, **images.identity}

    def name(self, number: int) -> str:
        """The name of a shard."""
        return shard_name(number, self.count, self._config.format)

    def _size(self, number):
        return min(self._config.shard_size, self._images.count - number * self._config.shard_size)

    def _path(self, number):
        return os.path.join(self._config.output_dir, self.name(number))

    def _skipped_path(self, number):
        return os.path.join(self._config.output_dir, f'{shard_name(number, self.count, "npy")}.skipped.json')

    def has(self, number: int) -> bool:
        """Whether a shard is there; it is whole then."""
        return os.path.exists(self._path(number))

    def missing(self) -> list[int]:
        """The shards that are not there."""
        return [number for number in range(self.count) if not self.has(number)]

    def begin(self) -> None:
        """Makes the folder, or refuses one that holds another extraction."""
        folder = self._config.output_dir
        with writing(folder):
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(self.index_path):
                found = glob.glob(os.path.join(glob.escape(folder), 'features-*-of-*'))
                if found:
                    raise ConfigError(f'{folder} holds {os.path.basename(min(found))} but no {INDEX_FILE}, which would '
                                      'tell what it is: remove its files, or use another --output_dir.')
                write_json(self.index_path, {**self.settings, 'complete': False})
        there = self._read(self.index_path)
        other = [name for name, value in self.settings.items() if name not in _MAY_DIFFER and there.get(name) != value]
        if other:
            differences = '; '.join(f'{name} is {_short(there.get(name))} there and {_short(self.settings[name])} here'
                                    for name in other)
            raise ConfigError(f'{folder} holds an extraction with other settings: {differences}. Give the same '
                              'settings, or another --output_dir.')

    def _read(self, path):
        try:
            with open(path, encoding='utf-8') as file:
                content = json.load(file)
        except (OSError, ValueError) as error:
            raise ConfigError(f'{path} is damaged: {error}. Use another --output_dir.') from None
        return content

    def open(self, number: int) -> Shard:
        """A shard to write into."""
        return Shard(self._config.output_dir, self.name(number), self._config.format, list(self.outputs.values()),
                     self._size(number), self._images.has_labels)

    def note_skipped(self, number: int, faults: Sequence[str]) -> None:
        """Keeps what was left out of a shard, beside it; before the shard is there."""
        path = self._skipped_path(number)
        if faults:
            write_json(path, list(faults))
        elif os.path.exists(path):      # of an earlier try
            os.remove(path)

    def finish(self) -> dict[str, Any]:
        """Writes the index if all shards are there, and returns it."""
        if self.missing():
            return {**self.settings, 'complete': False, 'skipped': []}
        skipped: list[str] = []
        shards = []
        for number in range(self.count):
            path = self._skipped_path(number)
            faults = self._read(path) if os.path.exists(path) else []
            skipped += faults
            shards.append({'name': self.name(number), 'num_images': self._size(number) - len(faults)})
        index = {**self.settings, 'complete': True, 'shards': shards, 'skipped': skipped}
        if self._read(self.index_path) != index:
            with writing(self.index_path):
                write_json(self.index_path, index)
        return index


def _short(value):
    if isinstance(value, dict):
        return ', '.join(f'{name} {row["shape"]} {row["dtype"]}' for name, row in value.items())
    return f'{value[:12]}...' if isinstance(value, str) and len(value) == 64 else value


def _run(config, images, network, job, todo, say):
    """Writes the shards `todo`; returns the number of images read."""
    channels, preprocess = network.preprocessing_of(images)
    batches = iter(make_batches(images, todo, config.shard_size, config.batch_size, channels, preprocess,
                                config.num_preprocessing_threads, config.skip_unreadable))
    starts = {number: range(number * config.shard_size, min((number + 1) * config.shard_size, images.count),
                            config.batch_size) for number in todo}
    progress, step = Progress(sum(map(len, starts.values())), 0, config.batch_size, 'batch'), 0
    told = False
    with StopSignals() as stop:
        try:
            for order, number in enumerate(todo, 1):
                shard, faults = job.open(number), []
                try:
                    for start in starts[number]:
                        batch = _next(batches, images, range(start, min(start + config.batch_size, images.count)),
                                      channels)
                        readable = batch['readable'].numpy()
                        shard.add({job.outputs[name].key: values[readable] for name, values in
                                   _values(network, batch['image'], config).items()},
                                  [os.fsdecode(name) for name in batch['source'].numpy()[readable]],
                                  batch['label'].numpy()[readable].tolist())
                        faults += _faults(images, batch['position'].numpy()[~readable].tolist(), channels)
                        step += 1
                        progress.step()
                        if stop.signal and not told:
                            told = True
                            say('Stopping at the end of this shard; asked again, at once.')
                    job.note_skipped(number, faults)
                    shard.close()
                except BaseException:
                    shard.abandon()
                    raise
                progress.report(step, f'shard {order} of {len(todo)}')
                if stop.signal and order < len(todo):
                    raise Interrupted(f'Stopped: {job.count - len(job.missing())} of {job.count} shards are whole, and '
                                      'the same command goes on from there.', stop.signal)
        finally:
            progress.close()
    return sum(min(config.shard_size, images.count - number * config.shard_size) for number in todo)


def _next(batches, images, positions, channels):
    try:
        return next(batches)
    except StopIteration:
        raise DatasetError(f'the images end at the {positions[0]}th, and there should be {images.count}: files of the '
                           'dataset are missing or cut short.') from None
    except READ_ERRORS as error:
        raise _explained(error, images, positions, channels) from None


def _explained(error, images, positions, channels):
    with contextlib.suppress(*READ_ERRORS):    # where what holds the images is itself damaged
        for fault in find_faults(images, positions, channels).values():
            return RunError(f'{fault} --skip_unreadable leaves such images out.')
    return images.explain(error, positions[0])


def _values(network, images, config):
    """The endpoints of a batch as arrays of the type that is asked for."""
    try:
        values = {name: tensor.numpy() for name, tensor in network.compute(images).items()}
    except tf.errors.ResourceExhaustedError:
        raise RunError(f'Out of memory: make --batch_size (now {config.batch_size}) smaller.') from None
    if config.output_type == 'float16':
        for name, array in values.items():
            if not np.all(np.abs(array) <= _HALF_MAX):
                raise RunError(f'{name} has values that float16 cannot hold (above {_HALF_MAX:.0f}): use '
                               '--output_type=float32.')
    return {name: array.astype(config.output_type, copy=False) for name, array in values.items()}


def _faults(images, positions, channels):
    """What is wrong with the images at these positions, which could not be read."""
    found = find_faults(images, positions, channels) if positions else {}
    return [found.get(position, f'image {position} could not be read') for position in positions]
