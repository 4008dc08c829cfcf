"""The blocks of MobileNet V2 and V3, beside the same written with tf.nn."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import atrous
from nets.mobilenet import conv_blocks

IMAGES = np.random.RandomState(0).uniform(-1, 1, [2, 9, 8, 16]).astype(np.float32)


def agree(ours, expected):
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())


def depthwise(net, kernel, stride=1, rate=1, padding='SAME'):
    return tf.nn.depthwise_conv2d(net, kernel, [1, stride, stride, 1], padding, dilations=[rate, rate])


@pytest.mark.parametrize('stride, rate', [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize('location', ['input', 'expansion', 'output', None])
def test_expanded_conv(hold, location, stride, rate):
    end_points = {}
    ours = hold(conv_blocks.expanded_conv, IMAGES, 16, stride=stride, rate=rate, kernel_size=(5, 5),
                depthwise_location=location, project_activation_fn=tf.nn.elu, endpoints=end_points)
    v = {name.split('/', 1)[1]: variable for name, variable in hold.variables.items()}

    def spatial(net):
        return depthwise(net, v['depthwise/depthwise_weights'], stride, rate) + v['depthwise/biases']

    net = spatial(IMAGES) if location == 'input' else IMAGES
    net = expanded = tf.nn.relu(tf.nn.conv2d(net, v['expand/weights'], 1, 'SAME') + v['expand/biases'])
    if location == 'expansion':
        net = tf.nn.relu(spatial(net))
        agree(end_points['depthwise_output'], net)
    net = tf.nn.elu(tf.nn.conv2d(net, v['project/weights'], 1, 'SAME') + v['project/biases'])
    agree(end_points['projection_output'], net)
    if location == 'output':
        net = spatial(net)
    agree(ours, net + IMAGES if stride == 1 else net)
    agree(end_points['expansion_output'], expanded)
    assert expanded.shape[-1] == 6 * 16
    assert ('depthwise_output' in end_points) == (location == 'expansion')


def test_what_is_left_out(hold):
    """No expansion to what is there anyway; no shortcut to another width."""
    end_points = {}
    net = hold(conv_blocks.expanded_conv, IMAGES, 24, 16, endpoints=end_points)
    assert {name.split('/')[1] for name in hold.variables} == {'depthwise', 'project'}
    assert 'expansion_output' not in end_points
    agree(net, end_points['projection_output'])


def test_activations_and_transforms(hold):
    def transform(expansion_tensor, input_tensor):
        return expansion_tensor * tf.reduce_mean(input_tensor)

    def residual(input_tensor, output_tensor):
        return output_tensor - input_tensor

    def build(scope, **kwargs):
        end_points = {}
        hold(conv_blocks.expanded_conv, IMAGES, 16, expansion_transform=transform, residual=residual,
             endpoints=end_points, scope=scope, **kwargs)
        return end_points, hold.variables[f'{scope}/project/weights'], hold.variables[f'{scope}/project/biases']

    end_points, weights, biases = build('A', inner_activation_fn=tf.nn.elu)
    assert all((end_points[name].numpy() < 0).any() for name in ('expansion_output', 'depthwise_output'))
    projected = tf.nn.conv2d(end_points['depthwise_output'] * IMAGES.mean(), weights, 1, 'SAME') + biases
    agree(end_points['projection_output'], projected)
    agree(end_points['output'], projected - IMAGES)
    end_points, *_ = build('B', inner_activation_fn=tf.nn.elu, depthwise_activation_fn=tf.nn.relu)
    assert (end_points['expansion_output'].numpy() < 0).any()
    assert (end_points['depthwise_output'].numpy() >= 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="depthwise_location 'expand': did you mean 'expansion'"):
        conv_blocks.expanded_conv(IMAGES, 16, depthwise_location='expand')
    with pytest.raises(ValueError, match="padding is 'VALID'"):
        conv_blocks.expanded_conv(IMAGES, 16, padding='VALID', use_explicit_padding=True)


@pytest.mark.parametrize('stride, rate', [(2, 1), (1, 2)])
def test_explicit_padding(hold, stride, rate):
    """The same zeros at each side, for 3x3."""
    padded = tf.pad(IMAGES, [[0, 0], [rate, rate], [rate, rate], [0, 0]])
    ours = hold(conv_blocks.expanded_conv, IMAGES, 8, 16, stride, rate, use_explicit_padding=True, scope='A')
    net = tf.nn.relu(depthwise(padded, hold.variables['A/depthwise/depthwise_weights'], stride, rate, 'VALID')
                     + hold.variables['A/depthwise/biases'])
    agree(ours, tf.nn.conv2d(net, hold.variables['A/project/weights'], 1, 'SAME') + hold.variables['A/project/biases'])

    ours = hold(conv_blocks.split_separable_conv2d, IMAGES, 8, 'B', stride=stride, rate=rate, use_explicit_padding=True)
    net = tf.nn.relu(depthwise(padded, hold.variables['B_depthwise/depthwise_weights'], stride, rate, 'VALID')
                     + hold.variables['B_depthwise/biases'])
    agree(ours, tf.nn.relu(tf.nn.conv2d(net, hold.variables['B_pointwise/weights'], 1, 'SAME')
                           + hold.variables['B_pointwise/biases']))

    ours = hold(conv_blocks.fused_conv, IMAGES, 8, 32, stride, rate, use_explicit_padding=True, scope='C')
    net = tf.nn.relu(tf.nn.conv2d(padded, hold.variables['C/expand/weights'], stride, 'VALID', dilations=rate)
                     + hold.variables['C/expand/biases'])
    agree(ours, tf.nn.conv2d(net, hold.variables['C/project/weights'], 1, 'SAME') + hold.variables['C/project/biases'])


def test_fixed_padding():
    """A kernel of even size has its centre at the left."""
    net = atrous.fixed_padding(tf.ones([1, 4, 4, 1]), (2, 5), rate=2)
    np.testing.assert_array_equal(net[0, :, 4, 0], [0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(net[0, 2, :, 0], [0] * 4 + [1] * 4 + [0] * 4)


@pytest.mark.parametrize('channels, outputs, ways, divisible_by, parts', [
    (18, 18, 5, 1, [(4, 4), (4, 4), (3, 3), (4, 4), (3, 3)]),
    (120, 64, 7, 8, [(24, 16)] + [(16, 8)] * 6),
    (44, 52, 2, 4, [(24, 28), (20, 24)]),
    (15, 64, 2, 8, [(15, 64)]),
])
def test_split_conv(hold, channels, outputs, ways, divisible_by, parts):
    """The parts are those of the published checkpoints' code; together they are one block-diagonal convolution."""
    images = np.random.RandomState(1).uniform(-1, 1, [1, 2, 3, channels]).astype(np.float32)
    ours = hold(conv_blocks.split_conv, tf.constant(images), outputs, ways, 'A', divisible_by, activation_fn=None)
    weights = [v.numpy() for name, v in hold.variables.items() if name.endswith('weights')]
    assert [value.shape[2:] for value in weights] == parts
    whole = tf.linalg.LinearOperatorBlockDiag([tf.linalg.LinearOperatorFullMatrix(value[0, 0]) for value in weights])
    biases = np.concatenate([v.numpy() for name, v in hold.variables.items() if name.endswith('biases')])
    agree(ours, images @ whole.to_dense().numpy() + biases)


