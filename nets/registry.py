"""The networks, a row each. Reading this table does not start TensorFlow."""
import importlib
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nets import names

WEIGHTS_URL = 'http://download.tensorflow.org/models/'


@dataclass(frozen=True)
class Network:
    """What there is to know of a network before it is built.

    Attributes:
      name: the name that users give.
      module: the module that holds `builder` and `arg_scope`.
      builder: name of the function `(images, num_classes, is_training, ...) -> (logits, end_points)`.
      arg_scope: name of the function `(weight_decay=...) -> arg scope` that the network is built under.
      scope: root of its variables' names.
      default_image_size: height and width, in pixels, that the published accuracy was measured at.
      num_classes: number of classes of the published weights.
      preprocessing: name of its preprocessing in `preprocessing.preprocessing_factory`.
      paper: where it was published.
      channels: image channels of the published weights.
      weights: file of the published weights, under `WEIGHTS_URL`.
      top_1, top_5: accuracy of these weights on ImageNet's validation images, in percent, one central crop of 0.875.
      labels_offset: what to subtract from ImageNet's labels (0 is background) to have those of the weights.
      aux_loss_weight: weight, in the training loss, of the endpoints whose names begin with `AuxLogits`.
    """

    name: str
    module: str
    builder: str
    arg_scope: str
    scope: str
    default_image_size: int
    num_classes: int
    preprocessing: str
    paper: str
    channels: int = 3
    weights: str | None = None
    top_1: float | None = None
    top_5: float | None = None
    labels_offset: int = 0
    aux_loss_weight: float = 0.4

    @property
    def build(self) -> Callable:
        """The function that builds the network."""
        return getattr(importlib.import_module(self.module), self.builder)

    @property
    def make_arg_scope(self) -> Callable:
        """The function that makes its arg scope."""
        return getattr(importlib.import_module(self.module), self.arg_scope)


NETWORKS: Mapping[str, Network] = MappingProxyType({row.name: row for row in (
    Network('inception_v1', 'nets.inception_v1', 'inception_v1', 'inception_v1_arg_scope', 'InceptionV1', 224, 1001,
            'inception', 'arXiv:1409.4842', weights='inception_v1_2016_08_28.tar.gz', top_1=69.8, top_5=89.6,
            aux_loss_weight=0.3),
    Network('lenet', 'nets.lenet', 'lenet', 'lenet_arg_scope', 'LeNet', 28, 10,
            'lenet', 'doi:10.1109/5.726791', channels=1),
)})


def check_num_classes(num_classes: int | None) -> None:
    """Raises ValueError where a number of classes is neither a count nor None."""
    if num_classes is not None and not (isinstance(num_classes, numbers.Integral) and num_classes >= 0):
        raise ValueError(f'num_classes must be a whole number, or None for the features; it is {num_classes!r}.')


def get(name: str) -> Network:
    """Returns the row of a network.

    Raises:
      ValueError: the name is unknown; the message lists the valid ones.
    """
    if name not in NETWORKS:
        raise names.unknown('network', name, NETWORKS)
    return NETWORKS[name]
