import io

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, digits
from datasets.dataset_factory import get_dataset


def test_they_are_scikit_learns():
    datasets = pytest.importorskip('sklearn.datasets')
    theirs = datasets.load_digits()
    seen = np.zeros(1797, int)
    for split in ('train', 'test'):
        for element in get_dataset('digits', split).as_tf_data().as_numpy_iterator():
            index = int(element['source'].decode().removeprefix('digits image '))
            image = np.asarray(Image.open(io.BytesIO(element['image'])), float)
            assert image.shape == (32, 32)
            assert element['label'] == theirs.target[index]
            # Bilinear at 4 times the size keeps the mean of the middle, and each 4x4 square is near its pixel's grey.
            squares = image.reshape(8, 4, 8, 4).mean((1, 3)) / 255 * 16
            assert np.corrcoef(squares.ravel(), theirs.images[index].ravel())[0, 1] > 0.95
            seen[index] += 1
    assert (seen == 1).all()


def test_splits_are_stratified():
    train, test = get_dataset('digits', 'train'), get_dataset('digits', 'test')
    assert (train.num_samples, test.num_samples, train.num_classes) == (1437, 360, 10)
    np.testing.assert_array_equal(np.bincount(test.labels), [36] * 10)


def test_enlarged_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 17, (8, 8)).astype(np.float32)
    pillows = np.asarray(Image.fromarray(image * 255 / 16).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(digits.enlarge(image[None])[0] - pillows).max() <= 0.51


@pytest.mark.parametrize('argument', ['dataset_dir', 'file_pattern'])
def test_reads_no_files(argument):
    with pytest.raises(DatasetError, match='image_folder'):
        get_dataset('digits', 'train', **{argument: 'somewhere'})
