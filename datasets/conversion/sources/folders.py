"""Images in files: class folders or lists of anyone's own, the flowers, Imagenette."""
import dataclasses
import os

import tensorflow as tf

from datasets import file_list, image_folder
from datasets.conversion.collection import Collection, Item, SplitOptions
from datasets.conversion.sources import splitting
from datasets.provider import DatasetError
from datasets.registry import DATASETS

# What folders of splits are called, and what the splits then are.
_SPLITS = {name: split for split, names in image_folder.FOLDERS.items() for name in names}
FLOWERS_VALIDATION = 350


def own(name: str, folder: str, options: SplitOptions, default: int | float = 0.1) -> Collection:
    """Class folders, `DIR/CLASS/...` or `DIR/{train,validation,test}/CLASS/...`.

    Args:
      name: of the dataset.
      folder: with the class folders, or the folders of the splits, in it. Images lie anywhere below their class; other
        files and hidden ones are passed over. The classes are the sorted names of the folders, unless there is a
        `labels.txt`.
      options: how it is split, where it has no folders of splits.
      default: how many are held out where the options do not say; as a float, which part.

    Raises:
      DatasetError: the folder is not as described above.
    """
    by_folder = {entry.path: _SPLITS[entry.name.lower()] for entry in image_folder.visible(folder)
                 if entry.name.lower() in _SPLITS and image_folder.is_split(entry.path)}
    trees = {path: image_folder.classes_below(path) for path in by_folder or [folder]}
    names = image_folder.class_names(folder, list(trees.values()))
    items = {path: _items(folder, tree, names) for path, tree in trees.items()}
    if not by_folder:
        splits = splitting.split(items[folder], options, default)
    else:
        splitting.refuse(folder, options)
        if len(set(by_folder.values())) < len(by_folder):
            raise DatasetError(f'{folder} has two folders of one split: {", ".join(map(os.path.basename, by_folder))}.')
        splits = {split: splitting.shuffled(items[path], options.seed) for path, split in by_folder.items()}
    return Collection(name, splits, names, splitting.number_of_shards(splits, options))


def listed(name: str, path: str, options: SplitOptions) -> Collection:
    """The images of a list, or of a folder with a list for each split; see `datasets.file_list`.

    Args:
      name: of the dataset.
      path: the list, or the folder.
      options: how it is split, where the list does not say.

    Raises:
      DatasetError: a list is not as it should be; the message names the line.
    """
    folder, lists = file_list.find_lists(path)
    images = [image for split, file in lists.items() for image in file_list.read_list(file, split)]
    names, number_of = file_list.find_classes(folder, images)
    splits: dict[str | None, list[Item]] = {}
    for image in images:
        labels = tuple(number_of[label] for label in image.labels)
        splits.setdefault(image.split, []).append(Item(
            image.path, file_list.locate(folder, image.path), labels if image.multi_label else labels[0]))
    if None in splits:
        parts = splitting.split(splits[None], options, 0.1)
    else:
        splitting.refuse(path, options)
        parts = {str(split): splitting.shuffled(items, options.seed) for split, items in splits.items()}
    names = names or {number: str(number) for number in range(max(number_of.values()) + 1)}
    return Collection(name, parts, names, splitting.number_of_shards(parts, options))


def is_listed(path: str) -> bool:
    """Whether this is a list of images, or a folder with lists and no folders."""
    if not tf.io.gfile.isdir(path):
        return True
    entries = image_folder.visible(path)
    return not any(entry.is_folder for entry in entries) and any(
        entry.name.lower().endswith(file_list.EXTENSIONS) for entry in entries)


def _items(folder, tree, names):
    return [Item(os.path.relpath(path, folder).replace(os.sep, '/'), path, label)
            for label, name in names.items() for path in tree.get(name, [])]


def flowers(folder: str, options: SplitOptions) -> Collection:
    """The flowers, split as in TF-Slim: shuffled by seed 0, of which the first 350 are for validation."""
    below = os.path.join(folder, 'flower_photos')
    return own('flowers', below if os.path.isdir(below) else folder, options, FLOWERS_VALIDATION)


def imagenette(folder: str, options: SplitOptions) -> Collection:
    """Imagenette, ten classes of ImageNet that are easily told apart: its folders train and val."""
    roots = [folder, *(entry.path for entry in image_folder.visible(folder) if entry.is_folder)]
    root = next((root for root in roots if os.path.isdir(os.path.join(root, 'train'))), None)
    if root is None:
        raise DatasetError(f'{folder} is not Imagenette: it has no folder train.')
    collection, names = own('imagenette', root, options), DATASETS['imagenette'].class_names or ()
    if len(collection.class_names) != len(names):
        raise DatasetError(f'{root} has {len(collection.class_names)} class folders, and Imagenette has {len(names)}.')
    # The folders are called by WordNet's numbers, which the names are in the order of.
    return dataclasses.replace(collection, class_names=dict(enumerate(names)))
