"""Networks by name, with TF-Slim's functions and maps; all is read from `nets.registry`."""
import functools
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import registry


class _Column(Mapping):
    """Name -> one thing of its row; a module is imported when its network is asked for."""

    def __init__(self, attribute: str):
        self._attribute = attribute

    def __getitem__(self, name: str) -> Callable:
        return getattr(registry.NETWORKS[name], self._attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(registry.NETWORKS)

    def __len__(self) -> int:
        return len(registry.NETWORKS)


networks_map = _Column('build')
arg_scopes_map = _Column('make_arg_scope')


def get_network_fn(name: str, num_classes: int | None, weight_decay: float = 0.0,
                   is_training: bool | tf.Tensor = False) -> Callable:
    """Returns a function that builds a network.

    Args:
      name: of a network, see `nets.registry.get`.
      num_classes: number of classes; 0 or None gives the features before the logits.
      weight_decay: factor of the L2 loss of the weights.
      is_training: whether to build for training (dropout; batch norm by the batch's own statistics).

    Returns:
      `network_fn(images, **kwargs) -> (logits, end_points)`, where images are [batch, height, width, channels] and
      the keyword arguments are the network's own. `network_fn.default_image_size` is in pixels.

    Raises:
      ValueError: the name is unknown, or num_classes is not a count.
    """
    network = registry.get(name)
    registry.check_num_classes(num_classes)
    build, make_arg_scope = network.build, network.make_arg_scope

    # Not its attributes, nor the mark of what it wraps: tf.function would take its signature for this one's.
    @functools.wraps(build, updated=())
    def network_fn(images, **kwargs):
        with slim.arg_scope(make_arg_scope(weight_decay=weight_decay)):
            return build(images, num_classes=num_classes, is_training=is_training, **kwargs)

    del network_fn.__wrapped__
    network_fn.default_image_size = network.default_image_size
    return network_fn
