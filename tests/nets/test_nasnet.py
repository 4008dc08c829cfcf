"""NASNet's own behaviour; its contracts are in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import nets
import tf_slim_compat  # noqa: F401
from nets.nasnet import nasnet, nasnet_utils

v1 = tf.compat.v1


def small(config=nasnet.mobile_imagenet_config, **changes):
    """A config of few cells and channels."""
    config = config()
    for name, value in {'num_cells': 2, 'num_conv_filters': 8, **changes}.items():
        config.set_hparam(name, value)
    return config


def in_scope(function, *args, **kwargs):
    with slim.arg_scope(nasnet.nasnet_mobile_arg_scope()):
        return function(*args, **kwargs)


def images(*shape, dtype=tf.float32):
    return v1.placeholder(dtype, shape)


def variable_names():
    return [v.op.name for v in slim.get_model_variables()]


def cell_scope(**batch_norm):
    """What cells and their parts need of the network's arg scope."""
    with slim.arg_scope(nasnet.nasnet_mobile_arg_scope()), slim.arg_scope([slim.batch_norm], **batch_norm), \
            slim.arg_scope([nasnet_utils.get_channel_index, nasnet_utils.get_channel_dim,
                            nasnet_utils.factorized_reduction], data_format='NHWC') as scope:
        return scope


@pytest.fixture
def evaluate(made_value):
    """Builds with plain normalisation; returns the output for made weights, and the weights by their names."""
    def run(function, *args, **kwargs):
        with tf.Graph().as_default(), v1.Session() as session:
            with slim.arg_scope(cell_scope(is_training=False, center=False, scale=False, epsilon=0.)):
                net = function(*args, **kwargs)
            value = {v: made_value(v.op.name, v.shape.as_list()) for v in slim.get_model_variables()}
            session.run([v.initializer for v in value], {v.initializer.inputs[1]: value[v] for v in value})
            return session.run(net), {v.op.name: value[v] for v in value}
    return run


def normalized(net, value, scope):
    return (net - value[f'{scope}/moving_mean']) / np.sqrt(value[f'{scope}/moving_variance'])


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_hparams():
    config = nasnet.cifar_config()
    config.set_hparam('num_cells', 12)
    assert config.num_cells == config.values()['num_cells'] == 12
    assert nasnet.cifar_config().num_cells == 18
    with pytest.raises(ValueError, match="hparam 'num_cell': did you mean 'num_cells'"):
        config.set_hparam('num_cell', 6)


@pytest.mark.parametrize('num_cells, layers', [(18, [6, 12]), (12, [4, 8]), (9, [3, 6]), (5, [1, 3])])
def test_calc_reduction_layers(num_cells, layers):
    assert nasnet_utils.calc_reduction_layers(num_cells, 2) == layers


def test_data_format_comes_from_the_scope():
    with slim.arg_scope([nasnet_utils.get_channel_index, nasnet_utils.get_channel_dim], data_format='NCHW'):
        assert nasnet_utils.get_channel_index() == 1
        assert nasnet_utils.get_channel_dim([2, 3, 4, 5]) == 3
    assert nasnet_utils.get_channel_dim(tf.TensorShape([2, None, None, 5]), 'NHWC') == 5
    with pytest.raises(ValueError, match="data_format 'null': Valid are NHWC, NCHW"):
        nasnet_utils.global_avg_pool(tf.zeros([1, 2, 2, 1]))


@pytest.mark.parametrize('size', [6, 7])
def test_factorized_reduction(evaluate, size):
    """One half of the channels sees the even pixels, the other the odd ones, with zeros beyond the edge."""
    net = np.random.RandomState(1).uniform(-1, 1, [2, size, size, 5]).astype(np.float32)
    result, value = evaluate(nasnet_utils.factorized_reduction, net, 7, 2)
    beyond = np.pad(net, [(0, 0), (0, 1), (0, 1), (0, 0)])
    halves = [net[:, ::2, ::2] @ value['path1_conv/weights'][0, 0],
              beyond[:, 1:size + 1:2, 1:size + 1:2] @ value['path2_conv/weights'][0, 0]]
    assert [half.shape[3] for half in halves] == [3, 4]
    np.testing.assert_allclose(result, normalized(np.concatenate(halves, 3), value, 'final_path_bn'), atol=1e-5)


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_drop_path(dtype):
    """Of each example all or nothing is dropped; what is left is scaled so that the mean stays."""
    net = tf.ones([1000, 3, 2, 4], dtype)
    dropped = tf.cast(nasnet_utils.drop_path(net, 0.8), tf.float32).numpy()
    assert (dropped == dropped[:, :1, :1, :1]).all()
    values = np.unique(dropped)
    np.testing.assert_allclose(values, [0, 1 / 0.8], rtol=0 if dtype == tf.float32 else 4e-3)
    assert (dropped[:, 0, 0, 0] > 0).mean() == pytest.approx(0.8, abs=0.06)
    for off in (nasnet_utils.drop_path, slim.dropout):
        with slim.arg_scope([off], is_training=False):
            assert (nasnet_utils.drop_path(net, 0.1).numpy() == 1).all()


