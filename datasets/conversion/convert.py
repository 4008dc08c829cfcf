"""Writes a collection into shards: each whole or not at all, and after an interruption only what is missing.

While it goes on, the folder `NAME_conversion.part` beside the shards holds the settings and what was found in each
finished shard; at the end it gives way to `NAME_report.csv`, `labels.txt` and, last of all, `NAME_conversion.json`.
"""
import collections
import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

import slim_zoo_download
from datasets import dataset_utils
from datasets.conversion import images
from datasets.conversion.collection import Collection, ImageOptions, Shard
from datasets.conversion.images import Converted, Problem
from datasets.provider import DatasetError

VERSION = 1     # of what is written for the same images and options
_SETTINGS = 'settings.json'
_TOGETHER = 8   # images that a worker takes at a time


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A collection on its way into a folder.

    `begin`, then `write` for each of the `missing` shards, in any order and by any worker, then `finish`.

    Attributes:
      collection: what is converted.
      dataset_dir: the folder, local or of `tf.io.gfile`.
      options: what is done to images.
      recorded: further options that the collection was made with, by name, for the settings file and the summary.
      strict: whether an image with a problem is an error.
      dropped: what was left out of the collection already; see `without_duplicates`.
    """

    collection: Collection
    dataset_dir: str
    options: ImageOptions = ImageOptions()
    recorded: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    strict: bool = False
    dropped: tuple[Problem, ...] = ()

    def check(self) -> bool:
        """Whether there is anything to do; writes nothing.

        Raises:
          DatasetError: the folder holds another conversion, or files that would be overwritten; or, with `strict`,
            a finished conversion that had problems.
        """
        self._check_items()
        if self.dropped and self.strict:
            raise _stopped(self.dropped[0])
        settings = self._settings
        for path in (self.summary_path, self._part(_SETTINGS)):
            if tf.io.gfile.exists(path):
                _compare(path, json.loads(_read(path))['settings'], settings)
        shards = self.collection.shards()
        if tf.io.gfile.exists(self.summary_path):
            for shard in shards:
                if not tf.io.gfile.exists(self._path(shard.file_name)):
                    raise DatasetError(f'{self.summary_path} is of a finished conversion, but its {shard.file_name} '
                                       'is missing: remove the other files too, and convert anew.')
            problems = json.loads(_read(self.summary_path))['problems']
            if self.strict and problems:
                kinds = ', '.join(f'{kind} {count:,}' for kind, count in problems.items())
                raise DatasetError(f'--strict: the conversion in {self.dataset_dir} is finished, with problems '
                                   f'({kinds}): {self.report_path} has each of them.')
            return False
        for shard in shards:
            if tf.io.gfile.exists(self._path(shard.file_name)) and not tf.io.gfile.exists(self._found(shard)):
                raise DatasetError(f'{self._path(shard.file_name)} is there already, and not of this conversion: give '
                                   'another --dataset_dir, or move the file away.')
        labels = self._path(dataset_utils.LABELS_FILENAME)
        if tf.io.gfile.exists(labels) and dataset_utils.read_label_file(self.dataset_dir) != self._labels():
            raise DatasetError(f'{labels} is there already, with other classes: give another --dataset_dir.')
        return True

    def begin(self) -> bool:
        """Makes the folders, or takes up what was begun there; False if the conversion is finished already.

        Raises:
          DatasetError: see `check`; or the folder cannot be written.
        """
        if not self.check():
            return False
        self.make_folders()
        if not tf.io.gfile.exists(self._part(_SETTINGS)):
            with _writing(self.dataset_dir):
                self._put(self._part(_SETTINGS), json.dumps({'settings': self._settings}, indent=2))
        return True

    def make_folders(self) -> str:
        """Makes `dataset_dir` and the folder of what is needed on the way, and returns that.

        Raises:
          DatasetError: they cannot be written.
        """
        with _writing(self.dataset_dir, advice=''):
            tf.io.gfile.makedirs(self._part(''))
        return self._part('')

    def missing(self) -> list[Shard]:
        """The shards that are not there."""
        return [shard for shard in self.collection.shards()
                if not tf.io.gfile.exists(self._path(shard.file_name))]

    def write(self, shard: Shard, converted: Iterable[Converted] | None = None) -> None:
        """Writes a shard, and what was found in it.

        Args:
          shard: one of `collection.shards()`.
          converted: what became of its items, in order; None to convert them here.

        Raises:
          DatasetError: an image has a problem, with `strict`; or the file cannot be written.
        """
        if converted is None:
            converted = (images.convert_item(item, self.options, shard.jpeg_format) for item in shard.items)
        problems, digests, counts, number = [], [], collections.Counter[int](), 0
        part = self._part(shard.file_name)
        with _writing(self.dataset_dir):
            with tf.io.TFRecordWriter(part) as writer:
                for item, image in zip(shard.items, converted, strict=True):
                    digests.append(image.digest)
                    for problem, done in image.problems:
                        problems.append(Problem(item.name, shard.split, problem, done))
                        if self.strict:
                            raise _stopped(problems[-1])
                    if image.record is not None:
                        writer.write(image.record)
                        counts.update([item.label] if isinstance(item.label, int) else item.label)
                        number += 1
            found = {'num_images': number, 'class_counts': counts, 'digests': digests, 'problems': problems}
            self._put(self._found(shard), json.dumps(found))
            # Last: a shard that is there is whole, and what was found in it is known.
            tf.io.gfile.rename(part, self._path(shard.file_name))

    def finish(self) -> dict[str, Any]:
        """Writes the report, the labels and the summary, once all shards are there; returns the summary.

        Raises:
          DatasetError: no image of a split could be used; there is a problem, with `strict`; or the files cannot be
            written. The report is written if it can be.
        """
        shards = self.collection.shards()
        found = [json.loads(_read(self._found(shard))) for shard in shards]
        digests = ((item.name, shard.split, digest) for shard, one in zip(shards, found, strict=True)
                   for item, digest in zip(shard.items, one['digests'], strict=True))
        problems = [*self.dropped, *(Problem(*problem) for one in found for problem in one['problems']),
                    *(problem for _, problem in duplicates(digests, 'kept'))]
        splits: dict[str, Any] = {}
        for shard, one in zip(shards, found, strict=True):
            split = splits.setdefault(shard.split, {
                'num_images': 0, 'num_shards': 0,
                'class_counts': {f'{label}:{name}': 0 for label, name in self._labels().items()}})
            split['num_images'] += one['num_images']
            split['num_shards'] += 1
            for label, count in one['class_counts'].items():
                split['class_counts'][f'{label}:{self.collection.class_names[int(label)]}'] += count
        summary = {
            'dataset_name': self.collection.name, 'splits': splits,
            'problems': dict(collections.Counter(problem.problem.partition(':')[0] for problem in problems)),
            'left_out': sum(problem.done == images.LEFT_OUT for problem in problems), 'settings': self._settings}
        table = io.StringIO()
        rows = csv.writer(table, lineterminator='\n')
        rows.writerow(['file', 'split', 'problem', 'what was done'])
        rows.writerows(problems)
        with _writing(self.dataset_dir):
            self._put(self.report_path, table.getvalue())
            if self.strict and problems:    # in shards of a run before this one, without it
                raise _stopped(problems[0])
            troubled = {problem.split for problem in problems}
            empty = [split for split, found in splits.items() if not found['num_images'] and split in troubled]
            for shard in shards:
                if shard.split in empty:    # so that its images are tried again
                    tf.io.gfile.remove(self._path(shard.file_name))
            if empty:
                raise DatasetError(f'no image of {" and ".join(empty)} could be used: {self.report_path} says why. '
                                   'Once they are mended, the same command goes on from there.')
            dataset_utils.write_label_file(self._labels(), self._part(''))
            tf.io.gfile.rename(self._part(dataset_utils.LABELS_FILENAME), self._path(dataset_utils.LABELS_FILENAME),
                               overwrite=True)
            self._put(self.summary_path, json.dumps(summary, indent=2) + '\n')
        self.clean()
        return summary

    def clean(self) -> None:
        """Removes what was needed on the way only."""
        if tf.io.gfile.exists(self._part('')):
            tf.io.gfile.rmtree(self._part(''))

    @property
    def summary_path(self) -> str:
        """What is written last."""
        return self._path(f'{self.collection.name}_conversion.json')

    @property
    def report_path(self) -> str:
        """The table of all problems."""
        return self._path(f'{self.collection.name}_report.csv')

    def _path(self, name):
        return os.path.join(self.dataset_dir, name)

    def _part(self, name):
        return os.path.join(self._path(f'{self.collection.name}_conversion.part'), name)

    def _found(self, shard):
        return self._part(f'{shard.file_name}.json')

    def _labels(self):
        return dict(sorted(self.collection.class_names.items()))

    def _put(self, path, text):
        """Writes a file that appears whole or not at all."""
        part = self._part(os.path.basename(path) + '.new')
        with tf.io.gfile.GFile(part, 'wb') as file:
            file.write(text.encode(errors='backslashreplace'))
        tf.io.gfile.rename(part, path, overwrite=True)

    def _check_items(self):
        for items in self.collection.splits.values():
            for item in items:
                for label in [item.label] if isinstance(item.label, int) else item.label:
                    if label not in self.collection.class_names:
                        raise DatasetError(f'{item.name} has the label {label}, but the classes are '
                                           f'{min(self.collection.class_names)} to {max(self.collection.class_names)}.')

    @functools.cached_property
    def _settings(self):
        """What two runs must have in common to go on with one another's shards; not what is in the files."""
        everything = hashlib.sha256()
        for split, items in self.collection.splits.items():
            for item in items:
                image = '' if isinstance(item.image, str) else images.content_digest(item)
                known = [split, item.name, image, item.label, sorted(item.features.items())]
                everything.update(json.dumps(known, default=_plain).encode())
        settings = {
            'version': VERSION, **self.recorded, **dataclasses.asdict(self.options),
            'num_shards': dict(self.collection.num_shards), 'class_names': self._labels(),
            'file_name': self.collection.file_name, 'images': everything.hexdigest()}
        return json.loads(json.dumps(settings))  # as it is when it is read again


