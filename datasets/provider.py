"""What every dataset is: `slim.dataset.Dataset` for TF-Slim's graph-mode readers, and an ordered `tf.data.Dataset`."""
import collections
import contextlib
import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from datasets.image_size import TOO_MANY, refuse_huge

ENDLESS = 2**62
# What reading examples raises: TensorFlow quotes a record that it cannot parse, and Python cannot decode the quotation.
READ_ERRORS = (tf.errors.OpError, UnicodeDecodeError)


class DatasetError(ValueError):
    """Something is wrong with a dataset; the message is one sentence that says what, where, and what would be right."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> DatasetError:
    """The error for a name that is none of the valid ones: it lists them, the nearest first of all."""
    valid = list(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    return DatasetError(f'{name!r} is no {kind}{f" (did you mean {near[0]!r}?)" if near else ""}; '
                        f'there is {", ".join(valid)}.')


def listing(names: list[str]) -> str:
    """What a folder holds, in words and in short."""
    if not names:
        return 'the folder is empty'
    return f'there is {", ".join(names[:5])}{f" and {len(names) - 5} more" if len(names) > 5 else ""}'


def decode_image(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes an image as `slim.tfexample_decoder.Image` does.

    Args:
      encoded: scalar string, the bytes of a JPEG, PNG, BMP or GIF file, or of a WebP file where TensorFlow is 2.20 or
        later. Of an animated GIF the first frame is taken; animated WebP is refused.
      channels: 3 for RGB (grey and CMYK are converted, transparency is dropped) or 1 for grey (not BMP and GIF).

    Returns:
      uint8 `[height, width, channels]`.

    Raises:
      tf.errors.InvalidArgumentError: where the image is run, if the bytes are no such image or cut short, or the image
        has more than `image_size.MAX_PIXELS`: then nothing is decoded.
    """
    encoded = refuse_huge(tf.convert_to_tensor(encoded))

    def decode():
        return tf.io.decode_image(encoded, channels=channels, expand_animations=False)

    def decode_webp():
        # tf.io.decode_image refuses WebP files that are transparent. Those that are animated it must never see: it
        # writes beyond the image's memory if they have no transparency (TensorFlow 2.20 and 2.21).
        header = tf.strings.join([tf.strings.substr(encoded, 0, 21), '\0' * 21])    # it may be cut short
        kind, flags = tf.strings.substr(header, 12, 4), tf.strings.substr(header, 20, 1)
        animated = (kind == 'VP8X') & (tf.bitwise.bitwise_and(tf.io.decode_raw(flags, tf.uint8)[0], 2) > 0)
        with tf.control_dependencies([tf.debugging.Assert(~animated, ['an animated WebP image'])]):
            image = tf.io.decode_webp(tf.identity(encoded))[0, ..., :3]
        return image if channels == 3 else tf.image.rgb_to_grayscale(image)

    if hasattr(tf.io, 'decode_webp'):
        image = tf.cond(is_webp(encoded), decode_webp, decode)
    else:
        image = decode()
    image.set_shape([None, None, channels])
    return image


