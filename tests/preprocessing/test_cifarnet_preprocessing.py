import numpy as np
import pytest
import tensorflow as tf

from preprocessing import cifarnet_preprocessing as cifarnet

IMAGE = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype('uint8')


def standardized(image):
    return (image - image.mean()) / image.std()


def test_evaluation_crops_or_pads_and_standardizes():
    image = np.random.RandomState(1).randint(0, 256, (20, 40, 3)).astype('uint8')
    expected = np.zeros((32, 24, 3))
    expected[6:26] = image[:, 8:32]
    np.testing.assert_allclose(cifarnet.preprocess_image(image, 32, 24), standardized(expected), atol=1e-5)
    gray = image @ [0.2989, 0.587, 0.114]
    np.testing.assert_allclose(cifarnet.preprocess_for_eval(image, 20, 40, use_grayscale=True)[..., 0],
                               standardized(gray), atol=1e-5)


@pytest.mark.parametrize('gray', [False, True])
def test_training_pads_crops_and_flips(sample, gray):
    # With one channel, the standardisation undoes brightness and contrast: each output is exactly one of 162.
    image = IMAGE if gray else IMAGE[..., :1]
    outputs = sample(lambda seed: cifarnet.preprocess_image(image, 8, 8, True, use_grayscale=gray, seed=seed), 1500)
    padded = np.pad(IMAGE @ [0.2989, 0.587, 0.114] if gray else IMAGE[..., 0], 4)
    windows = np.stack([standardized(padded[y:y + 8, x:x + 8]) for y in range(9) for x in range(9)])
    windows = np.stack([windows, windows[:, :, ::-1]], 1).reshape(162, 64)
    correlation = outputs.reshape(1500, 64) @ windows.T / 64
    assert correlation.max(1).min() > 0.9999
    best = correlation.argmax(1)
    np.testing.assert_allclose(outputs.reshape(1500, 64), windows[best], atol=1e-3)
    assert 0.45 < (best % 2).mean() < 0.55
    for places in best // 18, best // 2 % 9:  # each of 9, some 167 times
        assert np.all(np.abs(np.bincount(places, minlength=9) - 1500 / 9) < 45)


def test_training_contrast(sample, assert_uniform):
    # The contrast scales what is within a channel, and not what is between them.
    image = np.float32(IMAGE + [[[0, 300, 900]]])
    outputs = sample(lambda seed: cifarnet.preprocess_for_train(image, 8, 8, padding=0, seed=seed), 1000)

    def within_to_between(x):
        return x.std((-3, -2)).mean(-1) / x.mean((-3, -2)).std(-1)

    assert_uniform(within_to_between(outputs) / within_to_between(image), 0.2, 1.8)


def test_training_pads_a_smaller_image_to_the_output():
    output = cifarnet.preprocess_for_train(IMAGE, 20, 17, seed=[1, 2]).numpy()
    assert output.shape == (20, 17, 3)
    inside = np.any(output != output[0, 0], -1)
    assert inside.any(1).sum() == inside.any(0).sum() == 8


def test_a_tf1_graph_gets_summaries():
    with tf.Graph().as_default() as graph:
        cifarnet.preprocess_image(IMAGE, 8, 8, is_training=True)
        cifarnet.preprocess_image(IMAGE, 8, 8)
        cifarnet.preprocess_image(IMAGE, 8, 8, add_image_summaries=False)
        names = [summary.op.name for summary in graph.get_collection(tf.compat.v1.GraphKeys.SUMMARIES)]
    assert names == ['image', 'distorted_image', 'image_1', 'resized_image']


def test_errors():
    with pytest.raises(ValueError, match='padding is -1; it must not be negative'):
        cifarnet.preprocess_for_train(IMAGE, 8, 8, padding=-1)
