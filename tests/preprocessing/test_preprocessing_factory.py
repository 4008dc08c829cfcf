import numpy as np
import pytest
import tensorflow as tf

from preprocessing import (
    cifarnet_preprocessing,
    inception_preprocessing,
    keras_preprocessing,
    lenet_preprocessing,
    preprocessing_factory,
    vgg_preprocessing,
)

IMAGE = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype('uint8')
SEED = [5, 6]
PREPROCESSINGS = ['inception', 'vgg', 'cifarnet', 'lenet']

# TF-Slim's networks, and whose preprocessing they were trained with.
NAMES = {
    inception_preprocessing: """
        inception inception_v1 inception_v2 inception_v3 inception_v4 inception_resnet_v2 i3d s3dg mobilenet_v1
        mobilenet_v1_075 mobilenet_v1_050 mobilenet_v1_025 mobilenet_v2 mobilenet_v2_140 mobilenet_v2_035
        mobilenet_v3_small mobilenet_v3_large mobilenet_v3_small_minimalistic mobilenet_v3_large_minimalistic
        mobilenet_edgetpu mobilenet_edgetpu_075 nasnet_mobile nasnet_large pnasnet_mobile pnasnet_large""",
    vgg_preprocessing: """
        vgg vgg_a vgg_16 vgg_19 alexnet_v2 overfeat resnet_v1_50 resnet_v1_101 resnet_v1_152 resnet_v1_200 resnet_v2_50
        resnet_v2_101 resnet_v2_152 resnet_v2_200""",
    cifarnet_preprocessing: 'cifarnet nasnet_cifar',
    lenet_preprocessing: 'lenet',
    keras_preprocessing: 'keras',
}


def test_every_network_has_its_preprocessing():
    names = {name: module for module, names in NAMES.items() for name in names.split()}
    expected = {module: module.preprocess_image(IMAGE, 24, 20, False).numpy() for module in NAMES}
    for name, module in names.items():
        output = preprocessing_factory.get_preprocessing(name)(IMAGE, 24, 20)
        np.testing.assert_array_equal(output, expected[module], name)
    with pytest.raises(ValueError) as error:
        preprocessing_factory.get_preprocessing('')
    assert set(str(error.value).split('Valid names: ')[1].rstrip('.').split(', ')) == set(names)


def images(channels, dtype):
    image = IMAGE[..., :channels]
    return image if dtype == 'uint8' else image.astype(dtype) / 255


@pytest.mark.parametrize('name', PREPROCESSINGS)
@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize('channels, dtype, use_grayscale', [
    (3, 'uint8', False), (3, 'float32', True), (1, 'uint8', True), (1, 'float32', False)])
def test_alike_eagerly_in_functions_in_graphs_and_in_maps(name, is_training, channels, dtype, use_grayscale):
    image, seed, size = images(channels, dtype), [5, 6], (24, 35)
    fn = preprocessing_factory.get_preprocessing(name, is_training, use_grayscale)
    expected = fn(image, *size, seed=seed)
    shape = (*size, 1 if use_grayscale else channels)
    assert expected.shape == shape and expected.dtype == tf.float32

    spec = tf.TensorSpec([None, None, channels], dtype), tf.TensorSpec(2, tf.int32)
    dataset = tf.data.Dataset.from_generator(lambda: [(image, seed)], output_signature=spec)
    dataset = dataset.map(lambda image, seed: fn(image, *size, seed=seed), num_parallel_calls=2)
    assert dataset.element_spec.shape == shape
    np.testing.assert_allclose(next(iter(dataset)), expected, atol=1e-3)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placeholder = tf.compat.v1.placeholder(dtype, [None, None, channels])
        output = fn(placeholder, *size, seed=seed)
        assert output.shape == shape
        np.testing.assert_allclose(session.run(output, {placeholder: image}), expected, atol=1e-3)


@pytest.mark.parametrize('name, kwargs', [
    ('inception', {}), ('inception', {'fast_mode': False}), ('vgg', {}), ('cifarnet', {})])
