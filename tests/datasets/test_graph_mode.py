"""TF-Slim's own reader of datasets, in a TF1 graph."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from datasets import dataset_utils
from datasets.dataset_factory import get_dataset

tf1 = tf.compat.v1


def read(make_dataset, count, items=('image', 'label')):
    """What a DatasetDataProvider gives in `count` steps."""
    with tf.Graph().as_default(), tf1.Session() as session:
        dataset = make_dataset()
        provider = slim.dataset_data_provider.DatasetDataProvider(
            dataset, num_readers=1, shuffle=False, common_queue_capacity=20, common_queue_min=1)
        tensors = provider.get(list(items))
        # What tf.train.batch needs.
        assert [tensor.shape.rank for tensor in tensors[:2]] == [3, int(dataset.multi_label)]
        session.run([tf1.global_variables_initializer(), tf1.local_variables_initializer(), tf1.tables_initializer()])
        coordinator = tf1.train.Coordinator()
        threads = tf1.train.start_queue_runners(session, coordinator)
        found = [session.run(tensors) for _ in range(count)]
        coordinator.request_stop()
        coordinator.join(threads, stop_grace_period_secs=20)
    return found


def test_tfrecords(flowers):
    found = read(lambda: get_dataset('flowers', 'train', flowers), 20)
    assert sorted(int(image[0, 0, 0]) for image, _ in found) == list(range(20))
    assert all(image.shape == (10, 12, 3) and label == image[0, 0, 0] % 5 for image, label in found)


def test_image_folder(tree):
    folder = tree('a [1]/1.png', 'a [1]/2.png', 'b/3.png', 'b/4.gif')
    found = read(lambda: get_dataset('image_folder', 'train', folder, validation_fraction=0), 4)
    assert sorted((int(image[0, 0, 0]), int(label)) for image, label in found) == [(1, 0), (2, 0), (3, 1), (4, 1)]


@pytest.mark.parametrize('column, expected', [('label', [0, 1, 1]), ('labels', [[0], [0, 1], []])])
def test_file_list(tree, tmp_path, column, expected):
    tree('1.png', '2.png', '3.png')
    cells = [0, 1, 1] if column == 'label' else ['0', '0|1', '']
    rows = [f'{number}.png,{cell}' for number, cell in enumerate(cells, 1)]
    path = tmp_path / 'list.csv'
    path.write_text('\n'.join([f'path,{column}', *rows]))
    found = read(lambda: get_dataset('file_list', 'train', str(path), validation_fraction=0), 3)
    assert sorted((int(image[0, 0, 0]), label.tolist()) for image, label in found) == list(enumerate(expected, 1))


def test_tfrecord_of_several_labels(tmp_path, encode):
    with tf.io.TFRecordWriter(str(tmp_path / 'train.tfrecord')) as writer:
        for number, labels in enumerate([[2, 0], [], [1]]):
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                'image/encoded': dataset_utils.bytes_feature(encode(number)),
                'image/format': dataset_utils.bytes_feature(b'png'),
                'image/class/label': dataset_utils.int64_feature(labels)})).SerializeToString())
    found = read(lambda: get_dataset('tfrecord', 'train', str(tmp_path), multi_label=True), 3)
    assert sorted((int(image[0, 0, 0]), label.tolist()) for image, label in found) == [(0, [2, 0]), (1, []), (2, [1])]


def test_digits():
    dataset = get_dataset('digits', 'test')
    found = read(lambda: get_dataset('digits', 'test'), 360)
    assert found[0][0].shape == (32, 32, 1)
    np.testing.assert_array_equal(np.bincount([label for _, label in found]), np.bincount(dataset.labels))


def test_imagenets_other_items(tmp_path, encode):
    feature = {
        'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[encode(9)])),
        'image/format': tf.train.Feature(bytes_list=tf.train.BytesList(value=[b'png'])),
        'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[7])),
        'image/class/text': tf.train.Feature(bytes_list=tf.train.BytesList(value=[b'cock'])),
        'image/object/bbox/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[7, 7])),
    }
    for side, values in {'ymin': [.1, .2], 'xmin': [.3, .4], 'ymax': [.5, .6], 'xmax': [.7, .8]}.items():
        feature[f'image/object/bbox/{side}'] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    with tf.io.TFRecordWriter(str(tmp_path / 'train-00000-of-00001')) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    items = ['image', 'label', 'label_text', 'object/bbox', 'object/label']
    (image, label, text, boxes, classes), = read(lambda: get_dataset('imagenet', 'train', str(tmp_path)), 1, items)
    assert image.shape == (10, 12, 3) and label == 7 and text == b'cock' and list(classes) == [7, 7]
    np.testing.assert_allclose(boxes, [[.1, .3, .5, .7], [.2, .4, .6, .8]])


@pytest.mark.parametrize('name', ['digits', 'flowers'])
def test_is_a_slim_dataset(name, flowers):
    dataset = get_dataset(name, 'train', flowers if name == 'flowers' else None)
    assert isinstance(dataset, slim.dataset.Dataset)
    assert set(dataset.items_to_descriptions) == set(dataset.decoder.list_items()) == {'image', 'label'}


def test_made_and_read_by_tf_data_in_a_graph(flowers):
    with tf.Graph().as_default(), tf1.Session() as session:
        for dataset in (get_dataset('flowers', 'train', flowers), get_dataset('digits', 'test')):
            element = tf1.data.make_one_shot_iterator(dataset.as_tf_data(shuffle=True)).get_next()
            labels = [session.run(element['label']) for _ in range(dataset.num_samples)]
            assert len(set(labels)) == dataset.num_classes
