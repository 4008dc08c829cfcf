"""Datasets in TFRecord files of TF-Slim's layout: an Example an image, with `image/encoded`, `image/class/label`.

The registry says what is known of a dataset. Where it knows neither the files nor the classes, as for `tfrecord`, the
folder says it: the files of a split are those whose names hold its name as a word (`train-00000-of-00010`,
`birds_train.tfrecord`), and the classes are those of `labels.txt`, or else of the records.
"""
import fnmatch
import os
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf
import tf_slim as slim
from google.protobuf.message import DecodeError

from datasets import dataset_utils, nearby
from datasets.provider import READ_ERRORS, Dataset, DatasetError, listing, reading, reason, shuffled, unknown

COUNT_UP_TO = 4 * 2**30  # Bytes of records that are counted, whatever the nominal number of images.
SHUFFLED_AT_ONCE = 128 * 2**20  # Bytes of records shuffled together: all of MNIST, 1,200 photos of ImageNet.
FILES_AT_ONCE = 16
SPLIT_WORDS = ('train', 'training', 'validation', 'valid', 'val', 'eval', 'test', 'testing')
NO_RECORDS = ('.txt', '.json', '.csv', '.tsv', '.md', '.pbtxt', '.tar', '.zip')

NO_EXAMPLE = 'it is no tf.train.Example.'

ENCODED, LABEL = 'image/encoded', 'image/class/label'


class RecordFiles(Dataset):
    """Records in TFRecord files, parsed by `_parse`."""

    def __init__(self, *, files: list[str], num_samples: int, num_bytes: int,
                 parts: list[tuple[int, int]] | None = None, **fields):
        """Takes the files, their records and bytes, and the fields of `Dataset` that do not follow from them.

        Of each file `parts` says how many records are skipped and how many are taken then; None takes all.
        """
        self.files, self._parts = files, parts or [(0, -1)] * len(files)
        self._copies = files
        self._block = max(1, SHUFFLED_AT_ONCE * num_samples // num_bytes)
        super().__init__(num_samples=num_samples, data_sources=files, **fields)

    def _epoch(self, key, num_readers):
        def shuffle(number, block):
            order = shuffled(tf.range(tf.shape(block[0])[0]), tf.stack([key[0], key[1] - (number + 1) * 2**32]))
            return tuple(tf.gather(part, order) for part in block)

        files = tf.constant(self._copies), tf.constant(self._parts, tf.int64)
        if key is None:
            return tf.data.Dataset.from_tensor_slices(files).flat_map(self._read)
        order = shuffled(tf.range(len(self.files)), key)
        # Not more readers than files; AUTOTUNE is below zero.
        cycle = min(FILES_AT_ONCE, len(self.files))
        records = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(part, order) for part in files)).interleave(
            self._read, cycle_length=cycle, num_parallel_calls=min(num_readers, cycle), deterministic=True)
        # Blocks and not Dataset.shuffle, whose order depends on TensorFlow's global seed.
        blocks = records.batch(self._block).enumerate().map(lambda number, *block: shuffle(number, block[0]))
        return blocks.prefetch(1).unbatch()

    def _read(self, file, part):
        """The records of a part of a file, with the file and their numbers."""
        records = tf.data.TFRecordDataset(file, buffer_size=2**20).enumerate().skip(part[0]).take(part[1])
        return records.map(lambda number, record: (file, number, record))

    def _load(self, file, number, record):
        return {**self._parse(record), 'source': _source(file, number, record)}

    def sources(self):
        """See `Dataset.sources`."""
        return _source

    def cache(self, folder, begin=lambda total: lambda done: None):
        """See `Dataset.cache`."""
        self._copies = nearby.copy_files(self.files, folder, begin)
        self.data_sources = self.data_sources and self._copies

    def _examples(self):
        for file, copy, part in zip(self.files, self._copies, self._parts, strict=True):
            count_records(copy)
            number = part[0]
            try:
                for _, number, record in self._read(copy, part).as_numpy_iterator():
                    # TensorFlow's own error would quote the record's bytes, and has crashed Python by that.
                    why = self._why(record)
                    if why:
                        raise DatasetError(f'{file} record {number} cannot be used: {why}')
                    example = {key: value.numpy() for key, value in self._parse(record).items()}
                    label = tuple(example['label'].tolist()) if self.multi_label else int(example['label'])
                    yield f'{os.path.basename(file)} record {number}', example['image'], label
                    number += 1
            except tf.errors.DataLossError as error:
                raise DatasetError(f'{file} cannot be used from record {number} on: {reason(error)}') from None
            except READ_ERRORS as error:
                raise DatasetError(f'{file} record {number} cannot be used: {self._why(record) or reason(error)}'
                                   ) from None

    def _parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        """The encoded image and the label of a record."""
        raise NotImplementedError

    def _why(self, record: bytes) -> str | None:
        """What is wrong with a record that cannot be parsed, if it can be told."""