@pytest.fixture
def kept(monkeypatch):
    """The probabilities with which the operations of each cell are kept."""
    kept = []
    monkeypatch.setattr(nasnet_utils, 'drop_path', lambda net, keep_prob: kept.append(keep_prob) or net)
    return kept


@pytest.mark.parametrize('step, progress', [(0, 0), (25, 0.25), (300, 1), (None, 1), ('global', 0.5)])
def test_drop_path_grows_with_the_step(graph, kept, step, progress):
    if step == 'global':
        v1.train.create_global_step()
        step = None
    cell = nasnet_utils.NasNetABaseCell(4, ['avg_pool_3x3', 'none'], [1, 1, 0], [0, 0], 0.6, 8, 100)
    with slim.arg_scope(cell_scope()):
        cell(images(2, 4, 4, 4), cell_num=5, current_step=step)
    with v1.Session() as session:
        for variable in graph.get_collection(v1.GraphKeys.GLOBAL_STEP):
            session.run(variable.initializer, {variable.initial_value: 50})
        kept = session.run([tf.convert_to_tensor(keep_prob) for keep_prob in kept])
    np.testing.assert_allclose(kept, [1 - 0.4 * 6 / 8 * progress], rtol=1e-6)


def test_drop_path_grows_with_the_depth(graph, kept):
    """Two stem cells count, then reduction and normal cells by turns."""
    in_scope(nasnet.nasnet_mobile_base, images(2, 32, 32, 3), config=small(drop_path_keep_prob=0.7))
    np.testing.assert_allclose(kept, [1 - 0.3 * number / 6 for number in range(1, 7)])


def test_each_operation_is_dropped_on_its_own(evaluate):
    """A sum of two, each kept half of the time and doubled then; the identity is always kept."""
    cell = nasnet_utils.NasNetABaseCell(4, ['avg_pool_1x1', 'max_pool_1x1', 'none', 'none'], [1, 1, 0, 0], [0] * 4,
                                        0.5, 1, 1)
    result, _ = evaluate(cell, np.ones([800, 2, 2, 3], np.float32), 'a', cell_num=0)
    dropped, identity = np.split(result, 2, 3)
    assert (identity == identity[:1]).all() and (identity != 0).all()
    assert np.ptp(dropped / identity, axis=(1, 2, 3)).max() < 1e-5
    share = [np.isclose(dropped[:, 0, 0, 0] / identity[0, 0, 0, 0], factor).mean() for factor in (0, 1, 2)]
    np.testing.assert_allclose(share, [0.25, 0.5, 0.25], atol=0.08)


def test_a_cell_of_ones_own(evaluate):
    """One sum, of the input and its maxima; the other input goes straight to the output."""
    random = np.random.RandomState(2)
    net, prev = (random.uniform(-1, 1, [2, 7, 7, channels]).astype(np.float32) for channels in (5, 3))
    cell = nasnet_utils.NasNetABaseCell(4, ['none', 'max_pool_3x3'], [1, 0, 0], [0, 0], 1.0, 1, 1)
    result, value = evaluate(lambda: cell(tf.constant(net), 'a', prev_layer=tf.constant(prev)))

    def conv_bn(net, conv, bn):
        return normalized(np.maximum(net, 0) @ value[f'a/{conv}/weights'][0, 0], value, f'a/{bn}')

    state = conv_bn(net, '1x1', 'beginning_bn')
    total = state + tf.nn.max_pool2d(state, 3, 1, 'SAME')
    np.testing.assert_allclose(result, np.concatenate([conv_bn(prev, 'prev_1x1', 'prev_bn'), total], 3), atol=1e-5)


