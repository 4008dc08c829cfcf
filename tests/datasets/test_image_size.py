"""Images that would fill the memory are refused by their headers; Pillow reads the same sizes from them."""
import io
import resource
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import decode_image, pipeline
from datasets.dataset_factory import get_dataset
from datasets.image_size import MAX_PIXELS
from datasets.provider import reason

SIZE = 20_000
needs_webp = pytest.mark.skipif(not hasattr(tf.io, 'decode_webp'), reason='this TensorFlow reads no WebP')
KINDS = ['jpeg', 'jpeg_progressive', 'png', 'gif', 'gif_frame', 'bmp', pytest.param('webp', marks=needs_webp),
         pytest.param('webp_lossless', marks=needs_webp), pytest.param('webp_extended', marks=needs_webp)]


def encoded(kind, width=None, height=None):
    """A small image whose header tells this size, not 40x30: decoders make room for it before they find out."""
    name, _, option = kind.partition('_')
    options = {'progressive': dict(progressive=True), 'lossless': dict(lossless=True), 'extended': dict(
        exif=b'Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0')}.get(option, {})
    buffer = io.BytesIO()
    Image.new('L' if name == 'gif' else 'RGB', (40, 30)).save(buffer, name.upper(), **options)
    data = bytearray(buffer.getvalue())
    if width is None:
        return buffer.getvalue()
    if name == 'jpeg':
        struct.pack_into('>HH', data, max(data.find(b'\xff\xc0'), data.find(b'\xff\xc2')) + 5, height, width)
    elif name == 'png':
        struct.pack_into('>II', data, 16, width, height)
    elif kind == 'gif':
        struct.pack_into('<HH', data, 6, width, height)
    elif kind == 'gif_frame':
        struct.pack_into('<HH', data, data.find(b'\x2c', 13 + 3 * 2) + 5, width, height)
    elif name == 'bmp':
        struct.pack_into('<ii', data, 18, width, -height)
    elif kind == 'webp':
        struct.pack_into('<HH', data, 26, width, height)
    elif kind == 'webp_lossless':
        struct.pack_into('<I', data, 21, width - 1 + (height - 1 << 14))
    else:
        data[24:30] = (width - 1).to_bytes(3, 'little') + (height - 1).to_bytes(3, 'little')
    return bytes(data)


@pytest.fixture(autouse=True)
def pillow(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)


@pytest.mark.parametrize('kind', KINDS)
def test_a_huge_image_is_refused(kind):
    side = SIZE if not kind.startswith('webp') or kind == 'webp_extended' else 16_000   # WebP has 14 bits
    data = encoded(kind, side, side - 1)
    if kind in ('gif_frame', 'png', 'webp_extended'):   # where Pillow looks further than at the size
        assert encoded(kind, 40, 30) == encoded(kind)
    else:
        assert Image.open(io.BytesIO(data)).size == (side, side - 1)
    for decode in (lambda: decode_image(data), lambda: list(tf.data.Dataset.from_tensors(data).map(decode_image))):
        with pytest.raises(tf.errors.InvalidArgumentError) as raised:
            decode()
        assert reason(raised.value) == (f'it is {side}x{side - 1} pixels large, and more than 178,956,970 pixels are '
                                        'too many to be decoded: make it smaller.')


@pytest.mark.parametrize('kind', KINDS)
def test_up_to_the_limit_the_decoder_is_asked(kind):
    """It finds the lie, or decodes what there is; and a JPEG may be of so many pixels."""
    data = encoded(kind, 16_000, MAX_PIXELS // 16_000)
    try:
        decode_image(data, 1 if kind in ('jpeg', 'jpeg_progressive') else 3)
    except tf.errors.InvalidArgumentError as error:
        assert 'too many' not in error.message


def test_a_png_of_few_bytes():
    """A true one: 50 kB that would be 1.2 GB."""
    buffer = io.BytesIO()
    Image.new('1', (SIZE, SIZE)).save(buffer, 'PNG')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(buffer.getvalue())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18      # KiB


def test_a_long_strip_is_no_fault():
    buffer = io.BytesIO()
    Image.new('RGB', (30_000, 100), 'red').save(buffer, 'PNG')
    assert decode_image(buffer.getvalue()).shape == (100, 30_000, 3)


def test_the_frames_of_a_gif_together():
    """TensorFlow reads all of them, to show the first."""
    frame = encoded('gif', 10_000, 10_000)
    at = frame.find(b'\x2c', 13)
    head, body = frame[:at], bytearray(frame[at:-1])
    struct.pack_into('<HH', body, 5, 10_000, 10_000)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decode_image(head + bytes(body) * 6 + b';')
    assert reason(raised.value).startswith('its frames have 600,000,000 pixels together, which are too many')


@pytest.mark.parametrize('length', [0, 1, 4, 12, 20, 24, 28])
@pytest.mark.parametrize('kind', ['jpeg', 'png', 'gif', 'bmp', 'webp'])
def test_a_header_that_is_cut_short(kind, length):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decode_image(encoded(kind, 40, 30)[:length])
    assert 'too many' not in raised.value.message and 'out of range' not in raised.value.message


@pytest.mark.parametrize('window', [None, lambda shape, seed: tf.constant([0, 0, 9, 9])], ids=['whole', 'part'])
@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_a_training_names_the_file(tree, tmp_path, kind, window):
    folder = tree('a/1.png', 'b/2.png')
    (tmp_path / 'b' / f'huge.{kind}').write_bytes(encoded(kind, SIZE, SIZE))
    dataset = get_dataset('image_folder', 'train', folder, validation_fraction=0)

    def preprocess(image, seed):
        return tf.image.resize(image, (8, 8))

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        list(pipeline.make_batches(dataset, preprocess, 3, training=False, window=window))
    said = str(pipeline.explain(raised.value, dataset))
    assert said == (f'{tmp_path}/b/huge.{kind} cannot be decoded: it is 20000x20000 pixels large, and more than '
                    '178,956,970 pixels are too many to be decoded: make it smaller.')
    lost = []
    left = list(pipeline.make_batches(dataset, preprocess, 3, training=False, window=window, skip_corrupt=lost.append))
    assert [len(labels) for _, labels in left] == [2] and [name.rpartition('/')[2] for name in lost] == [f'huge.{kind}']


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1)])
def test_small_images_are_decoded(size):
    for kind in ('JPEG', 'PNG', 'GIF', 'BMP'):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            Image.new('RGB', size, 'white').save(buffer, kind)
        assert np.all(decode_image(buffer.getvalue()).numpy() == 255)
        assert decode_image(buffer.getvalue()).shape == (*size[::-1], 3)
