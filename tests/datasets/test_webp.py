"""WebP images, as Pillow writes and reads them, with TensorFlow 2.20 or later and before."""
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import decode_image
from datasets.dataset_factory import get_dataset

needs_webp = pytest.mark.skipif(not hasattr(tf.io, 'decode_webp'), reason='this TensorFlow reads no WebP')


def photo(mode='RGB', frames=1, **options):
    """A smooth image of 43x65 and its first frame, as Pillow reads it."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, 9, 7, 4), np.uint8)
    noise[..., 3] |= 128  # where nothing shows, WebP is free to store any colour
    images = [Image.fromarray(one).resize((43, 65), Image.Resampling.BICUBIC).convert(mode) for one in noise]
    buffer = io.BytesIO()
    images[0].save(buffer, 'WEBP', save_all=frames > 1, append_images=images[1:], **options)
    return buffer.getvalue(), Image.open(buffer)


@needs_webp
@pytest.mark.parametrize('in_tf_data', [False, True])
@pytest.mark.parametrize('arguments', [{}, {'mode': 'L'}, {'lossless': True}, {'mode': 'RGBA', 'lossless': True}],
                         ids=str)
def test_as_pillow_reads_it(arguments, in_tf_data):
    encoded, image = photo(**arguments)
    expected = np.asarray(image.convert('RGBA'))[..., :3]  # transparency is dropped, as of PNG
    for channels in (3, 1):
        def decode(one, channels=channels):
            return decode_image(one, channels)

        if in_tf_data:
            found, = tf.data.Dataset.from_tensors(encoded).map(decode).as_numpy_iterator()
        else:
            found = decode(encoded).numpy()
        assert found.shape == (65, 43, channels) and found.dtype == np.uint8
        wanted = expected if channels == 3 else np.asarray(Image.fromarray(expected).convert('L'))[..., np.newaxis]
        tolerance = 1 if channels == 1 or 'lossless' not in arguments else 0
        assert np.abs(found.astype(int) - wanted).max() <= tolerance


@needs_webp
@pytest.mark.parametrize('arguments', [{}, {'mode': 'RGBA'}, {'lossless': True}, {'exif': b'x'}], ids=str)
def test_animations_are_refused(arguments, tree, tmp_path):
    """TensorFlow would write beyond the memory of the image."""
    encoded, image = photo(frames=3, **arguments)
    assert image.n_frames == 3
    with pytest.raises(tf.errors.InvalidArgumentError, match='animated'):
        decode_image(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError, match='animated'):
        list(tf.data.Dataset.from_tensors(encoded).map(decode_image))
    folder = tree('a/1.png', 'b/2.png')
    (tmp_path / 'b' / '3.webp').write_bytes(encoded)
    fault = get_dataset('image_folder', 'train', folder, validation_fraction=0).find_fault()
    assert '3.webp is an animated WebP image' in fault and '\n' not in fault


@needs_webp
def test_a_folder_of_them(tree, tmp_path):
    folder = tree('a/1.png', 'b/2.png')
    (tmp_path / 'b' / '3.WebP').write_bytes(photo()[0])
    dataset = get_dataset('image_folder', 'train', folder, validation_fraction=0)
    assert dataset.num_samples == 3 and dataset.find_fault() is None
    (tmp_path / 'b' / '3.WebP').write_bytes(photo()[0][:60])
    assert '3.WebP cannot be decoded' in dataset.find_fault()


def test_an_older_tensorflow_says_so(tree, tmp_path, monkeypatch):
    folder = tree('a/1.png', 'b/2.png')
    (tmp_path / 'b' / '3.webp').write_bytes(photo('RGBA')[0])
    monkeypatch.delattr(tf.io, 'decode_webp', raising=False)
    fault = get_dataset('image_folder', 'train', folder, validation_fraction=0).find_fault()
    assert '3.webp is a WebP image' in fault and 'TensorFlow 2.20' in fault
    # And what begins like one is none.
    (tmp_path / 'b' / '3.webp').write_bytes(b'RIFF')
    assert '3.webp cannot be decoded' in get_dataset(
        'image_folder', 'train', folder, validation_fraction=0).find_fault()
