"""ImageNet's 1000 classes (ILSVRC 2012) as their owners, Kaggle, or TF-Slim's own preparation lay them out.

Training images are in folders of synsets, `train/n01440764/n01440764_10026.JPEG`; validation images too, or all in one
folder, with a file of the truth beside it. The classes are 1 to 1000, the sorted synsets; 0 is the background.
"""
import csv
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf

from datasets import image_folder
from datasets.conversion.collection import Collection, Item, SplitOptions
from datasets.conversion.sources import splitting
from datasets.provider import DatasetError, listing, reading

NUM_SHARDS = {'train': 1024, 'validation': 128}     # TF-Slim's
BACKGROUND = 'background'
# Where things are, in the folder that is read; the first that is there counts.
_ROOTS = ('', 'Data/CLS-LOC', 'ILSVRC/Data/CLS-LOC')
_IMAGES = {'train': ('train', 'ILSVRC2012_img_train'), 'validation': ('validation', 'val', 'ILSVRC2012_img_val')}
_BOXES = {
    'train': ('bounding_boxes', 'Annotation', 'Annotations/CLS-LOC/train', 'ILSVRC/Annotations/CLS-LOC/train'),
    'validation': ('bounding_boxes/val', 'Annotation/val', 'Annotations/CLS-LOC/val', 'ILSVRC/Annotations/CLS-LOC/val',
                   'bounding_boxes', 'Annotation')}
_BOX_TABLE = 'imagenet_2012_bounding_boxes.csv'
_WORDS = ('imagenet_metadata.txt', 'LOC_synset_mapping.txt', 'words.txt')
_CHALLENGE = ('imagenet_lsvrc_2015_synsets.txt', 'LOC_synset_mapping.txt')
_TRUTH = ('imagenet_2012_validation_synset_labels.txt', 'LOC_val_solution.csv',
          'ILSVRC2012_validation_ground_truth.txt')
_IDS = ('map_clsloc.txt', 'meta.txt')
_SYNSET = re.compile(r'n\d{8}')
_LARGEST = 2**20    # bytes of a box's file
_SIDES = ('xmin', 'ymin', 'xmax', 'ymax')

Box = tuple[float, float, float, float]     # xmin, ymin, xmax, ymax, from 0 to 1


def imagenet(folder: str, options: SplitOptions) -> Collection:
    """Reads the splits that are there: train, validation or both.

    Args:
      folder: with, in it or in Kaggle's `ILSVRC/Data/CLS-LOC`,
        `train` and `validation` (or `val`): the images, in folders of synsets. Validation images may also lie all in
        one folder; then there is one of `imagenet_2012_validation_synset_labels.txt` (a synset a line),
        `LOC_val_solution.csv`, or `ILSVRC2012_validation_ground_truth.txt` (a number a line) with `map_clsloc.txt` or
        `meta.txt`, whose lines say which synset a number is.
        Boxes, if they are wanted: `imagenet_2012_bounding_boxes.csv`, or the XML files in `bounding_boxes` or
        `Annotation` or Kaggle's `ILSVRC/Annotations/CLS-LOC`, in folders of synsets as the images.
        Words, if they are wanted: `imagenet_metadata.txt`, `LOC_synset_mapping.txt` or `words.txt`, lines that begin
        with a synset. Without them the synset is the class's name.
      options: the seed of the order of the training images, and the number of shards, TF-Slim's 1024 and 128 if None.

    Raises:
      DatasetError: the folder is not as described above.
    """
    splitting.refuse('imagenet', options)
    found_roots = {split: _first(folder, [os.path.join(root, name) for root in _ROOTS for name in names])
                   for split, names in _IMAGES.items()}
    roots = {split: root for split, root in found_roots.items() if root}
    if not roots:
        there = [entry.name for entry in image_folder.visible(folder)]
        raise DatasetError(f'{folder} is not ImageNet as it is published: it has no folder train or validation (or '
                           f'val), nor ILSVRC/Data/CLS-LOC; {listing(there)}.')
    found = {split: _images(folder, root) for split, root in roots.items()}
    synsets = _challenge(folder) or sorted({synset for images in found.values() for _, synset in images})
    labels = {synset: label for label, synset in enumerate(synsets, 1)}
    words = _read_words(_first(folder, _WORDS), labels)
    table = _box_table(os.path.join(folder, _BOX_TABLE))
    splits: dict[str, Sequence[Item]] = {}
    for split, images in found.items():
        unknown = next((f'{roots[split]}/{name} is of {synset}' for name, synset in images if synset not in labels),
                       None)
        if unknown:
            raise DatasetError(f'{unknown}, which is none of the {len(labels)} classes of {folder}.')
        if split == 'train':    # the classes lie one after another
            images = splitting.shuffled(images, options.seed)
        boxes = table if table is not None else _box_files(folder, _BOXES[split], images)
        splits[split] = Items(roots[split], images, labels, words, boxes)
    shards = {split: min(options.num_shards or NUM_SHARDS[split], len(items)) for split, items in splits.items()}
    names = {0: BACKGROUND, **{label: words.get(synset, synset) for synset, label in labels.items()}}
    return Collection('imagenet', splits, names, shards, '{split}-{shard:05d}-of-{num_shards:05d}', 'JPEG')


