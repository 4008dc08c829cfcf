"""What stands between the last feature map and the classes."""
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401


def average_pool(net: tf.Tensor, kernel: int, stride: int, scope: str) -> tf.Tensor:
    """Average pooling without padding, its kernel reduced to the map where that is smaller.

    So a network that was drawn for 224 pixels also takes smaller images. An unknown size counts as large. The `scope`
    may have two `{}` for the kernel that is taken.
    """
    sizes = _reduced(kernel, net)
    return slim.avg_pool2d(net, sizes, stride=stride, padding='VALID', scope=scope.format(*sizes))


def _reduced(kernel, net):
    return [kernel if size is None else min(size, kernel) for size in net.shape.as_list()[1:3]]


def global_pool(net: tf.Tensor, scope: str) -> tf.Tensor:
    """The average over the whole map, [batch, 1, 1, maps]; where its size is known an average pooling of that name."""
    sizes = net.shape.as_list()[1:3]
    if None in sizes:
        return tf.reduce_mean(net, [1, 2], keepdims=True, name='global_pool')
    return slim.avg_pool2d(net, sizes, stride=1, padding='VALID', scope=scope)


POOLS = ('avg', 'max', 'avgmax', 'catavgmax', 'flatten')


def pooled(net: tf.Tensor, pool: str) -> tf.Tensor:
    """One vector for a map of any size, [batch, height, width, maps], or with frames before the height.

    Args:
      net: the map.
      pool: one of `POOLS`: the mean of each map, its maximum, the mean of the two, both one after the other, or all
        values.

    Returns:
      [batch, maps], twice as many for `catavgmax`, times the map's size for `flatten`.
    """
    if pool == 'flatten':
        return slim.flatten(net)
    axes = list(range(1, net.shape.rank - 1))
    mean, maximum = (functools.partial(op, net, axes) for op in (tf.reduce_mean, tf.reduce_max))
    ways: dict[str, Callable[[], tf.Tensor]] = {
        'avg': mean, 'max': maximum, 'avgmax': lambda: (mean() + maximum()) / 2,
        'catavgmax': lambda: tf.concat([mean(), maximum()], -1)}
    return ways[pool]()


def fully_connected_logits(features: tf.Tensor, end_points: dict[str, tf.Tensor], num_classes: int,
                           hidden_units: Sequence[int] = (), weight_decay: float = 0.0) -> tf.Tensor:
    """A classifier of one's own on top of a network, in the scope `Head`: hidden layers `fc1`, `fc2`, ..., `Logits`.

    Before the logits is a dropout, as `slim.arg_scope` sets it.

    Args:
      features: [batch, features].
      end_points: receives `Head/fc1`, ..., `Logits` and `Predictions`.
      num_classes: number of logits; one for two classes that a sigmoid tells apart.
      hidden_units: widths of layers with ReLU before them.
      weight_decay: factor of the L2 loss of the weights.

    Returns:
      Logits, [batch, num_classes].
    """
    net = features
    regularizer = slim.l2_regularizer(weight_decay)
    with tf.compat.v1.variable_scope('Head'), \
            slim.arg_scope([slim.fully_connected], weights_regularizer=regularizer, normalizer_fn=None):
        for number, width in enumerate(hidden_units, 1):
            net = end_points[f'Head/fc{number}'] = slim.fully_connected(net, width, activation_fn=tf.nn.relu,
                                                                        scope=f'fc{number}')
        net = slim.dropout(net, scope='Dropout')
        logits = end_points['Logits'] = slim.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
    end_points['Predictions'] = predictions(logits)
    return logits


def predictions(logits: tf.Tensor) -> tf.Tensor:
    """The probabilities of logits [batch, classes], at least float32; of a single logit, that of the second class."""
    return (tf.sigmoid if logits.shape[-1] == 1 else tf.nn.softmax)(in_float32(logits))


