import functools

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import mixing

special = pytest.importorskip('scipy.special')

SEED = [3, 4]
FLOATS = ['float32', 'float16', 'bfloat16']


def numbered(batch, height, width):
    """Images whose pixels name their image (channel 0) and their place (1 and 2), and one-hot targets."""
    image = np.stack(np.meshgrid(np.arange(batch), np.arange(height), np.arange(width), indexing='ij'), -1)
    return tf.constant(image, tf.float32), tf.eye(batch)


def uniform_if_beta(share, alpha):
    """The distribution function of Beta(alpha, alpha), folded: near 1 float32 is too coarse for it."""
    return 2 * special.betainc(alpha, alpha, np.minimum(share, 1 - share).astype(float))


@pytest.mark.parametrize('alpha', [0.4, 1.0, 3.0, 20.0])
def test_mixup_shares_are_beta(assert_uniform, alpha):
    images, targets = numbered(4000, 1, 1)
    _, targets = mixing.mixup(images, targets, SEED, alpha)
    share = np.diag(targets).astype(float)
    assert_uniform(uniform_if_beta(share, alpha), 0, 1)
    assert abs((share < 0.5).mean() - 0.5) < 0.03
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 3 * (variance / 4000) ** 0.5
    assert abs(share.var() / variance - 1) < 0.08


def test_small_alphas_underflow_nowhere():
    images, targets = numbered(2000, 1, 1)
    share = np.diag(mixing.mixup(images, targets, SEED, 0.001)[1])
    assert np.isfinite(share).all() and ((share < 1e-3) | (share > 1 - 1e-3)).mean() > 0.97  # 0.993 expected
    assert 0.45 < (share > 0.5).mean() < 0.55


@pytest.mark.parametrize('dtype', FLOATS)
def test_mixup_blends_images_and_targets_alike(dtype):
    batch = 16
    images = np.random.RandomState(0).uniform(-1, 1, (batch, 5, 6, 3)).astype('float32')
    images = tf.cast(images, dtype)
    # Soft targets with more than one class.
    targets = np.random.RandomState(1).dirichlet(np.ones(7), batch).astype('float32')
    mixed, one_hot = mixing.mixup(images, tf.eye(batch), SEED, 1.0)
    _, soft = mixing.mixup(images, targets, SEED, 1.0)
    share = np.diag(one_hot)
    assert mixed.dtype == dtype and one_hot.dtype == soft.dtype == tf.float32
    weights = np.diag(share) + np.diag(1 - np.roll(share, -1))[np.roll(np.arange(batch), 1)]
    np.testing.assert_allclose(one_hot, weights, atol=1e-6)
    np.testing.assert_allclose(soft, weights @ targets, atol=1e-6)
    expected = np.tensordot(weights, tf.cast(images, tf.float32), 1)
    np.testing.assert_allclose(tf.cast(mixed, tf.float32), expected, atol={'float32': 1e-6}.get(dtype, 0.02))
    # The share in the images is the one in the targets, to the bit, and not one rounded otherwise.
    lone = tf.cast(np.arange(batch)[:, None, None, None] % 2, dtype)
    blended = tf.cast(mixing.mixup(lone, tf.eye(batch), SEED, 1.0)[0], tf.float32)[1::2, 0, 0, 0]
    np.testing.assert_array_equal(blended, share[1::2])


def boxes(changed):
    """Of each mask [height, width] the (first row, first column) and (end row, end column); all of it must be set."""
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            start, end = np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1
            assert mask[start[0]:end[0], start[1]:end[1]].all() and mask.sum() == np.prod(end - start)
            yield start, end
        else:
            yield np.zeros(2, int), np.zeros(2, int)


