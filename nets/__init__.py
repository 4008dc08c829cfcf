"""The networks of Slim Zoo, with TF-Slim's names. Importing this package does not start TensorFlow."""
from typing import Any

from nets.registry import list_models, register

__all__ = ['create_model', 'list_models', 'register']


def create_model(name: str, num_classes: int | None = None, **kwargs: Any):
    """Makes a `nets.model.Model`: a network that holds its own variables, eagerly and in `tf.function`.

    Args:
      name: a name of `nets.registry.NETWORKS`, such as `inception_v1`.
      num_classes: number of classes; 0 or None gives the features before the logits.
      **kwargs: see `nets.model.create_model`.

    Raises:
      ValueError: the name is unknown.
    """
    from nets import model
    return model.create_model(name, num_classes, **kwargs)
