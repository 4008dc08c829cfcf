"""Any tree of class folders with images in it, local or wherever `tf.io.gfile` reads, such as gs://.

Either split by folder, `DIR/{train,validation,test}/CLASS/...` (or training, val, valid), or `DIR/CLASS/...`, of which
a fraction of each class is held out as the split `validation`. Images (jpg, jpeg, png, bmp, gif, webp) may lie in
folders below their class; hidden files and folders are passed over. The classes are the sorted names of the folders,
unless DIR has a `labels.txt`.
"""
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from datasets import dataset_utils, nearby
from datasets.provider import DatasetError, IndexedDataset, listing, reading, reason, unknown

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp')
SPLITS = ('train', 'validation', 'test')
FOLDERS = {'train': ('train', 'training'), 'validation': ('validation', 'val', 'valid'), 'test': ('test',)}
VALIDATION_FRACTION = 0.1


class ImageFiles(IndexedDataset):
    """Images in files of their own: `files` has their paths."""

    def __init__(self, *, files: Sequence[str], **fields):
        """Takes the path of each image, and the fields of `IndexedDataset`."""
        self.files = list(files)
        self._paths = [os.fsencode(file) for file in self.files]  # TensorFlow's names are bytes, of any encoding.
        self._copies = self._paths
        super().__init__(**fields)

    def cache(self, folder, begin=lambda total: lambda done: None):
        """See `Dataset.cache`."""
        self._copies = [os.fsencode(copy) for copy in nearby.copy_files(self.files, folder, begin)]

    def _columns(self):
        return {'source': tf.constant(self._paths), 'copy': tf.constant(self._copies), **super()._columns()}

    def _load(self, index, columns=None):
        element = super()._load(index, columns)
        return {'image': tf.io.read_file(element.pop('copy')), **element}

    def _examples(self):
        for file, label in zip(self.files, self.labels, strict=True):
            with reading(file) as image:
                encoded = image.read()
            yield file, encoded, label


class ImageFolder(ImageFiles):
    """A split of a tree of class folders."""

    def __init__(self, row, split_name, dataset_dir, file_pattern=None, reader=None,
                 validation_fraction: float | None = None):
        """Finds the images; see `registry.DatasetRow.get_split`.

        Args:
          row: the registry's row.
          split_name: one of SPLITS that is a folder of `dataset_dir`, or else train or validation.
          dataset_dir: the root of the tree.
          file_pattern: must be None.
          reader: must be None.
          validation_fraction: of each class, the part that is held out, 0.1 if None; only for a tree that is not split
            by folder. The images whose names have the lowest hashes are held out, so that the same ones are next time,
            and hardly any changes sides when images are added.

        Raises:
          DatasetError: if the tree is not as described above, or the argument does not fit it.
        """
        if file_pattern or reader:
            raise DatasetError('image_folder takes every image in the tree: it has no file_pattern and no reader.')
        if not dataset_dir:
            raise DatasetError('image_folder needs dataset_dir, a folder with a folder of images for each class.')
        if not tf.io.gfile.isdir(dataset_dir):
            raise DatasetError(f'there is no folder {dataset_dir}, where the class folders of image_folder should be.')
        by_folder = {split: folder for split in SPLITS for name in reversed(FOLDERS[split])
                     if is_split(folder := os.path.join(dataset_dir, name))}
        splits = list(by_folder) or ['train', 'validation']
        split_name = next((split for split in splits if split_name in FOLDERS[split]), split_name)
        if split_name not in splits:
            raise unknown(f'split of {dataset_dir}', split_name, splits)
        if by_folder and validation_fraction is not None:
            raise DatasetError(f'{dataset_dir} is split by its folders {", ".join(by_folder)}, so there is no '
                               f'validation_fraction to choose.')
        fraction = check_fraction(validation_fraction)
        trees = {split: classes_below(folder) for split, folder in by_folder.items()}
        tree = trees[split_name] if by_folder else classes_below(dataset_dir)
        names = class_names(dataset_dir, list(trees.values()) or [tree])
        root = os.path.join(dataset_dir, '')
        all_files, labels = [], []
        for label, name in names.items():
            files = tree.get(name, [])
            if not by_folder:
                chosen = held_out([file[len(root):] for file in files], fraction)
                files = [file for file, out in zip(files, chosen, strict=True) if out == (split_name == 'validation')]
            all_files += files
            labels += [label] * len(files)
        if not labels:
            raise DatasetError(f'the split {split_name} of {dataset_dir} has no images'
                               f'{"" if by_folder else f" with validation_fraction={fraction}"}.')
        super().__init__(files=all_files, name=row.name, split_name=split_name, labels=labels,
                         num_classes=max(names) + 1, channels=row.channels, labels_to_names=names,
                         items_to_descriptions=row.items_to_descriptions, licence=row.licence)