@pytest.mark.parametrize('dtype', FLOATS)
def test_cutmix_pastes_a_box_of_the_neighbour(dtype):
    batch, height, width = 100, 40, 60
    images, targets = numbered(batch, height, width)
    mixed, targets = mixing.cutmix(tf.cast(images, dtype), targets, SEED, 1.0)
    assert mixed.dtype == dtype and targets.dtype == tf.float32
    mixed = tf.cast(mixed, tf.float32).numpy()
    np.testing.assert_array_equal(mixed[..., 1:], images[..., 1:])   # every pixel is in its place
    own, neighbour = (np.arange(batch) - n for n in (0, 1))
    pasted = mixed[..., 0] == (neighbour % batch)[:, None, None]
    assert np.all(pasted | (mixed[..., 0] == own[:, None, None]))
    np.testing.assert_allclose(targets.numpy()[own, neighbour], pasted.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(np.diag(targets), 1 - pasted.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(np.sum(targets, 1), 1, atol=1e-6)
    assert len(set(pasted.sum((1, 2)))) > 50                         # each image has a box of its own


def test_cutmix_boxes_are_the_papers(assert_uniform):
    own = np.float32(np.arange(3000))[:, None, None, None]
    mixed, _ = mixing.cutmix(tf.tile(own, [1, 60, 100, 1]), tf.zeros([3000, 1]), SEED, 1.0)
    found = np.array(list(boxes(np.any(mixed.numpy() != own, -1))))
    starts, ends = found[:, 0], found[:, 1]
    inside = np.all((starts > 0) & (ends < [60, 100]), 1)
    sides = (ends - starts)[inside]
    assert abs(inside.mean() - 1 / 6) < 0.03                               # E[(1 - r)^2], r^2 uniform
    assert np.all(np.abs(sides[:, 0] / 60 - sides[:, 1] / 100) < 2 / 60)   # the image's aspect
    # A box of side r is cut by r^2 / 4 on the average in each direction, and r^2 is uniform: the mean area is
    # E[(r - r^2 / 4)^2] = 1/2 - 1/5 + 1/48; whole, even sides take some 1.5% off each.
    assert abs((np.prod(ends - starts, 1) / 6000).mean() - (0.5 - 0.2 + 1 / 48)) < 0.02
    # What touches no edge may lie anywhere.
    part = (starts[inside] - 1 + np.random.RandomState(0).uniform(size=(inside.sum(), 1))) / ([59, 99] - sides)
    assert_uniform(part[:, 0], 0, 1)
    assert_uniform(part[:, 1], 0, 1)


@pytest.mark.parametrize('alphas, probability, expected', [
    ((0.0, 0.0), 1.0, (0, 0)), ((0.5, 0.0), 1.0, (1, 0)), ((0.0, 0.5), 1.0, (0, 1)), ((0.5, 0.5), 1.0, (0.5, 0.5)),
    ((0.5, 0.5), 0.6, (0.3, 0.3)), ((0.5, 0.0), 0.25, (0.25, 0)), ((0.5, 0.5), 0.0, (0, 0))])
def test_mix_draws_one_of_the_two_for_a_batch(sample, alphas, probability, expected):
    images, targets = numbered(8, 6, 6)
    mixed, _ = sample(lambda seed: mixing.mix(images[..., :1], targets, seed, *alphas, probability), 600)
    whole = np.all(mixed == np.round(mixed), (1, 2, 3, 4))
    untouched = np.all(mixed == images.numpy()[..., :1], (1, 2, 3, 4))
    mixups, cutmixes = (~whole).mean(), (whole & ~untouched).mean()
    np.testing.assert_allclose([mixups, cutmixes], expected, atol=0.06 * (0 < sum(expected)))


def test_mix_is_mixup_or_cutmix():
    images, targets = numbered(8, 6, 6)
    for alphas in (0.5, 0.0), (0.0, 0.5):
        mixed, mixed_targets = mixing.mix(images, targets, SEED, *alphas)
        changed = np.any(mixed != images, -1).mean((1, 2))
        assert changed.mean() > 0.1
        if alphas[1]:
            np.testing.assert_allclose(1 - np.diag(mixed_targets), changed, atol=1e-6)


def erased(noise=False, batch=2000, size=(100, 100), dtype=tf.float16, **kwargs):
    """The boxes that are erased from images of ones."""
    images = mixing.random_erasing(tf.ones([batch, *size, 1], dtype), SEED, noise=noise, **kwargs)
    assert images.dtype == dtype
    return np.array(list(boxes(images[..., 0].numpy() != 1))).swapaxes(0, 1)


def test_erasing_draws_area_aspect_and_place_uniformly(assert_uniform):
    starts, ends = erased(probability=1.0, area=(0.05, 0.3), aspect=(0.5, 2.0))
    sides = ends - starts
    assert_uniform(sides.prod(1) / 100 ** 2, 0.05, 0.3)
    assert_uniform(np.log2(sides[:, 0] / sides[:, 1]), -1, 1)
    within = np.random.RandomState(0).uniform(size=sides.shape)
    for axis in 0, 1:
        assert_uniform(((starts + within) / (101 - sides))[:, axis], 0, 1)


def test_erasing_by_default_and_in_a_wide_image():
    starts, ends = erased(probability=0.25, size=(50, 150), batch=3000)
    sides = (ends - starts)[ends[:, 0] > 0]
    assert 0.22 < len(sides) / 3000 < 0.28
    area, aspect = sides.prod(1) / (50 * 150), sides[:, 0] / sides[:, 1]
    assert 0.015 < area.min() < 0.03 and 0.3 < area.max() < 0.345
    assert 0.25 < aspect.min() < 0.35 and 2.4 < aspect.max() < 3.6
    assert sides[:, 0].max() < 50


def test_rectangles_that_cannot_fit_are_not_erased():
    _, ends = erased(probability=1.0, size=(20, 200), batch=50, area=(0.5, 0.6), aspect=(1.0, 1.0))
    assert not ends.any()


@pytest.mark.parametrize('dtype', FLOATS)
def test_noise_is_like_the_images(dtype):
    mean, deviation = np.float32([-20, 0, 3]), np.float32([60, 1, 0.25])
    images = mean + deviation * np.random.RandomState(0).normal(size=(64, 30, 30, 3)).astype('float32')
    result = mixing.random_erasing(tf.cast(images, dtype), SEED, 1.0, area=(0.2, 1 / 3))
    assert result.dtype == dtype
    changed = np.any(result != tf.cast(images, dtype), -1)
    assert 0.15 < changed.mean() < 0.35
    noise = tf.cast(result, tf.float32).numpy()[changed]
    np.testing.assert_allclose((noise.mean(0) - mean) / deviation, 0, atol=0.15)
    np.testing.assert_allclose(noise.std(0) / deviation, 1, atol=0.1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('way', [
    lambda images, targets, seed: mixing.mix(images, targets, seed, 0.2, 1.0, 0.7),
    lambda images, targets, seed: (mixing.random_erasing(images, seed, 0.5), targets),
], ids=['mix', 'random_erasing'])
def test_a_seed_decides_with_and_without_xla(way, dtype):
    images = tf.cast(np.random.RandomState(0).normal(size=(8, 20, 30, 3)), dtype)
    plain, compiled = tf.function(way), tf.function(way, jit_compile=True)
    outputs = []
    for seed in [1, 2], [2, 1], [7, 7], [-2 ** 31, 2 ** 31 - 1], [1, 2]:
        first, *others = ([tf.cast(value, tf.float32).numpy() for value in fn(images, tf.eye(8), tf.constant(seed))]
                          for fn in (plain, compiled, way))
        for other in others:
            for ours, expected in zip(other, first, strict=True):
                np.testing.assert_allclose(ours, expected, atol=1e-5 if dtype == 'float32' else 0.02)
        outputs.append(first[0].tobytes())
    assert outputs[0] == outputs[-1]
    assert len(set(outputs)) >= 3   # `mix` may leave more than one as it is


def test_any_batch_size():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 10])])
    def fn(images, targets):
        return mixing.mix(mixing.random_erasing(images, SEED, 0.5), targets, SEED, 0.2, 1.0)

    for batch in 1, 5:
        images, targets = fn(tf.random.stateless_normal([batch, 9, 8, 3], SEED), tf.one_hot(tf.range(batch), 10))
        assert images.shape == (batch, 9, 8, 3)
        np.testing.assert_allclose(tf.reduce_sum(targets, 1), 1, atol=1e-6)
    np.testing.assert_array_equal(fn(images[:1], targets[:1])[1], targets[:1])   # alone, it mixes with itself


