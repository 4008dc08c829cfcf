"""Reads a dataset to the last byte, and says which of its records or files cannot be used, and why."""
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import glob
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets import dataset_utils, file_list, framing, image_folder
from datasets.dataset_factory import find_row
from datasets.provider import Dataset, DatasetError, IndexedDataset, decode_image, listing, reason
from datasets.tfrecords import ENCODED, LABEL, NO_RECORDS, TFRecords, find_files, find_word, size_of

KEPT = 1000  # faults that are listed; more are only counted, so that memory is bounded
BOX = 'image/object/bbox/'
SIDES = ('ymin', 'xmin', 'ymax', 'xmax')
AT_ONCE = 256  # files that one thread takes together
TOGETHER, TOGETHER_BYTES = 32, 2**24    # images that are decoded together, and the bytes at which fewer are

_SIGNATURES = {b'\xff\xd8\xff': 'jpeg', b'\x89PNG\r\n\x1a\n': 'png', b'GIF8': 'gif', b'BM': 'bmp'}
_SPELLINGS = {'jpg': 'jpeg'}

Progress = Callable[[int, int], None]
"""Called, from several threads, with the records and the bytes that are done since the last call."""


Place = tuple[str, int | None, int | None]
"""The first fields of a Fault."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    source: str             # the file
    record: int | None      # its number in a TFRecord file
    offset: int | None      # the byte that the record begins at
    what: str

    def __str__(self):
        """One sentence."""
        place = '' if self.record is None else f' record {self.record} at byte {self.offset}'
        return f'{self.source}{place}: {self.what.rstrip(".")}.'


@dataclasses.dataclass
class Report:
    """What a dataset was found to hold."""

    files: int = 0
    bytes: int = 0
    records: int = 0
    bad_records: int = 0
    faults: list[Fault] = dataclasses.field(default_factory=list)   # the first KEPT
    fault_count: int = 0
    formats: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    labels: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    boxes: int = 0
    smallest: tuple[int, int] | None = None     # (height, width), by area
    largest: tuple[int, int] | None = None
    names: Mapping[int, str] | None = None

    def blame(self, fault: Fault) -> None:
        """Notes a fault."""
        self.fault_count += 1
        if len(self.faults) < KEPT:
            self.faults.append(fault)

    def add(self, other: 'Report') -> None:
        """Takes in the report of a part."""
        for name in ('files', 'bytes', 'records', 'bad_records', 'fault_count', 'boxes'):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults[:KEPT - len(self.faults)]
        self.formats.update(other.formats)
        self.labels.update(other.labels)
        for size in filter(None, (other.smallest, other.largest)):
            self._extend(size)

    def count_image(self, image: 'Image', labels: Iterable[int]) -> None:
        """Counts a sound image."""
        self.formats[image.format] += 1
        self.labels.update(labels)
        self._extend((image.height, image.width))

    def _extend(self, size):
        self.smallest = min(self.smallest or size, size, key=_area)
        self.largest = max(self.largest or size, size, key=_area)

    def as_json(self) -> dict:
        """The same, for a program to read."""
        return {
            'sound': not self.fault_count, 'files': self.files, 'bytes': self.bytes, 'records': self.records,
            'bad_records': self.bad_records, 'formats': dict(self.formats.most_common()),
            'smallest': self.smallest, 'largest': self.largest, 'boxes': self.boxes,
            'labels': [{'label': label, 'name': (self.names or {}).get(label), 'count': self.labels[label]}
                       for label in sorted({*self.labels, *(self.names or {})})],
            'fault_count': self.fault_count,
            'faults': [fault._asdict() | {'sentence': str(fault)} for fault in self.faults],
        }

    def __str__(self):
        """The summary, some lines."""
        counts = [(self.labels[label], (self.names or {}).get(label, str(label)))
                  for label in sorted({*self.labels, *(self.names or {})})]
        shown = counts if len(counts) <= 20 else sorted(counts, reverse=True)[:20]
        rest = f', and {len(counts) - len(shown)} more classes' if len(counts) > len(shown) else ''
        lines = [f'records  {self.records:,} in {self.files:,} file{"s" * (self.files != 1)}, {self.bytes:,} bytes']
        if self.smallest and self.largest:
            kinds = ', '.join(f'{count:,} {kind}' for kind, count in self.formats.most_common())
            lines.append(f'images   {kinds}; {self.smallest[0]}x{self.smallest[1]} to {self.largest[0]}x'
                         f'{self.largest[1]} (height x width)')
        if self.boxes:
            lines.append(f'boxes    {self.boxes:,}')
        lines.append(f'classes  {len(counts):,}: ' + ', '.join(f'{name} {count:,}' for count, name in shown) + rest)
        unused = [name for count, name in counts if not count]
        if unused:
            lines.append(f'without  any image: {", ".join(unused[:20])}'
                         f'{f" and {len(unused) - 20} more" if len(unused) > 20 else ""}')
        lines.append(f'faults   {self.fault_count:,}' + (f', in {self.bad_records:,} records' if self.bad_records else
                                                         '' if self.fault_count else ': all of it can be used'))
        return '\n'.join(lines)


class Image(NamedTuple):
    """An image that could be decoded."""

    format: str
    height: int
    width: int


class Unusable(ValueError):
    """A record cannot be used; the message says why."""


def verify(dataset_dir: str, dataset_name: str | None = None, split: str | None = None,
           file_pattern: str | None = None, multi_label: bool = False, num_threads: int | None = None,
           begin: Callable[[int, str], Progress] = lambda total, unit: lambda records, size: None) -> Report:
    """Reads every record of every TFRecord file in a folder, or every image of class folders or of a list.

    Args:
      dataset_dir: the folder; or a file, a TFRecord file or a list.
      dataset_name: a row of the registry, whose files, classes and channels are then the ones to be met; None for all
        TFRecord files in the folder, or else its class folders.
      split: of that dataset; None for all that are there.
      file_pattern: of the TFRecord files, with %s for the split where there is one.
      multi_label: whether a record may have several labels, or none.
      num_threads: files that are read at once; None for one on each core.
      begin: called once with the amount of work, and whether that is counted in 'bytes' or 'images'; returns what is
        called as the work goes on.

    Raises:
      DatasetError: there is nothing to read.
    """
    name, folder, file_pattern = locate(dataset_dir, dataset_name, file_pattern)
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        report = Report()
        try:
            for total, unit, work in _plan(folder, name, split, file_pattern, multi_label, report, stop):
                progress = begin(total, unit)
                parts = collections.deque(pool.submit(part, progress) for part in work)
                # In the order of the files, and each let go when it is added.
                while parts:
                    report.add(parts.popleft().result())
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return report


def _plan(folder, dataset_name, split, file_pattern, multi_label, report, stop):
    """Yields (amount of work, its unit, functions that do a part of it); fills what the report says of the whole."""
    row = find_row(dataset_name)
    if row.provider is TFRecords:
        files = _record_files(folder, row, split, file_pattern or row.file_pattern)
        report.names = dataset_utils.read_label_file(folder) if dataset_utils.has_labels(folder) else None
        expected = Expected(report.names, row.num_classes, row.channels, multi_label)
        if report.names is None and row.class_names:
            report.names = dict(enumerate(row.class_names))
        for fault in () if file_pattern else _missing_shards(files):    # some were asked for, not all
            report.blame(fault)
        yield sum(map(size_of, files)), 'bytes', [_call(verify_file, file, expected, stop) for file in files]
        return
    for dataset in _open_splits(row, folder, split, file_pattern):
        report.names = dataset.labels_to_names
        if isinstance(dataset, IndexedDataset):
            report.files += dataset.num_samples
            starts = range(0, dataset.num_samples, AT_ONCE)
            load = tf.function(dataset._load, input_signature=[tf.TensorSpec([], tf.int64)])
            yield dataset.num_samples, 'images', [_call(verify_images, dataset, load, start, stop) for start in starts]
        else:
            yield dataset.num_samples, 'images', [_call(verify_dataset, dataset, stop)]


def locate(path: str, dataset_name: str | None = None, file_pattern: str | None = None) -> tuple[str, str, str | None]:
    """The name, the folder and the file pattern of the dataset at a path, which may be a TFRecord file or a list.

    Raises:
      DatasetError: it is a file, and neither.
    """
    path = os.path.expanduser(path)
    if dataset_name is not None:
        return dataset_name, path, file_pattern
    if path.lower().endswith(file_list.EXTENSIONS) or not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        return _guess(path), path, file_pattern
    if not framing.is_record_file(path):
        raise DatasetError(f'{path} is neither a TFRecord file, as it does not begin with a record, nor a list of '
                           f'images ({", ".join(file_list.EXTENSIONS)}).')
    folder, file = os.path.split(path)
    return 'tfrecord', folder or '.', glob.escape(file)


def _guess(path):
    if path.lower().endswith(file_list.EXTENSIONS):
        return 'file_list'
    if not tf.io.gfile.isdir(path):
        return 'image_folder'
    if _record_files_of_any_name(path):
        return 'tfrecord'
    lists = [name for name in tf.io.gfile.listdir(path) if name.lower().endswith(file_list.EXTENSIONS)]
    return 'file_list' if any(os.path.splitext(name)[0] in image_folder.SPLITS for name in lists) else 'image_folder'


def _call(function, *args):
    return lambda progress: function(*args, progress)


def _open_splits(row, folder, split, file_pattern):
    """The splits that are there."""
    if split:
        return [row.get_split(split, folder or None, file_pattern)]
    found, refused = [], None
    for name in row.splits or image_folder.SPLITS:
        try:
            found.append(row.get_split(name, folder or None, file_pattern))
        except DatasetError as error:
            refused = refused or error
    if not found:
        raise refused or DatasetError(f'{row.name} has no splits.')
    return found


def _record_files(folder, row, split, pattern):
    """The TFRecord files to read."""
    if pattern and (split or not row.splits or '%s' not in pattern):
        return find_files(row.name, folder, pattern.replace('%s', split or '*'))
    if not tf.io.gfile.isdir(folder):
        raise DatasetError(f'there is no folder {folder}, where the files of {row.name} should be.')
    there = listing(sorted(tf.io.gfile.listdir(folder)))
    if not pattern:
        files = find_word(row.name, folder, split) if split else _record_files_of_any_name(folder)
        if not files:
            raise DatasetError(f'no file of {row.name} in {folder} is a TFRecord file; {there}.')
        return files
    found = set()
    for name in row.splits:
        with contextlib.suppress(DatasetError):
            found.update(find_files(row.name, folder, pattern.replace('%s', name)))
    if not found:
        raise DatasetError(f'no file of {row.name} in {folder} matches {pattern} with any of the splits '
                           f'{", ".join(row.splits)}; {there}.')
    return sorted(found)


def _record_files_of_any_name(folder):
    if not tf.io.gfile.isdir(folder):
        return []
    names = [name for name in sorted(tf.io.gfile.listdir(folder)) if not name.startswith('.')]
    files = [os.path.join(folder, name) for name in names
             if not name.lower().endswith((*NO_RECORDS, *image_folder.EXTENSIONS, '.tmp'))]
    return [file for file in files if not tf.io.gfile.isdir(file) and framing.is_record_file(file)]


def _missing_shards(files: Iterable[str]) -> Iterator[Fault]:
    sets = collections.defaultdict(set)
    for file in files:
        folder, name = os.path.split(file)
        shard = re.fullmatch(r'(.*?)(\d+)-of-(\d+)(.*)', name)
        if shard:
            before, number, total, after = shard.groups()
            sets[folder, before, len(number), total, after].add(int(number))
    for (folder, before, digits, total, after), there in sets.items():
        missing = sorted(set(range(int(total))) - there) if int(total) < 10**6 else []
        if missing:
            first = f'{before}{missing[0]:0{digits}d}-of-{total}{after}'
            others = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
            yield Fault(os.path.join(folder, first), None, None,
                        f'this shard is missing{others}, of the {int(total)} that the names of the others tell of')


class Expected(NamedTuple):
    """What the labels and the images have to be."""

    names: Mapping[int, str] | None
    num_classes: int | None
    channels: int = 3
    multi_label: bool = False

    def check_label(self, label: int) -> None:
        """Raises Unusable for a label that is none."""
        if self.names is not None and label not in self.names:
            raise Unusable(f'its label {label} is not in labels.txt, which has {_span(self.names)}')
        if label < 0 or self.num_classes is not None and label >= self.num_classes:
            highest = 'up' if self.num_classes is None else f'to {self.num_classes - 1}'
            raise Unusable(f'its label {label} is out of range: labels are from 0 {highest}')


def verify_file(file: str, expected: Expected, stop: threading.Event, progress: Progress) -> Report:
    """Reads one TFRecord file."""
    report = Report(files=1)
    try:
        report.bytes = size_of(file)
        at = 0
        with _Examples(report, expected.channels) as examples:
            for record in framing.walk(file):
                if stop.is_set():
                    break
                examples.add((file, record.number, record.offset), lambda record=record: _record(
                    record, expected, report))
                progress(1, record.offset - at)
                at = record.offset
        progress(0, report.bytes - at)
    except DatasetError as error:
        report.blame(Fault(file, None, None, str(error)))
    return report


def verify_images(dataset: IndexedDataset, load, start: int, stop: threading.Event, progress: Progress) -> Report:
    """Reads some images of a dataset that knows them by number."""
    def read(index):
        try:
            element = load(tf.constant(index, tf.int64))
        except tf.errors.OpError as error:
            raise Unusable(f'it cannot be read: {reason(error)}') from None
        return _image_file(element['image'].numpy(), element['label'].numpy().tolist(), dataset, report)

    report = Report()
    with _Examples(report, dataset.channels) as examples:
        for index in range(start, min(start + AT_ONCE, dataset.num_samples)):
            if stop.is_set():
                break
            source = os.fspath(dataset.files[index]) if hasattr(dataset, 'files') else f'{dataset.name} image {index}'
            examples.add((source, None, None), lambda index=index: read(index))
            progress(1, 1)
    return report


def verify_dataset(dataset: Dataset, stop: threading.Event, progress: Progress) -> Report:
    """Reads a dataset of any other kind; it ends at the first example that cannot be read at all."""
    report = Report()
    with _Examples(report, dataset.channels) as examples:
        try:
            for source, encoded, label in dataset._examples():
                if stop.is_set():
                    break
                examples.add((str(source), None, None), lambda encoded=encoded, label=label: _image_file(
                    encoded, label, dataset, report))
                progress(1, 1)
        except DatasetError as error:
            examples.flush()
            report.blame(Fault(dataset.name, None, None, str(error)))
    return report


class _Examples:
    """The examples of a part, whose images are decoded some at a time: on all processors, while Python need not wait.

    Each is given as a function that returns its encoded image, and what is to be done with the decoded one; both may
    raise Unusable. On leaving it as a context, all are done.
    """

    def __init__(self, report: Report, channels: int):
        self._report, self._channels = report, channels
        self._waiting: list[tuple[Place, bytes, Callable[[Image], None] | Unusable]] = []
        self._bytes = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *unused):
        if kind is None:
            self.flush()

    def add(self, place: Place, read: Callable[[], tuple[bytes, Callable[[Image], None]]]) -> None:
        """Takes an example, and where it stands."""
        self._report.records += 1
        encoded: bytes = b''
        settle: Callable[[Image], None] | Unusable
        try:
            encoded, settle = read()
        except Unusable as error:
            settle = error
        self._waiting.append((place, encoded, settle))
        self._bytes += len(encoded)
        if len(self._waiting) == TOGETHER or self._bytes > TOGETHER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Decodes and settles what waits, in order."""
        images = iter(check_images([encoded for _, encoded, settle in self._waiting
                                    if not isinstance(settle, Unusable)], self._channels))
        for place, _, settle in self._waiting:
            try:
                if isinstance(settle, Unusable):
                    raise settle
                image = next(images)
                if isinstance(image, Unusable):
                    raise image
                settle(image)
            except Unusable as error:
                self._report.bad_records += 1
                self._report.blame(Fault(*place, str(error)))
        self._waiting, self._bytes = [], 0