def check_fraction(validation_fraction: float | None) -> float:
    """The fraction to hold out; DatasetError if it is none."""
    fraction = VALIDATION_FRACTION if validation_fraction is None else validation_fraction
    if not 0 <= fraction < 1:
        raise DatasetError(f'validation_fraction must be at least 0 and below 1, not {fraction}.')
    return fraction


class Entry(NamedTuple):
    """A file or folder in a folder."""

    name: str
    path: str
    is_folder: bool


def visible(folder: str) -> list[Entry]:
    """What a folder holds, sorted, without hidden files."""
    try:
        if '://' not in folder:
            with os.scandir(folder) as entries:  # many times as fast as TensorFlow, and takes names of any encoding
                found = [Entry(entry.name, entry.path, is_folder(entry)) for entry in entries]
        else:
            found = [remote(folder, name) for name in tf.io.gfile.listdir(folder)]
    except OSError as error:
        raise DatasetError(f'the folder {folder} cannot be read: {error.strerror}.') from None
    except tf.errors.OpError as error:
        raise DatasetError(f'the folder {folder} cannot be read: {reason(error)}') from None
    return sorted(entry for entry in found if not entry.name.startswith('.'))


def remote(folder: str, name: str) -> Entry:
    """The entry of a folder that is not local."""
    # gs:// marks folders by a slash. A question for each image would take minutes.
    path = os.path.join(folder, name.rstrip('/'))
    return Entry(name.rstrip('/'), path, name.endswith('/') or not is_image(name) and tf.io.gfile.isdir(path))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(EXTENSIONS)


def is_split(folder: str) -> bool:
    """Whether the folder is there, with class folders in it and no images beside them."""
    if not tf.io.gfile.isdir(folder):
        return False
    entries = visible(folder)
    return any(entry.is_folder for entry in entries) and not any(is_image(entry.name) for entry in entries)


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder; a link that leads round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def images_below(folder: str) -> list[str]:
    """The paths of the images in a folder and in the folders in it, in sorted order."""
    return list(walk(folder))


def walk(folder: str) -> Iterator[str]:
    """Yields what `images_below` returns: of each level, one folder is held in memory at a time."""
    for entry in visible(folder):
        if entry.is_folder:
            yield from walk(entry.path)
        elif is_image(entry.name):
            yield entry.path


def classes_below(root: str) -> dict[str, list[str]]:
    """From the name of each folder in `root` to its images."""
    return {entry.name: images_below(entry.path) for entry in visible(root) if entry.is_folder}


def class_names(dataset_dir: str, trees: Sequence[dict[str, list[str]]]) -> dict[int, str]:
    """From label to class name: as labels.txt has them, else the sorted names of the folders in any of the trees.

    Raises:
      DatasetError: if the folders are no classes, or not those of labels.txt.
    """
    folders = sorted(set().union(*trees))
    if not folders:
        there = [entry.name for entry in visible(dataset_dir)]
        raise DatasetError(f'{dataset_dir} has no class folders: the images should lie in {dataset_dir}/CLASS/, or in '
                           f'{dataset_dir}/train/CLASS/ and {dataset_dir}/validation/CLASS/; {listing(there)}.')
    for folder in folders:
        if not any(tree.get(folder) for tree in trees):
            raise DatasetError(f'the class folder {folder} in {dataset_dir} has no images ({", ".join(EXTENSIONS)}); '
                               f'if it is no class, move it elsewhere or let its name begin with a dot.')
    if dataset_utils.has_labels(dataset_dir):
        names = dataset_utils.read_label_file(dataset_dir)
        path = os.path.join(dataset_dir, dataset_utils.LABELS_FILENAME)
        if len(set(names.values())) < len(names):
            raise DatasetError(f'{path} gives two labels to one class name.')
        for folder in folders:
            if folder not in names.values():
                raise DatasetError(f'{path} does not name the class folder {folder}; it names '
                                   f'{", ".join(names.values())}.')
        return dict(sorted(names.items()))
    if len(folders) == 1:
        raise DatasetError(f'{dataset_dir} has one class folder only, {folders[0]}, and a classifier needs two; if the '
                           f'classes are the folders in it, dataset_dir should be {dataset_dir}/{folders[0]}.')
    return dict(enumerate(folders))


def held_out(files: Sequence[str], fraction: float) -> list[bool]:
    """Which of the files, named relative to their root, are held out: both parts have one if there are two."""
    count = min(max(round(len(files) * fraction), 1 if fraction else 0), len(files) - 1)

    def rank(number):
        return hashlib.sha1(os.fsencode(files[number])).digest()

    chosen = set(sorted(range(len(files)), key=rank)[:count])
    return [number in chosen for number in range(len(files))]
