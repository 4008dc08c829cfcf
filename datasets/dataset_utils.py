"""TF-Slim's module of this name: labels.txt, and the features of an Example."""
import os
from collections.abc import Iterable, Mapping

import tensorflow as tf

from datasets.provider import DatasetError

LABELS_FILENAME = 'labels.txt'


def has_labels(dataset_dir: str, filename: str = LABELS_FILENAME) -> bool:
    """Whether the folder holds a file of class names."""
    return tf.io.gfile.exists(os.path.join(dataset_dir, filename))


def write_label_file(labels_to_class_names: Mapping[int, str], dataset_dir: str,
                     filename: str = LABELS_FILENAME) -> None:
    """Writes a line `label:name` for each class."""
    with tf.io.gfile.GFile(os.path.join(dataset_dir, filename), 'w') as file:
        file.write(''.join(f'{label}:{name}\n' for label, name in labels_to_class_names.items()))


def read_label_file(dataset_dir: str, filename: str = LABELS_FILENAME) -> dict[int, str]:
    """Reads what `write_label_file` writes: from label to class name.

    Raises:
      DatasetError: if the file cannot be read, or a line is not `label:name` with a label of its own.
    """
    path = os.path.join(dataset_dir, filename)
    try:
        with tf.io.gfile.GFile(path, 'rb') as file:
            lines = file.read().decode('utf-8-sig').splitlines()  # Windows may begin with a mark
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path} cannot be read as text of lines like "0:daisy": {error}') from None
    names: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label, colon, name = line.partition(':')
        if not (colon and label.strip().isdecimal() and name.strip()):
            raise DatasetError(f'{path}, line {number}: {line!r} is not of the form "label:name", as in "0:daisy".')
        if int(label) in names:
            raise DatasetError(f'{path}, line {number}: the label {int(label)} stands twice.')
        names[int(label)] = name.strip()
    if not names:
        raise DatasetError(f'{path} is empty; it should have a line like "0:daisy" for each class.')
    return names


def int64_feature(values: int | Iterable[int]) -> tf.train.Feature:
    """A feature of one or more integers."""
    values = list(values) if isinstance(values, Iterable) else [values]
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def bytes_feature(values: bytes) -> tf.train.Feature:
    """A feature of one string of bytes."""
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[values]))


def float_feature(values: float | Iterable[float]) -> tf.train.Feature:
    """A feature of one or more floats."""
    values = list(values) if isinstance(values, Iterable) else [values]
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def image_to_tfexample(image_data: bytes, image_format: bytes, height: int, width: int,
                       class_id: int) -> tf.train.Example:
    """The Example that TF-Slim's converters write for an image: its encoded bytes, format, size and label."""
    return tf.train.Example(features=tf.train.Features(feature={
        'image/encoded': bytes_feature(image_data),
        'image/format': bytes_feature(image_format),
        'image/class/label': int64_feature(class_id),
        'image/height': int64_feature(height),
        'image/width': int64_feature(width),
    }))
