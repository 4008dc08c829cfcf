"""Networks by name."""
import subprocess
import sys

import pytest
import tensorflow as tf

from nets import inception, inception_v1, lenet, nets_factory, registry


def test_maps_hold_the_public_functions():
    assert nets_factory.networks_map == {'inception_v1': inception_v1.inception_v1, 'lenet': lenet.lenet}
    assert nets_factory.arg_scopes_map == {'inception_v1': inception_v1.inception_v1_arg_scope,
                                           'lenet': lenet.lenet_arg_scope}
    assert inception.inception_v1_base is inception_v1.inception_v1_base


def test_unknown_network():
    with pytest.raises(ValueError, match="'inceptoin_v1': did you mean 'inception_v1'?.*Valid are inception_v1, lenet"):
        nets_factory.get_network_fn('inceptoin_v1', 10)


@pytest.mark.parametrize('num_classes', [-1, '5', 2.0])
def test_num_classes_that_is_no_count(num_classes):
    with pytest.raises(ValueError, match=f'num_classes must be a whole number.* it is {num_classes!r}'):
        nets_factory.get_network_fn('lenet', num_classes)


def test_keyword_arguments_pass_through():
    with tf.Graph().as_default():
        _, end_points = nets_factory.get_network_fn('lenet', 7)(tf.zeros([2, 28, 28, 1]), scope='Mine',
                                                                prediction_fn=lambda logits, scope: logits - 1)
        assert end_points['Predictions'].op.type == 'Sub'
        assert {v.op.name.split('/')[0] for v in tf.compat.v1.global_variables()} == {'Mine'}


def test_rows_are_frozen():
    with pytest.raises(AttributeError):
        registry.NETWORKS['lenet'].top_1 = 100.0
    with pytest.raises(TypeError):
        registry.NETWORKS['mine'] = registry.NETWORKS['lenet']


def test_the_registry_does_not_start_tensorflow():
    code = 'import sys, nets, nets.registry, nets.__main__ as m; m.main([]); assert "tensorflow" not in sys.modules'
    listing = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listing.splitlines()[1:]] == list(registry.NETWORKS)
