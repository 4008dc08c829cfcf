"""A list of image files with their labels: CSV, tab-separated values or JSON lines, in UTF-8.

    path,label          path,labels,split               {"path": "a.jpg", "label": "cat"}
    a.jpg,cat           a.jpg,cat|outdoors,train        {"path": "photos/b.jpg", "label": "dog"}
    photos/b.jpg,dog    b.jpg,,validation

`dataset_dir` is the list itself (.csv, .tsv, .jsonl, .ndjson), or a folder with one for each split: `train.csv`,
`validation.csv`, `test.csv`. In a list, `split` may say which split an image is of; where nothing does, a fraction is
held out as `validation`. Paths are relative to the list's folder, or absolute, or such as gs://. With `labels` in place
of `label` an image has any number of labels, or none. The classes are those of a `labels.txt` beside the list; without
one they are the labels themselves if all are integers, or else their sorted names.
"""
import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from datasets import dataset_utils
from datasets.image_folder import SPLITS, ImageFiles, check_fraction, held_out
from datasets.provider import DatasetError, listing, reading, unknown

EXTENSIONS = ('.csv', '.tsv', '.jsonl', '.ndjson')
PATH, LABEL, LABELS, SPLIT = ('path', 'filename', 'file', 'image'), ('label', 'class'), ('labels',), ('split',)
SEPARATOR = '|'  # of the labels in a cell


class Image(NamedTuple):
    """An image of a list."""

    place: str  # the list and the line
    path: str
    labels: tuple[str, ...]
    split: str | None
    multi_label: bool


class FileList(ImageFiles):
    """A split of a list of image files."""

    def __init__(self, row, split_name, dataset_dir, file_pattern=None, reader=None,
                 validation_fraction: float | None = None):
        """Reads the list; see `registry.DatasetRow.get_split`.

        Args:
          row: the registry's row.
          split_name: such as 'train'.
          dataset_dir: the list, or a folder with one for each split.
          file_pattern: must be None.
          reader: must be None.
          validation_fraction: of each class, or with several labels of all images, the part that is held out, 0.1 if
            None; only for a list without splits. The images whose paths have the lowest hashes are held out.

        Raises:
          DatasetError: if a list is not as described above (the message names its line), or an argument does not fit.
        """
        if file_pattern or reader:
            raise DatasetError('file_list has no file_pattern and no reader: dataset_dir is the list, or its folder.')
        if not dataset_dir:
            raise DatasetError('file_list needs dataset_dir: a list of images such as photos.csv, or a folder with '
                               'train.csv and validation.csv.')
        folder, lists = find_lists(dataset_dir)
        images = [image for split, file in lists.items() for image in read_list(file, split)]
        names, number_of = find_classes(folder, images)
        if images[0].split is None:
            fraction = check_fraction(validation_fraction)
            splits = hold_out(images, fraction)
            if split_name in splits and not splits[split_name]:
                raise DatasetError(f'the split {split_name} of {dataset_dir} has no images with '
                                   f'validation_fraction={fraction}.')
        elif validation_fraction is not None:
            raise DatasetError(f'{dataset_dir} says itself which image is of which split, so there is no '
                               f'validation_fraction to choose.')
        else:
            splits = {split: [image for image in images if image.split == split] for split in SPLITS}
        self._images = splits.get(split_name)
        if not self._images:
            raise unknown(f'split of {dataset_dir}', split_name, [split for split in splits if splits[split]])
        labels = [tuple(number_of[label] for label in image.labels) for image in self._images]
        multi_label = images[0].multi_label
        super().__init__(files=[locate(folder, image.path) for image in self._images], multi_label=multi_label,
                         labels=labels if multi_label else [label for label, in labels], name=row.name,
                         split_name=split_name, num_classes=max(names or number_of.values()) + 1,
                         channels=row.channels, labels_to_names=names, licence=row.licence,
                         items_to_descriptions=row.items_to_descriptions)

    def _examples(self):
        for image, file, label in zip(self._images, self.files, self.labels, strict=True):
            try:
                with reading(file) as stream:
                    encoded = stream.read()
            except DatasetError as error:
                raise DatasetError(f'{image.place}: {error}') from None
            yield f'{file} ({image.place})', encoded, label