class Items(Sequence[Item]):
    """Items that are made when they are asked for: over a million of them would fill the memory."""

    def __init__(self, root: str, images: Sequence[tuple[str, str]], labels: Mapping[str, int],
                 words: Mapping[str, str], boxes: Mapping[str, Sequence[Box]]):
        """Takes the images as (name below the root, synset), and what there is to say of each."""
        self._root, self._images, self._labels, self._words, self._boxes = root, images, labels, words, boxes

    def __len__(self):
        """The number of images."""
        return len(self._images)

    def __getitem__(self, index):
        """An item, or for a slice such a sequence again, with no more boxes and words than its own."""
        if isinstance(index, slice):
            images = self._images[index]
            stems, synsets = {_stem(name) for name, _ in images}, {synset for _, synset in images}
            return Items(self._root, images, {synset: self._labels[synset] for synset in synsets},
                         {synset: self._words[synset] for synset in synsets & self._words.keys()},
                         {stem: self._boxes[stem] for stem in stems & self._boxes.keys()})
        name, synset = self._images[index]
        label, boxes = self._labels[synset], self._boxes.get(_stem(name), ())
        features = {'image/class/synset': synset, 'image/class/text': self._words.get(synset, synset),
                    'image/colorspace': 'RGB', 'image/channels': 3, 'image/filename': name.rpartition('/')[2]}
        if boxes:
            features |= {f'image/object/bbox/{side}': list(values)
                         for side, values in zip(_SIDES, zip(*boxes, strict=True), strict=True)}
            features['image/object/bbox/label'] = [label] * len(boxes)
        return Item(name, os.path.join(self._root, name), label, features)


def _images(folder, root):
    """The images of a split, sorted: (name below the root, synset)."""
    classes = {name: files for name, files in image_folder.classes_below(root).items() if files}
    if classes:
        bad = next((name for name in classes if not _SYNSET.fullmatch(name)), None)
        if bad:
            raise DatasetError(f'{root} has a folder {bad}, but its folders should be synsets, such as n01440764.')
        start = len(os.path.join(root, ''))
        return [(file[start:], synset) for synset, files in classes.items() for file in files]
    names = [entry.name for entry in image_folder.visible(root) if image_folder.is_image(entry.name)]
    if not names:
        raise DatasetError(f'{root} has no images (JPEG), neither in folders of synsets nor directly.')
    truth = _truth(folder, root)
    return [(name, _synset_of(name, place, truth, len(names), root)) for place, name in enumerate(names)]


def _synset_of(name, place, truth, count, root):
    path, synsets = truth
    if isinstance(synsets, dict):
        found = synsets.get(_stem(name))
    else:
        numbered = re.search(r'_val_(\d{8})\.', name)
        place = int(numbered[1]) - 1 if numbered else place
        found = synsets[place] if (numbered or len(synsets) == count) and 0 <= place < len(synsets) else None
    if found is None:
        raise DatasetError(f'{path} has no line for {root}/{name}: it has {len(synsets)}, for {count} images.')
    return found


def _truth(folder, root):
    """The file of the truth, and the synsets in it: in order, or by the image's name."""
    path = _first(folder, [*_TRUTH, *(os.path.join(root, name) for name in _TRUTH)])
    if not path:
        raise DatasetError(f'{root} has its images in no folders, so a file must say which are which: {_TRUTH[0]}, '
                           f'{_TRUTH[1]}, or {_TRUTH[2]} with {_IDS[0]}, in {folder}.')
    lines = _lines(path)
    if path.endswith('.csv'):   # ImageId,PredictionString: a synset and four numbers for each box
        return path, {row[0]: row[1].split()[0] for row in csv.reader(lines[1:]) if len(row) == 2 and row[1].split()}
    if all(_SYNSET.fullmatch(line) for line in lines):
        return path, lines
    if not all(line.isdecimal() for line in lines):
        raise DatasetError(f'{path} should have a synset, such as n01440764, or a number on each line.')
    ids = _first(folder, _IDS)
    if not ids:
        raise DatasetError(f'{path} holds numbers, and {" or ".join(_IDS)} should say in {folder} which synsets they '
                           f'are, in lines like "n02119789 1".')
    synsets = {}
    for line in _lines(ids):
        both = re.search(r'n\d{8}', line), re.search(r'(?<!\S)\d{1,4}(?!\S)', line)
        if all(both):
            synsets[int(both[1][0])] = both[0][0]
    missing = sorted({int(line) for line in lines} - synsets.keys())
    if missing:
        raise DatasetError(f'{ids} does not say which synset the number {missing[0]} of {path} is.')
    return path, [synsets[int(line)] for line in lines]


