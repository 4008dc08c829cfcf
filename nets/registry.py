"""The networks, a row each. Reading this table does not start TensorFlow.

A network of one's own gets its row by a decorator, from anywhere:

    @nets.register(arg_scope=tinynet_arg_scope, default_image_size=32, num_classes=10, preprocessing='inception')
    def tinynet(images, num_classes=10, is_training=True):
        ...
        return logits, end_points

From then on `tinynet` is a name like the others. Where a name is given before the module that holds it was imported, as
on a command line, it is written with its module: `--model_name=my_networks:tinynet`.
"""
import fnmatch
import importlib
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nets import names

WEIGHTS_URL = 'http://download.tensorflow.org/models/'


@dataclass(frozen=True)
class Network:
    """What there is to know of a network before it is built.

    Attributes:
      name: the name that users give.
      module: the module that holds `builder` and `arg_scope`.
      builder: the function `(images, num_classes, is_training, ...) -> (logits, end_points)`, or its name in `module`.
      base: the function `(images, final_endpoint, ...) -> (net, end_points)`, without the classifier; likewise.
      arg_scope: the function `(weight_decay=...) -> arg scope` that the network is built under; likewise.
      scope: root of its variables' names; empty where each layer is a root.
      default_image_size: height and width, in pixels, that it was drawn for.
      num_classes: number of classes of the published weights.
      preprocessing: name, in `preprocessing.preprocessing_factory`, of what its published weights were trained with.
      paper: where it was published.
      channels: image channels of the published weights.
      frames: for networks of videos [batch, frames, height, width, channels], the number that is assumed where none
        is given; any will do. None for images.
      eval_image_size: height and width, in pixels, at which the accuracy of the published weights was measured; None
        is the default size.
      weights: file of the published weights, under `WEIGHTS_URL`.
      top_1, top_5: accuracy of these weights on ImageNet's validation images, in percent, one central crop of 0.875.
      labels_offset: what to subtract from ImageNet's labels (0 is background) to have those of the weights.
      aux_loss_weight: weight, in the training loss, of the endpoints whose names begin with `AuxLogits`.
    """

    name: str
    module: str
    builder: str | Callable
    base: str | Callable | None
    arg_scope: str | Callable
    scope: str
    default_image_size: int
    num_classes: int
    preprocessing: str
    paper: str
    channels: int = 3
    frames: int | None = None
    eval_image_size: int | None = None
    weights: str | None = None
    top_1: float | None = None
    top_5: float | None = None
    labels_offset: int = 0
    aux_loss_weight: float = 0.4

    @property
    def build(self) -> Callable:
        """The function that builds the network."""
        return self._find(self.builder)

    @property
    def build_base(self) -> Callable:
        """The function that builds it up to an endpoint."""
        if self.base is None:
            raise ValueError(f'{self.name} was registered without a base function, so it is built whole or not at all.')
        return self._find(self.base)

    @property
    def make_arg_scope(self) -> Callable:
        """The function that makes its arg scope."""
        return self._find(self.arg_scope)

    def _find(self, function):
        return function if callable(function) else getattr(importlib.import_module(self.module), function)


def _is_written(row):       # TEMPORARY, until all 40 are there
    import pathlib
    return pathlib.Path(__file__).parent.parent.joinpath(row.module.replace('.', '/') + '.py').exists()