def is_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether the bytes, scalar string, are those of a WebP file: scalar bool."""
    return tf.strings.regex_full_match(tf.strings.substr(encoded, 0, 12), r'RIFF\C{4}WEBP')


class Dataset(slim.dataset.Dataset):
    """One split of a dataset.

    TF-Slim's fields (`data_sources`, `reader`, `decoder`, `num_samples`, `items_to_descriptions`, `num_classes`,
    `labels_to_names`) serve `slim.dataset_data_provider.DatasetDataProvider` in a TF1 graph. Everything else uses
    `as_tf_data`. Ours besides: `name`, `split_name`, `channels` of the decoded images, `licence`, and `multi_label`:
    whether an image has any number of labels, and not one.

    A kind of dataset defines `_epoch` (the order of one epoch), `_load` (one element) and `_examples` (the same in
    plain Python, to find what is wrong with it).
    """

    def __init__(self, *, name: str, split_name: str, num_samples: int, num_classes: int, channels: int,
                 labels_to_names: Mapping[int, str] | None, data_sources: Sequence[str], reader, decoder,
                 items_to_descriptions: Mapping[str, str], multi_label: bool = False, licence: str = ''):
        """Takes the fields by their names."""
        super().__init__(data_sources, reader, decoder, num_samples, items_to_descriptions, name=name,
                         split_name=split_name, num_classes=num_classes, channels=channels,
                         labels_to_names=labels_to_names, multi_label=multi_label, licence=licence)

    def __str__(self):
        """Its name, split and size, for messages."""
        return f'{self.name} {self.split_name} ({self.num_samples} images, {self.num_classes} classes)'

    def as_tf_data(self, shuffle: bool = False, seed: int = 0, start: int = 0, repeat: bool = False,
                   num_shards: int = 1, shard_index: int = 0, num_readers: int | None = None) -> tf.data.Dataset:
        """The examples in an order that is a function of (seed, position) alone.

        Each epoch holds every image exactly once; with `shuffle` each has an order of its own. What stands at a
        position does not depend on `start`, on threads, or on TensorFlow's global seed, so that reading from
        `start=n` continues exactly where a reader stopped after n elements.

        Args:
          shuffle: whether to shuffle; otherwise the order is that of the files.
          seed: any integer.
          start: the position (number of examples, counted over all shards and epochs) to begin at.
          repeat: whether to go on for ever; otherwise the data ends with the first epoch.
          num_shards: the number of readers that share the data.
          shard_index: which of them this one is: it gets the positions start + shard_index + k * num_shards.
          num_readers: how many files are read in parallel; None for as many as help. The order is the same.

        Returns:
          A `tf.data.Dataset` of dictionaries: `image`, scalar string, the encoded file; `label`, scalar int64, or with
          `multi_label` int64 [n], the n labels of the image, none or more; `source`, scalar string, where the example
          comes from, for messages.

        Raises:
          DatasetError: if `start` is negative or `shard_index` is not one of the shards.
        """
        order = self.order(shuffle, seed, start, repeat, num_shards, shard_index, num_readers)
        return order.map(self.loader(), num_parallel_calls=num_readers or tf.data.AUTOTUNE, deterministic=True)

    def order(self, shuffle: bool = False, seed: int = 0, start: int = 0, repeat: bool = False, num_shards: int = 1,
              shard_index: int = 0, num_readers: int | None = None) -> tf.data.Dataset:
        """What `as_tf_data` loads by `loader`: the same arguments and order, and no image is read yet."""
        if start < 0 or not 0 <= shard_index < num_shards:
            raise DatasetError(f'start must be 0 or more and shard_index from 0 to num_shards - 1, '
                               f'not start={start}, shard_index={shard_index}, num_shards={num_shards}.')
        first, offset = divmod(start, self.num_samples)
        readers = num_readers or tf.data.AUTOTUNE

        def epoch(number):
            # Below zero, so that no order shares its random bits with the seed of an example's preprocessing.
            order = self._epoch(tf.stack([tf.constant(seed, tf.int64), -1 - number]) if shuffle else None, readers)
            return order.skip(tf.where(number == first, tf.constant(offset, tf.int64), 0))

        examples = tf.data.Dataset.range(first, ENDLESS if repeat else 1).flat_map(epoch)
        if num_shards > 1:
            examples = examples.shard(num_shards, shard_index)
        return examples

    def loader(self) -> Callable[..., dict[str, tf.Tensor]]:
        """From an element of `order` to that of `as_tf_data`."""
        return self._load

    def sources(self) -> Callable[..., tf.Tensor]:
        """From an element of `order` to the `source` of that of `as_tf_data`, whatever the state of its image."""
        raise NotImplementedError

    def cache(self, folder: str | None,
              begin: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None) -> None:
        """From now on reads copies of its files: in memory, or in a folder of a fast disk. The order stays the same.

        Args:
          folder: see `nearby.copy_files`; None for memory.
          begin: see there.

        Raises:
          DatasetError: as there; or it is not read from files.
        """
        raise DatasetError(f'{self.name} is not read from files that could be cached.')

    def find_fault(self, labels_offset: int = 0, *, shuffle: bool = False, seed: int = 0, start: int = 0,
                   count: int | None = None) -> str | None:
        """Looks for an example that cannot be used: unreadable, undecodable, or with a label out of range.

        Args:
          labels_offset: what is subtracted from the labels.
          shuffle: with `seed`, the order to look in if `count` is given.
          seed: see `as_tf_data`.
          start: the position to look from if `count` is given.
          count: the number of examples to look at; None for all of them, in the order of the files.

        Returns:
          One sentence on the first such example, or None.
        """
        if count is None:
            examples = self._examples()
        else:
            order = self.as_tf_data(shuffle, seed, start, repeat=True).take(count).as_numpy_iterator()
            examples = ((e['source'].decode(errors='replace'), e['image'], e['label'].tolist()) for e in order)
        try:
            for source, encoded, labels in examples:
                for label in labels if self.multi_label else [labels]:
                    if not labels_offset <= label < self.num_classes:
                        return (f'{source} has the label {label}, but with labels_offset={labels_offset} the labels '
                                f'of {self.name} must be from {labels_offset} to {self.num_classes - 1}.')
                try:
                    decode_image(encoded, self.channels)
                except tf.errors.InvalidArgumentError as error:
                    if is_webp(encoded) and not hasattr(tf.io, 'decode_webp'):
                        return (f'{source} is a WebP image, which TensorFlow {tf.__version__} cannot decode: '
                                f'TensorFlow 2.20 can, or make it a PNG or JPEG file.')
                    if TOO_MANY in error.message:
                        return f'{source} cannot be decoded: {reason(error)}'
                    if 'an animated WebP image' in error.message:
                        return (f'{source} is an animated WebP image, which TensorFlow cannot decode: make its first '
                                f'frame a file of its own, or all of it a GIF.')
                    return f'{source} cannot be decoded, it is cut short or not an image: {reason(error)}'
        except DatasetError as error:
            return str(error)
        except READ_ERRORS as error:
            # Where the stream broke it does not say; the files will.
            return f'{self} cannot be read: {reason(error)}' if count is None else self.find_fault(labels_offset)
        return None

    def class_counts(self) -> list[int]:
        """The number of images of each class, by label; it may take a pass over the files.

        Raises:
          DatasetError: a file cannot be read, or a label is out of range.
        """
        counts = [0] * self.num_classes
        for source, _, labels in self._examples():
            for label in labels if self.multi_label else [labels]:
                if not 0 <= label < self.num_classes:
                    raise DatasetError(f'{source} has the label {label}; those of {self.name} are from 0 to '
                                       f'{self.num_classes - 1}.')
                counts[label] += 1
        return counts

    def _epoch(self, key: tf.Tensor | None, num_readers: int) -> tf.data.Dataset:
        """The examples of one epoch, not yet loaded: in file order, or as `key`, int64 [2], shuffles them."""
        raise NotImplementedError

    def _load(self, *example: tf.Tensor) -> dict[str, tf.Tensor]:
        """The element of `as_tf_data` for an element of `_epoch`."""
        raise NotImplementedError

    def _examples(self) -> Iterator[tuple[str, bytes, Any]]:
        """(source, encoded, label) of every example, the label an int, or with `multi_label` a tuple of ints.

        Raises DatasetError at one that cannot be read.
        """
        raise NotImplementedError


@contextlib.contextmanager
def reading(file: str):
    """A file to be read: a local one as Python opens it, others as TensorFlow does, which seeks slowly.

    Raises:
      DatasetError: if it cannot be opened or read.
    """
    try:
        with (tf.io.gfile.GFile if '://' in file else open)(file, 'rb') as stream:
            yield stream
    except OSError as error:
        raise DatasetError(f'{file} cannot be read: {error.strerror}.') from None
    except tf.errors.OpError as error:
        raise DatasetError(f'{file} cannot be read: {reason(error)}') from None


def reason(error: tf.errors.OpError | UnicodeDecodeError) -> str:
    """The part of a TensorFlow error's message that says what happened, with a full stop; see `READ_ERRORS`."""
    if isinstance(error, UnicodeDecodeError):
        return 'it cannot be parsed.'
    asserted = re.search(r'assertion failed: \[(.*?)\]', error.message)     # a sentence of our own
    said = asserted[1] if asserted else error.message.split('}} ')[-1].split(' [Op:')[0].strip()
    if not said:  # by some file systems nothing is
        said = 'No such file' if isinstance(error, tf.errors.NotFoundError) else type(error).__name__
    lines = [line.strip() for line in said.splitlines() if line.strip() and '[[{{node' not in line]
    # A function's error begins with where, and ends with what.
    return (lines[-1] if lines[0].startswith('Graph execution error') else lines[0]).rstrip('. ') + '.'


