"""The one way into a network: every builder opens its scope here."""
import contextlib
from collections.abc import Iterator

import tensorflow as tf

import tf_slim_compat


@contextlib.contextmanager
def network_scope(scope: str | tf.compat.v1.VariableScope | None, default_name: str, inputs: tf.Tensor,
                  reuse: bool | None = None, min_size: int = 1) -> Iterator[tf.compat.v1.VariableScope]:
    """Opens the variable scope of a network, after a look at its images and at who holds its variables.

    Args:
      scope: name of the scope, or the scope to enter again; None makes a name that is not taken from `default_name`.
      default_name: the network's own scope, which also names it in errors.
      inputs: float images [batch, height, width, channels]; all but the channels may be unknown.
      reuse: whether to take the variables that are there.
      min_size: least height and width, in pixels.

    Yields:
      The variable scope.

    Raises:
      ValueError: the images have another rank, unknown channels, no float type, or are too small.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    shape = tf.TensorShape(getattr(inputs, 'shape', None))
    sizes = shape.as_list() if shape.rank == 4 else [None]  # plain numbers, also after tf.disable_v2_behavior()
    if sizes[-1] is None:
        raise ValueError(f'{default_name} takes images [batch, height, width, channels] with a known number of '
                         f'channels; the shape given is {shape}.')
    if not tf.as_dtype(inputs.dtype).is_floating:
        raise ValueError(f'{default_name} takes images of a float type, preprocessed; '
                         f'the type given is {tf.as_dtype(inputs.dtype).name}.')
    if any(size is not None and size < min_size for size in sizes[1:3]):
        raise ValueError(f'{default_name} takes images of at least {min_size}x{min_size} pixels; '
                         f'these are {sizes[1]}x{sizes[2]}.')
    if not tf_slim_compat.holds_variables():
        raise RuntimeError(f'Nothing holds the variables of {default_name} here, so each call would make new ones: '
                           'use nets.create_model(name, num_classes), or build it inside a tf.Graph.')
    with tf.compat.v1.variable_scope(scope, default_name, [inputs], reuse=reuse) as opened:
        yield opened