def test_training_is_a_function_of_the_seed_and_fresh_without_one(name, kwargs):
    fn = preprocessing_factory.get_preprocessing(name, is_training=True)

    @tf.function
    def function(image, seed=None):
        return fn(image, 16, 16, seed=seed, **kwargs)

    def differ(*outputs):
        outputs = [np.asarray(output).tobytes() for output in outputs]
        return len(set(outputs)) == len(outputs)

    seeds = [tf.constant(seed) for seed in ([0, 0], [0, 1], [1, 0], [-2 ** 31, 2 ** 31 - 1])]
    assert differ(*(function(IMAGE, seed) for seed in seeds))
    assert not differ(*(function(IMAGE, seeds[1]) for _ in range(2)))
    assert differ(*(function(IMAGE) for _ in range(3)))
    assert differ(*(fn(IMAGE, 16, 16, **kwargs) for _ in range(3)))
    assert differ(*tf.data.Dataset.from_tensors(IMAGE).repeat(3).map(lambda x: fn(x, 16, 16, **kwargs)))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output = fn(IMAGE, 16, 16, **kwargs)
        assert differ(*(session.run(output) for _ in range(3)))


@pytest.mark.parametrize('name, host, device, rounding', [
    ('inception', {}, {'distort_colors': False}, 1 / 255), ('vgg', {}, {}, 0.5),
    ('resnet_v1_50', {'resize_side_min': 30, 'resize_side_max': 40}, {}, 0.5), ('lenet', {}, {}, 0.5 / 128),
    ('keras', {'rotation_range': 40.0, 'zoom_range': 0.2, 'horizontal_flip': True}, {}, 1 / 255)])
@pytest.mark.parametrize('use_grayscale', [False, True])
def test_split_in_two_it_is_the_same_but_for_the_rounding(sample, name, host, device, rounding, use_grayscale):
    """And for the side that an image shows."""
    whole = preprocessing_factory.get_preprocessing(name, True, use_grayscale)
    split = preprocessing_factory.get_split_preprocessing(name, use_grayscale)
    for height, width in (24, 20), (17, 32):  # a progressive training changes the size
        expected, images = sample(lambda seed: (
            whole(IMAGE, height, width, seed=seed, **host, **device),  # noqa: B023
            split.on_host(IMAGE, height, width,  # noqa: B023
                          seed=tf.random.split(seed, 2, alg='philox')[0] if split.window is None and name != 'keras'
                          else seed, **host)), 12)
        assert images.dtype == np.uint8 and images.shape[1:3] == (height, width)
        finished = split.on_device(tf.constant(images), SEED, **device)
        assert finished.dtype == tf.float32 and finished.shape == expected.shape
        for one, other in zip(finished.numpy(), expected, strict=True):
            assert min(np.abs(one[:, ::side] - other).max() for side in (1, -1)) <= rounding * 1.001
        compiled = tf.function(split.on_device, jit_compile=True)(tf.constant(images), tf.constant(SEED), **device)
        np.testing.assert_allclose(compiled, finished, atol=1e-6 * np.abs(finished).max())


@pytest.mark.parametrize('name', ['inception', 'vgg', 'cifarnet'])
def test_the_device_mirrors_half_of_the_images(name):
    split = preprocessing_factory.get_split_preprocessing(name)
    images = tf.constant(np.stack(600 * [IMAGE[:12, :12]]))
    finished = tf.function(split.on_device, jit_compile=True)(images, tf.constant(SEED)).numpy()
    # Colours, contrast and normalisation leave the correlation near 1.
    mirrored = [np.corrcoef(one.ravel(), IMAGE[:12, :12].ravel())[0, 1] < 0.5 for one in finished]
    assert 0.44 < np.mean(mirrored) < 0.56
    assert np.abs(np.corrcoef(mirrored[1:], mirrored[:-1])[0, 1]) < 0.15
    again = split.on_device(images, SEED).numpy()
    np.testing.assert_allclose(again, finished, atol=1e-4 * np.abs(finished).max())
    assert np.any(split.on_device(images, [8, 9]).numpy() != again)
    assert np.any(split.on_device(images).numpy() != split.on_device(images).numpy())