def find_lists(dataset_dir: str) -> tuple[str, dict[str | None, str]]:
    """The folder of the lists, and the list of each split; or that of None, if it is the list that was given."""
    if not tf.io.gfile.isdir(dataset_dir):
        if not tf.io.gfile.exists(dataset_dir):
            raise DatasetError(f'there is no list {dataset_dir}, nor a folder of that name with a train.csv.')
        if not dataset_dir.lower().endswith(EXTENSIONS):
            raise DatasetError(f'{dataset_dir} is no list of images: its name should end with one of '
                               f'{", ".join(EXTENSIONS)}.')
        return os.path.dirname(dataset_dir), {None: dataset_dir}
    there = sorted(tf.io.gfile.listdir(dataset_dir))
    lists: dict[str | None, str] = {}
    for name in there:
        split, extension = os.path.splitext(name.lower())
        if split in SPLITS and extension in EXTENSIONS:
            if split in lists:
                raise DatasetError(f'{dataset_dir} has two lists of the split {split}, '
                                   f'{os.path.basename(lists[split])} and {name}; one should go.')
            lists[split] = os.path.join(dataset_dir, name)
    if not lists:
        raise DatasetError(f'{dataset_dir} has no list train.csv, validation.csv or test.csv (or .tsv, .jsonl, '
                           f'.ndjson), and a list of another name is itself given as dataset_dir; {listing(there)}.')
    return dataset_dir, lists


def locate(folder: str, path: str) -> str:
    """The whole path of an image."""
    return path if '://' in path else os.path.join(folder, path)


def hold_out(images: list[Image], fraction: float) -> dict[str, list[Image]]:
    """The images of the splits train and validation; a path is in one of them only."""
    paths: dict[tuple[str, ...], dict[str, None]] = {}
    for image in images:
        paths.setdefault(() if image.multi_label else image.labels, {})[image.path] = None
    out = {path for group in map(list, paths.values())
           for path, chosen in zip(group, held_out(group, fraction), strict=True) if chosen}
    return {'train': [image for image in images if image.path not in out],
            'validation': [image for image in images if image.path in out]}


def find_classes(folder: str, images: list[Image]) -> tuple[Mapping[int, str] | None, Mapping[str, int]]:
    """From label to class name, None if there are no names; and from a label as the lists have it to the label."""
    place_of = {label: image.place for image in images for label in image.labels}
    numbers = {label: int(label) for label in place_of if re.fullmatch(r'-?(0|[1-9][0-9]*)', label)}
    if dataset_utils.has_labels(folder):
        names = dict(sorted(dataset_utils.read_label_file(folder).items()))
        number_of = {name: number for number, name in names.items()}
        path = os.path.join(folder, dataset_utils.LABELS_FILENAME)
        if len(number_of) < len(names):
            raise DatasetError(f'{path} gives two labels to one class name.')
        for label, place in place_of.items():
            if label not in number_of:
                if numbers.get(label) not in names:
                    raise DatasetError(f'{place}: {unknown(f"class of {path}", label, number_of)}')
                number_of[label] = numbers[label]
        return names, number_of
    file = images[0].place.rpartition(', line')[0]
    if not place_of:
        raise DatasetError(f'no image of {file} has a label.')
    if len(place_of) == 1 and not images[0].multi_label:
        raise DatasetError(f'every image of {file} has the label {next(iter(place_of))}, and a classifier needs two.')
    if len(numbers) == len(place_of):
        for label, number in numbers.items():
            if number < 0:
                raise DatasetError(f'{place_of[label]}: a label is 0 or more, not {label}.')
        return None, numbers
    names = dict(enumerate(sorted(place_of)))
    return names, {name: number for number, name in names.items()}


