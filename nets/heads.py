"""What stands between the last feature map and the classes."""
import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401


def average_pool(net: tf.Tensor, kernel: int, stride: int, scope: str) -> tf.Tensor:
    """Average pooling without padding, its kernel reduced to the map where that is smaller.

    So a network that was drawn for 224 pixels also takes smaller images. An unknown size counts as large.
    """
    sizes = [kernel if size is None else min(size, kernel) for size in net.shape.as_list()[1:3]]
    return slim.avg_pool2d(net, sizes, stride=stride, padding='VALID', scope=scope)


def squeeze(logits: tf.Tensor, name: str = 'SpatialSqueeze') -> tf.Tensor:
    """[batch, 1, 1, classes] -> [batch, classes].

    Raises:
      ValueError: height and width are known and not 1.
    """
    if any(size not in (1, None) for size in logits.shape.as_list()[1:3]):
        raise ValueError(f'Images of this size leave logits on a map of {logits.shape[1]}x{logits.shape[2]}: '
                         'pass global_pool=True to average over it (or spatial_squeeze=False to keep it).')
    return tf.squeeze(logits, [1, 2], name=name)


def in_float32(logits: tf.Tensor) -> tf.Tensor:
    """Logits of a half-precision type in float32, so that the probabilities of many classes still sum to one."""
    return tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits


def aux_logits(net: tf.Tensor, num_classes: int, scope: str, dropout_keep_prob: float = 0.3) -> tf.Tensor:
    """The auxiliary classifier of GoogLeNet, arXiv:1409.4842, section 5.

    Args:
      net: the map that it is attached to, [batch, height, width, maps]; height and width must be known.
      num_classes: number of classes.
      scope: its variable scope.
      dropout_keep_prob: the paper drops 70%.

    Returns:
      Logits, [batch, num_classes].

    Raises:
      ValueError: height or width of the map are unknown.
    """
    if None in net.shape.as_list()[1:3]:
        raise ValueError('Auxiliary logits are fully connected: they need images of a known height and width.')
    with tf.compat.v1.variable_scope(scope):                                        # at 224x224
        net = average_pool(net, 5, stride=3, scope='AvgPool_0a_5x5')                # 4x4x512, 4x4x528
        net = slim.conv2d(net, 128, 1, scope='Conv2d_0b_1x1')                       # 4x4x128
        net = slim.fully_connected(slim.flatten(net), 1024, scope='FullyConnected_0c')
        net = slim.dropout(net, dropout_keep_prob, scope='Dropout_0d')
        return slim.fully_connected(net, num_classes, activation_fn=None, scope='FullyConnected_0e')
