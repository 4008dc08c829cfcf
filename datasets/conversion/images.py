"""What happens to one image: what is wrong with it is found, and its Example made.

JPEG and PNG files that TensorFlow reads stay as they are, byte for byte. What it does not read, or reads otherwise in
one release than in another, is encoded anew: CMYK becomes RGB, 16 bits become 8, of an animation the first frame is
taken, and BMP, GIF and WebP become PNG. The orientation in EXIF, which TensorFlow and TF-Slim leave out of account, is
applied where an image is encoded anew, since the tag is lost there; an image that stays as it is keeps its tag.
"""
import hashlib
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets import dataset_utils
from datasets.conversion.collection import ImageOptions, Item
from datasets.provider import reason

_FORMATS = {'JPEG': ('.jpg', '.jpeg', '.jpe', '.jfif'), 'PNG': ('.png', '.apng'), 'BMP': ('.bmp', '.dib'),
            'GIF': ('.gif',), 'WEBP': ('.webp',)}
# How an image is turned whose EXIF orientation is this; 1 is upright.
_UPRIGHT = {2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_270',
            7: 'TRANSVERSE', 8: 'ROTATE_90'}
_ORIENTATION = 0x0112
LEFT_OUT, ANEW = 'left out', 'encoded anew'


class Problem(NamedTuple):
    """Something about an image that its owner should know, and what was done; a row of the report."""

    name: str
    split: str
    problem: str
    done: str


class Converted(NamedTuple):
    """What became of an item: its Example as it is written, None if it is left out; and by what its like is known."""

    record: bytes | None
    digest: str
    problems: tuple[tuple[str, str], ...]   # (problem, what was done)


class _Unusable(Exception):
    """The image must be left out; the message says why."""


class _Picture(NamedTuple):
    """An encoded image: its bytes, format ('jpeg' or 'png') and size in pixels."""

    encoded: bytes
    format: str
    height: int
    width: int


def convert_item(item: Item, options: ImageOptions, jpeg_format: str = 'jpg') -> Converted:
    """Makes the Example of an item.

    Args:
      item: see there.
      options: what is done to images.
      jpeg_format: what `image/format` says of a JPEG.

    Returns:
      See `Converted`. Nothing about the image itself raises an error.
    """
    problems: list[tuple[str, str]] = []
    content = b''
    try:
        if isinstance(item.image, np.ndarray):
            content = np.ascontiguousarray(item.image).tobytes()
            picture = _from_pixels(item.image, options)
        else:
            content = _read(item.image)
            picture = _from_file(item.name, content, options, problems)
    except _Unusable as error:
        problems.append((str(error), LEFT_OUT))
        return Converted(None, digest(content), tuple(problems))
    name = (jpeg_format if picture.format == 'jpeg' else picture.format).encode()
    example = dataset_utils.image_to_tfexample(picture.encoded, name, picture.height, picture.width,
                                               item.label)  # type: ignore[arg-type]  # of several too
    for key, value in item.features.items():
        example.features.feature[key].CopyFrom(_feature(value))
    return Converted(example.SerializeToString(deterministic=True), digest(content), tuple(problems))


def digest(content: bytes) -> str:
    """What files of the same bytes have in common; empty of no bytes."""
    return hashlib.sha256(content).hexdigest()[:32] if content else ''


def content_digest(item: Item) -> str:
    """The digest of an item without converting it; empty where it cannot be read."""
    if isinstance(item.image, np.ndarray):
        return digest(np.ascontiguousarray(item.image).tobytes())
    try:
        return digest(_read(item.image))
    except _Unusable:
        return ''


def why(error: tf.errors.OpError) -> str:
    """What a TensorFlow error says, without a full stop; its kind where it says nothing."""
    return reason(error).rstrip('.') if error.message else type(error).__name__.removesuffix('Error')


def _feature(value):
    values = [value] if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray) else list(value)
    if any(isinstance(value, str | bytes) for value in values):
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if any(isinstance(value, float | np.floating) for value in values):
        return dataset_utils.float_feature(values)
    return dataset_utils.int64_feature(values)


def _read(image):
    if isinstance(image, bytes):
        return image
    try:
        with (tf.io.gfile.GFile if '://' in image else open)(image, 'rb') as file:  # GFile takes names of UTF-8 alone
            return file.read()
    except OSError as error:
        raise _Unusable(f'unreadable: {error.strerror or error}') from None
    except tf.errors.OpError as error:
        raise _Unusable(f'unreadable: {why(error)}') from None


def _from_pixels(pixels, options):
    if options.max_side or options.reencode:
        return _encode(Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels), None,
                       'JPEG' if options.reencode else 'PNG', options)
    encoded = tf.io.encode_png(np.ascontiguousarray(pixels)).numpy()
    return _Picture(encoded, 'png', pixels.shape[0], pixels.shape[1])