def test_a_cell_of_ones_own_with_stride(graph):
    cell = nasnet_utils.NasNetABaseCell(4, ['none', 'max_pool_3x3'], [1, 0, 0], [0, 0], 0.5, 3, 1)
    with slim.arg_scope(cell_scope()):
        net = cell(images(2, 7, None, 5), 'a', stride=2, prev_layer=images(2, 14, None, 4), cell_num=2)
        assert net.shape.as_list() == [2, 4, None, 8]
        kernels = {name[2:-8]: v.shape.as_list()[2:] for name, v in
                   zip(variable_names(), slim.get_model_variables(), strict=True) if name.endswith('weights')}
        assert kernels == {'path1_conv': [4, 2], 'path2_conv': [4, 2], '1x1': [5, 4], 'comb_iter_0/left/1x1': [4, 4],
                           'cell_output/reduction_1/path1_conv': [4, 2], 'cell_output/reduction_1/path2_conv': [4, 2]}
        with pytest.raises(ValueError, match='cell_num'):
            cell(images(2, 7, 7, 5), 'b')
    with pytest.raises(ValueError, match="operation 'conv_3x3': valid are none, avg_pool_3x3"):
        nasnet_utils.NasNetABaseCell(4, ['conv_3x3', 'none'], [1, 0, 0], [0, 0], 1.0, 1, 1)


def test_images_of_any_size(graph, read_golden):
    """The least images, of maps of a single pixel in all cells, have the variables of the published weights."""
    with pytest.raises(ValueError, match='NASNet takes images of at least 3x3 pixels; these are 2x3'):
        nasnet.nasnet_mobile_base(np.zeros([1, 2, 3, 3], np.float32))
    assert graph.get_operations() == []
    net, _ = in_scope(nasnet.nasnet_mobile_base, images(None, 3, 3, 1), 'Cell_4')
    assert net.shape.as_list() == [None, 1, 1, 528]
    published = list(read_golden('nasnet_mobile')['variables'])
    last = max(number for number, name in enumerate(published) if name.startswith('cell_4/'))
    assert variable_names() == published[:last + 1]


def test_unknown_sizes_and_layouts(made_value):
    """Whatever is known of the images, and in whatever order, the maps are the same (a CPU does NCHW by XLA alone)."""
    values = tf.constant(np.random.RandomState(3).uniform(-1, 1, [2, 9, 12, 3]), tf.float32)
    logits = []
    for data_format, shape in (('NHWC', values.shape), ('NHWC', [None, None, None, 3]), ('NCHW', values.shape)):
        model = nets.create_model('nasnet_cifar', 10, config=small(nasnet.cifar_config, data_format=data_format))
        for name, variable in model.by_name.items():
            variable.assign(made_value(name, variable.shape))
        call = tf.function(lambda images, model=model: model.build(images, training=False), autograph=False,
                           input_signature=[tf.TensorSpec(shape)], jit_compile=data_format == 'NCHW')
        result, end_points = call(values)
        logits.append(result.numpy())
        assert end_points['Cell_1'].shape == ([2, 3, 3, 6 * 32] if data_format == 'NHWC' else [2, 6 * 32, 3, 3])
    np.testing.assert_allclose(logits[1:], logits[:1] * 2, atol=1e-3 * logits[0].std())


def test_auxiliary_classifier(graph):
    """Its names are those of the published checkpoint; its pooling shrinks to the map of small images."""
    for size, kernel in ((32, 5), (6, 3)):
        with tf.Graph().as_default() as built:
            _, end_points = in_scope(nasnet.build_nasnet_cifar, images(2, size, size, 3), 10,
                                     config=small(nasnet.cifar_config))
            assert list(end_points)[2:5] == ['Cell_0', 'AuxLogits', 'Reduction_Cell_1']
            assert end_points['AuxLogits'].shape.as_list() == [2, 10]
            names = [name.removeprefix('aux_0/aux_logits/') for name in variable_names() if name.startswith('aux')]
            assert [name for name in names if 'bn' not in name] == \
                ['proj/weights', 'Conv/weights', 'FC/weights', 'FC/biases']
            pool = built.get_operation_by_name('aux_0/aux_logits/AvgPool2D/AvgPool')
            assert pool.get_attr('ksize')[1:3] == [kernel, kernel]
    with pytest.raises(ValueError, match='known height and width, or a config with use_aux_head=0'):
        nasnet.build_nasnet_cifar(images(2, None, None, 3), 10)
    assert variable_names() == []


