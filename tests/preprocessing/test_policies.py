"""The operations against Pillow's; what the policies draw against torchvision's table of their ranges."""
import numpy as np
import pytest
import tensorflow as tf

from preprocessing import policies

Image = pytest.importorskip('PIL.Image')
from PIL import ImageEnhance, ImageFilter, ImageOps  # noqa: E402

FILL = 128
MODES = {1: 'L', 3: 'RGB'}


def photo(height, width, channels=3):
    """Smooth, with values from 20 to 235, none of its channels alike."""
    coarse = np.random.RandomState(1).uniform(0, 255, (5, 6, 3)).astype('uint8')
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC)) / 255
    image = (20 + smooth * [215, 150, 90]).astype('uint8')
    return image if channels == 3 else image[..., :1]


def to_pillow(image):
    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])


def from_pillow(image):
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]


def enhance(kind):
    return lambda image, factor: getattr(ImageEnhance, kind)(image).enhance(factor)


def affine(image, matrix):
    return image.transform(image.size, Image.AFFINE, matrix, Image.BILINEAR,
                           fillcolor=FILL if image.mode == 'L' else (FILL,) * 3)


def rotate(image, degrees):
    return image.rotate(degrees, Image.BILINEAR, fillcolor=FILL if image.mode == 'L' else (FILL,) * 3)


def known(geometric, image, argument):
    """Which pixels [height, width] two bilinear interpolations must agree on: all but those beside the seam."""
    white = Image.new('L', image.size, 255)
    moved = white.rotate(argument) if geometric is rotate else white.transform(white.size, Image.AFFINE, argument)
    frame = ImageOps.expand(moved, 2, 0)   # outside of the image, all is fill
    inside, reached = (np.asarray(frame.filter(kind(5)))[2:-2, 2:-2] > 0
                       for kind in (ImageFilter.MinFilter, ImageFilter.MaxFilter))
    return inside | ~reached


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('ours, pillow, arguments', [
    (policies.autocontrast, ImageOps.autocontrast, [()]),
    (policies.equalize, ImageOps.equalize, [()]),
    (policies.solarize, ImageOps.solarize, [(0,), (100.5,), (178.5,), (255,)]),
    (policies.posterize, ImageOps.posterize, [(bits,) for bits in range(1, 9)]),
    (policies.color, enhance('Color'), [(0.0,), (0.1,), (0.73,), (1.0,), (1.27,), (1.99,)]),
    (policies.contrast, enhance('Contrast'), [(0.0,), (0.1,), (0.73,), (1.0,), (1.27,), (1.99,)]),
    (policies.brightness, enhance('Brightness'), [(0.0,), (0.1,), (0.73,), (1.0,), (1.27,), (1.99,)]),
    (policies.sharpness, enhance('Sharpness'), [(0.0,), (0.1,), (0.73,), (1.0,), (1.27,), (1.99,)]),
], ids=lambda value: getattr(value, '__name__', ''))
def test_colours_are_pillows(ours, pillow, arguments, channels):
    noise = np.random.RandomState(0).randint(0, 256, (33, 47, channels)).astype('uint8')
    for image in noise, photo(64, 90, channels), noise // 3 + 40, np.full((9, 7, channels), 77, 'uint8'):
        for argument in arguments:
            result = ours(image, *argument)
            assert result.dtype == tf.uint8 and result.shape == image.shape
            expected = from_pillow(pillow(to_pillow(image), *argument))
            # Pillow's luma is in fixed point: a tie may be rounded the other way.
            np.testing.assert_allclose(result.numpy().astype(int), expected.astype(int), atol=1)
            assert (result.numpy() != expected).mean() < 0.01


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('pillow, argument', [
    *((rotate, degrees) for degrees in (9, -30, 135, 0)),
    *((affine, matrix) for matrix in (
        [1, 0.09, 0, 0, 1, 0], [1, -0.99, 0, 0, 1, 0], [1, 0, 0, 0.3, 1, 0], [1, 0, 32, 0, 1, 0], [1, 0, 0, 0, 1, -17],
        [0.8, 0.2, 3.3, -0.1, 1.1, -2.7]))])