IMAGES, TARGETS = tf.zeros([2, 4, 4, 3]), tf.eye(2)
mixup = functools.partial(mixing.mixup, seed=SEED, alpha=1.0)


@pytest.mark.parametrize('call, message', [
    (lambda: mixup(tf.zeros([2, 4, 4, 3], tf.uint8), TARGETS), r'images are uint8 of shape \(2, 4, 4, 3\); they must'),
    (lambda: mixup(IMAGES[0], TARGETS), r'images are float32 of shape \(4, 4, 3\)'),
    (lambda: mixup(IMAGES, tf.constant([1, 2])), r'targets are int32 of shape \(2,\); .* tf.one_hot'),
    (lambda: mixup(IMAGES, TARGETS, alpha=-1.0), r'alpha is -1\.0; it must be above 0'),
    (lambda: mixup(IMAGES, TARGETS, seed=1), r'seed is int32 of shape \(\)'),
    (lambda: mixing.mix(IMAGES, TARGETS, SEED, -0.2), r'alpha is -0\.2; it must be above 0'),
    (lambda: mixing.mix(IMAGES, TARGETS, SEED, 0.2, probability=1.5), r'probability is 1\.5; it must be from 0 to 1'),
    (lambda: mixing.random_erasing(IMAGES, SEED, -1), 'probability is -1; it must be from 0 to 1'),
    (lambda: mixing.random_erasing(IMAGES, SEED, 1, area=(0.5, 0.1)), r'area is \(0\.5, 0\.1\); it must be two'),
    (lambda: mixing.random_erasing(IMAGES, SEED, 1, area=(0.5, 2)), r'area is \(0\.5, 2\); .* at most 1'),
    (lambda: mixing.random_erasing(IMAGES, SEED, 1, aspect=(0, 1)), r'aspect is \(0, 1\); it must be'),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