def _image_file(encoded, label, dataset, report):
    """An image file as `_Examples.add` takes it."""
    report.bytes += len(encoded)
    labels = [label] if isinstance(label, int) else label
    for one in labels:
        Expected(None, dataset.num_classes).check_label(one)
    return encoded, lambda image: report.count_image(image, labels)


def _record(record, expected, report):
    """A record as `_Examples.add` takes it; Unusable where it holds no image, or is not what it says of its image."""
    if record.fault:
        raise Unusable(record.fault)
    try:
        features = tf.train.Example.FromString(record.data).features.feature
    except DecodeError:
        raise Unusable('it holds no Example') from None
    if not features:
        raise Unusable('it holds no Example, or one without features')
    encoded, = _values(features, ENCODED, 'bytes_list', 1)
    labels = [] if expected.multi_label and LABEL not in features else _values(
        features, LABEL, 'int64_list', None if expected.multi_label else 1)
    for label in labels:
        expected.check_label(label)

    def settle(image):
        for feature, found in (('image/height', image.height), ('image/width', image.width)):
            if feature in features:
                stated, = _values(features, feature, 'int64_list', 1)
                if stated != found:
                    raise Unusable(f'it states {feature} {stated}, but its image is {image.height} high and '
                                   f'{image.width} wide')
        if 'image/format' in features:
            name, = _values(features, 'image/format', 'bytes_list', 1)
            stated = name.decode(errors='replace').lower()
            if _SPELLINGS.get(stated, stated) != image.format:
                raise Unusable(f'it states image/format {stated}, but its image is {image.format}')
        report.boxes += _check_boxes(features)
        report.count_image(image, labels)

    return encoded, settle


