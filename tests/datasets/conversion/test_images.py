"""What becomes of one image, by what Pillow says of the pixels, and by whether TensorFlow and TF-Slim read it."""
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.conversion import images
from datasets.conversion.collection import ImageOptions, Item

HEIGHT, WIDTH = 48, 80


def photo(seed=0, height=HEIGHT, width=WIDTH):
    """Smooth colours, as JPEG keeps them."""
    small = np.random.RandomState(seed).randint(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animated(kind):
    return encoded(photo(1), kind, save_all=True, append_images=[photo(2), photo(3)])


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(), 'JPEG', exif=exif)


def convert(name, content, **options):
    """Its features, None if it was left out; and the problems."""
    found = images.convert_item(Item(name, content, 3), ImageOptions(**options))
    if found.record is None:
        return None, found.problems
    features = {}
    for key, feature in tf.train.Example.FromString(found.record).features.feature.items():
        kind = feature.WhichOneof('kind')
        features[key], = getattr(feature, kind).value
    assert features['image/class/label'] == 3
    with Image.open(io.BytesIO(features['image/encoded'])) as image:
        assert image.format in ('JPEG', 'MPO', 'PNG') and image.mode in ('L', 'LA', 'RGB', 'RGBA', 'P', '1')
        assert features['image/format'] == (b'png' if image.format == 'PNG' else b'jpg')
        assert image.size == (features['image/width'], features['image/height'])
    read = tf.io.decode_image(features['image/encoded'], channels=3).numpy()    # as TF-Slim's decoder does
    assert read.shape == (features['image/height'], features['image/width'], 3)
    return features, found.problems


def pixels(content, mode='RGB'):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert(mode), np.int16)


def close(one, other, tolerance=3):
    return one.shape == other.shape and np.abs(one - other).mean() < tolerance


@pytest.mark.parametrize('name, content', [
    ('a.jpg', encoded(photo(), 'JPEG')), ('a.JPEG', encoded(photo(), 'JPEG', progressive=True)),
    ('grey.jpg', encoded(photo().convert('L'), 'JPEG')), ('a.png', encoded(photo(), 'PNG')),
    ('palette.png', encoded(photo().convert('P'), 'PNG')), ('bits.png', encoded(photo().convert('1'), 'PNG')),
    ('alpha.png', encoded(photo().convert('RGBA'), 'PNG')), ('no ending', encoded(photo(), 'PNG')),
    ('camera.jpg', encoded(photo(), 'MPO', save_all=True, append_images=[photo(1)])),
])
def test_what_tensorflow_reads_stays_as_it_is(name, content):
    features, problems = convert(name, content)
    assert features['image/encoded'] == content and problems == ()


@pytest.mark.parametrize('kind', ['BMP', 'GIF', 'WEBP'])
def test_other_formats_become_png(kind):
    content = encoded(photo(), kind)
    features, problems = convert(f'a.{kind.lower()}', content)
    assert features['image/format'] == b'png' and problems == ()
    np.testing.assert_array_equal(pixels(features['image/encoded']), pixels(content))
    assert convert('a', content, reencode=True)[0]['image/format'] == b'jpg'


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG'])
def test_of_an_animation_the_first_frame_is_taken(kind):
    content = animated(kind)
    features, problems = convert(f'a.{kind.lower()}', content)
    assert problems == (('animated', 'first frame taken, as PNG'),)
    np.testing.assert_array_equal(pixels(features['image/encoded']), pixels(content))
    assert not getattr(Image.open(io.BytesIO(features['image/encoded'])), 'is_animated', False)
    assert close(pixels(features['image/encoded']), np.asarray(photo(1), np.int16), 20)


def test_cmyk_becomes_rgb():
    content = encoded(photo().convert('CMYK'), 'JPEG', quality=95)
    features, problems = convert('a.jpg', content)
    assert problems == (('CMYK', 'made RGB JPEG'),)
    assert Image.open(io.BytesIO(features['image/encoded'])).mode == 'RGB'
    assert close(pixels(features['image/encoded']), np.asarray(photo(), np.int16), 6)


