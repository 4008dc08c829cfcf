"""Networks by name."""
import subprocess
import sys

import pytest
import tensorflow as tf

import nets
from nets import inception, inception_v1, lenet, nets_factory, registry


def test_maps_hold_the_public_functions():
    assert list(nets_factory.networks_map) == list(nets_factory.arg_scopes_map) == list(registry.NETWORKS)
    assert len(nets_factory.networks_map) == len(nets_factory.arg_scopes_map) == len(registry.NETWORKS)
    assert nets_factory.networks_map['inception_v1'] is inception_v1.inception_v1 is inception.inception_v1
    assert nets_factory.arg_scopes_map['lenet'] is lenet.lenet_arg_scope
    assert 'inception_v9' not in nets_factory.networks_map


def test_unknown_network():
    with pytest.raises(ValueError, match="'inceptoin_v1': did you mean 'inception_v1'?.*Valid are alexnet_v2"):
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


def test_list_models():
    assert nets.list_models() == list(registry.NETWORKS)
    assert nets.list_models('inception_v[13]') == ['inception_v1', 'inception_v3']
    assert nets.list_models('resnet_v?_200', pretrained=True) == nets.list_models('efficientnet*') == []
    assert len(nets.list_models()) == 40 and len(nets.list_models(pretrained=True)) == 27
    assert nets.list_models('vgg*', pretrained=True) == ['vgg_16', 'vgg_19']


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The name of a module outside the package, on the path, that registers the network `tinynet`."""
    monkeypatch.setattr(registry, '_networks', dict(registry.NETWORKS))
    monkeypatch.setattr(registry, 'NETWORKS', registry._networks)
    monkeypatch.syspath_prepend(tmp_path)
    module = f'own_{tmp_path.name}'
    (tmp_path / f'{module}.py').write_text(TINYNET)
    yield module
    sys.modules.pop(module, None)


TINYNET = """
import nets
from nets import lenet

@nets.register(name='tinynet', arg_scope=lenet.lenet_arg_scope, default_image_size=12, num_classes=3, channels=1,
               preprocessing='lenet', base=lenet.lenet_base)
def build(images, num_classes=3, is_training=False, scope='Tiny'):
    return lenet.lenet(images, num_classes, is_training, scope=scope)
"""


def test_a_network_of_ones_own(own_module):
    with pytest.raises(ValueError, match="Unknown network 'tinynet'"):
        nets.create_model('tinynet')
    assert registry.get(f'{own_module}:tinynet').default_image_size == 12
    for name in ('tinynet', f'{own_module}:tinynet'):
        assert nets.create_model(name, 5)(tf.zeros([2, 12, 12, 1])).shape == [2, 5]
    with tf.Graph().as_default():
        logits, _ = nets_factory.get_network_fn('tinynet', 4)(tf.zeros([2, 12, 12, 1]))
        assert logits.shape == [2, 4] and tf.compat.v1.global_variables()[0].op.name == 'Tiny/conv1/weights'
    assert 'tinynet' in nets.list_models() and nets_factory.networks_map['tinynet'].__name__ == 'build'
    assert registry.get('tinynet').build_base is lenet.lenet_base


def test_registering_again(own_module):
    """A module may be run twice; a name has one owner."""
    registry.get(f'{own_module}:tinynet')
    sys.modules.pop(own_module)
    registry.get(f'{own_module}:tinynet')
    fields = dict(arg_scope=lenet.lenet_arg_scope, default_image_size=28, num_classes=10, preprocessing='lenet')
    for name, owner in (('lenet', 'nets.lenet'), ('tinynet', own_module)):
        with pytest.raises(ValueError, match=f"There is a network '{name}' already, in {owner}: give yours another"):
            nets.register(name=name, **fields)(lambda images, num_classes, is_training: (images, {}))
    with pytest.raises(TypeError, match='preprocesing'):
        nets.register(name='other', preprocesing='vgg', **fields)(lenet.lenet)
    nets.register(name='other', **fields)(lenet.lenet)
    with pytest.raises(ValueError, match='other was registered without a base function'):
        _ = registry.get('other').build_base


@pytest.mark.parametrize('name, message', [
    ('no_such_module:tinynet', "There is no network no_such_module:tinynet: No module named 'no_such_module'"),
    ('json:tinynet', "Unknown network 'tinynet'"), (':lenet', "Unknown network ':lenet': did you mean 'lenet'"),
])
def test_no_such_network_of_ones_own(name, message):
    with pytest.raises(ValueError, match=message):
        registry.get(name)
