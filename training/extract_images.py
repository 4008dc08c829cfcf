"""The images of an extraction, in their stated order: a folder's, a list's, or a dataset's."""
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from datasets import DatasetError, dataset_factory, decode_image, pipeline
from datasets.image_folder import EXTENSIONS, images_below
from datasets.provider import reason
from training.extract_config import ExtractConfig

_BAD_LINES = 5     # so many are named


class Files:
    """Image files by name.

    Attributes:
      count: the number of images.
      has_labels: whether there are labels.
      channels: that an image is decoded to; None for as many as the network takes.
      order: how they are ordered, in words.
      identity: what tells these images from others, as JSON.
    """

    has_labels, channels = False, None

    def __init__(self, names: Sequence[str], root: str, order: str):
        """Takes the names, which are relative to `root`."""
        self.count, self.order = len(names), order
        encoded, digest = [os.fsencode(name) for name in names], hashlib.sha256()
        for name in encoded:
            digest.update(name + b'\0')
        self.identity = {'num_images': self.count, 'names_sha256': digest.hexdigest()}
        self._root = os.fsencode(os.path.join(root, ''))
        with tf.device('/cpu:0'):
            # A tensor, so that the graphs that read it hold no copy.
            self._names = tf.constant(encoded)

    def elements(self, shards: Sequence[int], shard_size: int) -> tf.data.Dataset:
        """Dictionaries of `position`, int64, `source`, the name, `label`, and `path`, of the images in these shards."""
        count = self.count

        def positions(shard):
            return tf.data.Dataset.range(shard * shard_size, tf.minimum((shard + 1) * shard_size, count))

        def element(position):
            name = tf.gather(self._names, position)
            return {'position': position, 'source': name, 'label': tf.constant(-1, tf.int64),
                    'path': tf.strings.join([self._root, name])}

        return tf.data.Dataset.from_tensor_slices(tf.constant(shards, tf.int64)).flat_map(positions).map(element)

    def explain(self, error: tf.errors.OpError, start: int) -> Exception:
        """The error to show for one that reading from a position on raised."""
        return error