_networks = {row.name: row for row in (
    Network('alexnet_v2', 'nets.alexnet', 'alexnet_v2', 'alexnet_v2_base', 'alexnet_v2_arg_scope', 'alexnet_v2',
            224, 1000, 'vgg', 'arXiv:1404.5997', labels_offset=1),
    Network('cifarnet', 'nets.cifarnet', 'cifarnet', 'cifarnet_base', 'cifarnet_arg_scope', 'CifarNet',
            32, 10, 'cifarnet', 'code.google.com/archive/p/cuda-convnet'),
    Network('overfeat', 'nets.overfeat', 'overfeat', 'overfeat_base', 'overfeat_arg_scope', 'overfeat',
            231, 1000, 'vgg', 'arXiv:1312.6229', labels_offset=1),
    Network('vgg_a', 'nets.vgg', 'vgg_a', 'vgg_a_base', 'vgg_arg_scope', 'vgg_a',
            224, 1000, 'vgg', 'arXiv:1409.1556', labels_offset=1),
    Network('vgg_16', 'nets.vgg', 'vgg_16', 'vgg_16_base', 'vgg_arg_scope', 'vgg_16',
            224, 1000, 'vgg', 'arXiv:1409.1556', labels_offset=1,
            weights='vgg_16_2016_08_28.tar.gz', top_1=71.5, top_5=89.8),
    Network('vgg_19', 'nets.vgg', 'vgg_19', 'vgg_19_base', 'vgg_arg_scope', 'vgg_19',
            224, 1000, 'vgg', 'arXiv:1409.1556', labels_offset=1,
            weights='vgg_19_2016_08_28.tar.gz', top_1=71.1, top_5=89.8),
    Network('inception_v1', 'nets.inception_v1', 'inception_v1', 'inception_v1_base', 'inception_v1_arg_scope',
            'InceptionV1', 224, 1001, 'inception', 'arXiv:1409.4842',
            weights='inception_v1_2016_08_28.tar.gz', top_1=69.8, top_5=89.6, aux_loss_weight=0.3),
    Network('inception_v2', 'nets.inception_v2', 'inception_v2', 'inception_v2_base', 'inception_v2_arg_scope',
            'InceptionV2', 224, 1001, 'inception', 'arXiv:1502.03167',
            weights='inception_v2_2016_08_28.tar.gz', top_1=73.9, top_5=91.8),
    Network('inception_v3', 'nets.inception_v3', 'inception_v3', 'inception_v3_base', 'inception_v3_arg_scope',
            'InceptionV3', 299, 1001, 'inception', 'arXiv:1512.00567',
            weights='inception_v3_2016_08_28.tar.gz', top_1=78.0, top_5=93.9),
    Network('inception_v4', 'nets.inception_v4', 'inception_v4', 'inception_v4_base', 'inception_v4_arg_scope',
            'InceptionV4', 299, 1001, 'inception', 'arXiv:1602.07261',
            weights='inception_v4_2016_09_09.tar.gz', top_1=80.2, top_5=95.2),
    Network('inception_resnet_v2', 'nets.inception_resnet_v2', 'inception_resnet_v2', 'inception_resnet_v2_base',
            'inception_resnet_v2_arg_scope', 'InceptionResnetV2', 299, 1001, 'inception', 'arXiv:1602.07261',
            weights='inception_resnet_v2_2016_08_30.tar.gz', top_1=80.4, top_5=95.3),
    Network('i3d', 'nets.i3d', 'i3d', 'i3d_base', 'i3d_arg_scope', 'InceptionV1',
            224, 1001, 'inception', 'arXiv:1705.07750', frames=16),
    Network('s3dg', 'nets.s3dg', 's3dg', 's3dg_base', 's3dg_arg_scope', 'InceptionV1',
            224, 1001, 'inception', 'arXiv:1712.04851', frames=16),
    Network('lenet', 'nets.lenet', 'lenet', 'lenet_base', 'lenet_arg_scope', 'LeNet',
            28, 10, 'lenet', 'doi:10.1109/5.726791', channels=1),
    # Converted from Caffe: 1000 classes, the mean colour subtracted.
    *(Network(name, 'nets.resnet_v1', name, f'{name}_base', 'resnet_arg_scope', name,
              224, 1000, 'vgg', 'arXiv:1512.03385', labels_offset=1, weights=weights, top_1=top_1, top_5=top_5)
      for name, weights, top_1, top_5 in (
          ('resnet_v1_50', 'resnet_v1_50_2016_08_28.tar.gz', 75.2, 92.2),
          ('resnet_v1_101', 'resnet_v1_101_2016_08_28.tar.gz', 76.4, 92.9),
          ('resnet_v1_152', 'resnet_v1_152_2016_08_28.tar.gz', 76.8, 93.2),
          ('resnet_v1_200', None, None, None))),
    # Trained by TF-Slim's authors as the Inceptions were; TF-Slim's table of preprocessings says `vgg`, and is wrong.
    *(Network(name, 'nets.resnet_v2', name, f'{name}_base', 'resnet_arg_scope', name,
              224, 1001, 'inception', 'arXiv:1603.05027', eval_image_size=299, weights=weights, top_1=top_1,
              top_5=top_5)
      for name, weights, top_1, top_5 in (
          ('resnet_v2_50', 'resnet_v2_50_2017_04_14.tar.gz', 75.6, 92.8),
          ('resnet_v2_101', 'resnet_v2_101_2017_04_14.tar.gz', 77.0, 93.7),
          ('resnet_v2_152', 'resnet_v2_152_2017_04_14.tar.gz', 77.8, 94.1),
          ('resnet_v2_200', None, None, None))),
    *(Network(name, 'nets.mobilenet_v1', name, f'{name}_base', 'mobilenet_v1_arg_scope', 'MobilenetV1',
              224, 1001, 'inception', 'arXiv:1704.04861', eval_image_size=size, weights=weights, top_1=top_1,
              top_5=top_5)
      for name, size, weights, top_1, top_5 in (
          ('mobilenet_v1', 224, 'mobilenet_v1_1.0_224.tgz', 70.9, 89.9),
          ('mobilenet_v1_075', 224, None, None, None),
          ('mobilenet_v1_050', 160, 'mobilenet_v1_0.5_160.tgz', 59.1, 81.9),
          ('mobilenet_v1_025', 128, 'mobilenet_v1_0.25_128.tgz', 41.5, 66.3))),
    *(Network(name, 'nets.mobilenet.mobilenet_v2', builder, f'{builder}_base', 'training_scope', 'MobilenetV2',
              224, 1001, 'inception', 'arXiv:1801.04381', weights=weights, top_1=top_1, top_5=top_5)
      for name, builder, weights, top_1, top_5 in (
          ('mobilenet_v2', 'mobilenet', 'mobilenet_v2_1.0_224.tgz', 71.9, 91.0),
          ('mobilenet_v2_140', 'mobilenet_v2_140', 'mobilenet_v2_1.4_224.tgz', 74.9, 92.5),
          ('mobilenet_v2_035', 'mobilenet_v2_035', None, None, None))),
    *(Network(f'mobilenet_v3_{form}', 'nets.mobilenet.mobilenet_v3', form, f'{form}_base', 'training_scope',
              'MobilenetV3', 224, 1001, 'inception', 'arXiv:1905.02244', weights=weights, top_1=top_1)
      for form, weights, top_1 in (
          ('small', 'v3-small_224_1.0_float.tgz', 67.5),
          ('large', 'v3-large_224_1.0_float.tgz', 75.2),
          ('small_minimalistic', 'v3-small-minimalistic_224_1.0_float.tgz', 61.9),
          ('large_minimalistic', 'v3-large-minimalistic_224_1.0_float.tgz', 72.3))),
    *(Network(name, 'nets.mobilenet.mobilenet_v3', builder, f'{builder}_base', 'training_scope', 'MobilenetEdgeTPU',
              224, 1001, 'inception', 'ai.googleblog.com/2019/11/introducing-next-generation-on-device.html',
              weights=weights, top_1=top_1)
      for name, builder, weights, top_1 in (
          ('mobilenet_edgetpu', 'edge_tpu', 'mobilenet_edgetpu_224_1.0.tgz', 75.6),
          ('mobilenet_edgetpu_075', 'edge_tpu_075', None, None))),
    Network('nasnet_cifar', 'nets.nasnet.nasnet', 'build_nasnet_cifar', 'nasnet_cifar_base', 'nasnet_cifar_arg_scope',
            '', 32, 10, 'cifarnet', 'arXiv:1707.07012'),
    Network('nasnet_mobile', 'nets.nasnet.nasnet', 'build_nasnet_mobile', 'nasnet_mobile_base',
            'nasnet_mobile_arg_scope', '', 224, 1001, 'inception', 'arXiv:1707.07012',
            weights='nasnet-a_mobile_04_10_2017.tar.gz', top_1=74.0, top_5=91.6),
    Network('nasnet_large', 'nets.nasnet.nasnet', 'build_nasnet_large', 'nasnet_large_base',
            'nasnet_large_arg_scope', '', 331, 1001, 'inception', 'arXiv:1707.07012',
            weights='nasnet-a_large_04_10_2017.tar.gz', top_1=82.7, top_5=96.2),
    Network('pnasnet_mobile', 'nets.nasnet.pnasnet', 'build_pnasnet_mobile', 'pnasnet_mobile_base',
            'pnasnet_mobile_arg_scope', '', 224, 1001, 'inception', 'arXiv:1712.00559',
            weights='pnasnet-5_mobile_2017_12_13.tar.gz', top_1=74.2, top_5=91.9),
    Network('pnasnet_large', 'nets.nasnet.pnasnet', 'build_pnasnet_large', 'pnasnet_large_base',
            'pnasnet_large_arg_scope', '', 331, 1001, 'inception', 'arXiv:1712.00559',
            weights='pnasnet-5_large_2017_12_13.tar.gz', top_1=82.9, top_5=96.2),
) if _is_written(row)}
NETWORKS: Mapping[str, Network] = MappingProxyType(_networks)