def test_final_endpoint_of_the_classifier(graph):
    config, inputs = small(nasnet.cifar_config), images(2, 32, 32, 3)
    with pytest.raises(ValueError, match="endpoint of NASNet 'Cell_9': .*Valid are Stem, .*AuxLogits.*, Cell_1"):
        nasnet.build_nasnet_cifar(inputs, 10, config=config, final_endpoint='Cell_9')
    with pytest.raises(ValueError, match="data_format 'NHCW': did you mean"):
        nasnet.build_nasnet_cifar(inputs, 10, config=small(data_format='NHCW'))
    assert graph.get_operations() == [inputs.op]
    net, end_points = in_scope(nasnet.build_nasnet_cifar, inputs, 10, config=config, final_endpoint='Cell_0')
    assert net is end_points['Cell_0']
    assert list(end_points) == ['Stem', 'Reduction_Cell_0', 'Cell_0']
    with tf.Graph().as_default():
        net, end_points = in_scope(nasnet.build_nasnet_cifar, images(2, 32, 32, 3), 10, config=config,
                                   final_endpoint='global_pool')
        assert net is end_points['global_pool']
        assert list(end_points)[-2:] == ['Cell_1', 'global_pool']


def test_scopes(graph):
    """Without a scope of their own the cells are in whatever scopes the caller is in."""
    config = small(nasnet.cifar_config, use_aux_head=0)
    with v1.variable_scope('net'), tf.name_scope('clone_1'):
        logits, end_points = in_scope(nasnet.build_nasnet_cifar, images(2, 8, 8, 3), 10, config=config)
    assert logits.op.name == 'net/clone_1/final_layer/FC/BiasAdd'
    assert end_points['Stem'].op.name.startswith('net/clone_1/l1_stem_bn/')
    assert {name.split('/')[0] for name in variable_names()} == {'net'}
    count = len(variable_names())
    in_scope(nasnet.build_nasnet_cifar, images(2, 8, 8, 3), 10, config=config, scope='net', reuse=True)
    assert len(variable_names()) == count


def test_bounded_activation(graph):
    """Every activation is a ReLU6, and what is summed lies between -6 and 6."""
    in_scope(nasnet.build_nasnet_cifar, images(2, 32, 32, 3), 10,
             config=small(nasnet.cifar_config, use_bounded_activation=True))
    ops = graph.get_operations()
    assert {op.type for op in ops if op.type.startswith('Relu')} == {'Relu6'}
    sums = [op for op in ops if op.type == 'AddV2' and op.name.endswith('combine/add')]
    assert len(sums) == 4 * 5
    caps = [tf.get_static_value(op.inputs[1]) for op in ops if op.name.endswith('clip_by_value/Minimum')]
    assert set(map(float, caps)) == {6}
    # Ten operations in each of two normal and two reduction cells, of which two and one are the identity.
    assert len(caps) == 2 * 8 + 2 * 9


def test_model():
    """Paths are dropped in training, by the seed; every variable is trained; other types and sizes work."""
    config = small(nasnet.cifar_config, drop_path_keep_prob=0.5)
    model = nets.create_model('nasnet_cifar', 10, config=config)
    values = tf.constant(np.random.RandomState(4).uniform(-1, 1, [8, 32, 32, 3]), tf.float32)

    @tf.function(autograph=False)
    def step(values, seed):
        with tf.GradientTape() as tape:
            logits, end_points = model.build(values, True, dropout_seed=seed)
            loss = tf.reduce_sum(logits) + tf.reduce_sum(end_points['AuxLogits'])
        return logits, tape.gradient(loss, model.trainable_variables)

    (first, gradients), (again, _), (other, _) = (step(values, tf.constant([seed, 0])) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    assert None not in gradients
    logits = model(values)
    half = model(tf.cast(values, tf.bfloat16))
    assert np.abs(half - logits).max() < 0.1 * np.abs(logits).max()
    assert model(values[:, :21, 5:]).shape == [8, 10]