def convert(conversion: Conversion, num_workers: int | None = None,
            step: Callable[[int], None] = lambda images: None) -> dict[str, Any]:
    """Converts a collection with threads of this process.

    Args:
      conversion: see there.
      num_workers: images at a time; the number of processors if None. The files are the same whatever it is.
      step: called with the number of images that are done, now and then.

    Returns:
      The summary: what NAME_conversion.json holds.

    Raises:
      DatasetError: see `Conversion`.
    """
    workers = num_workers or os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        # First checked, so that what is refused leaves no folder with a lock in it.
        if conversion.check() and '://' not in conversion.dataset_dir:
            stack.enter_context(slim_zoo_download.locked(conversion.make_folders()))
        if not conversion.begin():      # another process may have been at work
            conversion.clean()
            return json.loads(_read(conversion.summary_path))
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)
        missing = conversion.missing()
        step(sum(len(items) for items in conversion.collection.splits.values())
             - sum(len(shard.items) for shard in missing))
        work = ((item, shard.jpeg_format) for shard in missing for item in shard.items)
        converted = in_parallel(pool, lambda pair: images.convert_item(pair[0], conversion.options, pair[1]), work,
                                workers + 2)
        for shard in missing:
            conversion.write(shard, _counted(itertools.islice(converted, len(shard.items)), step))
        return conversion.finish()


