"""Everything in TensorFlow Datasets that is images with classes: `tfds:NAME`, `tfds:NAME/CONFIG`, `tfds:NAME:VERSION`.

`dataset_dir` is TensorFlow Datasets' data_dir, ~/tensorflow_datasets if not given. What is not prepared there yet is
downloaded and prepared by TensorFlow Datasets itself. A split is one of its own, or a part in its words, such as
`train[:90%]`; of a dataset that has `train` alone a fraction is held out as `validation`. Images come as they are
encoded, and in our order: that of TensorFlow Datasets could not be continued at any image.
"""
import difflib
import os
from typing import Any

import numpy as np
import tensorflow as tf

from datasets.image_folder import check_fraction
from datasets.provider import Dataset, DatasetError, IndexDecoder, IndexReader, RecordDecoder, shuffled, unknown
from datasets.tfrecords import RecordFiles, size_of

TENSORFLOW_DATASETS = 'tfds:NAME'


def open_split(row, split_name, dataset_dir=None, file_pattern=None, reader=None,
               validation_fraction: float | None = None, image_key: str | None = None,
               label_key: str | None = None) -> Dataset:
    """Opens a split; see `registry.DatasetRow.get_split`.

    Args:
      row: the registry's row, `tfds:NAME` its name.
      split_name: such as 'train', or 'train[:90%]'.
      dataset_dir: data_dir of TensorFlow Datasets.
      file_pattern: must be None.
      reader: must be None.
      validation_fraction: the part that is held out of a dataset without another split than train, 0.1 if None.
      image_key: the feature that is the image; None where there is only one, or the dataset says which.
      label_key: likewise the label: a class, or a sequence of classes.

    Raises:
      DatasetError: TensorFlow Datasets is not installed, or has no such dataset, or cannot prepare it; or this has no
        such split, or is not images with classes.
    """
    if file_pattern or reader:
        raise DatasetError(f'{row.name} has no file_pattern and no reader: TensorFlow Datasets knows its own files.')
    builder = _find(row.name, dataset_dir)
    info = builder.info
    split = _find_split(row.name, info, split_name, validation_fraction)
    image_key, label_key = _find_keys(row.name, info, image_key, label_key)
    image, label = info.features[image_key], info.features[label_key]
    multi_label = hasattr(label, 'feature')
    label = label.feature if multi_label else label
    channels = {1: 1, 3: 3, 4: 3, None: 3}.get(image.shape[-1])
    dtype = np.dtype(image.np_dtype).name
    if not channels or dtype not in ('uint8', 'uint16'):
        raise DatasetError(f'the {image_key} of {row.name} is {dtype} {image.shape}, and not an image of grey or '
                           f'colour, uint8 with 1, 3 or 4 channels.')
    if not label.num_classes:
        raise DatasetError(f'{row.name} does not say how many classes its {label_key} has.')
    kinds = {'tfrecord': Records, 'array_record': RandomAccess}
    if info.file_format.value not in kinds:
        raise DatasetError(f'{row.name} is prepared as {info.file_format.value} files in {builder.data_dir}, of which '
                           f'only {" and ".join(kinds)} are read: prepare it anew as one of them.')
    return kinds[info.file_format.value](
        builder, split, image_key, label_key, name=row.name, split_name=split_name, num_classes=label.num_classes,
        channels=channels, labels_to_names={i: label.int2str(i) for i in range(label.num_classes)},
        multi_label=multi_label, items_to_descriptions=row.items_to_descriptions,
        licence=str(info.redistribution_info.license or '').strip() or row.licence)


def _import(name: str) -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DatasetError(f"{name} needs TensorFlow Datasets ({error}): pip install 'slim-zoo[tfds]'.") from None
    return tensorflow_datasets


def _find(name, data_dir):
    """The builder of a dataset that is prepared."""
    tfds = _import(name)
    wanted = name.partition(':')[2]
    try:
        builder = tfds.builder(wanted, data_dir=data_dir)
    except Exception as error:  # of many kinds, an AssertionError among them
        near = difflib.get_close_matches(wanted, tfds.list_builders(), n=1)
        raise DatasetError(f'TensorFlow Datasets cannot open {wanted!r}'
                           f'{f" (did you mean {near[0]!r}?)" if near and near[0] != wanted else ""}: '
                           f'{_first_line(error)}') from None
    if not builder.info.splits:
        try:
            builder.download_and_prepare()
        except Exception as error:
            raise DatasetError(f'{name} is not prepared in {builder.data_dir}, and TensorFlow Datasets could not '
                               f'prepare it: {type(error).__name__}: {_first_line(error)}') from None
    return builder


def _first_line(error):
    return f'{str(error).strip().splitlines()[0].rstrip(".:")}.' if str(error).strip() else f'{type(error).__name__}.'