def _values(features, name, kind, count=None):
    """The values of a feature; Unusable if it is missing or of another kind or number."""
    if name not in features:
        raise Unusable(f'the feature {name} is missing; there is {", ".join(sorted(features)[:20])}')
    values = getattr(features[name], kind).value
    if features[name].WhichOneof('kind') not in (kind, None) or count is not None and len(values) != count:
        found = features[name].WhichOneof('kind') or 'nothing'
        length = len(getattr(features[name], found).value) if found != 'nothing' else 0
        hint = ' (several labels: --multi_label)' if name == LABEL and found == kind and length > 1 else ''
        raise Unusable(f'the feature {name} should be {"" if count is None else f"{count} value of "}{kind}, but is '
                       f'{length} of {found}{hint}')
    return values


def _check_boxes(features):
    if BOX + SIDES[0] not in features:
        return 0
    ymin, xmin, ymax, xmax = boxes = [_values(features, BOX + side, 'float_list') for side in SIDES]
    if len({len(side) for side in boxes}) > 1:
        found = ', '.join(f'{len(side)} {name}' for side, name in zip(boxes, SIDES, strict=True))
        raise Unusable(f'its boxes have {found}')
    for box in zip(ymin, xmin, ymax, xmax, strict=True):
        if not (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1):
            raise Unusable(f'its box ymin, xmin, ymax, xmax = {", ".join(f"{side:.4g}" for side in box)} is no part of '
                           f'the image: from 0 to 1, the lower end first')
    return len(ymin)


