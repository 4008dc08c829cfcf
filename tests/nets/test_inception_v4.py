"""Inception V4's own behaviour; its contract is in test_contract.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import inception_v4
from nets.inception_v4 import inception_v4_arg_scope, inception_v4_base


def placeholder(*shape):
    return tf.compat.v1.placeholder(tf.float32, shape)


def variables():
    return {v.op.name: v.shape.as_list() for v in slim.get_model_variables()}


@pytest.mark.parametrize('block, module, map_in, map_out', [
    ('block_inception_a', 'Mixed_5b', [35, 35, 384], [35, 35, 384]),
    ('block_reduction_a', 'Mixed_6a', [35, 35, 384], [17, 17, 1024]),
    ('block_inception_b', 'Mixed_6b', [17, 17, 1024], [17, 17, 1024]),
    ('block_reduction_b', 'Mixed_7a', [17, 17, 1024], [8, 8, 1536]),
    ('block_inception_c', 'Mixed_7b', [8, 8, 1536], [8, 8, 1536]),
])
def test_blocks(block, module, map_in, map_out, read_golden):
    """A block has the variables of its module in the network, under any scope, and again with reuse."""
    function = getattr(inception_v4, block)
    inside = {name.removeprefix(f'InceptionV4/{module}/'): shape
              for name, shape in read_golden('inception_v4')['variables'].items() if f'/{module}/' in name}
    with tf.Graph().as_default(), slim.arg_scope(inception_v4_arg_scope()):
        net = function(placeholder(2, *map_in))
        own = 'Block' + block.removeprefix('block_').title().replace('_', '')
        assert net.op.name == f'{own}/concat'
        assert net.shape.as_list() == [2, *map_out]
        assert variables() == {f'{own}/{name}': shape for name, shape in inside.items()}
        function(placeholder(2, None, None, map_in[-1]), scope=own, reuse=True)
        assert len(variables()) == len(inside)
    with pytest.raises(RuntimeError, match='variables of Block'):
        function(tf.zeros([1, *map_in]))


@pytest.mark.parametrize('message, function, shape, arguments', [
    ('at least 75x75 pixels; these are 74x90', inception_v4.inception_v4, (1, 74, 90, 3), {}),
    ('known height and width .or create_aux_logits=False', inception_v4.inception_v4, (1, None, 90, 3), {}),
    ("endpoint of InceptionV4 'Mixed_7e': did you mean 'Mixed_7", inception_v4_base, (1, 90, 90, 3),
     dict(final_endpoint='Mixed_7e')),
    ('BlockReductionB takes images of at least 3x3', inception_v4.block_reduction_b, (1, 2, 2, 4), {}),
])
def test_refused_before_anything_is_built(message, function, shape, arguments):
    with tf.Graph().as_default() as graph:
        images = placeholder(*shape)
        with pytest.raises(ValueError, match=message):
            function(images, **arguments)
        assert graph.get_operations() == [images.op]


def test_any_size_is_averaged(made_value, monkeypatch):
    """Of known or unknown size, with four channels; the table is cut to one module a kind, to be quick."""
    rows = [row for row in inception_v4.TABLE if row[0][-2:] in ('1a', '2a', '2b', '3a', '4a', '5a', '6a', '7a', '7d')]
    rows[6:6] = [('Mixed_6h', inception_v4.REDUCTION_A)]
    monkeypatch.setattr(inception_v4, 'TABLE', rows)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = np.random.RandomState(0).uniform(-1, 1, [2, 160, 190, 4]).astype(np.float32)
        unknown = placeholder(None, None, None, 4)
        with slim.arg_scope(inception_v4_arg_scope()):
            logits, end_points = inception_v4.inception_v4(unknown, 5, is_training=False, create_aux_logits=False)
            _, same = inception_v4.inception_v4(tf.constant(values), 5, is_training=False, create_aux_logits=False,
                                                reuse=True)
        made = tf.compat.v1.global_variables()
        session.run([v.initializer for v in made],
                    {v.initializer.inputs[1]: made_value(v.op.name, v.shape.as_list()) for v in made})
        first, second = session.run([end_points, same], {unknown: values})
    assert logits.shape.as_list() == [None, 5]
    np.testing.assert_allclose(first['global_pool'][:, 0, 0], first['Mixed_7d'].mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(first['Predictions'], second['Predictions'], atol=1e-5)


def test_arg_scope_without_batch_norm():
    """Biases in place of batch norm; weights alone are decayed, those of both classifiers too."""
    with tf.Graph().as_default(), slim.arg_scope(inception_v4_arg_scope(use_batch_norm=False)):
        inception_v4.inception_v4(placeholder(1, 80, 80, 3), 10)
        leaves = [name.rsplit('/')[-1] for name in variables()]
        assert set(leaves) == {'weights', 'biases'}
        losses = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
        assert len(losses) == leaves.count('weights') == leaves.count('biases') == 153
