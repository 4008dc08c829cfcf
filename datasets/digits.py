"""Real handwritten digits, embedded: 1797 images, each 8x8 with 17 grey levels, enlarged to 32x32.

They are scikit-learn's `load_digits`, that is the test set of "Optical Recognition of Handwritten Digits" by
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0.
`digits.npz` holds them in scikit-learn's order, with `is_test` marking the 36 of each digit, drawn once, that are the
test split.
"""
import os
import struct
import zlib

import numpy as np
import tensorflow as tf

from datasets.provider import DatasetError, IndexedDataset

SIZE = 32


class Digits(IndexedDataset):
    """A split of the digits, as PNG files in memory."""

    def __init__(self, row, split_name, dataset_dir=None, file_pattern=None, reader=None):
        """Loads the split; see `registry.DatasetRow.get_split`."""
        if dataset_dir or file_pattern or reader:
            raise DatasetError('digits is part of the package and reads no files; for images of your own '
                               'in dataset_dir name another dataset, such as image_folder.')
        with np.load(os.path.join(os.path.dirname(__file__), 'digits.npz')) as data:
            index, = np.nonzero(data['is_test'] == (split_name == 'test'))
            images, labels = data['images'][index], data['labels'][index]
        self._images = [png(image) for image in enlarge(images)]
        self._sources = [f'digits image {i}' for i in index]
        super().__init__(name=row.name, split_name=split_name, labels=labels.tolist(), num_classes=row.num_classes,
                         channels=row.channels, labels_to_names=dict(enumerate(row.class_names)),
                         items_to_descriptions=row.items_to_descriptions, licence=row.licence)

    def cache(self, folder, begin=lambda total: lambda done: None):
        """They are in memory already."""

    def _columns(self):
        return {'image': tf.constant(self._images), 'source': tf.constant(self._sources), **super()._columns()}

    def _examples(self):
        return zip(self._sources, self._images, self.labels, strict=True)


def enlarge(images: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Images `[n, 8, 8]` of grey levels 0 to 16 as uint8 `[n, size, size]` of 0 to 255, bilinear."""
    # A bilinear enlargement is a matrix on either side; pixels are points at the centres of their squares.
    columns = (np.arange(size) + 0.5) * 8 / size - 0.5
    weights = np.stack([np.interp(columns, np.arange(8), row) for row in np.eye(8)], axis=1)
    return np.rint(weights @ images @ weights.T * (255 / 16)).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    """A grey image, uint8 `[height, width]`, as a PNG file; without TensorFlow, so that it works in any graph."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    height, width = image.shape
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()  # A zero before each row: not filtered.
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