def check_images(encoded: Sequence[bytes], channels: int = 3) -> list[Image | Unusable]:
    """Decodes images, on all processors; in place of one that cannot be decoded, the error that says why."""
    try:
        shapes = _shapes(channels)(tf.constant(encoded, tf.string)).numpy().tolist()
        return [Image(_format(one) or 'other', *shape[:2]) for one, shape in zip(encoded, shapes, strict=True)]
    except tf.errors.OpError:
        return [_check_image(one, channels) for one in encoded]


@functools.cache
def _shapes(channels):
    def shape(encoded):
        return tf.shape(decode_image(encoded, channels))

    # Not one by one from threads: TensorFlow's eager decoding keeps Python's lock.
    return tf.function(lambda images: tf.map_fn(shape, images, parallel_iterations=os.cpu_count(),
                                                fn_output_signature=tf.TensorSpec([3], tf.int32)),
                       input_signature=[tf.TensorSpec([None], tf.string)])


def _check_image(encoded, channels):
    kind = _format(encoded)
    if not encoded:
        return Unusable('its image has no bytes')
    try:
        height, width, _ = decode_image(encoded, channels).shape
    except tf.errors.OpError as error:
        what = f'its image ({kind}, {len(encoded):,} bytes) cannot be decoded' if kind else \
            f'its {len(encoded):,} bytes are no image (jpeg, png, gif, bmp, webp)'
        return Unusable(f'{what}: {reason(error)}')
    return Image(kind or 'other', height, width)


def _format(encoded):
    """The format that the first bytes tell; None if none."""
    return next((kind for signature, kind in _SIGNATURES.items() if encoded.startswith(signature)),
                'webp' if encoded[:4] == b'RIFF' and encoded[8:12] == b'WEBP' else None)


def _area(size):
    return size[0] * size[1]


def _span(names):
    return f'{min(names)} to {max(names)}' if len(names) > 12 else ', '.join(map(str, sorted(names)))


def write_whole(path: str, content: bytes) -> None:
    """Writes a file that is there whole or not at all; DatasetError if it cannot be written."""
    unfinished = f'{path}.{os.getpid()}.tmp'
    try:
        with tf.io.gfile.GFile(unfinished, 'wb') as file:
            file.write(content)
        tf.io.gfile.rename(unfinished, path, overwrite=True)
    except tf.errors.OpError as error:
        raise DatasetError(f'{path} cannot be written: {reason(error)}') from None
