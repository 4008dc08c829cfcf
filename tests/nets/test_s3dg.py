"""S3D-G's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import nets
import tf_slim_compat  # noqa: F401
from nets import inception_v1, s3dg

ENDPOINTS = [name for name, _ in inception_v1.ROOT_BLOCK + inception_v1.modules()]
VIDEOS = np.random.RandomState(4).uniform(-1, 1, [2, 5, 6, 7, 3]).astype(np.float32)


def videos(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def in_scope(function, *args, **kwargs):
    with slim.arg_scope(s3dg.s3dg_arg_scope()):
        return function(*args, **kwargs)


def model_variables():
    return {v.op.name: v.shape.as_list() for v in slim.get_model_variables()}


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_self_gating(hold):
    net = hold(s3dg.self_gating, VIDEOS, 'A')
    (name, weights), = hold.variables.items()
    assert name == 'A/self_gating/transformer_W/weights'
    gates = tf.sigmoid(VIDEOS.mean((1, 2, 3)) @ weights[0, 0, 0])
    expected = VIDEOS * gates[:, None, None, None]
    np.testing.assert_allclose(net, expected, atol=1e-6)
    last = hold(s3dg.self_gating, VIDEOS.transpose(0, 4, 1, 2, 3), 'A', data_format='NCDHW')
    np.testing.assert_allclose(last, tf.transpose(expected, [0, 4, 1, 2, 3]), atol=1e-6)
    unknown = tf.function(lambda values: hold(s3dg.self_gating, values, 'A'), autograph=False,
                          input_signature=[tf.TensorSpec([None, None, None, None, 3])])
    np.testing.assert_allclose(unknown(VIDEOS), expected, atol=1e-6)


@pytest.mark.parametrize('temporal, gating', [
    ('Conv2d_2c_3x3', 'Mixed_4c'), ('Mixed_3c', None), (None, 'Conv2d_2c_3x3')])
def test_where_they_start(graph, read_golden, temporal, gating):
    """From there on the variables are the contract's, before it those of the other kind are missing."""
    def has_started(name, start):
        return start is not None and ENDPOINTS.index(name.split('/')[1]) >= ENDPOINTS.index(start)

    in_scope(s3dg.s3dg_base, videos(1, 4, 16, 16, 3), temporal_conv_startat=temporal, gating_startat=gating)
    expected = [name for name in read_golden('s3dg')['variables'] if not (
        name.startswith('InceptionV1/Logits')
        or '/temporal/' in name and not has_started(name, temporal)
        or '/self_gating/' in name and not has_started(name, gating))]
    assert list(model_variables()) == expected


@pytest.mark.parametrize('arguments, words', [
    (dict(temporal_conv_startat='Mixed_4g'), "temporal_conv_startat 'Mixed_4g': did you mean 'Mixed_4.*are Conv2d_2c_"),
    (dict(gating_startat='MaxPool_4a_3x3'), "gating_startat 'MaxPool_4a_3x3'.*Valid are Conv2d_2c_3x3, Mixed_3b,.*5c"),
    (dict(final_endpoint='Mixed_4g'), "endpoint of InceptionV1 'Mixed_4g'.*Valid are Conv2d_1a_7x7"),
    (dict(depth_multiplier=0), 'depth_multiplier must be greater than zero'),
    (dict(data_format='NHWC'), "data_format 'NHWC'.*Valid are NDHWC, NCDHW"),
])
def test_wrong_arguments_build_nothing(graph, arguments, words):
    for build in (s3dg.s3dg_base, s3dg.s3dg):
        with pytest.raises(ValueError, match=words):
            build(VIDEOS, **arguments)
    assert graph.get_operations() == []


def test_first_temporal_kernel_size(graph):
    in_scope(s3dg.s3dg_base, videos(1, 4, 16, 16, 4), first_temporal_kernel_size=5, final_endpoint='Conv2d_1a_7x7')
    assert model_variables()['InceptionV1/Conv2d_1a_7x7/weights'] == [5, 7, 7, 4, 64]


