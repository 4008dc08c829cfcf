import numpy as np
import pytest

from preprocessing import lenet_preprocessing as lenet


@pytest.mark.parametrize('is_training', [False, True])
def test_crops_or_pads_and_scales(is_training):
    image = np.random.RandomState(0).randint(0, 256, (20, 40, 3)).astype('uint8')
    expected = np.full((28, 30, 3), -1.0)
    expected[4:24] = image[:, 5:35] / 128 - 1
    np.testing.assert_allclose(lenet.preprocess_image(image, 28, 30, is_training), expected, atol=1e-6)
    gray = lenet.preprocess_image(image, 28, 30, is_training, use_grayscale=True)
    np.testing.assert_allclose(gray[4:24, :, 0], image[:, 5:35] @ [0.2989, 0.587, 0.114] / 128 - 1, atol=1e-5)
    np.testing.assert_allclose(lenet.preprocess_image(image[..., :1], 20, 40, is_training), image[..., :1] / 128 - 1)
