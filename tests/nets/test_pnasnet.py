"""PNASNet's own behaviour; its contracts are in test_contract.py, what it shares with NASNet in test_nasnet.py."""
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets.nasnet import pnasnet


def test_images_of_any_size(read_golden):
    """The least images, of maps of a single pixel in all cells, have the variables of the published weights."""
    with tf.Graph().as_default(), slim.arg_scope(pnasnet.pnasnet_mobile_arg_scope()):
        inputs = tf.compat.v1.placeholder(tf.float32, [None, 3, 3, 4])
        net, _ = pnasnet.pnasnet_mobile_base(inputs, 'Cell_4')
        assert net.shape.as_list() == [None, 1, 1, 540]
        published = list(read_golden('pnasnet_mobile')['variables'])
        last = max(number for number, name in enumerate(published) if name.startswith('cell_4/'))
        assert [v.op.name for v in slim.get_model_variables()] == published[:last + 1]
    with pytest.raises(ValueError, match='PNASNet takes images of at least 3x3 pixels'):
        pnasnet.pnasnet_large_base(np.zeros([1, 8, 2, 3], np.float32))


def test_config():
    """Cells of stride 2 come where the config says, and the auxiliary classifier before the second."""
    config = pnasnet.mobile_imagenet_config()
    for name, value in dict(num_cells=3, num_conv_filters=8, drop_path_keep_prob=0.6).items():
        config.set_hparam(name, value)
    with tf.Graph().as_default(), slim.arg_scope(pnasnet.pnasnet_mobile_arg_scope()):
        inputs = tf.compat.v1.placeholder(tf.float32, [2, 64, 64, 3])
        _, end_points = pnasnet.build_pnasnet_mobile(inputs, 10, config=config)
        assert {name: tensor.shape.as_list()[2:] for name, tensor in end_points.items() if 'Cell' in name} == {
            'Cell_0': [8, 40], 'Cell_1': [4, 80], 'Cell_2': [2, 160]}
        assert list(end_points)[2:5] == ['Cell_1', 'AuxLogits', 'Cell_2']
