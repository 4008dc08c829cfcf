"""Activations that are computed again in the backward pass, in place of being kept: less memory for more time.

After "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174; the segments are the rows of a network's table.
"""
import contextlib
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat


class _Mode(threading.local):
    rows: list[str] | None = None


_mode = _Mode()


@contextlib.contextmanager
def recomputed(on: bool = True) -> Iterator[list[str]]:
    """Within it, and in this thread, networks that are tables keep the outputs of their rows alone.

    Gradients are the same, and so are dropout, by its seed, and the moving statistics, which are moved once.

    Yields:
      A list that receives the names of the rows; a network that is no table has none.
    """
    rows: list[str] = []
    outer, _mode.rows = _mode.rows, rows if on else None
    try:
        yield rows
    finally:
        _mode.rows = outer


def row(name: str | None, build: Callable[[tf.Tensor], tf.Tensor], net: tf.Tensor) -> tf.Tensor:
    """`build(net)`, whose activations are computed again in the backward pass where `recomputed` says so."""
    if _mode.rows is None:
        return build(net)
    _mode.rows.append(str(name))
    # The backward pass comes when the scopes of the forward pass are closed; TensorFlow opens the variables' again.
    scope, frozen = slim.current_arg_scope(), tf_slim_compat.frozen_scopes()
    passes: list[None] = []

    def run(net):
        again = tf_slim_compat.kept_statistics() if passes else contextlib.nullcontext()
        passes.append(None)
        with slim.arg_scope(scope), tf_slim_compat.frozen_batch_norm(frozen), again:
            return build(net)

    return tf.recompute_grad(run)(net)
