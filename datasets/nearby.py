"""Copies of a dataset's files: of all, nearer to the processor; of damaged TFRecord files, with the damage marked.

A copy in memory lies in `ram://`, a file system of TensorFlow's own that ends with the process; so TensorFlow reads it
as it reads any other file, in the same order.
"""
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from datasets.provider import DatasetError, reading, reason

MEMORY = 'ram://slim-zoo'
AT_ONCE = 16    # files that are copied at once: those of gs:// take their time
BLOCK = 2**22


def copy_files(files: Sequence[str], folder: str | None,
               begin: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None) -> list[str]:
    """Copies files to a folder, each to a subfolder that its path, size and time name; those that are there stay.

    Args:
      files: paths.
      folder: where to, on a fast disk, whole or not at all; processes and trainings may share it. None: into memory.
      begin: is called with the number of bytes to be read, and returns what is called with those that were read since.

    Returns:
      The paths of the copies, in the same order; a file that cannot be read, or is empty, is left where it is, for
      the reader to meet it there.

    Raises:
      DatasetError: the folder cannot be written, or there is too little room.
    """
    root = MEMORY if folder is None else folder
    try:
        copies = [_place(file, root) for file in files]
        missing = {copy: (file, size) for file, (copy, size) in zip(files, copies, strict=True)
                   if size and not tf.io.gfile.exists(copy)}
        needed = sum(size for _, size in missing.values())
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
        room = _free_memory() if folder is None else shutil.disk_usage(folder).free
        if needed > room:
            raise DatasetError(f'the cache needs {needed / 2**30:.3g} GiB, but {folder or "the memory"} has only '
                               f'{room / 2**30:.3g} GiB left.')
        tell, unread = begin(needed), set()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for copy, size in zip(missing, pool.map(lambda copy: _copy(missing[copy][0], copy), missing), strict=True):
                tell(size)
                if not size:
                    unread.add(copy)
    except tf.errors.OpError as error:
        raise DatasetError(f'the cache {folder or "in memory"} cannot be filled: {reason(error)}') from None
    except OSError as error:
        raise DatasetError(f'the cache {folder} cannot be written: {error.strerror}.') from None
    return [copy if size and copy not in unread else file for file, (copy, size) in zip(files, copies, strict=True)]


def mended(file: str) -> str:
    """The file itself if all its records are sound, or else a copy in memory with records that are no Examples for
    those that are damaged; what lies behind a wrong length is lost, and one of them stands for all of it.

    Raises:
      DatasetError: it cannot be read.
    """
    from datasets import framing  # which knows tfrecords, as this is known there
    if all(record.fault is None for record in framing.walk(file)):
        return file
    copy, _ = _place(file, f'{MEMORY}/mended')
    tf.io.gfile.makedirs(os.path.dirname(copy))
    with tf.io.TFRecordWriter(copy) as writer:
        for record in framing.walk(file):
            writer.write(DAMAGED if record.data is None else record.data)
    return copy


DAMAGED = b'damaged'    # which is no Example


def _place(file, root):
    """Where the copy of a file is, and its size; 0 where it is not there."""
    try:
        status = os.stat(file) if '://' not in file else tf.io.gfile.stat(file)
    except (OSError, tf.errors.OpError):
        return file, 0
    size, time = ((status.st_size, status.st_mtime_ns) if '://' not in file else (status.length, status.mtime_nsec))
    path = file if '://' in file else os.path.abspath(file)
    key = hashlib.sha256(os.fsencode(path) + f' {size} {time}'.encode()).hexdigest()[:24]
    return f'{root}/{key}/{os.fsencode(os.path.basename(file)).decode(errors="replace")}', size


def _copy(file, copy):
    """Copies a file; returns its size, 0 where it cannot be read."""
    try:
        with reading(file) as source:
            source.read(1)
    except DatasetError:
        return 0
    tf.io.gfile.makedirs(os.path.dirname(copy))
    part, size = f'{copy}.{os.getpid()}.part', 0
    with reading(file) as source, tf.io.gfile.GFile(part, 'wb') as target:
        while block := source.read(BLOCK):
            target.write(block)
            size += len(block)
    tf.io.gfile.rename(part, copy, overwrite=True)
    return size


def _free_memory():
    try:
        with open('/proc/meminfo', encoding='utf-8') as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable:'))
    except (OSError, StopIteration):    # not Linux: it will show
        return 2**62
