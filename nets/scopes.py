"""The one way into a network: every builder opens its scope here."""
import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import tensorflow as tf

import tf_slim_compat
from nets import names

Scope: TypeAlias = str | tf.compat.v1.VariableScope | None
EndPoints: TypeAlias = dict[str, tf.Tensor]
Net: TypeAlias = tuple[tf.Tensor, EndPoints]    # what a builder returns

_LAYOUTS = {
    'NHWC': ('images', ('batch', 'height', 'width', 'channels')),
    'NCHW': ('images', ('batch', 'channels', 'height', 'width')),
    'NDHWC': ('videos', ('batch', 'frames', 'height', 'width', 'channels')),
    'NCDHW': ('videos', ('batch', 'channels', 'frames', 'height', 'width')),
}


@contextlib.contextmanager
def network_scope(scope: Scope, default_name: str, inputs: tf.Tensor,
                  reuse: bool | None = None, min_size: int = 1,
                  data_format: str = 'NHWC') -> Iterator[tf.compat.v1.VariableScope]:
    """Opens the variable scope of a network, after a look at its images and at who holds its variables.

    Args:
      scope: name of the scope, or the scope to enter again; None makes a name that is not taken from `default_name`;
        '' stays in the current one, for networks whose variables have no common root.
      default_name: the network's own scope, which also names it in errors.
      inputs: float images in the order of `data_format`; all but the channels may be unknown.
      reuse: whether to take the variables that are there.
      min_size: least height and width, in pixels.
      data_format: order of the inputs' axes: `NHWC` or `NCHW`; for videos `NDHWC` or `NCDHW`: D counts the frames.

    Yields:
      The variable scope.

    Raises:
      ValueError: the images have another rank, unknown channels, no float type, or are too small.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    if data_format not in _LAYOUTS:
        raise names.unknown('data_format', data_format, _LAYOUTS)
    kind, axes = _LAYOUTS[data_format]
    shape = tf.TensorShape(getattr(inputs, 'shape', None))
    given = shape.as_list() if shape.rank == len(axes) else [None] * len(axes)  # also after tf.disable_v2_behavior()
    sizes = dict(zip(axes, given, strict=True))
    if sizes['channels'] is None:
        raise ValueError(f'{default_name} takes {kind} [{", ".join(axes)}] with a known number of channels; '
                         f'the shape given is {shape}.')
    if not tf.as_dtype(inputs.dtype).is_floating:
        raise ValueError(f'{default_name} takes {kind} of a float type, preprocessed; '
                         f'the type given is {tf.as_dtype(inputs.dtype).name}.')
    height, width = sizes['height'], sizes['width']
    if any(size is not None and size < min_size for size in (height, width)):
        raise ValueError(f'{default_name} takes {kind} of at least {min_size}x{min_size} pixels; '
                         f'these are {height}x{width}.')
    if sizes.get('frames') == 0:
        raise ValueError(f'{default_name} takes videos of at least one frame; these have none.')
    if not tf_slim_compat.holds_variables():
        raise RuntimeError(f'Nothing holds the variables of {default_name} here, so each call would make new ones: '
                           'use nets.create_model(name, num_classes), or build it inside a tf.Graph.')
    if scope == '':
        current = tf.compat.v1.get_variable_scope()
        entered = tf.compat.v1.variable_scope(current, reuse=reuse, auxiliary_name_scope=False)
    else:
        entered = tf.compat.v1.variable_scope(scope, default_name, [inputs], reuse=reuse)
    with entered as opened:
        yield opened