def register(*, arg_scope: Callable, default_image_size: int, num_classes: int, preprocessing: str,
             name: str | None = None, base: Callable | None = None, scope: str = '', paper: str = '-',
             **fields: Any) -> Callable[[Callable], Callable]:
    """Returns a decorator that gives the function that builds a network its row.

    Args:
      name: the function's own name if None.
      **fields: the others of `Network`, such as `channels`.
      arg_scope, default_image_size, num_classes, preprocessing, base, scope, paper: see `Network`.

    Raises:
      ValueError: another network has the name (when the function is decorated).
      TypeError: there is no such field.
    """
    def decorator(build: Callable) -> Callable:
        row = Network(name or build.__name__, build.__module__, build, base, arg_scope, scope, default_image_size,
                      num_classes, preprocessing, paper, **fields)
        present = _networks.get(row.name)
        if present and present.module != row.module:        # a module may be run twice, in a notebook for one
            raise ValueError(f'There is a network {row.name!r} already, in {present.module}: give yours another name.')
        _networks[row.name] = row
        return build
    return decorator


def list_models(pattern: str = '*', pretrained: bool = False) -> list[str]:
    """Returns the names of the networks that match a pattern with wildcards, such as `inception*`.

    Args:
      pattern: as for `fnmatch`: `*` for any letters, `?` for one, `[12]` for one of these.
      pretrained: whether to leave out those that have no published weights.
    """
    return [name for name in fnmatch.filter(NETWORKS, pattern) if NETWORKS[name].weights or not pretrained]


def check_num_classes(num_classes: int | None) -> None:
    """Raises ValueError where a number of classes is neither a count nor None."""
    if num_classes is not None and not (isinstance(num_classes, numbers.Integral) and num_classes >= 0):
        raise ValueError(f'num_classes must be a whole number, or None for the features; it is {num_classes!r}.')


def get(name: str) -> Network:
    """Returns the row of a network.

    Args:
      name: of a network; or `module:name`, which imports the module in which one's own is registered.

    Raises:
      ValueError: the name is unknown; the message lists the valid ones.
    """
    module, _, own = name.partition(':')
    if module and own:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f'There is no network {name}: {error}.') from None
        name = own
    if name not in NETWORKS:
        raise names.unknown('network', name, NETWORKS)
    return NETWORKS[name]