@pytest.mark.parametrize('kwargs', [{}, {'min_area': 0.5}])
def test_what_lies_outside_the_window_need_not_be_decoded(kwargs):
    split = preprocessing_factory.get_split_preprocessing('inception_v1')
    # Grey: in colour, libjpeg interpolates the subsampled colours of the part's last pixels without their neighbours.
    encoded = tf.io.encode_jpeg(np.kron(IMAGE[..., :1], np.ones((4, 4, 1), 'uint8')))
    sizes = []
    for seed in [[n, 3] for n in range(12)]:
        expected = split.on_host(tf.io.decode_jpeg(encoded, 3), 24, 20, seed=seed, **kwargs)
        window = split.window(tf.io.extract_jpeg_shape(encoded), seed, **kwargs)
        part = tf.image.decode_and_crop_jpeg(encoded, window, 3)
        sizes.append(part.shape.num_elements())
        np.testing.assert_array_equal(split.on_host(part, 24, 20, seed=seed, crop_image=False, **kwargs), expected)
    assert len(set(sizes)) > 6 and max(sizes) < IMAGE.size * 4 * 4
    assert preprocessing_factory.get_split_preprocessing('vgg').window is None


@pytest.mark.parametrize('name', [*PREPROCESSINGS, 'keras'])
def test_parts_of_a_batch_are_finished_as_the_whole(name):
    split = preprocessing_factory.get_split_preprocessing(name)
    images = tf.constant(np.stack([np.roll(IMAGE, number, 0) for number in range(12)]))
    whole = split.on_device(images, SEED).numpy()
    for numbers in [0, 1, 2, 3, 4], [5, 7, 9, 11], [10, 6, 8]:
        part = split.on_device(tf.gather(images, numbers), SEED, rows=(tf.constant(numbers), 12))
        np.testing.assert_allclose(part, whole[numbers], atol=1e-4)


def test_split_cifarnet(sample, assert_uniform):
    split = preprocessing_factory.get_split_preprocessing('cifarnet')

    def within_to_between(x):  # the contrast scales what is within a channel, and not what is between them
        return x.std((-3, -2)).mean(-1) / x.mean((-3, -2)).std(-1)

    image = IMAGE[:12, :12] // 2 + np.uint8([0, 40, 120])
    batch = np.stack(1000 * [image])
    outputs = split.on_device(batch, SEED).numpy()
    assert_uniform(within_to_between(outputs) / within_to_between(image), 0.2, 1.8)
    np.testing.assert_allclose(outputs.mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std((1, 2, 3)), 1, atol=1e-4)


def test_split_takes_what_its_parts_take():
    split = preprocessing_factory.get_split_preprocessing('vgg')
    with pytest.raises(ValueError, match="takes no 'sed'; did you mean 'seed'"):
        split.on_host(IMAGE, 8, 8, sed=SEED)
    with pytest.raises(ValueError, match="takes no 'distort_colors'. Valid keywords: seed"):
        split.on_device(IMAGE[None], distort_colors=False)
    with pytest.raises(ValueError, match="no preprocessing 'vg'"):
        preprocessing_factory.get_split_preprocessing('vg')


@pytest.mark.parametrize('name, message', [
    ('incepton_v1', "no preprocessing 'incepton_v1'; did you mean 'inception_v1'"),
    ('resnet_v1_51', "did you mean 'resnet_v1_5"),
    ('zzz', r"no preprocessing 'zzz'\. Valid names: alexnet_v2, "),
    (None, 'no preprocessing None'),
])
def test_unknown_name(name, message):
    with pytest.raises(ValueError, match=message):
        preprocessing_factory.get_preprocessing(name)