def _counted(values, step):
    for value in values:
        step(1)
        yield value


def in_parallel(pool: ThreadPoolExecutor, function: Callable, values: Iterable, ahead: int) -> Iterator:
    """The function of each value, in order, computed by the pool; no more than `ahead` batches of them are waiting."""
    def batch(values):
        return [function(value) for value in values]

    values = iter(values)
    batches = iter(lambda: list(itertools.islice(values, _TOGETHER)), [])
    waiting = collections.deque(pool.submit(batch, values) for values in itertools.islice(batches, ahead))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(pool.submit(batch, values) for values in itertools.islice(batches, 1))
        yield from done


def without_duplicates(collection: Collection,
                       num_workers: int | None = None) -> tuple[Collection, tuple[Problem, ...]]:
    """A collection without the images whose bytes another one before them has, and what was left out of it."""
    items = [(item, split) for split, items in collection.splits.items() for item in items]
    workers = num_workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        digests = list(in_parallel(pool, lambda pair: images.content_digest(pair[0]), items, workers + 2))
    found = dict(duplicates(((item.name, split, digest) for (item, split), digest in zip(items, digests, strict=True)),
                            images.LEFT_OUT))
    kept = [pair for number, pair in enumerate(items) if number not in found]
    splits = {name: [item for item, split in kept if split == name] for name in collection.splits}
    shards = {split: min(collection.num_shards[split], max(len(items), 1)) for split, items in splits.items()}
    return dataclasses.replace(collection, splits=splits, num_shards=shards), tuple(found.values())


def duplicates(digests: Iterable[tuple[str, str, str]], done: str) -> Iterator[tuple[int, Problem]]:
    """The number of each (name, split, digest) whose digest one before it has, and what the report says of it."""
    first: dict[str, tuple[str, str]] = {}
    for number, (name, split, digest) in enumerate(digests):
        if digest in first:
            other, its_split = first[digest]
            kind = 'duplicate' if its_split == split else 'duplicate across splits'
            yield number, Problem(name, split, f'{kind}: the same bytes as {other} in {its_split}', done)
        elif digest:
            first[digest] = (name, split)


def _stopped(problem):
    return DatasetError(f'--strict: {problem.name} ({problem.split}): {problem.problem}. What is finished is kept; '
                        'without --strict the report says so, and the conversion goes on.')


def _compare(path, theirs, ours):
    """Raises DatasetError where a folder holds a conversion of other settings."""
    changed = [name for name in ours if theirs.get(name) != ours[name]]
    if not changed:
        return
    plain = [f'{name} from {theirs.get(name)} to {ours[name]}' for name in changed
             if name not in ('images', 'class_names', 'file_name')]
    what = ', '.join(plain) or 'other images, labels, or order'
    raise DatasetError(f'{path} is of another conversion ({what}), and two do not mix: give another --dataset_dir, or '
                       'remove its files.')


@contextlib.contextmanager
def _writing(folder, advice=' What is finished is kept: once there is room, or permission, the same command goes on '
                            'from there.'):
    try:
        yield
    except tf.errors.OpError as error:
        path, _, why = images.why(error).rpartition('; ')
        # The path of a file in the folder, or of a folder around it, tells nothing more.
        if not (path and (path.startswith(folder.rstrip('/')) or folder.startswith(path))):
            why = images.why(error)
        why += '.'
    except OSError as error:
        why = f'{error.strerror or error}.'
    else:
        return
    raise DatasetError(f'{folder} cannot be written: {why}{advice}')


def _read(path):
    with tf.io.gfile.GFile(path, 'rb') as file:
        return file.read()


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else os.fsdecode(value) if isinstance(
        value, bytes) else value