def test_geometry_is_pillows(pillow, argument, channels):
    image = photo(64, 90, channels)
    result = (policies.rotate if pillow is rotate else policies.affine)(image, argument, FILL).numpy()
    expected = from_pillow(pillow(to_pillow(image), argument))
    # Beside the seam TensorFlow blends the outermost pixels with what fills, Pillow does not.
    mask = known(pillow, to_pillow(image), argument)
    assert mask.mean() > 0.8
    np.testing.assert_allclose(result[mask].astype(int), expected[mask].astype(int), atol=1)


def candidates(image, magnitudes, wide):
    """(operation, magnitude, sign, result, which pixels count, tolerance): torchvision's table, 0 to 30, by Pillow."""
    pillow, everywhere = to_pillow(image), np.ones(image.shape[:2], bool)
    height, width = image.shape[:2]
    most = dict(shear=0.99, x=32, y=32, angle=135, factor=0.99, bits=6) if wide else dict(
        shear=0.3, x=150 / 331 * width, y=150 / 331 * height, angle=30, factor=0.9, bits=4)

    def add(operation, result, mask=everywhere, tolerance=0, magnitude=None, sign=0):
        found.append((operation, magnitude, sign, from_pillow(result), mask, tolerance))

    found = []
    add('identity', pillow)
    add('autocontrast', ImageOps.autocontrast(pillow), tolerance=1)
    add('equalize', ImageOps.equalize(pillow))
    for m in magnitudes:
        add('solarize', ImageOps.solarize(pillow, 255 - 8.5 * m), magnitude=m)
        add('posterize', ImageOps.posterize(pillow, 8 - round(m / (30 / most['bits']))), magnitude=m)
        for sign in 1, -1:
            for kind in (['Color'] if image.shape[-1] == 3 else []) + ['Contrast', 'Brightness', 'Sharpness']:
                add(kind, enhance(kind)(pillow, 1 + sign * m / 30 * most['factor']), everywhere, 1, m, sign)
            level = sign * m / 30 * most['shear']
            for kind, transform, argument in (
                    ('rotate', rotate, sign * m / 30 * most['angle']),
                    ('shear_x', affine, [1, level, 0, 0, 1, 0]), ('shear_y', affine, [1, 0, 0, level, 1, 0]),
                    ('translate_x', affine, [1, 0, sign * int(m * most['x'] / 30), 0, 1, 0]),
                    ('translate_y', affine, [1, 0, 0, 0, 1, sign * int(m * most['y'] / 30)])):
                add(kind, transform(pillow, argument), known(transform, pillow, argument), 1, m, sign)
    return found


def explained(outputs, found):
    """The candidate that each output is."""
    results, masks = (np.stack([candidate[n] for candidate in found]).astype(int) for n in (3, 4))
    tolerances = np.array([candidate[5] for candidate in found])[:, None, None, None]
    for output in outputs.astype(int):
        difference = np.abs(results - output) * masks[..., None]
        fits = np.all(difference <= tolerances, (1, 2, 3))
        assert fits.any(), 'an output that no operation of Pillow gives'
        yield found[np.where(fits, difference.mean((1, 2, 3)), np.inf).argmin()]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('magnitude', [9, 26])
def test_randaugment_draws_each_operation_alike(sample, channels, magnitude):
    image = photo(30, 40, channels)
    outputs = sample(lambda seed: policies.augment(image, 'randaugment', seed, num_ops=1, magnitude=magnitude), 600)
    found = candidates(image, [magnitude], wide=False)
    seen = [candidate[:3] for candidate in explained(outputs, found)]
    operations = {candidate[0] for candidate in found}
    assert len(operations) == (14 if channels == 3 else 13)
    for operation in operations:
        drawn = [sign for kind, _, sign in seen if kind == operation]
        assert abs(len(drawn) - 600 / len(operations)) < 25     # of 43, 3.9 deviations
        assert abs(np.sum(drawn)) < 25


