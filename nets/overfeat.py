"""OverFeat: Sermanet and others, arXiv:1312.6229: the fast model, Table 1.

Default size 231x231, inputs with the mean colour subtracted (preprocessing `vgg`). There are no published weights.
"""
import tensorflow as tf

import tf_slim_compat  # noqa: F401
from nets import alexnet, vgg
from nets.scopes import Net, Scope
from nets.table import conv, max_pool

overfeat_arg_scope = vgg.vgg_arg_scope

ROWS = [                                                                        # output for 231x231
    ('conv1', conv(64, 11, stride=4, padding='VALID')),                         # 56x56x64
    ('pool1', max_pool(2, stride=2, padding='VALID')),                          # 28x28x64
    ('conv2', conv(256, 5, padding='VALID')),                                   # 24x24x256
    ('pool2', max_pool(2, stride=2, padding='VALID')),                          # 12x12x256
    ('conv3', conv(512, 3)),                                                    # 12x12x512
    ('conv4', conv(1024, 3)),                                                   # 12x12x1024
    ('conv5', conv(1024, 3)),                                                   # 12x12x1024
    ('pool5', max_pool(2, stride=2, padding='VALID')),                          # 6x6x1024
    *vgg.fully_connected_rows((3072, 4096), 6, **alexnet.FULLY_CONNECTED),      # 1x1x3072, 1x1x4096
]


def overfeat_base(inputs: tf.Tensor, final_endpoint: str | None = None, scope: Scope = 'overfeat') -> Net:
    """Builds OverFeat up to an endpoint; there is dropout before `fc7` unless `slim.arg_scope` sets it otherwise.

    Args:
      inputs: float images [batch, height, width, channels]; all but the channels may be unknown.
      final_endpoint: where to stop, with the scope: `overfeat/pool5`; None is `fc7`.
      scope: variable scope.

    Returns:
      The last output, [batch, height, width, maps], and a dictionary endpoint -> output.

    Raises:
      ValueError: the endpoint is unknown, or the images do not fit; nothing has been built then.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return vgg.build(ROWS, inputs, final_endpoint, scope, 'overfeat')


def overfeat(inputs: tf.Tensor, num_classes: int | None = 1000, is_training: bool | tf.Tensor = True,
             dropout_keep_prob: float = 0.5, spatial_squeeze: bool = True, scope: Scope = 'overfeat',
             global_pool: bool = False, reuse: bool | None = None) -> Net:
    """Builds OverFeat with its classifier.

    Args:
      inputs: float images [batch, height, width, channels], from 231x231; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      is_training: whether to drop out.
      dropout_keep_prob: share of the features that dropout keeps.
      spatial_squeeze: whether logits are [batch, classes] rather than [batch, 1, 1, classes].
      scope: variable scope.
      global_pool: whether to average over the whole map before the logits. Images from 263x263 need it (or
        `spatial_squeeze=False`).
      reuse: whether to take the variables that are there.

    Returns:
      Logits, or without classes the features [batch, 1, 1, 4096]; and a dictionary endpoint -> output.

    Raises:
      ValueError: the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    return vgg.classifier(ROWS, inputs, num_classes, is_training, dropout_keep_prob, spatial_squeeze,
                          global_pool, reuse, scope, 'overfeat', **alexnet.NARROW,
                          biases_initializer=tf.compat.v1.zeros_initializer())


overfeat.default_image_size = 231
