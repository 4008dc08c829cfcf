"""The files of an extraction: shards in four formats, each whole or not at all, and what tells of them."""
import contextlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from training.console import RunError

INDEX_FILE = 'index.json'
_PART = '.writing-'
_COPIED = 2**22     # bytes at a time
_CHUNK = 2**20      # bytes of a chunk of HDF5
_FOR_NAMES = 1024   # bytes that HDF5 may need for a name, or to find a chunk again


class Output(NamedTuple):
    """What is written of an endpoint: its name in the files, the shape for one image, the type."""

    key: str
    shape: tuple[int, ...]
    dtype: str


def key_of(endpoint: str, file_format: str) -> str:
    """The name of an endpoint in the files: where `/` would make a folder or a group of it, `.` stands in its place."""
    return endpoint.replace('/', '.') if file_format in ('npy', 'hdf5') else endpoint


def shard_name(number: int, count: int, file_format: str) -> str:
    """The name of a shard: a file, or for npy a folder."""
    ending = '' if file_format == 'npy' else f'.{file_format}'
    return f'features-{number:05d}-of-{count:05d}{ending}'


class _Npy:
    """A folder with `KEY.npy` for each endpoint, rows added at the end, and `names.npy`, `labels.npy`."""

    def __init__(self, path, outputs, num_images):
        self.path, self._outputs, self._count = path, outputs, 0
        self.files = {}
        for output in outputs:
            file = os.path.join(path, *f'{output.key}.npy'.split('/'))
            os.makedirs(os.path.dirname(file), exist_ok=True)
            self.files[output.key] = open(file, 'wb')
        self._write_headers()

    def _write_headers(self):
        # numpy leaves room for the first dimension to grow, so that the header's length stays.
        for output in self._outputs:
            self.files[output.key].seek(0)
            np.lib.format.write_array_header_1_0(self.files[output.key], {
                'descr': np.lib.format.dtype_to_descr(np.dtype(output.dtype)), 'fortran_order': False,
                'shape': (self._count, *output.shape)})

    def add(self, values, names, labels):
        for key, value in values.items():
            self.files[key].write(np.ascontiguousarray(value).data)
        self._count += len(names)

    def close(self, names, labels):
        self._write_headers()
        for file in self.files.values():
            file.close()
        np.save(os.path.join(self.path, 'names.npy'), np.array(names, np.str_))
        if labels is not None:
            np.save(os.path.join(self.path, 'labels.npy'), np.array(labels, np.int64))

    def abandon(self):
        for file in self.files.values():
            file.close()


class _Npz(_Npy):
    """The same files in one, as `np.load` reads it; the parts lie beside it first, so that no shard need fit into
    memory."""

    def __init__(self, path, outputs, num_images):
        super().__init__(f'{path}.parts', outputs, num_images)
        self._archive = path

    def close(self, names, labels):
        super().close(names, labels)
        with zipfile.ZipFile(self._archive, 'w', allowZip64=True) as archive:
            # Not np.savez: it writes the time of day into the file.
            told = ['names.npy'] if labels is None else ['names.npy', 'labels.npy']
            for part in [*(f'{key}.npy' for key in self.files), *told]:
                source = os.path.join(self.path, *part.split('/'))
                with open(source, 'rb') as values, archive.open(zipfile.ZipInfo(part), 'w', force_zip64=True) as member:
                    shutil.copyfileobj(values, member, _COPIED)
                os.remove(source)


