"""The data that a config names: its splits, and the batches that go to the device."""
import contextlib
import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

import datasets
from datasets import DatasetError, dataset_factory, pipeline
from nets import registry
from preprocessing import policies, preprocessing_factory
from training.config import ConfigError, TrainConfig
from training.progress import Progress


def open_dataset(config) -> datasets.Dataset:
    """The dataset that a config names."""
    row, multi_label = dataset_factory.find_row(config.dataset_name), config.class_mode == 'multilabel'
    options = {name: getattr(config, name) for name in ('validation_fraction', 'num_classes', 'image_key', 'label_key')
               if getattr(config, name) is not None}
    if multi_label and 'multi_label' in row.options:
        options['multi_label'] = True
    dataset = row.get_split(config.dataset_split_name, config.dataset_dir, config.file_pattern,
                            skip_corrupt=config.skip_corrupt, **options)
    if dataset.multi_label != multi_label:
        raise ConfigError(f'--class_mode={config.class_mode}: the images of {dataset.name} have '
                          + ('any number of labels: it must be multilabel.' if dataset.multi_label else
                             'one label each: multilabel is for datasets with several.'))
    if not 0 <= config.labels_offset < dataset.num_classes:
        raise ConfigError(
            f'--labels_offset={config.labels_offset}: {dataset.name} has the labels 0 to {dataset.num_classes - 1}.'
        )
    if config.cache:
        with contextlib.ExitStack() as stack:
            dataset.cache(None if config.cache == 'memory' else config.cache,
                          lambda total: stack.enter_context(contextlib.closing(Megabytes(total))).add)
    return dataset


class Megabytes:
    """The progress of a copy, of so many bytes."""

    def __init__(self, total: int):
        self._done, self._shown = 0, 0
        self._progress = Progress(total // 2**20, 0, 1, 'cache MiB')
        if total:
            self._progress.note(f'Copying {max(total // 2**20, 1):,} MiB of the dataset into the cache.')

    def add(self, size: int) -> None:
        """So many bytes more are copied."""
        self._done += size
        steps = self._done // 2**20 - self._shown
        self._shown += steps
        self._progress.step(steps)

    def close(self) -> None:
        """Ends the bar."""
        self._progress.close()


class Skipped:
    """The sources of images that were passed over (`--skip_corrupt`); each is told once."""

    def __init__(self, say: Callable[[str], None]):
        self.sources: set[str] = set()
        self._say = say

    def __call__(self, source: str) -> None:
        """One is passed over."""
        if source not in self.sources:
            self.sources.add(source)
            self._say(f'{source} cannot be used, and is passed over.')


def held_out(config) -> datasets.Dataset:
    """The dataset's split that is not for training."""
    if config.file_pattern and '%s' not in config.file_pattern:
        raise ConfigError(f'--file_pattern={config.file_pattern}: without %s, for the split, the files that are held '
                          'out would be those that are trained on.')
    row = dataset_factory.find_row(config.dataset_name)
    splits = [name for name in row.splits if name != 'train'] or ['validation', 'val', 'valid', 'eval', 'test']
    faults = []
    for name in splits:
        try:
            return open_dataset(dataclasses.replace(config, dataset_split_name=name))
        except DatasetError as fault:
            faults.append(fault)
    raise faults[0]


def evaluation_batches(config, dataset: datasets.Dataset, size: int, num_shards: int = 1, shard_index: int = 0,
                       skipped: Skipped | None = None, with_sources: bool = False) -> tf.data.Dataset:
    """Batches of one pass: float32 [batch, views, size, size, channels], ready for the network, and int64 [batch].

    `with_sources` adds where the images come from, string [batch]. `skipped` hears of what is passed over; None stops
    there instead.
    """
    try:
        views = preprocessing_factory.get_views(
            _preprocessing_name(config), config.use_grayscale, config.eval_crop_fraction,
            5 if config.eval_corners else 1, config.eval_flip)
    except ValueError as error:
        raise ConfigError(f'--preprocessing_name, --eval_crop_fraction, --eval_corners: {error}') from None
    return pipeline.make_batches(
        dataset, lambda image, seed: views(image, size, size), config.batch_size, training=False,
        labels_offset=config.labels_offset, num_threads=config.num_preprocessing_threads, num_shards=num_shards,
        shard_index=shard_index, skip_corrupt=skipped, with_sources=with_sources)


def _preprocessing_name(config):
    return config.preprocessing_name or registry.get(config.model_name).preprocessing


def training_channels(config: TrainConfig, dataset: datasets.Dataset) -> int:
    """The channels of the images that a network is trained on; ConfigError where the preprocessing is wrong."""
    _split(config)
    return 1 if config.use_grayscale else dataset.channels


def training_batches(config: TrainConfig, dataset: datasets.Dataset, size: int, start_step: int = 0,
                     num_shards: int = 1, shard_index: int = 0, skipped: Skipped | None = None) -> tf.data.Dataset:
    """Batches of one replica's step: uint8 [images, size, size, channels], cropped, and int64 [images].

    What is left to do the device does, see `Trainer.step`: flips, colours, normalisation, mixing. `skipped` hears of
    what is passed over; None stops there instead.
    """
    preprocess, window = _distortion(config, size)
    return pipeline.make_batches(
        dataset, preprocess, config.batch_size * config.accumulate_steps, training=True, seed=config.seed,
        start_step=start_step, labels_offset=config.labels_offset, num_threads=config.num_preprocessing_threads,
        num_readers=config.num_readers, num_shards=num_shards, shard_index=shard_index, window=window,
        window_side=size, skip_corrupt=skipped)


def _distortion(config, size):
    """What the host does to each image, and the part of it that is needed for that."""
    split, options = _split(config), config.augmentation()
    window = split.window
    if window is not None:      # the pipeline crops
        window = functools.partial(window, min_area=config.min_crop_area)
        options['crop_image'] = False

    def preprocess(image, seed):
        image = split.on_host(image, size, size, seed=seed, **options)
        if config.auto_augment:
            image = policies.augment(image, config.auto_augment, seed, magnitude=config.randaugment_magnitude)
        return image

    return preprocess, window


def device_part(config: TrainConfig) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The rest of the distortion: from uint8 [images, size, size, channels] and a seed to float32, normalised."""
    options = {'distort_colors': config.distort_colors} if _split(config).window else {}
    return functools.partial(_split(config).on_device, **options)


def _split(config):
    name = _preprocessing_name(config)
    try:
        split = preprocessing_factory.get_split_preprocessing(name, config.use_grayscale)
    except ValueError as error:
        raise ConfigError(f'--preprocessing_name: {error}') from None
    # A recipe is for any preprocessing.
    if split.window is None and not config.recipe and (config.min_crop_area, config.distort_colors) != (0.05, True):
        raise ConfigError(f'--min_crop_area and --distort_colors are of the preprocessing inception, not of {name}.')
    return split