def _find_split(name, info, split_name, validation_fraction):
    """The split in TensorFlow Datasets' words."""
    splits = list(info.splits)
    if splits == ['train'] and split_name in ('train', 'validation'):
        fraction, size = check_fraction(validation_fraction), info.splits['train'].num_examples
        count = min(max(round(size * fraction), 1 if fraction else 0), size - 1)
        split = f'train[:{count}]' if split_name == 'validation' else f'train[{count}:]'
        if split == 'train[:0]':
            raise DatasetError(f'the split validation of {name} has no images with validation_fraction={fraction}.')
        return split
    if validation_fraction is not None:
        raise DatasetError(f'{name} has the splits {", ".join(splits)}, so there is no validation_fraction to choose.')
    try:
        if info.splits[split_name].num_examples:
            return split_name
    except Exception:  # a ValueError, a KeyError, ...
        raise unknown(f'split of {name}', split_name, splits) from None
    raise DatasetError(f'the split {split_name} of {name} has no images.')


def _find_keys(name, info, image_key, label_key):
    """The features that are the image and the label."""
    features = _import(name).features
    kinds = {key: info.features[key] for key in info.features}
    images = [key for key, kind in kinds.items()
              if isinstance(kind, features.Image) and not isinstance(kind, features.LabeledImage)]
    labels = [key for key, kind in kinds.items()
              if isinstance(getattr(kind, 'feature', kind), features.ClassLabel)]
    supervised = [key for key in info.supervised_keys or () if isinstance(key, str)]
    chosen = []
    for what, given, found in (('image', image_key, images), ('label', label_key, labels)):
        if given and given not in found:
            raise unknown(f'{what} of {name}', given, found)
        if not found:
            raise DatasetError(f'{name} is not images with classes: none of its features {", ".join(kinds)} is '
                               f'{"an image" if what == "image" else "a class"}.')
        stated = [key for key in [given, *supervised] if key in found] or (found if len(found) == 1 else [])
        if not stated:
            raise DatasetError(f'{name} has more than one {what}: {what}_key should be {" or ".join(found)}.')
        chosen.append(stated[0])
    return chosen


class _Parsed(Dataset):
    """Parses the records of TensorFlow Datasets."""

    def _set_features(self, builder, image_key, label_key):
        tfds, features = _import(''), builder.info.features
        self._image_key, self._label_key = image_key, label_key
        self._features = tfds.features.FeaturesDict({key: features[key] for key in (image_key, label_key)})
        self._decoders = {image_key: tfds.decode.SkipDecoding()}

    def _parse(self, record):
        example = self._features.deserialize_example(record, decoders=self._decoders)
        return {'image': example[self._image_key], 'label': tf.cast(example[self._label_key], tf.int64)}


class Records(_Parsed, RecordFiles):
    """A split in TFRecord files, in blocks and shuffled as `tfrecords.TFRecords` is."""

    def __init__(self, builder, split, image_key, label_key, **fields):
        """Takes what to read, and the fields of `Dataset` that do not follow from it."""
        self._set_features(builder, image_key, label_key)
        parts = [part for part in builder.info.splits[split].file_instructions if part.take]
        sizes = [size_of(os.fspath(part.filename)) * part.take / part.examples_in_shard for part in parts]
        super().__init__(files=[os.fspath(part.filename) for part in parts], parts=[(p.skip, p.take) for p in parts],
                         num_samples=sum(part.take for part in parts), num_bytes=int(sum(sizes)),
                         reader=tf.compat.v1.TFRecordReader, decoder=RecordDecoder(self._parse, fields['channels']),
                         **fields)
        if any(part.take != part.examples_in_shard for part in parts):
            self.data_sources = []  # TF-Slim's reader, which takes whole files, would read more than the split


class RandomAccess(_Parsed):
    """A split in ArrayRecord files, of which any record can be read at once."""

    def __init__(self, builder, split, image_key, label_key, **fields):
        """Takes what to read, and the fields of `Dataset` that do not follow from it."""
        self._set_features(builder, image_key, label_key)
        raw = _import('').decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split, deserialize_method=raw)
        super().__init__(num_samples=len(self._source), data_sources=[str(i) for i in range(len(self._source))],
                         reader=IndexReader, decoder=IndexDecoder(self._load, fields['channels']), **fields)

    def _epoch(self, key, num_readers):
        order = tf.range(self.num_samples, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices(order if key is None else shuffled(order, key))

    def _load(self, index):
        record = tf.numpy_function(lambda number: self._source[int(number)], [index], tf.string)
        record.set_shape([])
        return {**self._parse(record), 'source': self.sources()(index)}

    def sources(self):
        """See `Dataset.sources`."""
        name = f'{self.name} {self.split_name} record '
        return lambda index: tf.strings.join([name, tf.strings.as_string(index)])

    def _examples(self):
        for number in range(self.num_samples):
            example = {key: value.numpy() for key, value in self._parse(self._source[number]).items()}
            label = tuple(example['label'].tolist()) if self.multi_label else int(example['label'])
            yield f'{self.name} {self.split_name} record {number}', example['image'], label