def test_split_separable_endpoints(hold):
    end_points = {}
    net = hold(conv_blocks.split_separable_conv2d, IMAGES, 8, endpoints=end_points)
    assert list(end_points) == ['depthwise', 'pointwise']
    assert net is end_points['pointwise']
    assert {name.rsplit('/', 1)[0] for name in hold.variables} == {'separable/depthwise', 'separable/pointwise'}


@pytest.mark.parametrize('pool', [None, (9, 8)])
def test_squeeze_excite(hold, pool):
    with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm):     # which it leaves out
        ours = hold(conv_blocks.squeeze_excite, tf.constant(IMAGES), pool=pool)
    first, second = (hold.variables[f'squeeze_excite/Conv{n}/weights'][0, 0] for n in ('', '_1'))
    biases = [hold.variables[f'squeeze_excite/Conv{n}/biases'] for n in ('', '_1')]
    assert first.shape == [16, 8]               # 16 / 3, to a multiple of 8
    net = IMAGES.mean((1, 2))
    gates = tf.sigmoid(tf.nn.relu(net @ first + biases[0]) @ second + biases[1])
    agree(ours, IMAGES * gates[:, None, None])
    assert len(hold.variables) == 4


def test_squeeze_excite_in_windows(hold):
    """The gates of 3x3 windows, of another tensor; resized to the map they change from pixel to pixel."""
    other = tf.constant(IMAGES[..., :6])
    ours = hold(conv_blocks.squeeze_excite, tf.ones_like(IMAGES), 4, 2, squeeze_input_tensor=other, pool=3)
    assert [v.shape.as_list() for v in hold.variables.values()][::2] == [[1, 1, 6, 8], [1, 1, 8, 16]]
    assert ours.shape == IMAGES.shape
    corner = hold(conv_blocks.squeeze_excite, tf.ones_like(IMAGES), 4, 2, squeeze_input_tensor=other[:, :3, :3])
    np.testing.assert_allclose(ours[:, 0, 0], corner[:, 0, 0], atol=1e-6)
    assert np.abs(ours[:, 4, 4] - ours[:, 0, 0]).max() > 0.01


def test_numbers_of_channels():
    """Multiples of 8, not more than 10% below: 11 would be 8, and is 16."""
    assert [conv_blocks.make_divisible(value, 8) for value in (3, 11, 12, 33.6, 1792.0)] == [8, 16, 16, 32, 1792]
    assert conv_blocks.make_divisible(3, 8, 20) == 20
    assert conv_blocks.expand_input_by_factor(6)(17) == 104
    assert conv_blocks.expand_input_by_factor(0.5, divisible_by=1)(num_inputs=17) == 9