class IndexReader:
    """For a dataset whose data sources are the numbers of its examples: reads the number itself.

    It stands in for `tf.compat.v1.TFRecordReader` in `DatasetDataProvider`.
    """

    def read(self, queue) -> tuple[tf.Tensor, tf.Tensor]:
        """The next number in the queue, as the key and as the value."""
        number = queue.dequeue()
        return number, number


class RecordDecoder(slim.data_decoder.DataDecoder):
    """Decodes a record into its image and label."""

    def __init__(self, load, channels: int):
        """Takes `load`, from a record to its element, and the channels of the image."""
        self._load, self._channels = load, channels

    def list_items(self) -> list[str]:
        """The items it decodes."""
        return ['image', 'label']

    def decode(self, data: tf.Tensor, items: Sequence[str] | None = None) -> list[tf.Tensor]:
        """The tensors of the items, for a record, scalar string."""
        # What comes out of a queue has no static shape; tf.train.batch needs one.
        element = self._load(tf.reshape(data, []))
        element['image'] = decode_image(element['image'], self._channels)
        return [element[item] for item in items or self.list_items()]


class IndexDecoder(RecordDecoder):
    """Decodes the number of an example, in a string, by `load`, which takes the number."""

    def decode(self, data: tf.Tensor, items: Sequence[str] | None = None) -> list[tf.Tensor]:
        """The tensors of the items."""
        return super().decode(tf.strings.to_number(data, tf.int64), items)