def test_depth_multiplier(graph, read_golden):
    """A third of each width, but no less than 11."""
    in_scope(s3dg.s3dg, videos(1, 4, 16, 16, 3), 1001, depth_multiplier=1 / 3, min_depth=11)
    golden = {name: shape[-1] for name, shape in read_golden('s3dg')['variables'].items()}
    assert {name: shape[-1] for name, shape in model_variables().items()} == {
        name: width if 'Logits' in name else max(width // 3, 11) for name, width in golden.items()}


@pytest.mark.parametrize('final_endpoint', ['Conv2d_2c_3x3', 'Mixed_4b'])
def test_classifier_on_any_endpoint(graph, final_endpoint):
    logits, end_points = in_scope(s3dg.s3dg, videos(2, 4, 16, 16, 3), 7, final_endpoint=final_endpoint)
    assert logits.shape.as_list() == [2, 7]
    assert list(end_points) == [*ENDPOINTS[:ENDPOINTS.index(final_endpoint) + 1], 'Logits', 'Predictions']
    maps = end_points[final_endpoint].shape.as_list()[-1]
    assert model_variables()['InceptionV1/Logits/Conv2d_0c_1x1/weights'] == [1, 1, 1, maps, 7]


def test_large_videos(graph):
    with pytest.raises(ValueError, match='240x256 leave the logits.* up to 224x224 .*pass global_pool=True'):
        s3dg.s3dg(np.zeros([1, 2, 240, 256, 3], np.float32), 10)
    assert graph.get_operations() == []
    logits, _ = s3dg.s3dg(videos(1, 2, 240, 256, 3), 10, spatial_squeeze=False)
    assert logits.shape.as_list() == [1, 2, 2, 10]


def test_without_classes_the_pooled_map(graph):
    net, end_points = s3dg.s3dg(videos(2, 24, 64, 96, 3), None, global_pool=True)
    assert net is end_points['global_pool']
    assert net.shape.as_list() == [2, 1, 1, 1, 1024]
    assert 'Logits' not in end_points


def test_unknown_sizes(graph, made_value):
    """One graph takes videos of any length and size, and is_training is a placeholder."""
    inputs, is_training = videos(None, None, None, None, 4), tf.compat.v1.placeholder(tf.bool, [])
    logits, end_points = in_scope(s3dg.s3dg, inputs, 5, is_training=is_training, global_pool=True,
                                  final_endpoint='Mixed_3c')
    assert logits.shape.as_list() == [None, 5]
    variables = tf.compat.v1.global_variables()
    made = {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in variables}
    with tf.compat.v1.Session() as session:
        session.run([v.initializer for v in variables], made)
        for shape in ([1, 1, 40, 20, 4], [3, 20, 32, 32, 4]):
            feed = {inputs: np.ones(shape, np.float32), is_training: False}
            first, mixed, pooled = session.run([logits, end_points['Mixed_3c'], end_points['global_pool']], feed)
            assert first.shape == (shape[0], 5)
            np.testing.assert_allclose(pooled[:, 0, 0, 0], mixed.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(session.run(logits, feed), first)
        feed[is_training] = True
        assert not np.allclose(session.run(logits, feed), session.run(logits, feed), rtol=1e-3)     # dropout


def test_bfloat16(made_value):
    model = nets.create_model('s3dg', 5, image_size=32, final_endpoint='Mixed_3c')
    for name, variable in model.by_name.items():
        variable.assign(made_value(name, variable.shape.as_list()))
    values = np.random.RandomState(6).uniform(-1, 1, [2, 9, 32, 32, 3]).astype(np.float32)
    end_points = model.endpoints(tf.cast(values, tf.bfloat16))
    assert end_points['Mixed_3c'].dtype == tf.bfloat16
    assert end_points['Predictions'].dtype == tf.float32
    full = model.endpoints(values)['Mixed_3c'].numpy()
    np.testing.assert_allclose(tf.cast(end_points['Mixed_3c'], tf.float32), full, atol=0.05 * full.max())


def test_channels_before_frames(hold):
    """The same variables, the same answers."""
    inputs = np.random.RandomState(5).uniform(-1, 1, [1, 9, 32, 32, 3]).astype(np.float32)
    with slim.arg_scope(s3dg.s3dg_arg_scope()):
        logits, _ = hold(s3dg.s3dg, inputs, 7, is_training=False)
        made = len(hold.variables)
        first, end_points = hold(s3dg.s3dg, inputs.transpose(0, 4, 1, 2, 3), 7, is_training=False, data_format='NCDHW')
    assert len(hold.variables) == made and end_points['Mixed_5c'].shape == [1, 1024, 2, 1, 1]
    np.testing.assert_allclose(first, logits, atol=1e-4 * np.std(logits))


def test_videos_without_frames(graph):
    with pytest.raises(ValueError, match='takes videos of at least one frame; these have none'):
        s3dg.s3dg(videos(1, 0, 32, 32, 3))
    assert [op.type for op in graph.get_operations()] == ['Placeholder']
