"""Class folders of images: anyone's own, the flowers, Imagenette."""
import os
from collections.abc import Mapping

from datasets import image_folder
from datasets.conversion.collection import Collection, Item, SplitOptions
from datasets.conversion.sources import splitting
from datasets.provider import DatasetError

# What folders of splits are called, and what the splits then are.
_SPLITS = {'train': 'train', 'training': 'train', 'val': 'validation', 'valid': 'validation',
           'validation': 'validation', 'test': 'test'}
FLOWERS_VALIDATION = 350
# Imagenette's folders are called by WordNet; this is the order of the names, too.
IMAGENETTE = {'n01440764': 'tench', 'n02102040': 'English springer', 'n02979186': 'cassette player',
              'n03000684': 'chain saw', 'n03028079': 'church', 'n03394916': 'French horn',
              'n03417042': 'garbage truck', 'n03425413': 'gas pump', 'n03445777': 'golf ball',
              'n03888257': 'parachute'}


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


def _items(folder, tree, names):
    # Names of files can be bytes that are no text, which names in reports should be.
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
    collection = own('imagenette', root, options)
    return renamed(collection, IMAGENETTE)


def renamed(collection: Collection, names: Mapping[str, str]) -> Collection:
    """A collection whose classes, called by their folders, get names for people.

    Raises:
      DatasetError: a folder has no such name.
    """
    for folder in collection.class_names.values():
        if folder not in names:
            raise DatasetError(f'{collection.name} has a class folder {folder}, and should have {", ".join(names)}.')
    return Collection(collection.name, collection.splits,
                      {label: names[folder] for label, folder in collection.class_names.items()},
                      collection.num_shards)