class _Hdf5:
    """A file with a dataset for each endpoint, and `names`, `labels`."""

    def __init__(self, path, outputs, num_images):
        import h5py

        self._path, self._text = path, h5py.string_dtype()
        self._file = h5py.File(path, 'w')
        try:
            size = _FOR_NAMES * (num_images + 1000)
            for output in outputs:
                row = max(1, math.prod(output.shape)) * np.dtype(output.dtype).itemsize
                rows = min(max(1, _CHUNK // row), num_images)
                size += -(-num_images // rows) * (rows * row + _FOR_NAMES)
                self._file.create_dataset(output.key, (0, *output.shape), output.dtype, maxshape=(None, *output.shape),
                                          chunks=(rows, *output.shape))
            _reserve(path, size)
        except BaseException:
            self._file.close()
            raise

    def add(self, values, names, labels):
        for key, value in values.items():
            dataset = self._file[key]
            count = len(dataset)
            dataset.resize(count + len(value), axis=0)
            dataset[count:] = value

    def close(self, names, labels):
        self._file.create_dataset('names', data=[os.fsencode(name) for name in names], dtype=self._text)
        if labels is not None:
            self._file.create_dataset('labels', data=np.array(labels, np.int64))
        self._file.flush()
        size = self._file.id.get_filesize()
        self._file.close()
        os.truncate(self._path, size)       # what was reserved and not used

    def abandon(self):
        self._file.close()


def _reserve(path, size):
    """Takes room on the disk: where it runs out under HDF5, the library crashes and takes Python with it."""
    if hasattr(os, 'posix_fallocate'):
        with open(path, 'r+b') as file:
            os.posix_fallocate(file.fileno(), 0, size)


class _TFRecord:
    """A file with a `tf.train.Example` for each image: `image/name`, `image/class/label`, and for each endpoint, under
    its name, a serialized tensor."""

    def __init__(self, path, outputs, num_images):
        self._file = tf.io.TFRecordWriter(path)

    def add(self, values, names, labels):
        for row, name in enumerate(names):
            features = {'image/name': _bytes(os.fsencode(name))}
            if labels is not None:
                features['image/class/label'] = tf.train.Feature(
                    int64_list=tf.train.Int64List(value=[int(labels[row])]))
            for key, value in values.items():
                features[key] = _bytes(tf.make_tensor_proto(value[row]).SerializeToString())
            example = tf.train.Example(features=tf.train.Features(feature=features))
            # The order of a map's entries is otherwise left to chance.
            self._file.write(example.SerializeToString(deterministic=True))

    def close(self, names, labels):
        self._file.close()

    def abandon(self):
        with contextlib.suppress(tf.errors.OpError):
            self._file.close()


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


_FORMATS = {'npz': _Npz, 'npy': _Npy, 'hdf5': _Hdf5, 'tfrecord': _TFRecord}


class Shard:
    """A shard that is being written; it appears when `close` has written it whole.

    Args:
      folder: where to.
      name: of the shard, see `shard_name`.
      file_format: one of `extract_config.FORMATS`.
      outputs: the endpoints.
      num_images: that will be added, at most.
      has_labels: whether they have labels.

    Raises:
      RunError: it cannot be written; so do the methods.
    """

    def __init__(self, folder: str, name: str, file_format: str, outputs: Sequence[Output], num_images: int,
                 has_labels: bool):
        for entry in os.listdir(folder):
            if entry.startswith(f'{_PART}{name}-'):     # of a run that was killed
                shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)
        self._path = os.path.join(folder, name)
        self._names: list[str] = []
        self._labels: list[int] | None = [] if has_labels else None
        with writing(self._path):
            # A name of its own, so that two processes that write the same shard do not write into one file.
            self._work = tempfile.mkdtemp(prefix=f'{_PART}{name}-', dir=folder)
            self._part = os.path.join(self._work, name)
            try:
                self._writer: Any = _FORMATS[file_format](self._part, outputs, num_images)
            except BaseException:
                shutil.rmtree(self._work, ignore_errors=True)
                raise

    def add(self, values: Mapping[str, np.ndarray], names: Sequence[str], labels: Sequence[int]) -> None:
        """Adds images: values by key, [images, *shape]; their names and labels."""
        self._names += names
        if self._labels is not None:
            self._labels += labels
        with writing(self._path):
            self._writer.add(values, names, None if self._labels is None else labels)

    def close(self) -> None:
        """The shard is whole."""
        with writing(self._path):
            self._writer.close(self._names, self._labels)
            if not os.path.isdir(self._path):       # a folder cannot be replaced; what it holds is the same
                os.replace(self._part, self._path)
        shutil.rmtree(self._work, ignore_errors=True)

    def abandon(self) -> None:
        """The shard will not be whole: leaves nothing of it."""
        self._writer.abandon()
        shutil.rmtree(self._work, ignore_errors=True)


@contextlib.contextmanager
def writing(path: str, then: str = ' What is there is whole, and the same command goes on from it.') -> Iterator[None]:
    """Turns a full disk and the like into a RunError: what cannot be written, why, and what can be done."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        text = getattr(error, 'strerror', None) or getattr(error, 'message', None) or str(error)
        if then and isinstance(error, FileNotFoundError):
            then = ' If another process works on the same shards, give each its --shard_index.'
        raise RunError(f'{path} cannot be written: {text.split("; ")[-1].rstrip(".")}.{then}') from None


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Gives a path to write to; at the end the file is moved to `path`, whoever else does so."""
    folder, name = os.path.split(path)
    with tempfile.TemporaryDirectory(prefix=_PART, dir=folder or '.') as work:
        part = os.path.join(work, name)
        yield part
        os.replace(part, path)


def write_json(path: str, content: object) -> None:
    """Writes a JSON file, whole or not at all."""
    with whole_file(path) as part, open(part, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1)
        file.write('\n')