def _challenge(folder):
    """The synsets of all classes, sorted, where a file says them."""
    path = _first(folder, _CHALLENGE)
    return sorted({line.split()[0] for line in _lines(path)}) if path else None


def _read_words(path, synsets):
    """From synset to words; empty without a file."""
    words = (line.split(maxsplit=1) for line in (_lines(path) if path else []))
    return {line[0]: line[1].strip() for line in words if len(line) == 2 and line[0] in synsets}


def _box_table(path):
    """The boxes in TF-Slim's table: `n01440764_10026.JPEG,xmin,ymin,xmax,ymax` a line."""
    if not tf.io.gfile.exists(path):
        return None
    boxes: dict[str, tuple[Box, ...]] = {}
    for number, line in enumerate(_lines(path), 1):
        name, *sides = line.split(',')
        try:
            box = _checked(*map(float, sides))
        except (ValueError, TypeError):
            raise DatasetError(f'{path}, line {number}: {line[:80]!r} is not of the form '
                               f'"n01440764_10026.JPEG,xmin,ymin,xmax,ymax".') from None
        if box:
            boxes[_stem(name)] = (*boxes.get(_stem(name), ()), box)
    return boxes


def _box_files(folder, places, images):
    """The boxes in the XML files: each has the name of its image, in a folder of its synset or directly."""
    boxes = {}
    roots = [path for path in (os.path.join(folder, place) for place in places) if tf.io.gfile.isdir(path)]
    if not roots:
        return boxes
    # Folders are listed once; a question for each image would take minutes.
    there: dict[str, str] = {}
    for synset in ('', *sorted({synset for _, synset in images})):
        for root in reversed(roots):
            place = os.path.join(root, synset)
            if tf.io.gfile.isdir(place):
                there.update((_stem(entry.name), entry.path) for entry in image_folder.visible(place)
                             if entry.name.endswith('.xml'))
    for name, _ in images:
        path = there.get(_stem(name))
        found = read_boxes(path) if path else ()
        if found:
            boxes[_stem(name)] = found
    return boxes


def read_boxes(path: str) -> tuple[Box, ...]:
    """The boxes of an annotation of ImageNet, without those that have no area.

    Raises:
      DatasetError: it is no such file.
    """
    with reading(path) as file:
        content = file.read(_LARGEST + 1)
    try:
        if len(content) > _LARGEST:
            raise ValueError('too large')
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoEntities()))
        width, height = (float(root.findtext(f'size/{side}', '')) for side in ('width', 'height'))
        found = [[float(box.findtext(side, '')) / size for side, size in zip(_SIDES, (width, height) * 2, strict=True)]
                 for box in root.iterfind('object/bndbox')]
        return tuple(box for box in (_checked(*sides) for sides in found) if box)
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise DatasetError(f'{path} is no annotation of ImageNet with size and boxes: {error}.') from None


class _NoEntities(ElementTree.TreeBuilder):
    """Refuses a document type, which is where entities that grow without bound are declared."""

    def doctype(self, name, pubid, system):
        raise ValueError('it declares a document type')


def _checked(xmin: float, ymin: float, xmax: float, ymax: float) -> Box | None:
    """The box cut to the image, its ends in order; None if nothing is left of it."""
    xmin, xmax = (min(max(x, 0.0), 1.0) for x in sorted((xmin, xmax)))
    ymin, ymax = (min(max(y, 0.0), 1.0) for y in sorted((ymin, ymax)))
    return (xmin, ymin, xmax, ymax) if xmin < xmax and ymin < ymax else None


def _first(folder: str, names: Iterable[str]) -> str | None:
    return next((path for path in (os.path.join(folder, name) for name in names) if tf.io.gfile.exists(path)), None)


def _lines(path):
    with reading(path) as file:
        content = file.read()
    try:
        return [line.strip() for line in content.decode('utf-8-sig').splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path} is no text in UTF-8: {error}.') from None


def _stem(name):
    return name.rpartition('/')[2].rpartition('.')[0]