def read_list(file: str, split: str | None = None) -> list[Image]:
    """The images of a list; `split` is theirs where the list is that of a split.

    Raises:
      DatasetError: if it cannot be read or is malformed; the message names the line.
    """
    with reading(file) as stream:
        content = stream.read()
    try:
        text = content.decode('utf-8-sig')  # Windows may begin with a mark
    except UnicodeDecodeError as error:
        line = content[:error.start].count(b'\n') + 1
        raise DatasetError(f'{file}, line {line}: this is not UTF-8; save the list as UTF-8.') from None
    read = read_json_lines if file.lower().endswith(('.jsonl', '.ndjson')) else read_csv
    images: list[Image] = []
    for line, fields in read(file, text):
        place = f'{file}, line {line}'
        image = to_image(place, fields, split)
        if images and image.multi_label != images[0].multi_label:
            raise DatasetError(f'{place}: either every image has label, or every image has labels; '
                               f'the first has {"labels" if images[0].multi_label else "label"}.')
        if images and (image.split is None) != (images[0].split is None):
            raise DatasetError(f'{place}: either every image names its split, or none does.')
        images.append(image)
    if not images:
        raise DatasetError(f'{file} names no image; {"its first line is the header, and " if read is read_csv else ""}'
                           f'each image has a line.')
    return images


def read_csv(file: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each line and its cells by their column."""
    lines = csv.reader(io.StringIO(text, newline=''), delimiter='\t' if file.lower().endswith('.tsv') else ',',
                       strict=True)
    columns: list[str] = []
    try:
        for cells in lines:
            place = f'{file}, line {lines.line_num}'
            if len(cells) < 2 and not ''.join(cells).strip():
                continue
            if not columns:
                columns = [cell.strip().lower() for cell in cells]
                check_names(place, columns, 'column')
            elif len(cells) != len(columns):
                raise DatasetError(f'{place} has {len(cells)} columns, but the header has {len(columns)}; a comma '
                                   f'within a column needs quotes around that.')
            else:
                yield lines.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f'{file}, line {lines.line_num}: {error}.') from None


def read_json_lines(file: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line and its object."""
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        place = f'{file}, line {number}'
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DatasetError(f'{place} is no JSON: {error}.') from None
        if not isinstance(fields, dict):
            raise DatasetError(f'{place} should be an object, as in {{"path": "a.jpg", "label": "cat"}}.')
        check_names(place, list(fields), 'key')
        yield number, fields


def check_names(place: str, names: list[str], kind: str) -> None:
    """DatasetError unless the columns (or keys) are one of each kind that is needed."""
    for needed, may_lack in ((PATH, False), (LABEL + LABELS, False), (SPLIT, True)):
        found = [name for name in names if name in needed]
        if not found and not may_lack:
            raise DatasetError(f'{place} has no {kind} {" or ".join(needed)}; it has {", ".join(names)}.')
        if len(found) > 1:
            raise DatasetError(f'{place} has the {kind}s {" and ".join(found)}, of which one should go.')


def to_image(place: str, fields: Mapping[str, Any], split: str | None) -> Image:
    """The image of a line."""
    path = next(fields[name] for name in PATH if name in fields)
    if not isinstance(path, str) or not path.strip():
        raise DatasetError(f'{place}: the path is empty or no string.')
    multi_label = LABELS[0] in fields
    given = fields[LABELS[0]] if multi_label else [next(fields[name] for name in LABEL if name in fields)]
    if isinstance(given, str):  # a cell
        given = given.split(SEPARATOR) if given.strip() else []
    if not isinstance(given, list):
        raise DatasetError(f'{place}: labels should be a list, as in ["cat", "dog"].')
    labels = dict.fromkeys(to_label(place, label) for label in given)
    split = split or fields.get(SPLIT[0])
    if split is not None and split not in SPLITS:
        raise DatasetError(f'{place}: {unknown("split", split, SPLITS)}')
    return Image(place, path.strip(), tuple(labels), split, multi_label)


def to_label(place: str, label: object) -> str:
    """A label as a string: integers are the same whether in quotes or not."""
    if not isinstance(label, str | int) or isinstance(label, bool):
        raise DatasetError(f'{place}: a label is a name or an integer, not {json.dumps(label)}.')
    if not str(label).strip():
        raise DatasetError(f'{place}: a label is empty.')
    return str(label).strip()
