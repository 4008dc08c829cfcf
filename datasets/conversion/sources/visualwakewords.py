"""Visual Wake Words: whether there is a person in a photo of COCO.

A photo is of class 1, person, if one of its boxes of a person has at least half a percent of its area (A. Chowdhery et
al., "Visual Wake Words Dataset", arXiv:1906.05721).
"""
import json
import os

import tensorflow as tf

from datasets import image_folder
from datasets.conversion.collection import Collection, Item, SplitOptions
from datasets.conversion.sources import splitting
from datasets.provider import DatasetError, listing, reading

NUM_SHARDS = {'train': 100, 'val': 10}      # TF-Slim's
SMALLEST = 0.005    # part of the image's area
CLASS_NAMES = {0: 'background', 1: 'person'}
YEARS = ('2014', '2017')    # TF-Slim's is 2014


def visualwakewords(folder: str, options: SplitOptions) -> Collection:
    """Reads COCO: `annotations/instances_train2014.json`, `annotations/instances_val2014.json`, and the photos.

    Args:
      folder: with `annotations`, `train2014` and `val2014` in it; the same of 2017 do as well.
      options: the number of shards, TF-Slim's 100 and 10 if None.

    Raises:
      DatasetError: the folder is not as described above.
    """
    splitting.refuse('visualwakewords', options)
    year = next((year for year in YEARS if tf.io.gfile.exists(_annotations(folder, 'train', year))), None)
    if year is None:
        there = [entry.name for entry in image_folder.visible(folder)]
        raise DatasetError(f'{folder} has no {_annotations("", "train", YEARS[0])} of COCO; {listing(there)}.')
    splits = {split: _items(folder, split, year) for split in NUM_SHARDS}
    shards = {split: min(options.num_shards or NUM_SHARDS[split], len(items)) for split, items in splits.items()}
    return Collection('visualwakewords', splits, CLASS_NAMES, shards,
                      '{split}.record-{shard:05d}-of-{num_shards:05d}', 'jpeg')


def _annotations(folder, split, year):
    return os.path.join(folder, 'annotations', f'instances_{split}{year}.json')


def _items(folder, split, year):
    path, photos = _annotations(folder, split, year), os.path.join(folder, f'{split}{year}')
    with reading(path) as file:
        content = file.read()
    try:
        coco = json.loads(content)
        person, = (category['id'] for category in coco['categories'] if category['name'] == 'person')
        images = {image['id']: image for image in sorted(coco['images'], key=lambda image: image['id'])}
        with_person = set()
        for box in coco['annotations']:
            if box['category_id'] == person:
                image = images[box['image_id']]
                if box['bbox'][2] * box['bbox'][3] >= SMALLEST * image['width'] * image['height']:
                    with_person.add(image['id'])
        items = [(image['file_name'], number, int(number in with_person)) for number, image in images.items()]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f'{type(error).__name__} {error}' if isinstance(error, KeyError) else str(error)
        raise DatasetError(f'{path} is no file of COCO with categories, images and annotations: {what}.') from None
    if not items:
        raise DatasetError(f'{path} has no images.')
    for name, _, _ in items:
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise DatasetError(f'{path} calls an image {name!r}, which is no name of a file in {photos}.')
    return [Item(f'{split}{year}/{name}', os.path.join(photos, name), label,
                 {'image/filename': name, 'image/source_id': str(number), 'image/class/text': CLASS_NAMES[label]})
            for name, number, label in items]
