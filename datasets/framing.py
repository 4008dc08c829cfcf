"""The framing of TFRecord files, walked by hand, since TensorFlow's reader says neither where a fault is nor goes on.

A record is its length, uint64; the checksum of that, uint32; the data; the checksum of the data, uint32; all of them
little-endian. The checksum is CRC-32C, masked.
"""
import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datasets.provider import reading
from datasets.tfrecords import size_of

HEADER, FOOTER = 12, 4  # bytes around the data


class Record(NamedTuple):
    """A record as it stands in a file."""

    number: int
    offset: int             # its first byte in the file
    data: bytes | None      # None where the framing is at fault
    fault: str | None       # what is wrong with the framing


def walk(file: str) -> Iterator[Record]:
    """Yields every record of a file, sound or not.

    It goes on after data whose checksum is wrong. Where the length is wrong or the file is cut short nothing after it
    can be found, and that record is the last.

    Raises:
      DatasetError: the file cannot be read.
    """
    size, at, number = size_of(file), 0, 0
    with reading(file) as stream:
        while at < size:
            data, fault, end = _read(stream, at, size)
            yield Record(number, at, data, fault)
            at, number = end, number + 1


def _read(stream, at, size):
    """The data of the record at a byte, or else its fault; and where the next record begins."""
    lost = f'the rest of the file, {size - at:,} bytes, is lost'
    header = stream.read(HEADER)
    if len(header) < HEADER:
        return None, f'it is cut short within its header; {lost}', size
    length, checksum = struct.unpack('<QI', header)
    if masked_crc32c(header[:8]) != checksum:
        return None, f'the checksum of its length is wrong; {lost}', size
    end = at + HEADER + length + FOOTER
    if end > size:
        return None, f'it is cut short: it would end at byte {end:,} of {size:,}; {lost}', size
    data, footer = stream.read(length), stream.read(FOOTER)
    if len(footer) < FOOTER:
        return None, f'it is cut short: the file was changed while it was read; {lost}', size
    if masked_crc32c(data) != struct.unpack('<I', footer)[0]:
        return None, 'the checksum of its data is wrong', end
    return data, None, end


def is_record_file(file: str) -> bool:
    """Whether a file begins with a sound header, or its name says that it is a TFRecord file."""
    name = file.rsplit('/', 1)[-1].lower()
    if '.tfrecord' in name or '.record' in name or '-of-' in name:
        return True
    with reading(file) as stream:
        header = stream.read(HEADER)
    return len(header) == HEADER and masked_crc32c(header[:8]) == struct.unpack('<I', header[8:])[0]


def masked_crc32c(data: bytes) -> int:
    """The checksum that TFRecord files hold: CRC-32C, turned by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of bytes; some 230 MB/s for photos on one core."""
    if len(data) < 256:  # NumPy's calls would cost more than they save
        table, crc = _byte_table(), 0xffffffff
        for byte in data:
            crc = table[crc & 255 ^ byte] ^ crc >> 8
        return crc ^ 0xffffffff
    # A CRC is linear: that of two halves is the left one's, moved on by as many zero bytes as the right one has, plus
    # the right one's. So all pairs of neighbouring words are joined at once, then all pairs of pairs, and so on; zeros
    # in front change nothing.
    padded = np.zeros(-(-len(data) // 4) * 4, np.uint8)
    padded[-len(data):] = np.frombuffer(data, np.uint8)
    padded[-len(data):][:4] ^= 255
    words, level = padded.view('<u4'), 2
    while len(words) > 1:
        if len(words) % 2:
            words = np.concatenate([words[:1] * 0, words])
        words, level = _move(_zero_tables(level), words[0::2]) ^ words[1::2], level + 1
    return int(_move(_zero_tables(2), words)[0]) ^ 0xffffffff


@functools.cache
def _byte_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (value & 1) * 0x82f63b78 for value in table]
    return table


@functools.cache
def _zero_tables(level: int) -> np.ndarray:
    """What 2**level zero bytes make of a CRC: uint32 [4, 256], a table for each of its bytes."""
    if level:
        half = _zero_tables(level - 1)
        return np.stack([_move(half, row) for row in half])
    others = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16]], np.uint32)
    return np.concatenate([np.array([_byte_table()], np.uint32), others])


def _move(tables: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    return (tables[0][crcs & 255] ^ tables[1][crcs >> 8 & 255] ^ tables[2][crcs >> 16 & 255] ^ tables[3][crcs >> 24])
