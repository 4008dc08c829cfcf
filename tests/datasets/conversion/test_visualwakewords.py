import io
import json
import pathlib

import pytest
import tensorflow as tf
from PIL import Image

from datasets import DatasetError
from datasets.conversion import convert, sources
from datasets.conversion.collection import SplitOptions
from datasets.conversion.sources import visualwakewords as module
from datasets.dataset_factory import get_dataset

PERSON, DOG = 1, 18     # COCO's numbers
# (number of the photo, its boxes (category, x, y, width, height), class) of photos of 100x80: 0.5 percent is 40 pixels
PHOTOS = [(9, [(PERSON, 0, 0, 10, 4)], 1), (4, [(PERSON, 3, 3, 39, 1)], 0), (7, [(DOG, 0, 0, 90, 70)], 0), (5, [], 0),
          (6, [(PERSON, 1, 1, 2, 2), (DOG, 0, 0, 9, 9), (PERSON, 20, 20, 30.5, 30)], 1),
          (3, [(PERSON, 1, 1, 6, 6), (PERSON, 9, 9, 6, 6)], 0)]


def coco(split, photos=PHOTOS, year='2014'):
    boxes = [(number, box) for number, all_of_it, _ in photos for box in all_of_it]
    return {
        'info': {}, 'categories': [{'id': DOG, 'name': 'dog'}, {'id': PERSON, 'name': 'person'}],
        'images': [{'id': number, 'file_name': f'COCO_{split}{year}_{number:012d}.jpg', 'height': 80, 'width': 100}
                   for number, _, _ in photos],
        'annotations': [{'id': place, 'image_id': number, 'category_id': category, 'bbox': box, 'area': 1, 'iscrowd': 0}
                        for place, (number, (category, *box)) in enumerate(boxes)]}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'coco'
    (folder / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (folder / f'{split}2014').mkdir()
        (folder / 'annotations' / f'instances_{split}2014.json').write_text(json.dumps(coco(split)))
        for number, _, _ in PHOTOS:
            Image.new('L', (100, 80), number).save(folder / f'{split}2014' / f'COCO_{split}2014_{number:012d}.jpg')
    return folder


def read(source, **options):
    return sources.read('visualwakewords', str(source), SplitOptions(**options))


def test_files_and_labels(source, tmp_path):
    assert module.NUM_SHARDS == {'train': 100, 'val': 10}
    convert.convert(convert.Conversion(read(source, num_shards=2), str(tmp_path / 'out')), 1)
    names = [f'{split}.record-0000{number}-of-00002' for split in ('train', 'val') for number in (0, 1)]
    assert sorted(path.name for path in pathlib.Path(tmp_path, 'out').glob('*.record-*')) == names
    assert (tmp_path / 'out' / 'labels.txt').read_text() == '0:background\n1:person\n'
    for split in ('train', 'val'):
        dataset = get_dataset('visualwakewords', split, str(tmp_path / 'out'))
        assert dataset.num_samples == 6 and dataset.labels_to_names == {0: 'background', 1: 'person'}
        found = {}
        for element in dataset.as_tf_data().as_numpy_iterator():
            grey = Image.open(io.BytesIO(element['image'])).convert('L').getpixel((50, 40))
            found[grey] = int(element['label'])
        assert found == {number: label for number, _, label in PHOTOS}
    record = next(iter(tf.data.TFRecordDataset(str(tmp_path / 'out' / names[0]))))
    features = tf.train.Example.FromString(record.numpy()).features.feature
    assert features['image/filename'].bytes_list.value[0] == b'COCO_train2014_000000000003.jpg'
    assert features['image/source_id'].bytes_list.value[0] == b'3'
    assert features['image/class/text'].bytes_list.value[0] == b'background'
    assert features['image/width'].int64_list.value[0] == 100


def test_the_other_year(source):
    for split in ('train', 'val'):
        (source / 'annotations' / f'instances_{split}2014.json').unlink()
        (source / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(coco(split, year='2017')))
    item = read(source).splits['val'][0]
    assert item.image == str(source / 'val2017' / 'COCO_val2017_000000000003.jpg') and item.label == 0


def test_what_is_wrong(source, tmp_path):
    with pytest.raises(DatasetError, match='cannot be downloaded: get train2014.zip'):
        sources.read('visualwakewords', None, SplitOptions())
    with pytest.raises(DatasetError, match='leave out --stratify'):
        read(source, stratify=True)
    path = source / 'annotations' / 'instances_val2014.json'
    good = coco('val')
    outside = [{**good['images'][0], 'file_name': '../../etc/passwd'}]
    for content, words in (
            ('{"cate', 'is no file of COCO'), ('[]', 'is no file of COCO'), ('{}', "KeyError 'categories'"),
            (json.dumps({**good, 'categories': []}), 'is no file of COCO'),
            (json.dumps({**good, 'images': good['images'][1:]}), 'KeyError 9'),
            (json.dumps({**good, 'images': [], 'annotations': []}), 'has no images'),
            (json.dumps({**good, 'images': outside, 'annotations': []}), 'is no name of a file'),
            (b'\xff\xfe\x00', 'is no file of COCO')):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DatasetError, match=words) as error:
            read(source)
        assert '\n' not in str(error.value)
    path.unlink()
    with pytest.raises(DatasetError, match='instances_val2014.json cannot be read'):
        read(source)
    with pytest.raises(DatasetError, match='has no annotations/instances_train2014.json of COCO; the folder is empty'):
        (tmp_path / 'empty').mkdir()
        read(tmp_path / 'empty')