def test_sixteen_bits_become_eight():
    grey = np.random.RandomState(0).randint(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    features, problems = convert('a.png', encoded(Image.fromarray(grey), 'PNG'))
    assert problems == (('16-bit', 'made 8-bit PNG'),)
    np.testing.assert_array_equal(pixels(features['image/encoded'], 'L'), grey >> 8)
    colour = tf.io.encode_png(np.random.RandomState(0).randint(0, 2**16, (HEIGHT, WIDTH, 3), np.uint16)).numpy()
    features, problems = convert('a.png', colour)
    assert problems == (('16-bit', 'made 8-bit PNG'),) and features['image/encoded'][24] == 8
    np.testing.assert_array_equal(pixels(features['image/encoded']), tf.io.decode_png(colour).numpy())


@pytest.mark.parametrize('name, content, kind', [
    ('a.jpg', encoded(photo(), 'PNG'), 'PNG'), ('a.png', encoded(photo(), 'JPEG'), 'JPEG'),
    ('a.gif', encoded(photo(), 'WEBP'), 'WEBP'), ('a.txt', encoded(photo(), 'JPEG'), 'JPEG'),
])
def test_the_content_and_not_the_name_says_the_format(name, content, kind):
    features, problems = convert(name, content)
    assert problems == ((f'wrong extension: it is {kind}', 'read as what it is'),)
    assert close(pixels(features['image/encoded']), np.asarray(photo(), np.int16))


@pytest.mark.parametrize('name, content, why', [
    ('a.jpg', b'', 'empty: the file has no bytes'),
    ('a.jpg', b'Not found', 'unreadable: it is no JPEG, PNG, BMP, GIF or WebP file, or damaged'),
    ('a.jpg', encoded(photo(), 'TIFF'), 'unreadable: it is no JPEG, PNG, BMP, GIF or WebP file, or damaged'),
    ('a.jpg', encoded(photo(), 'JPEG')[:-300], 'truncated: the file is cut short'),
    ('a.jpg', encoded(photo(), 'JPEG', progressive=True)[:-300], 'truncated: the file is cut short'),
    ('a.png', encoded(photo(), 'PNG')[:-300], 'truncated: the file is cut short'),
    ('a.webp', encoded(photo(), 'WEBP')[:-100], None), ('a.gif', encoded(photo(), 'GIF')[:-500], None),
    ('a.bmp', encoded(photo(), 'BMP')[:-500], None),
])
def test_what_cannot_be_read_is_left_out(name, content, why):
    for options in {}, {'reencode': True}, {'max_side': 20}:
        features, ((problem, done),) = convert(name, content, **options)
        assert features is None and done == 'left out'
        assert problem == why if why else problem.startswith(('truncated: ', 'unreadable: '))


def test_a_png_whose_checksum_is_wrong_is_left_out():
    content = bytearray(encoded(photo(), 'PNG'))
    content[len(content) // 2] ^= 255
    features, problems = convert('a.png', bytes(content))
    assert features is None and problems[0][0].startswith('unreadable: ')


def test_a_bomb_is_refused_before_it_goes_off():
    """A PNG of 180 megapixels of zeros, in 200 kilobytes; and a header alone that claims 4 gigapixels."""
    bomb = encoded(Image.new('L', (13_400, 13_400)), 'PNG')
    header = bytearray(encoded(photo(), 'BMP'))
    header[18:26] = np.array([65_000, 65_000], '<i4').tobytes()
    for name, content in ('a.png', bomb), ('a.bmp', bytes(header)):
        assert len(content) < 10**6
        assert convert(name, content) == (None, (('too large: over 178,956,970 pixels', 'left out'),))


@pytest.mark.parametrize('content, mode', [
    (encoded(photo(0, 300, 500), 'JPEG', quality=95), 'RGB'), (encoded(photo(0, 300, 500), 'PNG'), 'RGB'),
    (encoded(photo(0, 300, 500).convert('L'), 'JPEG', quality=95), 'L'),
    (encoded(photo(0, 300, 500).convert('P'), 'PNG'), 'RGB'), (encoded(photo(0, 300, 500).convert('1'), 'PNG'), 'L'),
])
def test_shrunk(content, mode):
    features, problems = convert('a', content, max_side=100)
    assert problems == () and (features['image/height'], features['image/width']) == (60, 100)
    with Image.open(io.BytesIO(content)) as image:
        expected = image.convert(mode).resize((100, 60), Image.Resampling.LANCZOS)
        assert features['image/format'] == (b'png' if image.format == 'PNG' else b'jpg')
    assert close(pixels(features['image/encoded'], mode), np.asarray(expected, np.int16), 5)


def test_small_images_are_not_shrunk():
    content = encoded(photo(), 'JPEG')
    assert convert('a.jpg', content, max_side=WIDTH)[0]['image/encoded'] == content
    assert convert('a.jpg', content, max_side=WIDTH - 1)[0]['image/width'] == WIDTH - 1


def test_encoded_anew():
    content = encoded(photo(), 'PNG')
    sizes = []
    for quality in 10, 90:
        features, problems = convert('a.png', content, reencode=True, jpeg_quality=quality)
        assert features['image/encoded'] == encoded(photo(), 'JPEG', quality=quality) and problems == ()
        sizes.append(len(features['image/encoded']))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize('orientation, upright', [
    (2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180), (4, Image.Transpose.FLIP_TOP_BOTTOM),
    (5, Image.Transpose.TRANSPOSE), (6, Image.Transpose.ROTATE_270), (7, Image.Transpose.TRANSVERSE),
    (8, Image.Transpose.ROTATE_90)])
def test_exif(orientation, upright):
    """The tag is kept with bytes that stay; where it goes, what it says is done."""
    content = turned(orientation)
    features, problems = convert('a.jpg', content)
    assert features['image/encoded'] == content and problems[0][0] == 'rotated by EXIF'
    features, problems = convert('a.jpg', content, reencode=True)
    assert problems == (('rotated by EXIF', 'turned upright'),)
    assert Image.open(io.BytesIO(features['image/encoded'])).getexif().get(0x0112, 1) == 1
    assert close(pixels(features['image/encoded']), np.asarray(photo().transpose(upright), np.int16))


def test_upright_and_broken_exif():
    assert convert('a.jpg', turned(1))[1] == ()
    broken = encoded(photo(), 'JPEG', exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff')
    assert convert('a.jpg', broken)[0]['image/encoded'] == broken


@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_become_png(channels):
    array = np.random.RandomState(0).randint(0, 256, (28, 20, channels), np.uint8)
    for options in {}, {'max_side': 28}:
        features, problems = convert('a', array, **options)
        assert features['image/format'] == b'png' and problems == ()
        np.testing.assert_array_equal(tf.io.decode_png(features['image/encoded']).numpy(), array)
    assert convert('a', array, reencode=True)[0]['image/format'] == b'jpg'


def test_further_features_and_several_labels():
    item = Item('a', encoded(photo(), 'JPEG'), (2, 0), {
        'image/class/text': 'rösti', 'image/object/bbox/xmin': [0.25, 0.5], 'image/object/bbox/label': [7, 7],
        'image/filename': b'a.JPEG', 'image/colorspace': ['RGB'], 'none': []})
    found = tf.train.Example.FromString(images.convert_item(item, ImageOptions(), 'JPEG').record).features.feature
    assert found['image/class/label'].int64_list.value == [2, 0]
    assert found['image/class/text'].bytes_list.value == ['rösti'.encode()]
    assert found['image/object/bbox/xmin'].float_list.value == [0.25, 0.5]
    assert found['image/object/bbox/label'].int64_list.value == [7, 7]
    assert found['image/filename'].bytes_list.value == [b'a.JPEG']
    assert found['image/format'].bytes_list.value == [b'JPEG']
    none = tf.train.Example.FromString(images.convert_item(Item('a', item.image, ()), ImageOptions()).record)
    assert list(none.features.feature['image/class/label'].int64_list.value) == []


def test_a_file_that_is_not_there():
    assert convert('a.jpg', '/nowhere/a.jpg')[1] == (('unreadable: No such file or directory', 'left out'),)
    assert convert('a.jpg', 'ram://nowhere/a.jpg')[0] is None


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'GIF', 'WEBP'])
def test_damage_of_any_kind_is_survived(kind):
    """Either it is left out, or what is written is read by TensorFlow to its end."""
    content, random = encoded(photo(), kind), np.random.RandomState(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in random.randint(0, len(damaged), random.randint(1, 8)):
            damaged[at] = random.randint(256)
        features, problems = convert('a', bytes(damaged[:random.randint(1, len(damaged) + 1)]))
        assert features is not None or problems[-1][1] == 'left out'
