"""Small real files: images that tell which they are, in every format, and TFRecords of them."""
import io
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

MODES = {'jpg': 'JPEG', 'jpeg': 'JPEG', 'png': 'PNG', 'bmp': 'BMP', 'gif': 'GIF'}


def encode(value=0, extension='png', size=(12, 10), mode='RGB'):
    """The bytes of an image of one grey value, size (width, height)."""
    buffer = io.BytesIO()
    Image.new('L', size, value).convert(mode).save(buffer, MODES[extension])
    return buffer.getvalue()


@pytest.fixture(scope='session', name='encode')
def encode_fixture():
    return encode


@pytest.fixture
def tree(tmp_path):
    """Writes a tree of images from their relative paths; the grey value is the number in the file's name."""
    def write(*paths, root=tmp_path):
        for path in paths:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            name, extension = file.name.rsplit('.', 1)
            number = ''.join(c for c in name if c.isdigit())
            file.write_bytes(encode(int(number or 0) % 256, extension.lower()))
        return str(root)
    return write


@pytest.fixture
def records(tmp_path):
    """Writes a TFRecord file of Examples (image, label) as TF-Slim's converters wrote them; returns the folder."""
    def write(name, examples, features=('image/encoded', 'image/class/label')):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for image, label in examples:
                feature = {
                    'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    'image/format': tf.train.Feature(bytes_list=tf.train.BytesList(value=[b'png'])),
                    'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                feature = {key: feature[key] for key in (*features, 'image/format')}
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        return str(tmp_path)
    return write


@pytest.fixture
def flowers(records):
    """A folder with a flowers train split of 3 shards and 7, 4 and 9 records; record i of all has grey value i."""
    number = 0
    for shard, count in enumerate((7, 4, 9)):
        examples = [(encode(number + i), (number + i) % 5) for i in range(count)]
        folder = records(f'flowers_train_{shard:05d}-of-00003.tfrecord', examples)
        number += count
    return folder


@pytest.fixture(scope='session')
def grey():
    """The grey value of an element's image."""
    return lambda element: int(np.asarray(Image.open(io.BytesIO(element['image'])).convert('L'))[0, 0])