@pytest.mark.parametrize('name', PREPROCESSINGS)
@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize('image, size, kwargs, message', [
    (IMAGE[..., 0], (9, 9), {}, r'image has shape \(30, 40\); .* one image, \[height, width, 1 or 3\]'),
    (IMAGE[None], (9, 9), {}, r'image has shape \(1, 30, 40, 3\)'),
    (np.zeros((5, 5, 4), 'uint8'), (9, 9), {}, r'image has shape \(5, 5, 4\)'),
    (IMAGE.astype('int64'), (9, 9), {}, 'image has type int64; .* uint8 or float'),
    (b'\xff\xd8', (9, 9), {}, 'image has type string; .* a decoded image'),
    (IMAGE, (0, 9), {}, 'height is 0; it must be a positive integer'),
    (IMAGE, (9, -3), {}, 'width is -3; it must be'),
    (IMAGE, (9, 2.5), {}, r'width is 2\.5; it must be'),
    (IMAGE, (9, 9), {'sed': [1, 2]}, "takes no 'sed'; did you mean 'seed'.* Valid keywords: .*seed"),
    (IMAGE, (9, 9), {'is_training': True}, "takes no 'is_training'"),
])
def test_bad_input(name, is_training, image, size, kwargs, message):
    with pytest.raises(ValueError, match=message):
        preprocessing_factory.get_preprocessing(name, is_training)(image, *size, **kwargs)


def test_unknown_channels_in_a_graph():
    fn = preprocessing_factory.get_preprocessing('inception')
    for shape in [None, None, None], None:
        with pytest.raises(ValueError, match='image.set_shape'):
            tf.function(lambda x: fn(x, 9, 9), input_signature=[tf.TensorSpec(shape, tf.uint8)]).get_concrete_function()


def crops(image, height, width, row, column):
    """The part of an array with its room above and to the left shared as told."""
    top, left = int((image.shape[0] - height) * row), int((image.shape[1] - width) * column)
    return image[top:top + height, left:left + width]


CORNERS = [(0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_views_of_inception_are_crops_of_the_photo():
    whole = preprocessing_factory.get_preprocessing('inception_v1')
    views = preprocessing_factory.get_views('inception_v1', crop_fraction=0.5, crops=5, flip=True)(IMAGE, 24, 20)
    assert views.shape == (10, 24, 20, 3)
    for view, mirrored, place in zip(views[:5], views[5:], CORNERS, strict=True):
        part = crops(IMAGE, 16, 20, *place)  # 30 rows: 7 are cut off on either side, as tf.image.central_crop does
        np.testing.assert_allclose(view, whole(part, 24, 20, crop_image=False), atol=1e-6)
        np.testing.assert_array_equal(mirrored, view[:, ::-1])


def test_views_of_vgg_are_crops_of_the_resized_photo():
    views = preprocessing_factory.get_views('vgg_16', crop_fraction=0.8, crops=5)(IMAGE, 20, 20)
    resized = tf.compat.v1.image.resize(IMAGE, [25, 33]).numpy()  # 20 / 0.8 the shorter side, of 30 x 40
    for view, place in zip(views, CORNERS, strict=True):
        expected = crops(resized, 20, 20, *place) - np.float32([123.68, 116.78, 103.94])
        np.testing.assert_allclose(view, expected, atol=1e-4)


@pytest.mark.parametrize('name', [*PREPROCESSINGS, 'keras'])
def test_one_view_is_the_evaluation(name):
    expected = preprocessing_factory.get_preprocessing(name)(IMAGE, 24, 20)
    np.testing.assert_array_equal(preprocessing_factory.get_views(name)(IMAGE, 24, 20), expected[tf.newaxis])
    mirrored = preprocessing_factory.get_views(name, flip=True)(IMAGE, 24, 20)
    np.testing.assert_array_equal(mirrored, tf.stack([expected, expected[:, ::-1]]))


@pytest.mark.parametrize('name, kwargs, message', [
    ('cifarnet', {'crops': 5}, 'cifarnet has no crop to choose; those of inception and vgg'),
    ('lenet', {'crop_fraction': 0.5}, 'lenet has no crop to choose'),
    ('inception', {'crop_fraction': 1.5}, 'crop_fraction is 1.5; it must be above 0 and at most 1'),
    ('inception', {'crops': 3}, 'crops is 3; it must be 1, the centre, or 5'),
    ('incepton', {}, "did you mean 'inception'")])
def test_bad_views(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        preprocessing_factory.get_views(name, **kwargs)
