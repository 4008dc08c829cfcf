"""Datasets in TFRecord files of TF-Slim's layout: an Example an image, with `image/encoded`, `image/class/label`."""
import fnmatch
import os
import re
import struct

import tensorflow as tf
import tf_slim as slim

from datasets import dataset_utils
from datasets.provider import Dataset, DatasetError, listing, reason, shuffled

COUNT_UP_TO = 4 * 2**30  # Bytes of records that are counted, whatever the nominal number of images.
SHUFFLED_AT_ONCE = 128 * 2**20  # Bytes of records shuffled together: all of MNIST, 1,200 photos of ImageNet.
FILES_AT_ONCE = 16

FEATURES = {'image/encoded': tf.io.FixedLenFeature([], tf.string),
            'image/class/label': tf.io.FixedLenFeature([], tf.int64)}


class TFRecords(Dataset):
    """A split in TFRecord files.

    `num_samples` is the number of records in the files. It is counted, except where the files are too large to walk
    through (over 4 GiB) and none is missing; then it is TF-Slim's nominal number.
    """

    def __init__(self, row, split_name, dataset_dir, file_pattern=None, reader=None):
        """Finds and counts the files; see `registry.DatasetRow.get_split`."""
        self.files = find_files(row.name, dataset_dir, (file_pattern or row.file_pattern).replace('%s', split_name))
        sizes = [size_of(file) for file in self.files]
        complete = len(self.files) == number_of_shards(self.files[0])
        nominal = row.splits[split_name] if complete and sum(sizes) > COUNT_UP_TO else None
        num_samples = nominal or sum(map(count_records, self.files))
        if not num_samples:
            raise DatasetError(f'{", ".join(self.files)} of {row.name} {split_name} holds no records.')
        self._block = max(1, SHUFFLED_AT_ONCE * num_samples // sum(sizes))
        names = dataset_utils.read_label_file(dataset_dir) if dataset_utils.has_labels(dataset_dir) else None
        if names and max(names) >= row.num_classes:
            raise DatasetError(f'{os.path.join(dataset_dir, dataset_utils.LABELS_FILENAME)} names a class '
                               f'{max(names)}, but the classes of {row.name} are 0 to {row.num_classes - 1}.')
        items = {'image': slim.tfexample_decoder.Image(shape=row.shape, channels=row.channels),
                 'label': slim.tfexample_decoder.Tensor('image/class/label', shape=[])}
        features = {'image/format': tf.io.FixedLenFeature([], tf.string, 'jpeg'), **FEATURES}
        if 'object/bbox' in row.items_to_descriptions:
            boxes = {f'image/object/bbox/{side}': tf.io.VarLenFeature(tf.float32)
                     for side in ('ymin', 'xmin', 'ymax', 'xmax')}
            features.update(boxes, **{'image/class/text': tf.io.FixedLenFeature([], tf.string, ''),
                                      'image/object/bbox/label': tf.io.VarLenFeature(tf.int64)})
            items.update({'label_text': slim.tfexample_decoder.Tensor('image/class/text'),
                          'object/bbox': slim.tfexample_decoder.BoundingBox(list(boxes)),
                          'object/label': slim.tfexample_decoder.Tensor('image/object/bbox/label')})
        super().__init__(name=row.name, split_name=split_name, num_samples=num_samples, num_classes=row.num_classes,
                         channels=row.channels, labels_to_names=names, data_sources=self.files,
                         reader=reader or tf.compat.v1.TFRecordReader,
                         decoder=slim.tfexample_decoder.TFExampleDecoder(features, items),
                         items_to_descriptions=row.items_to_descriptions)

    def _epoch(self, key, num_readers):
        def read(file):
            records = tf.data.TFRecordDataset(file, buffer_size=2**20).enumerate()
            return records.map(lambda number, record: (file, number, record))

        def shuffle(number, block):
            order = shuffled(tf.range(tf.shape(block[0])[0]), tf.stack([key[0], key[1] - (number + 1) * 2**32]))
            return tuple(tf.gather(part, order) for part in block)

        if key is None:
            return tf.data.Dataset.from_tensor_slices(self.files).flat_map(read)
        files = tf.data.Dataset.from_tensor_slices(shuffled(tf.constant(self.files), key))
        # Not more readers than files; AUTOTUNE is below zero.
        cycle = min(FILES_AT_ONCE, len(self.files))
        records = files.interleave(read, cycle_length=cycle, num_parallel_calls=min(num_readers, cycle),
                                   deterministic=True)
        # Blocks and not Dataset.shuffle, whose order depends on TensorFlow's global seed.
        blocks = records.batch(self._block).enumerate().map(lambda number, *block: shuffle(number, block[0]))
        return blocks.prefetch(1).unbatch()

    def _load(self, file, number, record):
        example = tf.io.parse_single_example(record, FEATURES)
        name = tf.strings.split(file, '/')[-1]
        return {'image': example['image/encoded'], 'label': example['image/class/label'],
                'source': tf.strings.join([name, ' record ', tf.strings.as_string(number)])}

    def _examples(self):
        for file in self.files:
            count_records(file)
            number = 0
            try:
                for number, record in tf.data.TFRecordDataset(file).enumerate().as_numpy_iterator():
                    example = tf.io.parse_single_example(record, FEATURES)
                    source = f'{os.path.basename(file)} record {number}'
                    yield source, example['image/encoded'].numpy(), int(example['image/class/label'])
                    number += 1
            except tf.errors.OpError as error:
                raise DatasetError(f'{file} cannot be used from record {number} on: {reason(error)}') from None


def find_files(name: str, dataset_dir: str | None, pattern: str) -> list[str]:
    """The files of the folder whose names match the pattern, sorted.

    Raises:
      DatasetError: if there is no such folder, or no such file in it.
    """
    if not dataset_dir:
        raise DatasetError(f'{name} needs dataset_dir, the folder that holds its files {pattern}.')
    folder, wanted = os.path.split(os.path.join(dataset_dir, pattern))
    if not tf.io.gfile.isdir(folder):
        raise DatasetError(f'there is no folder {folder}, where the files of {name} should be.')
    there = sorted(tf.io.gfile.listdir(folder))
    files = [os.path.join(folder, file) for file in fnmatch.filter(there, wanted)]
    if not files:
        raise DatasetError(f'no file of {name} in {folder} matches {wanted}; {listing(there)}.')
    return files


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
    try:  # TensorFlow's GFile reads half a megabyte after each seek.
        records = (tf.io.gfile.GFile if '://' in file else open)(file, 'rb')
    except OSError as error:
        raise DatasetError(f'{file} cannot be read: {error.strerror}.') from None
    with records:
        while at < size:
            records.seek(at)
            header = records.read(12)  # length: uint64, its checksum: uint32; then the data and its checksum
            end = at + 16 + struct.unpack('<Q', header[:8])[0] if len(header) == 12 else at + 16
            if end > size:
                raise DatasetError(f'{file} is cut short or damaged, or is no TFRecord file: its record {count}, at '
                                   f'byte {at}, would end at byte {end}, but the file has {size} bytes.')
            at, count = end, count + 1
    return count
