import dataclasses
import io
import pathlib
import pickle

import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

import tf_slim_compat  # noqa: F401
from datasets import DatasetError
from datasets.conversion import convert, sources
from datasets.conversion.collection import SplitOptions
from datasets.conversion.sources import imagenet as module
from datasets.dataset_factory import get_dataset

SYNSETS = ('n01440764', 'n01443537', 'n02119789')
WORDS = ('tench, Tinca tinca', 'goldfish, Carassius auratus', 'kit fox, Vulpes macrotis')
BOXES = {'n01443537_1': ((0.25, 0.0, 0.75, 0.5), (0.0, 0.5, 1.0, 1.0))}   # xmin, ymin, xmax, ymax
VALIDATION = ((2, 1), (0, 2), (2, 3))     # (class, number of the image)


def jpeg(value, mode='RGB', kind='JPEG'):
    buffer = io.BytesIO()
    Image.new('L', (40, 30), value).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def xml(boxes, size=(40, 30)):
    objects = ''.join('<object><name>n01443537</name><bndbox>' + ''.join(
        f'<{side}>{value}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True))
        + '</bndbox></object>' for box in boxes)
    return (f'<annotation><folder>x</folder><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}'
            '</annotation>')


@pytest.fixture
def source(tmp_path):
    """Three classes of two training images; the grey value is 10 * class + number."""
    for place, synset in enumerate(SYNSETS):
        for number in range(2):
            put(tmp_path / 'in put' / 'train' / synset / f'{synset}_{number}.JPEG', jpeg(10 * place + number))
    return tmp_path / 'in put'


@pytest.fixture
def flat(source):
    """Three validation images in one folder."""
    for place, number in VALIDATION:
        put(source / 'val' / f'ILSVRC2012_val_{number:08d}.JPEG', jpeg(100 * place + number))
    return source


def read(source, **options):
    return sources.read('imagenet', str(source), SplitOptions(**options))


def converted(source, folder, **options):
    conversion = convert.Conversion(read(source, **options), str(folder))
    convert.convert(conversion, 1)
    return conversion


def records(folder, split):
    for file in sorted(pathlib.Path(folder).glob(f'{split}-*-of-*')):
        for record in tf.data.TFRecordDataset(str(file)):
            yield tf.train.Example.FromString(record.numpy()).features.feature


def features(folder, split):
    """What each example says, by its file name."""
    found = {}
    for example in records(folder, split):
        values = {key: list(getattr(feature, feature.WhichOneof('kind')).value) for key, feature in example.items()}
        found[values['image/filename'][0].decode()] = values
    return found


def test_features_of_tf_slim(source, tmp_path):
    put(source / 'imagenet_metadata.txt', 'n00000000\tentity\n' + ''.join(
        f'{synset}\t{words}\n' for synset, words in zip(SYNSETS, WORDS, strict=True)))
    put(source / 'bounding_boxes' / 'n01443537' / 'n01443537_1.xml', xml([(10, 0, 30, 15), (0, 15, 40, 30)]))
    converted(source, tmp_path / 'out')
    found = features(tmp_path / 'out', 'train')
    assert sorted(found) == [f'{synset}_{number}.JPEG' for synset in SYNSETS for number in range(2)]
    one = found['n01443537_1.JPEG']
    image = one.pop('image/encoded')[0]
    assert image == jpeg(11)
    assert one == {
        'image/format': [b'JPEG'], 'image/height': [30], 'image/width': [40], 'image/class/label': [2],
        'image/class/synset': [b'n01443537'], 'image/class/text': [b'goldfish, Carassius auratus'],
        'image/colorspace': [b'RGB'], 'image/channels': [3], 'image/filename': [b'n01443537_1.JPEG'],
        'image/object/bbox/xmin': [0.25, 0.0], 'image/object/bbox/ymin': [0.0, 0.5],
        'image/object/bbox/xmax': [0.75, 1.0], 'image/object/bbox/ymax': [0.5, 1.0],
        'image/object/bbox/label': [2, 2]}
    assert [found[f'{synset}_0.JPEG']['image/class/label'] for synset in SYNSETS] == [[1], [2], [3]]
    assert (tmp_path / 'out' / 'labels.txt').read_text().splitlines() == [
        '0:background', *(f'{label}:{words}' for label, words in enumerate(WORDS, 1))]


def test_tf_slims_reader_and_ours(source, tmp_path):
    put(source / 'bounding_boxes' / 'n01443537' / 'n01443537_1.xml', xml([(10, 0, 30, 15), (0, 15, 40, 30)]))
    converted(source, tmp_path / 'out')
    dataset = get_dataset('imagenet', 'train', str(tmp_path / 'out'))
    assert dataset.num_samples == 6 and dataset.labels_to_names[3] == 'n02119789' and dataset.find_fault() is None
    assert isinstance(dataset.decoder, slim.tfexample_decoder.TFExampleDecoder)
    seen = {}
    for example in records(tmp_path / 'out', 'train'):
        record = tf.train.Example(features=tf.train.Features(feature=dict(example))).SerializeToString()
        items = ('image', 'label', 'label_text', 'object/bbox', 'object/label')
        image, label, text, boxes, box_labels = dataset.decoder.decode(tf.constant(record), items)
        seen[int(image[0, 0, 0])] = int(label), text.numpy(), boxes.numpy().tolist(), box_labels
    assert {value: label for value, (label, *_) in seen.items()} == {0: 1, 1: 1, 10: 2, 11: 2, 20: 3, 21: 3}
    assert seen[11][1] == b'n01443537'
    assert seen[11][2] == [[0.0, 0.25, 0.5, 0.75], [0.5, 0.0, 1.0, 1.0]]    # ymin, xmin, ymax, xmax
    assert seen[0][2] == []


def test_files_of_tf_slim(source):
    many = read(source)
    assert [shard.file_name for shard in many.shards()] == [f'train-{n:05d}-of-00006' for n in range(6)]
    assert module.NUM_SHARDS == {'train': 1024, 'validation': 128}
    images = [(f'{SYNSETS[0]}/{n}.JPEG', SYNSETS[0]) for n in range(1500)]
    items = module.Items('/', images, {SYNSETS[0]: 1}, {}, {})
    shards = [1500 * (n + 1) // 1024 - 1500 * n // 1024 for n in range(1024)]
    made = dataclasses.replace(many, splits={'train': items}, num_shards={'train': 1024}).shards()
    assert [len(shard.items) for shard in made] == shards
    assert made[0].file_name == 'train-00000-of-01024' and made[-1].file_name == 'train-01023-of-01024'
    names = [item.name for shard in made for item in shard.items]
    assert names == [name for name, _ in images]


def test_order_is_of_the_seed(flat):
    put(flat / 'LOC_val_solution.csv', 'ImageId,PredictionString\n' + ''.join(
        f'ILSVRC2012_val_{number:08d},{SYNSETS[place]} 1 2 3 4 \n' for place, number in VALIDATION))
    orders = {tuple(item.name for item in read(flat, seed=seed).splits['train']) for seed in range(5)}
    assert len(orders) > 1 and len({frozenset(order) for order in orders}) == 1
    assert [item.name for item in read(flat).splits['train']] == [item.name for item in read(flat).splits['train']]
    assert [item.name[-8:-5] for item in read(flat, seed=3).splits['validation']] == ['001', '002', '003']


def test_a_shard_is_small_on_its_way(source):
    put(source / 'imagenet_metadata.txt', ''.join(f'{synset}\t{"x" * 10000}\n' for synset in SYNSETS))
    items = read(source).splits['train']
    whole, part = (len(pickle.dumps(some)) for some in (items, items[:1]))
    assert whole > 30000 and part < 11000
    assert [item.name for item in pickle.loads(pickle.dumps(items[2:5]))] == [item.name for item in items][2:5]


@pytest.mark.parametrize('name, content, extra', [
    ('imagenet_2012_validation_synset_labels.txt', '\n'.join(SYNSETS[place] for place, _ in VALIDATION) + '\n', {}),
    ('LOC_val_solution.csv', 'ImageId,PredictionString\n' + ''.join(
        f'ILSVRC2012_val_{number:08d},{SYNSETS[place]} 85 1 499 272 {SYNSETS[place]} 1 1 2 2 \n'
        for place, number in reversed(VALIDATION)), {}),
    ('ILSVRC2012_validation_ground_truth.txt', '500\r\n3\r\n500\r\n',
     {'map_clsloc.txt': f'{SYNSETS[0]} 3 tench\n{SYNSETS[1]} 1 fish\n{SYNSETS[2]} 500 kit_fox\n'}),
    ('ILSVRC2012_validation_ground_truth.txt', '500\n3\n500',
     {'meta.txt': f'3\t{SYNSETS[0]}\ttench\n1\t{SYNSETS[1]}\tfish\n500\t{SYNSETS[2]}\tkit_fox\n'}),
])
def test_truth_of_validation(flat, tmp_path, name, content, extra):
    for file, text in {name: content, **extra}.items():
        put(flat / file, text)
    converted(flat, tmp_path / 'out')
    found = features(tmp_path / 'out', 'validation')
    assert {file: (values['image/class/label'][0], values['image/class/synset'][0].decode())
            for file, values in found.items()} == {
        f'ILSVRC2012_val_{number:08d}.JPEG': (place + 1, SYNSETS[place]) for place, number in VALIDATION}
    assert get_dataset('imagenet', 'validation', str(tmp_path / 'out')).num_samples == 3


def test_part_of_the_validation_images(flat):
    put(flat / 'imagenet_2012_validation_synset_labels.txt', '\n'.join(SYNSETS[place] for place, _ in VALIDATION))
    (flat / 'val' / 'ILSVRC2012_val_00000002.JPEG').unlink()
    assert [(item.name[-8:-5], item.label) for item in read(flat).splits['validation']] == [('001', 3), ('003', 3)]


def test_kaggles_layout(source, tmp_path):
    root = tmp_path / 'kaggle'
    (root / 'ILSVRC' / 'Data' / 'CLS-LOC').mkdir(parents=True)
    (source / 'train').rename(root / 'ILSVRC' / 'Data' / 'CLS-LOC' / 'train')
    put(root / 'ILSVRC' / 'Data' / 'CLS-LOC' / 'val' / 'ILSVRC2012_val_00000001.JPEG', jpeg(77))
    put(root / 'LOC_val_solution.csv', f'ImageId,PredictionString\nILSVRC2012_val_00000001,{SYNSETS[2]} 1 2 3 4 \n')
    put(root / 'LOC_synset_mapping.txt', ''.join(
        f'{synset} {words}\n' for synset, words in [*zip(SYNSETS, WORDS, strict=True), ('n09999999', 'last')]))
    annotations = root / 'ILSVRC' / 'Annotations' / 'CLS-LOC'
    put(annotations / 'val' / 'ILSVRC2012_val_00000001.xml', xml([(0, 0, 20, 15)]))
    put(annotations / 'train' / SYNSETS[0] / f'{SYNSETS[0]}_0.xml', xml([(10, 15, 40, 30)]))
    collection = read(root)
    assert collection.class_names == {0: 'background', 1: WORDS[0], 2: WORDS[1], 3: WORDS[2], 4: 'last'}
    item, = collection.splits['validation']
    assert item.label == 3 and item.features['image/object/bbox/xmax'] == [0.5]
    boxed = {item.name: item.features['image/object/bbox/ymin'] for item in collection.splits['train']
             if 'image/object/bbox/ymin' in item.features}
    assert boxed == {f'{SYNSETS[0]}/{SYNSETS[0]}_0.JPEG': [0.5]}


def test_table_of_boxes(source):
    put(source / 'validation' / SYNSETS[1] / 'ILSVRC2012_val_00000009.JPEG', jpeg(1))
    put(source / 'imagenet_2012_bounding_boxes.csv',
        'n01443537_1.JPEG,0.2500,0.0000,0.7500,0.5000\nn01443537_1.JPEG,1.0,0.5,-0.1,1.2\n'
        'ILSVRC2012_val_00000009.JPEG,0.1,0.2,0.3,0.4\nn01440764_0.JPEG,0.5,0.1,0.5,0.9\nelse.JPEG,0,0,1,1\n')
    collection = read(source)
    boxes = {item.name.split('/')[1]: [item.features[f'image/object/bbox/{side}'] for side in (
        'xmin', 'ymin', 'xmax', 'ymax')] for items in collection.splits.values() for item in items
        if 'image/object/bbox/label' in item.features}
    assert boxes == {'n01443537_1.JPEG': [list(side) for side in zip(*BOXES['n01443537_1'], strict=True)],
                     'ILSVRC2012_val_00000009.JPEG': [[0.1], [0.2], [0.3], [0.4]]}
    put(source / 'imagenet_2012_bounding_boxes.csv', 'n01443537_1.JPEG,0.25,zero,0.75,0.5\n')
    with pytest.raises(DatasetError, match='bounding_boxes.csv, line 1: .* is not of the form'):
        read(source)


@pytest.mark.parametrize('content, words', [
    ('<annotation><size><width>40</width>', 'no annotation of ImageNet'),
    (xml([(1, 2, 3, 4)], (0, 30)), 'no annotation of ImageNet'),
    ('<annotation><object><bndbox/></object></annotation>', 'no annotation of ImageNet'),
    ('<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'
     '<annotation><size><width>&c;</width></size></annotation>', 'declares a document type'),
    ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', 'declares a document type'),
    ('<annotation>' + ' ' * 2**20 + '</annotation>', 'too large'),
])
def test_annotations_that_are_none(tmp_path, content, words):
    put(tmp_path / 'x.xml', content)
    with pytest.raises(DatasetError) as error:
        module.read_boxes(str(tmp_path / 'x.xml'))
    assert words in str(error.value) and 'x.xml' in str(error.value) and '\n' not in str(error.value)


def test_oddities_of_imagenet(source, tmp_path):
    put(source / 'train' / SYNSETS[0] / 'png.JPEG', jpeg(90, kind='PNG'))
    put(source / 'train' / SYNSETS[0] / 'cmyk.JPEG', jpeg(91, 'CMYK'))
    converted(source, tmp_path / 'out')
    found = features(tmp_path / 'out', 'train')
    assert found['png.JPEG']['image/format'] == [b'png']    # what it is
    assert found['cmyk.JPEG']['image/format'] == [b'JPEG']
    assert Image.open(io.BytesIO(found['cmyk.JPEG']['image/encoded'][0])).mode == 'RGB'
    dataset = get_dataset('imagenet', 'train', str(tmp_path / 'out'))
    assert dataset.num_samples == 8 and dataset.find_fault() is None


def test_what_is_wrong_with_the_folder(source, flat, tmp_path):
    with pytest.raises(DatasetError, match='cannot be downloaded: its owners want to be asked first'):
        sources.read('imagenet', None, SplitOptions())
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match='no folder train or validation .*the folder is empty'):
        read(tmp_path / 'empty')
    with pytest.raises(DatasetError, match='leave out --num_validation'):
        read(source, num_validation=3)
    with pytest.raises(DatasetError, match='a file must say which are which: imagenet_2012_validation_synset_labels'):
        read(flat)
    truth = flat / 'imagenet_2012_validation_synset_labels.txt'
    for text, words in ((SYNSETS[0], 'has no line for .*val_00000002.JPEG: it has 1, for 3'),
                        ('3\n1\n2', 'map_clsloc.txt or meta.txt'), ('tench\n' * 3, 'on each line'),
                        ('n09999999\n' * 3, 'is of n09999999, which is none of the'),
                        (b'\xff\xfe' + b'n\0' * 9, 'is no text in UTF-8')):
        put(truth, text)
        if 'n09' in str(text):
            put(flat / 'imagenet_lsvrc_2015_synsets.txt', '\n'.join(SYNSETS))
        with pytest.raises(DatasetError, match=words):
            read(flat)
    put(truth, '3\n1\n2')
    put(flat / 'map_clsloc.txt', 'n01440764 1 tench\nn01443537 2 fish\n')
    with pytest.raises(DatasetError, match='does not say which synset the number 3'):
        read(flat)
    put(source / 'train' / 'tench' / 'a.JPEG', jpeg(1))
    with pytest.raises(DatasetError, match='has a folder tench, but its folders should be synsets'):
        read(source)


def test_remote(source, tmp_path):
    for path in source.rglob('*.JPEG'):
        target = f'ram://imagenet/{path.relative_to(source).as_posix()}'
        tf.io.gfile.makedirs(target.rpartition('/')[0])
        with tf.io.gfile.GFile(target, 'wb') as file:
            file.write(path.read_bytes())
    converted('ram://imagenet', tmp_path / 'out')
    assert len(features(tmp_path / 'out', 'train')) == 6