def _source(file, number, record):
    return tf.strings.join([tf.strings.split(file, '/')[-1], ' record ', tf.strings.as_string(number)])


class TFRecords(RecordFiles):
    """A split in TFRecord files of TF-Slim's layout.

    `num_samples` is the number of records in the files. It is counted, except where the files are too large to walk
    through (over 4 GiB) and none is missing; then it is TF-Slim's nominal number.
    """

    def __init__(self, row, split_name, dataset_dir, file_pattern=None, reader=None, num_classes: int | None = None,
                 multi_label: bool = False, skip_corrupt: bool = False):
        """Finds and counts the files; see `registry.DatasetRow.get_split`.

        Args:
          row: the registry's row.
          split_name: such as 'train'.
          dataset_dir: the folder of the files.
          file_pattern: of their names, with %s for the split; None is the row's, or if that has none, all those whose
            names hold the split's name as a word.
          reader: the class that `DatasetDataProvider` reads with, in place of `tf.compat.v1.TFRecordReader`.
          num_classes: where the row has none; None: one more than the highest label of labels.txt, or without that of
            the records of all splits.
          multi_label: whether a record may have several labels, or none.
          skip_corrupt: whether records whose checksums are wrong, and what is lost behind them, count as images that
            cannot be used, rather than end the reading. It takes a pass over the files.

        Raises:
          DatasetError: if the files are missing or cut short or hold something else, or an argument does not fit.
        """
        pattern = file_pattern or row.file_pattern
        files = find_files(row.name, dataset_dir, pattern.replace('%s', split_name)) if pattern else find_word(
            row.name, dataset_dir, split_name)
        if skip_corrupt:
            with ThreadPoolExecutor() as pool:
                files = list(pool.map(nearby.mended, files))
        sizes = [size_of(file) for file in files]
        complete = len(files) == number_of_shards(files[0])
        nominal = row.splits.get(split_name) if complete and sum(sizes) > COUNT_UP_TO else None
        num_samples = nominal or sum(map(count_records, files))
        if not num_samples:
            raise DatasetError(f'{", ".join(files)} of {row.name} {split_name} holds no records.')
        check_features(files)
        names = dataset_utils.read_label_file(dataset_dir) if dataset_utils.has_labels(dataset_dir) else None
        if names is None and row.class_names:
            names = dict(enumerate(row.class_names))
        classes = row.num_classes or num_classes
        if classes is not None and classes < 1:
            raise DatasetError(f'num_classes must be 1 or more, not {classes}.')
        if not classes and names:
            classes = max(names) + 1
        elif not classes:
            everywhere = find_files(row.name, dataset_dir, pattern.replace('%s', '*')) if pattern else find_word(
                row.name, dataset_dir, split_name, *SPLIT_WORDS)
            classes = highest_label(everywhere, multi_label, skip_corrupt) + 1
        if names and max(names) >= classes:
            raise DatasetError(f'{os.path.join(dataset_dir, dataset_utils.LABELS_FILENAME)} names a class '
                               f'{max(names)}, but the classes of {row.name} are 0 to {classes - 1}.')
        self._features = {ENCODED: tf.io.FixedLenFeature([], tf.string), LABEL: _label_feature(multi_label)}
        label_item = slim.tfexample_decoder.Tensor(LABEL, shape=None if multi_label else [])
        items = {'image': slim.tfexample_decoder.Image(shape=row.shape, channels=row.channels), 'label': label_item}
        features = {'image/format': tf.io.FixedLenFeature([], tf.string, 'jpeg'), **self._features}
        if 'object/bbox' in row.items_to_descriptions:
            boxes = {f'image/object/bbox/{side}': tf.io.VarLenFeature(tf.float32)
                     for side in ('ymin', 'xmin', 'ymax', 'xmax')}
            features.update(boxes, **{'image/class/text': tf.io.FixedLenFeature([], tf.string, ''),
                                      'image/object/bbox/label': tf.io.VarLenFeature(tf.int64)})
            items.update({'label_text': slim.tfexample_decoder.Tensor('image/class/text'),
                          'object/bbox': slim.tfexample_decoder.BoundingBox(list(boxes)),
                          'object/label': slim.tfexample_decoder.Tensor('image/object/bbox/label')})
        super().__init__(files=files, num_samples=num_samples, num_bytes=sum(sizes), name=row.name,
                         split_name=split_name, num_classes=classes, channels=row.channels, labels_to_names=names,
                         multi_label=multi_label, reader=reader or tf.compat.v1.TFRecordReader,
                         decoder=slim.tfexample_decoder.TFExampleDecoder(features, items),
                         items_to_descriptions=row.items_to_descriptions, licence=row.licence)

    def _parse(self, record):
        example = tf.io.parse_single_example(record, self._features)
        label = example[LABEL]
        return {'image': example[ENCODED], 'label': label.values if self.multi_label else label}

    def _why(self, record):
        return fault(record, self.multi_label)


