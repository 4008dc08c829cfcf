"""How large an encoded image is, from its header: what would fill the memory is refused before it is decoded."""
import struct

import tensorflow as tf

MAX_PIXELS = 2 * 89_478_485     # Pillow's limit too: half a gigabyte in RGB
TOO_MANY = 'are too many to be decoded'
_LIMIT = f' pixels large, and more than {MAX_PIXELS:,} pixels are too many to be decoded: make it smaller'


def refuse_huge(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of an encoded image, scalar string, as they are.

    A header that is damaged or of no known format is left to the decoder.

    Raises:
      tf.errors.InvalidArgumentError: where it is run, if the image has more than `MAX_PIXELS`, or its JPEG header is
        damaged.
    """
    return _refuse_huge(encoded)


# A function, since an assertion gives its message in graphs alone.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _refuse_huge(encoded):
    def jpeg():
        return _too_large(tf.io.extract_jpeg_shape(encoded)[1::-1])

    def png():
        header = tf.strings.join([tf.strings.substr(encoded, 0, 24), '\0' * 24])    # it may be cut short
        return _too_large(tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False))

    def others():
        return tf.ensure_shape(tf.numpy_function(_fault, [encoded], tf.string), [])

    fault = tf.cond(tf.io.is_jpeg(encoded), jpeg, lambda: tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, 4), b'\x89PNG'), png, others))
    # Not tf.debugging.Assert, whose own condition costs more than decoding a small image does.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.equal(fault, ''), data=[fault])]):
        return tf.identity(encoded)


def _too_large(size):
    """The fault of a size, int32 [2], width and height; the empty string if there is none."""
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    return tf.where(pixels > MAX_PIXELS, 'it is ' + tf.strings.reduce_join(
        tf.strings.as_string(size), separator='x') + _LIMIT, '')


def _fault(encoded):
    """What is wrong with the size of a GIF, WebP or BMP, or nothing."""
    try:
        frames = list((_gif if encoded[:3] == b'GIF' else _webp if encoded[8:12] == b'WEBP' else _bmp)(encoded))
    except (IndexError, struct.error):      # cut short
        return b''
    width, height = max(frames, key=lambda size: size[0] * size[1])
    if width * height > MAX_PIXELS:
        return f'it is {width}x{height}{_LIMIT}'.encode()
    total = sum(width * height for width, height in frames[1:])
    if total > 3 * MAX_PIXELS:      # in a GIF a pixel has one byte, and all frames are read
        return (f'its frames have {total:,} pixels together, which are too many to be decoded: keep '
                'one of them').encode()
    return b''


def _bmp(encoded):
    # A height below zero is of an image whose first row is the upper one.
    width, height = struct.unpack_from('<Ii', encoded, 18) if encoded[:2] == b'BM' else (0, 0)
    yield width, abs(height)


def _webp(encoded):
    if encoded[12:16] == b'VP8X':
        yield tuple(1 + int.from_bytes(encoded[at:at + 3], 'little') for at in (24, 27))
    elif encoded[12:16] == b'VP8L':
        bits, = struct.unpack_from('<I', encoded, 21)
        yield bits % 2 ** 14 + 1, bits // 2 ** 14 % 2 ** 14 + 1
    else:
        yield tuple(side % 2 ** 14 for side in struct.unpack_from('<HH', encoded, 26))


def _gif(encoded):
    """The sizes of the whole and of the frames, any of which may be the largest."""
    width, height, flags = struct.unpack_from('<HHB', encoded, 6)
    yield width, height
    at = 13 + _colours(flags)
    while at < len(encoded) and encoded[at] != 0x3b:
        if encoded[at] == 0x2c:         # a frame, and its colours
            if at + 10 > len(encoded):
                return
            width, height, flags = struct.unpack_from('<HHB', encoded, at + 5)
            yield width, height
            at += 11 + _colours(flags)
        else:
            at += 2
        while at < len(encoded) and encoded[at]:    # its data, in blocks
            at += 1 + encoded[at]
        at += 1


def _colours(flags):
    """The bytes of a table of colours."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0