def conv_logits(net: tf.Tensor, end_points: dict[str, tf.Tensor], num_classes: int | None, kernel: int,
                dropout_keep_prob: float, spatial_squeeze: bool, global_pool: bool, pool: str = 'AvgPool_1a_{}x{}',
                mean: str = 'global_pool', dropout: str = 'Dropout_1b', pre_logits: str | None = 'PreLogits',
                conv: str = 'Conv2d_1c_1x1', stride: int = 1) -> tf.Tensor:
    """The head of Inception V1 to V3 and MobileNet V1: average pooling, dropout and a 1x1 convolution to the classes.

    Args:
      net: the last map, [batch, height, width, maps].
      end_points: where the endpoints go: the pooling (`global_pool`, or by its scope), `pre_logits` and `Logits`.
      num_classes: number of classes; 0 or None ends with the pooling.
      kernel: of the pooling; see `average_pool`.
      dropout_keep_prob: share of the features that dropout keeps.
      spatial_squeeze: whether to drop height and width of the logits.
      global_pool: whether to average over the whole map instead.
      pool, mean, dropout, pre_logits, conv: the published names.
      stride: of the pooling.

    Returns:
      The logits, or without classes the pooled features.
    """
    if global_pool:
        net = end_points['global_pool'] = tf.reduce_mean(net, [1, 2], keepdims=True, name=mean)
    else:
        net = end_points[pool.removesuffix('_{}x{}')] = average_pool(net, kernel, stride, pool)
    if not num_classes:
        return net
    net = slim.dropout(net, dropout_keep_prob, scope=dropout)
    if pre_logits:
        end_points[pre_logits] = net
    logits = slim.conv2d(net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope=conv)
    if spatial_squeeze:
        logits = squeeze(logits)
    end_points['Logits'] = logits
    return logits


def check_single_logits(images: tf.Tensor, largest: int, name: str) -> None:
    """Refuses images that would leave the logits on a map.

    Raises:
      ValueError: height or width of `images`, [batch, height, width, channels], are known and above `largest`.
    """
    height, width = tf.TensorShape(images.shape).as_list()[1:3]
    if any(size is not None and size > largest for size in (height, width)):
        raise ValueError(f'Images of {height}x{width} leave the logits of {name} on a map: up to {largest}x{largest} '
                         'there is one of each; above that pass global_pool=True to average over the map (or '
                         'spatial_squeeze=False to keep it).')


def check_aux_logits(images: tf.Tensor) -> None:
    """Refuses images for which there are no auxiliary logits.

    Raises:
      ValueError: height or width of `images`, [batch, height, width, channels], are unknown.
    """
    if None in tf.TensorShape(images.shape).as_list()[1:3]:
        raise ValueError('Auxiliary logits are fully connected: they need images of a known height and width '
                         '(or create_aux_logits=False).')


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


def aux_features(net: tf.Tensor, pool: str, conv: str, width: Callable[[int], int] = int,
                 kernel: int | None = None, **kwargs) -> tf.Tensor:
    """The layers of the auxiliary classifier of Inception V3 and later, arXiv:1512.00567, up to its logits.

    Args:
      net: the map that it is attached to, [batch, height, width, maps].
      pool, conv: the published names of the pooling and of the second convolution; two `{}` stand for its kernel.
      width: what makes a layer's width of the paper's.
      kernel: of the second convolution, reduced to the map where that is smaller; None is the whole map.
      **kwargs: arguments of the second convolution.

    Returns:
      [batch, 1, 1, 768], where the kernel reaches over the whole map.
    """
    net = average_pool(net, 5, stride=3, scope=pool)                                # 5x5 at 299x299
    net = slim.conv2d(net, width(128), 1, scope='Conv2d_1b_1x1')                    # 5x5x128
    sizes = _reduced(kernel, net) if kernel else net.shape.as_list()[1:3]
    return slim.conv2d(net, width(768), sizes, padding='VALID', scope=conv.format(*sizes), **kwargs)


def aux_logits(net: tf.Tensor, num_classes: int, scope: str, dropout_keep_prob: float = 0.3) -> tf.Tensor:
    """The auxiliary classifier of GoogLeNet, arXiv:1409.4842, section 5.

    Args:
      net: the map that it is attached to, [batch, height, width, maps]; height and width must be known.
      num_classes: number of classes.
      scope: its variable scope.
      dropout_keep_prob: the paper drops 70%.

    Returns:
      Logits, [batch, num_classes].
    """
    with tf.compat.v1.variable_scope(scope):                                        # at 224x224
        net = average_pool(net, 5, stride=3, scope='AvgPool_0a_5x5')                # 4x4x512, 4x4x528
        net = slim.conv2d(net, 128, 1, scope='Conv2d_0b_1x1')                       # 4x4x128
        net = slim.fully_connected(slim.flatten(net), 1024, scope='FullyConnected_0c')
        net = slim.dropout(net, dropout_keep_prob, scope='Dropout_0d')
        return slim.fully_connected(net, num_classes, activation_fn=None, scope='FullyConnected_0e')