def _label_feature(multi_label):
    return tf.io.VarLenFeature(tf.int64) if multi_label else tf.io.FixedLenFeature([], tf.int64)


def fault(record: bytes, multi_label: bool = False) -> str | None:
    """What keeps a record from being TF-Slim's Example of an image, in a sentence; None if nothing does."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return NO_EXAMPLE
    kinds = {key: value.WhichOneof('kind') for key, value in features.items()}
    needed = {ENCODED: 'bytes_list', **({} if multi_label and LABEL not in kinds else {LABEL: 'int64_list'})}
    if any(kinds.get(key) != kind for key, kind in needed.items()):
        has = ', '.join(f'{key} ({str(kinds[key]).removesuffix("_list")})' for key in sorted(kinds)) or 'none'
        return (f'the features {ENCODED} (bytes) and {LABEL} (int64) are needed, as in the files of TF-Slim, '
                f'but it has {has}.')
    labels = len(features[LABEL].int64_list.value)
    if labels != 1 and not multi_label:
        return (f'it has {labels} labels, and only with multi_label=True (--class_mode=multilabel, or --multi_label) '
                'may an image have another number than one.')
    images = len(features[ENCODED].bytes_list.value)
    return None if images == 1 else f'its {ENCODED} should be one image, but has {images} values.'


def check_features(files: list[str]) -> None:
    """DatasetError if the first record has not the features that are needed; damage is for later."""
    for file in files:
        for record in read_records(file):
            wrong = fault(record, multi_label=True)
            if wrong and wrong != NO_EXAMPLE:
                raise DatasetError(f'{file} record 0 cannot be used: {wrong}')
            return


def highest_label(files: list[str], multi_label: bool, skip_corrupt: bool = False) -> int:
    """The highest label in the files, with `skip_corrupt` in those of their records that can be used.

    Raises:
      DatasetError: if they are too large to search (over 4 GiB), or a record cannot be used.
    """
    if sum(map(size_of, files)) > COUNT_UP_TO:
        raise DatasetError(f'{os.path.dirname(files[0])} holds over {COUNT_UP_TO / 2**30:.2g} GiB of records, too much '
                           f'to look for the highest label: put a {dataset_utils.LABELS_FILENAME} with a line like '
                           f'"0:daisy" for each class beside them, or give num_classes.')
    highest = 0
    for file in map(nearby.mended, files) if skip_corrupt else files:
        count_records(file)
        for number, record in enumerate(read_records(file)):
            wrong = fault(record, multi_label)
            if wrong and skip_corrupt:
                continue
            if wrong:
                raise DatasetError(f'{file} record {number} cannot be used: {wrong}')
            labels = tf.train.Example.FromString(record).features.feature[LABEL].int64_list.value
            highest = max([highest, *labels])
    return highest


def read_records(file: str) -> Iterator[bytes]:
    """The records of a file that `count_records` finds whole; without TensorFlow, so that it works in any graph."""
    with reading(file) as records:
        while header := records.read(12):
            yield records.read(struct.unpack('<Q', header[:8])[0])
            records.read(4)


def find_files(name: str, dataset_dir: str | None, pattern: str) -> list[str]:
    """The files of the folder whose names match the pattern, sorted.

    Raises:
      DatasetError: if there is no such folder, or no such file in it.
    """
    if not dataset_dir:
        raise DatasetError(f'{name} needs dataset_dir, the folder that holds its files {pattern}.')
    folder, wanted = os.path.split(os.path.join(dataset_dir, pattern))
    there = _there(name, folder)
    files = [os.path.join(folder, file) for file in fnmatch.filter(there, wanted)]
    if not files:
        raise DatasetError(f'no file of {name} in {folder} matches {wanted}; {listing(there)}.')
    return files


def find_word(name: str, dataset_dir: str | None, *splits: str) -> list[str]:
    """The files of the folder whose names hold one of the splits as a word, sorted.

    Raises:
      DatasetError: if there is no such folder, or no such file in it.
    """
    if not dataset_dir:
        raise DatasetError(f'{name} needs dataset_dir, the folder that holds its TFRecord files.')
    there = [file for file in _there(name, dataset_dir)
             if not file.startswith('.') and not file.lower().endswith(NO_RECORDS)]
    known = {split.lower() for split in (*SPLIT_WORDS, *splits)}
    # The last such word: a dataset's own name comes before, and may hold others.
    split_of = {file: next((word for word in reversed(re.findall('[a-z0-9]+', file.lower())) if word in known), None)
                for file in there}
    files = [os.path.join(dataset_dir, file) for file in there if split_of[file] in {split.lower() for split in splits}]
    if files:
        return files
    others = [split for split in SPLIT_WORDS if split in split_of.values()]
    if others:
        raise unknown(f'split of {dataset_dir}', splits[0], others)
    raise DatasetError(f'no file in {dataset_dir} has {splits[0]} as a word of its name, as train-00000-of-00010 and '
                       f'birds_train.tfrecord have train: give file_pattern, with %s for the split; {listing(there)}.')


def _there(name, folder):
    if not tf.io.gfile.isdir(folder):
        raise DatasetError(f'there is no folder {folder}, where the files of {name} should be.')
    return sorted(tf.io.gfile.listdir(folder))


def number_of_shards(file: str) -> int:
    """The N of a file `...-of-N`; 1 for any other name."""
    shards = re.search(r'-of-(\d+)', os.path.basename(file))
    return int(shards[1]) if shards else 1


def size_of(file: str) -> int:
    """The size of a file in bytes; DatasetError if it is not there or no file."""
    try:
        status = tf.io.gfile.stat(file)
    except tf.errors.OpError as error:
        raise DatasetError(f'{file} cannot be read: {reason(error)}') from None
    if status.is_directory:
        raise DatasetError(f'{file} is a folder, but should be a TFRecord file.')
    return status.length


def count_records(file: str) -> int:
    """The number of records in a TFRecord file, by walking from header to header.

    Raises:
      DatasetError: if the file is cut short or is no TFRecord file; it says at which record and byte.
    """
    size, at, count = size_of(file), 0, 0
    with reading(file) as records:
        first = records.read(3)
        while at < size:
            records.seek(at)
            header = records.read(12)  # length: uint64, its checksum: uint32; then the data and its checksum
            end = at + 16 + struct.unpack('<Q', header[:8])[0] if len(header) == 12 else at + 16
            if end > size and first == b'\x1f\x8b\x08':
                raise DatasetError(f'{file} is compressed, and is read only when it is not: unpack it by gzip -dc.')
            if end > size:
                raise DatasetError(f'{file} is cut short or damaged, or is no TFRecord file: its record {count}, at '
                                   f'byte {at}, would end at byte {end}, but the file has {size} bytes.')
            at, count = end, count + 1
    return count