def _from_file(name, content, options, problems):
    """The picture of an encoded image; adds what is noteworthy to `problems`."""
    if not content:
        raise _Unusable('empty: the file has no bytes')
    try:
        image = Image.open(io.BytesIO(content), formats=list(_FORMATS))
    except Image.DecompressionBombError:
        raise _Unusable(f'too large: over {2 * Image.MAX_IMAGE_PIXELS:,} pixels') from None
    except Exception as error:  # Pillow's decoders raise whatever happens to them
        raise _Unusable('unreadable: it is no JPEG, PNG, BMP, GIF or WebP file, or damaged'
                        if isinstance(error, Image.UnidentifiedImageError) else f'unreadable: {error}') from None
    # A camera's JPEG with further pictures, such as a preview, is JPEG to all others.
    kind = 'JPEG' if image.format == 'MPO' else image.format
    animated = kind != 'JPEG' and getattr(image, 'is_animated', False)
    sixteen = kind == 'PNG' and content[24] == 16  # the bit depth, in the header
    turn = _UPRIGHT.get(_orientation(image))
    changes = [problem for problem, here in (
        ('CMYK', image.mode == 'CMYK'), ('16-bit', sixteen), ('animated', animated)) if here]
    ending = os.path.splitext(name)[1].lower()
    if ending and ending not in _FORMATS[kind]:
        problems.append((f'wrong extension: it is {kind}', 'read as what it is'))
    shrunk = bool(options.max_side) and max(image.size) > options.max_side
    fault = None
    if kind == 'JPEG' and content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        # There is no end after the last scan. Pillow is asked first, since TensorFlow writes a line to the terminal.
        _encode(Image.open(io.BytesIO(content)), None, kind, options)
    if not (changes or shrunk or options.reencode) and kind in ('JPEG', 'PNG'):
        fault = _fault(content, kind)
        if fault is None:
            if turn:
                problems.append(('rotated by EXIF', 'kept as stored, which TensorFlow shows unturned'))
            return _Picture(content, kind.lower(), image.height, image.width)
    picture = _encode(image, turn, 'JPEG' if options.reencode or kind == 'JPEG' else 'PNG', options)
    done = {'CMYK': f'made RGB {picture.format.upper()}', '16-bit': f'made 8-bit {picture.format.upper()}',
            'animated': f'first frame taken, as {picture.format.upper()}'}
    problems += [(problem, done[problem]) for problem in changes]
    if turn:
        problems.append(('rotated by EXIF', 'turned upright'))
    if fault:
        problems.append((f'not read by TensorFlow: {fault}', ANEW))
    return picture


def _orientation(image):
    if image.format not in ('JPEG', 'MPO', 'PNG', 'WEBP') or not ({'exif', 'Raw profile type exif'} & set(image.info)):
        return 1
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF breaks Pillow in many ways
        return 1


def _fault(content, kind):
    """Why TensorFlow cannot read a JPEG or PNG file to its end, or None."""
    try:
        if kind == 'PNG':
            tf.io.decode_png(content, channels=3)
        else:
            tf.io.decode_jpeg(content, channels=3, ratio=8)  # an eighth of the size: all is read, little computed
    except tf.errors.OpError as error:
        return why(error)
    return None


def _encode(image, turn, kind, options):
    """Decodes an image of Pillow, shrinks and turns it as it should be, and encodes it."""
    try:
        if image.mode.startswith('I'):  # 16 bits
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ('P', 'PA', '1'):
            image = image.convert('L' if image.mode == '1' else 'RGBA' if 'transparency' in image.info else 'RGB')
        if options.max_side:
            # By `reducing_gap`, a JPEG is decoded at half, a quarter or an eighth of its size if that is enough.
            image.thumbnail((options.max_side, options.max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        if turn:
            image = image.transpose(Image.Transpose[turn])
        if kind == 'JPEG' or image.mode not in ('L', 'LA', 'RGB', 'RGBA'):
            image = image.convert('L' if image.mode in ('L', 'LA') else 'RGB')
        buffer = io.BytesIO()
        image.save(buffer, kind, icc_profile=None, **({'quality': options.jpeg_quality} if kind == 'JPEG' else {}))
    except Exception as error:  # Pillow's decoders raise whatever happens to them
        cut = 'truncated' in str(error) or isinstance(error, EOFError)
        raise _Unusable('truncated: the file is cut short' if cut else
                        f'unreadable: {str(error).splitlines()[0] if str(error) else type(error).__name__}') from None
    return _Picture(buffer.getvalue(), kind.lower(), image.height, image.width)
