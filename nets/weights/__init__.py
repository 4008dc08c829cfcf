"""Weights under TF-Slim's names, from whoever wrote them: checkpoints, frozen graphs, Keras, torchvision, timm."""
import os

from nets import registry
from nets.checkpoints import CheckpointError, Reader, Values

KERAS = ('.h5', '.hdf5')
PYTORCH = ('.safetensors', '.pth', '.pt', '.bin')


def read(path: str | os.PathLike, network: registry.Network) -> Reader | Values:
    """Opens a file of weights for a network, whoever wrote it.

    Args:
      path: a TF-Slim checkpoint or a folder with one; a frozen graph (`.pb`); weights of Keras Applications (`.h5`,
        `.weights.h5`), of torchvision or of timm (`.safetensors`, `.pth`); an archive (`.tar.gz`) with a checkpoint;
        or the URL of any of them, which is then downloaded once, see `nets.weights.published`.
      network: the row of the network that they are for.

    Returns:
      Their names, shapes and values as TF-Slim's variables.

    Raises:
      CheckpointError: there is no such file; it cannot be read or downloaded; or it is of a network that does not
        compute the same as `network`.
    """
    from nets.weights import frozen_graph, keras_applications, published, pytorch
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise CheckpointError(f'The weights to read must be a path or a URL; {path!r} is none.')
    # Of what is neither on the web nor packed, the path itself.
    path = published.fetch(os.path.expanduser(os.fspath(path)))
    if path.endswith('.keras'):
        raise CheckpointError(f'{path} is a whole model of Keras: load it there, call its '
                              "save_weights('NAME.weights.h5'), and give that file.")
    if path.endswith('.pb'):
        return frozen_graph.read(path, network)
    if path.endswith(KERAS):
        return keras_applications.read(path, network)
    if path.endswith(PYTORCH):
        return pytorch.read(path, network)
    return Reader(path)