class IndexedDataset(Dataset):
    """A dataset that knows its examples by number: `_columns` has what stands there."""

    def __init__(self, *, labels: Sequence[Any], **fields):
        """Takes the label of each example, or its labels, and the fields of `Dataset` that do not follow."""
        self.labels = list(labels)
        super().__init__(num_samples=len(self.labels), data_sources=[str(i) for i in range(len(self.labels))],
                         reader=IndexReader, decoder=IndexDecoder(self._load, fields['channels']), **fields)

    def class_counts(self) -> list[int]:
        """The number of images of each class, by label."""
        counts = collections.Counter(itertools.chain(*self.labels) if self.multi_label else self.labels)
        return [counts[label] for label in range(self.num_classes)]

    def sources(self):
        """See `Dataset.sources`."""
        column = self._columns()['source']
        return lambda index: column[index]

    def loader(self):
        """See `Dataset.loader`."""
        with tf.device('/cpu:0'):
            columns = self._columns()  # made here, so that the functions that tf.data traces hold no copy of them
        return lambda index: self._load(index, columns)

    def _load(self, index, columns=None):
        return {name: column[index] for name, column in (columns or self._columns()).items()}

    def _columns(self) -> dict[str, Any]:
        """Tensors, or ragged ones, from which `_load` takes what stands at an example's number."""
        labels: Any = tf.constant(list(itertools.chain(*self.labels)) if self.multi_label else self.labels, tf.int64)
        if self.multi_label:
            labels = tf.RaggedTensor.from_row_lengths(labels, list(map(len, self.labels)))
        return {'label': labels}

    def _epoch(self, key, num_readers):
        order = tf.range(self.num_samples, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices(order if key is None else shuffled(order, key))


def shuffled(values: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The values in the order that `key`, int64 [2], gives them."""
    return tf.random.experimental.stateless_shuffle(values, key)
