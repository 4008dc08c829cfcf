"""A network made to fit weights that are there, for use without training."""
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from nets import blueprint, checkpoints, registry, weights
from nets.model import Model
from training.config import ConfigError
from training.trainer import padding_arguments


def read_weights(path: str, row: registry.Network, moving_averages: bool) -> checkpoints.Reader | checkpoints.Values:
    """Opens weights as `nets.weights.read` does; CheckpointError where moving averages are asked for in vain."""
    reader = weights.read(path, row)
    if moving_averages and not any(name.endswith(checkpoints.AVERAGE) for name in reader.shapes):
        raise checkpoints.CheckpointError(f'{reader.path} holds no moving averages; leave out '
                                          '--moving_average_decay.')
    return reader


def build(config, num_classes: int | None, size: int, channels: int | None, **head: Any) -> Model:
    """The network that a config names, at a size; ConfigError where it cannot be."""
    head.update(padding_arguments(config))
    try:
        return Model(config.model_name, num_classes, image_size=size, channels=channels, **head)
    except tf.errors.ResourceExhaustedError:
        raise ConfigError(f'{config.model_name} for images of {size}x{size} does not fit into memory: give a smaller '
                          '--image_size.') from None
    except ValueError as error:
        raise ConfigError(f'{config.model_name} cannot be built for images of {size}x{size}: {error}') from None


def fitting(variables: Mapping[str, tf.Variable], shapes: Mapping[str, tuple[int, ...]], num_classes: int,
            channels: int) -> tuple[int, int]:
    """The numbers of classes and channels that make a network's variables those of the weights.

    Args:
      variables: by name, of the network for `num_classes` and `channels`.
      shapes: of the weights, by name.
      num_classes, channels: as above; they come back where nothing says otherwise.
    """
    wanted_classes, wanted_channels = num_classes, channels
    for name, variable in variables.items():
        here, there = tuple(variable.shape), shapes.get(name, ())
        if len(here) == len(there):
            if here[:-1] == there[:-1] and here[-1] == num_classes:
                wanted_classes = there[-1]
            if len(here) == 4 and here[:2] + here[3:] == there[:2] + there[3:] and here[2] == channels:
                wanted_channels = there[2]
    return wanted_classes, wanted_channels


def restore(reader: checkpoints.Reader | checkpoints.Values, model: Model, moving_averages: bool, hint: str) -> None:
    """Gives a network the weights; an auxiliary classifier, which training alone uses, may be missing in them.

    Raises:
      CheckpointError: they do not fit; `hint` is put after the reason.
    """
    auxiliary = tuple(f'{scope}/' for scope in blueprint.auxiliary_scopes(model.by_name))
    wanted = {name: variable for name, variable in model.by_name.items()
              if name in reader.shapes or not name.startswith(auxiliary)}
    missing = checkpoints.restore(reader, wanted, moving_averages=moving_averages, hint=hint)
    if missing:     # which may be: a classifier that a library leaves out
        raise checkpoints.CheckpointError(f'{reader.path} has no classifier: it lacks {", ".join(missing)}.')