def test_trivialaugment_draws_from_the_wide_space(sample):
    image = photo(24, 30)
    outputs = sample(lambda seed: policies.augment(image, 'trivialaugment', seed), 600)
    seen = [candidate[:3] for candidate in explained(outputs, candidates(image, range(31), wide=True))]
    kinds = [kind for kind, _, _ in seen]
    for operation in {*kinds} - {'identity'}:  # which is also what small magnitudes give
        assert 20 < kinds.count(operation) < 66
    assert len({*kinds}) == 14
    assert {magnitude for _, magnitude, _ in seen} >= {*range(3, 31)}
    assert {sign for _, _, sign in seen} == {-1, 0, 1}


def test_randaugment_applies_as_many_operations_as_asked_for(sample):
    # Without magnitude there are but three that change anything, one of them white pixels alone.
    image = np.random.RandomState(0).randint(40, 126, (20, 24, 3)).astype('uint8')
    image[0, :2] = [[40], [125]]  # a span of 85: stretched to whole numbers, which leave Pillow no choice of rounding
    outputs = sample(lambda seed: policies.augment(image, 'randaugment', seed, num_ops=3, magnitude=0), 300)
    stages = [{to_pillow(image).tobytes()}]
    for _ in range(3):
        before = [Image.frombytes('RGB', (24, 20), data) for data in stages[-1]]
        stages.append({operation(x).tobytes() for x in before for operation in (
            lambda x: x, ImageOps.autocontrast, ImageOps.equalize, lambda x: ImageOps.solarize(x, 255))})
    results = [output.tobytes() for output in outputs]
    assert {*results} <= stages[3]
    assert 0.55 < results.count(image.tobytes()) / 300 < 0.71   # (12 / 14) ** 3 = 0.63


@pytest.mark.parametrize('policy', policies.POLICIES)
def test_a_seed_decides_also_in_a_map(policy):
    images = [photo(20, 31), photo(44, 18)]
    seeds = np.stack([np.arange(40), np.full(40, 3)], 1).astype('int32')
    data = tf.data.Dataset.from_generator(
        lambda: ((image, seed) for image in images for seed in seeds),
        output_signature=(tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec(2, tf.int32)))
    data = data.map(lambda image, seed: policies.augment(image, policy, seed), num_parallel_calls=2, deterministic=True)
    assert data.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    eager = [policies.augment(image, policy, seed).numpy() for image in images for seed in seeds]
    for ours, expected in zip(data, eager, strict=True):
        np.testing.assert_allclose(ours.numpy().astype(int), expected.astype(int), atol=1)
    assert len({image.tobytes() for image in eager}) > 50
    assert len({policies.augment(images[0], policy).numpy().tobytes() for _ in range(20)}) > 5  # afresh without a seed


@pytest.mark.parametrize('arguments, message', [
    (dict(policy='autoaugment'), "policy is 'autoaugment'; it must be one of randaugment, trivialaugment"),
    (dict(policy='randaugment', magnitude=31), 'magnitude is 31; it must be from 0 to 30'),
    (dict(policy='randaugment', num_ops=0), 'num_ops is 0; it must be a positive integer'),
    (dict(policy='randaugment', seed=3), r'seed is int32 of shape \(\)'),
    (dict(policy='randaugment', image=np.zeros((4, 4, 3), 'float32')), 'image has type float32; a policy takes uint8'),
    (dict(policy='randaugment', image=np.zeros((4, 4, 4), 'uint8')), r'image has shape \(4, 4, 4\)'),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        policies.augment(**{'image': photo(9, 9), **arguments})