class FromDataset:
    """The images of a dataset provider; for the attributes see `Files`."""

    has_labels = True

    def __init__(self, dataset: Any, file_pattern: str | None = None):
        """Takes a split of a dataset, and the pattern of its files where that is not its own."""
        self._dataset = dataset
        self.count, self.channels, self.order = dataset.num_samples, dataset.channels, "the dataset's own"
        self.identity = {'num_images': self.count, 'dataset_name': dataset.name, 'dataset_split': dataset.split_name,
                         'file_pattern': file_pattern}

    def elements(self, shards: Sequence[int], shard_size: int) -> tf.data.Dataset:
        """As `Files.elements`, but with `encoded`, the file's bytes, in place of `path`."""
        start, end = shards[0] * shard_size, (shards[-1] + 1) * shard_size
        wanted = tf.constant(shards, tf.int64)

        def is_wanted(number, unused):
            return tf.reduce_any(tf.equal((start + number) // shard_size, wanted))

        def element(number, example):
            return {'position': start + number, 'source': example['source'], 'label': example['label'],
                    'encoded': example['image']}

        examples = self._dataset.as_tf_data(start=start).take(end - start)
        return examples.enumerate().filter(is_wanted).map(element)

    def explain(self, error: tf.errors.OpError, start: int) -> Exception:
        """The error to show for one that reading from a position on raised."""
        return pipeline.explain(error, self._dataset, start=start)


def open_images(config: ExtractConfig) -> Files | FromDataset:
    """The images that a config names.

    Raises:
      datasets.DatasetError: there are none, or a line of the list names no file.
    """
    if config.dataset_name:
        options = {name: getattr(config, name) for name in ('validation_fraction', 'num_classes')
                   if getattr(config, name) is not None}
        dataset = dataset_factory.get_dataset(config.dataset_name, config.dataset_split_name, config.dataset_dir,
                                              config.file_pattern, **options)
        if dataset.multi_label:
            raise DatasetError(f'--dataset_name={config.dataset_name}: its images have several labels, and an '
                               'extraction keeps one of each: name them by --images or --file_list, without labels.')
        return FromDataset(dataset, config.file_pattern)
    if config.file_list:
        return Files(_listed(config.file_list, config.skip_unreadable), '', 'that of the file list')
    root = str(config.images)
    if os.path.isfile(root):
        return Files([os.path.basename(root)], os.path.dirname(root), 'one image')
    if not os.path.isdir(root):
        raise DatasetError(f'--images={root}: there is no such folder or image.')
    names = sorted(os.path.relpath(path, root).replace(os.sep, '/') for path in images_below(root))
    if not names:
        raise DatasetError(f'--images={root}: there are no images in it ({", ".join(EXTENSIONS)}).')
    return Files(names, root, 'sorted by path')


def _listed(file_list, skip_unreadable):
    try:
        with open(file_list, encoding='utf-8-sig', errors='surrogateescape') as lines:
            paths = [line.rstrip('\n') for line in lines]
    except OSError as error:
        raise DatasetError(f'--file_list={file_list}: it cannot be read: {error.strerror}.') from None
    bad = [] if skip_unreadable else [
        f'line {number}: {path}' for number, path in enumerate(paths, 1) if path and not _is_there(path)]
    if bad:
        more = f', and {len(bad) - _BAD_LINES} more' if len(bad) > _BAD_LINES else ''
        raise DatasetError(f'--file_list={file_list} names files that are not there (paths are relative to the current '
                           f'folder): {"; ".join(bad[:_BAD_LINES])}{more}. --skip_unreadable leaves them out.')
    paths = [path for path in paths if path]
    if not paths:
        raise DatasetError(f'--file_list={file_list}: it names no images.')
    return paths


def _is_there(path):
    return tf.io.gfile.exists(path) if '://' in path else os.path.isfile(path)


def make_batches(images: Files | FromDataset, shards: Sequence[int], shard_size: int, batch_size: int, channels: int,
                 preprocess: Callable[[tf.Tensor], tf.Tensor], num_threads: int,
                 skip_unreadable: bool) -> tf.data.Dataset:
    """Batches of prepared images of some shards, in order; none lies in two shards, as the size of these is a multiple.

    Args:
      images: where from.
      shards: their numbers, sorted; shard k holds the positions from k * shard_size on.
      shard_size: images in a shard but the last, a multiple of batch_size.
      batch_size: images in a batch but a shard's last.
      channels: that images are decoded to.
      preprocess: from an image, uint8 [height, width, channels], to the network's input.
      num_threads: images prepared in parallel.
      skip_unreadable: whether an image that cannot be read is a black one, with `readable` false, in place of an error.

    Returns:
      A `tf.data.Dataset` of dictionaries: `image`, float32 [batch, size, size, channels]; `position`, `source`, `label`
      and `readable`, all [batch].
    """
    def prepare(element):
        image = decode_image(encoded_image(element), channels)
        return {**_told(element), 'image': preprocess(image), 'readable': True}

    def attempt(element):
        one = tf.data.Dataset.from_tensors(element)
        prepared = one.map(prepare)
        shape = prepared.element_spec['image'].shape
        blank = one.map(lambda element: {**_told(element), 'image': tf.zeros(shape), 'readable': False})
        return prepared.ignore_errors().concatenate(blank).take(1)

    elements = images.elements(shards, shard_size)
    if skip_unreadable:     # more work for each image
        prepared = elements.interleave(attempt, cycle_length=num_threads, block_length=1,
                                       num_parallel_calls=num_threads, deterministic=True)
    else:
        prepared = elements.map(prepare, num_parallel_calls=num_threads, deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    return prepared.batch(batch_size).with_options(options).prefetch(2)


def _told(element):
    return {name: element[name] for name in ('position', 'source', 'label')}


def encoded_image(element: dict[str, tf.Tensor]) -> tf.Tensor:
    """The bytes of the image of an element; reading them raises tf.errors.OpError where the file cannot be read."""
    return tf.io.read_file(element['path']) if 'path' in element else element['encoded']


def find_faults(images: Files | FromDataset, positions: Sequence[int], channels: int) -> dict[int, str]:
    """What is wrong with those of the images at some positions, sorted, that cannot be read: position -> sentence."""
    faults: dict[int, str] = {}
    for element in images.elements(range(positions[0], positions[-1] + 1), 1):
        position = int(element['position'])
        if position not in positions:
            continue
        try:
            decode_image(encoded_image(element), channels)
        except tf.errors.OpError as error:
            name = os.fsdecode(element['source'].numpy())
            faults[position] = f'{name} is no image that can be read: {reason(error)}'
    return faults
