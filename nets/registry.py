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

WEIGHTS_URL = 'https://storage.googleapis.com/download.tensorflow.org/models/'
_MOBILENETS = 'https://storage.googleapis.com/mobilenet_{}/checkpoints/'.format


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
      parameters: number of trained parameters, at the default size and number of classes.
      multiply_adds: for one image, or one video of `frames`; see `nets.summary`.
      channels: image channels of the published weights.
      frames: for networks of videos [batch, frames, height, width, channels], the number that is assumed where none
        is given; any will do. None for images.
      eval_image_size: height and width, in pixels, at which the accuracy of the published weights was measured; None
        is the default size.
      weights: file of the published weights, under `WEIGHTS_URL`, or their whole URL.
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
    parameters: int | None = None
    multiply_adds: int | None = None
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


def _family(module: str, arg_scope: str, scope: str | None, size: int, num_classes: int, preprocessing: str, paper: str,
            *rows: tuple, builder: Callable[[str], str] = str, **fields: Any) -> list[Network]:
    """The networks of a module: a row has the columns below; without a scope it is the name."""
    columns = ('parameters', 'multiply_adds', 'weights', 'top_1', 'top_5', 'eval_image_size')
    return [Network(name, module, builder(name), f'{builder(name).removeprefix("build_")}_base', arg_scope,
                    name if scope is None else scope, size, num_classes, preprocessing, paper,
                    **{**fields, **dict(zip(columns, row, strict=False))}) for name, *row in rows]


_networks = {row.name: row for row in (
    # name, parameters, multiply-adds, and of the published weights: file, top-1, top-5, image size if not the default
    *_family('nets.alexnet', 'alexnet_v2_arg_scope', None, 224, 1000, 'vgg', 'arXiv:1404.5997',
             ('alexnet_v2', 50_303_912, 736_555_776), labels_offset=1),
    *_family('nets.cifarnet', 'cifarnet_arg_scope', 'CifarNet', 32, 10, 'cifarnet',
             'code.google.com/archive/p/cuda-convnet', ('cifarnet', 1_756_426, 32_778_112)),
    *_family('nets.overfeat', 'overfeat_arg_scope', None, 231, 1000, 'vgg', 'arXiv:1312.6229',
             ('overfeat', 145_704_424, 2_647_011_328), labels_offset=1),
    # VGG and ResNet V1 were converted from Caffe: 1000 classes, and the mean colour subtracted.
    *_family('nets.vgg', 'vgg_arg_scope', None, 224, 1000, 'vgg', 'arXiv:1409.1556',
             ('vgg_a', 132_863_336, 7_609_090_048),
             ('vgg_16', 138_357_544, 15_470_264_320, 'vgg_16_2016_08_28.tar.gz', 71.5, 89.8),
             ('vgg_19', 143_667_240, 19_632_062_464, 'vgg_19_2016_08_28.tar.gz', 71.1, 89.8), labels_offset=1),
    *_family('nets.inception_v1', 'inception_v1_arg_scope', 'InceptionV1', 224, 1001, 'inception', 'arXiv:1409.4842',
             ('inception_v1', 6_618_649, 1_498_377_216, 'inception_v1_2016_08_28.tar.gz', 69.8, 89.6),
             aux_loss_weight=0.3),
    *_family('nets.inception_v2', 'inception_v2_arg_scope', 'InceptionV2', 224, 1001, 'inception', 'arXiv:1502.03167',
             ('inception_v2', 11_179_361, 1_934_858_240, 'inception_v2_2016_08_28.tar.gz', 73.9, 91.8)),
    *_family('nets.inception_v3', 'inception_v3_arg_scope', 'InceptionV3', 299, 1001, 'inception', 'arXiv:1512.00567',
             ('inception_v3', 27_145_970, 5_718_902_112, 'inception_v3_2016_08_28.tar.gz', 78.0, 93.9)),
    *_family('nets.inception_v4', 'inception_v4_arg_scope', 'InceptionV4', 299, 1001, 'inception', 'arXiv:1602.07261',
             ('inception_v4', 46_009_106, 12_260_479_328, 'inception_v4_2016_09_09.tar.gz', 80.2, 95.2)),
    *_family('nets.inception_resnet_v2', 'inception_resnet_v2_arg_scope', 'InceptionResnetV2', 299, 1001, 'inception',
             'arXiv:1602.07261',
             ('inception_resnet_v2', 59_182_258, 13_162_503_520, 'inception_resnet_v2_2016_08_30.tar.gz', 80.4, 95.3)),
    *_family('nets.i3d', 'i3d_arg_scope', 'InceptionV1', 224, 1001, 'inception', 'arXiv:1705.07750',
             ('i3d', 13_306_009, 27_788_594_176), frames=16),
    *_family('nets.s3dg', 's3dg_arg_scope', 'InceptionV1', 224, 1001, 'inception', 'arXiv:1712.04851',
             ('s3dg', 10_134_873, 16_047_425_280), frames=16),
    *_family('nets.lenet', 'lenet_arg_scope', 'LeNet', 28, 10, 'lenet', 'doi:10.1109/5.726791',
             ('lenet', 3_274_634, 13_883_904), channels=1),
    *_family('nets.resnet_v1', 'resnet_arg_scope', None, 224, 1000, 'vgg', 'arXiv:1512.03385',
             ('resnet_v1_50', 25_557_032, 3_482_255_360, 'resnet_v1_50_2016_08_28.tar.gz', 75.2, 92.2),
             ('resnet_v1_101', 44_549_160, 7_194_476_544, 'resnet_v1_101_2016_08_28.tar.gz', 76.4, 92.9),
             ('resnet_v1_152', 60_192_808, 10_906_697_728, 'resnet_v1_152_2016_08_28.tar.gz', 76.8, 93.2),
             ('resnet_v1_200', 64_673_832, 14_400_552_960), labels_offset=1),
    # Trained as the Inceptions were: `vgg`, as TF-Slim's table of preprocessings has it, is wrong for these weights.
    *_family('nets.resnet_v2', 'resnet_arg_scope', None, 224, 1001, 'inception', 'arXiv:1603.05027',
             ('resnet_v2_50', 25_570_409, 3_482_257_408, 'resnet_v2_50_2017_04_14.tar.gz', 75.6, 92.8, 299),
             ('resnet_v2_101', 44_579_945, 7_194_478_592, 'resnet_v2_101_2017_04_14.tar.gz', 77.0, 93.7, 299),
             ('resnet_v2_152', 60_238_953, 10_906_699_776, 'resnet_v2_152_2017_04_14.tar.gz', 77.8, 94.1, 299),
             ('resnet_v2_200', 64_728_169, 14_400_555_008)),
    *_family('nets.mobilenet_v1', 'mobilenet_v1_arg_scope', 'MobilenetV1', 224, 1001, 'inception', 'arXiv:1704.04861',
             ('mobilenet_v1', 4_233_001, 568_741_376, 'mobilenet_v1_2018_02_22/mobilenet_v1_1.0_224.tgz', 70.9, 89.9),
             ('mobilenet_v1_075', 2_586_329, 325_401_216),
             ('mobilenet_v1_050', 1_332_105, 149_497_600, 'mobilenet_v1_2018_02_22/mobilenet_v1_0.5_160.tgz', 59.1,
              81.9, 160),
             ('mobilenet_v1_025', 470_329, 41_030_528, 'mobilenet_v1_2018_02_22/mobilenet_v1_0.25_128.tgz', 41.5, 66.3,
              128)),
    *_family('nets.mobilenet.mobilenet_v2', 'training_scope', 'MobilenetV2', 224, 1001, 'inception', 'arXiv:1801.04381',
             ('mobilenet_v2', 3_506_153, 300_775_552, _MOBILENETS('v2') + 'mobilenet_v2_1.0_224.tgz', 71.9, 91.0),
             ('mobilenet_v2_140', 6_110_569, 582_197_616, _MOBILENETS('v2') + 'mobilenet_v2_1.4_224.tgz', 74.9, 92.5),
             ('mobilenet_v2_035', 1_678_409, 59_287_088),
             builder=lambda name: 'mobilenet' if name == 'mobilenet_v2' else name),
    *_family('nets.mobilenet.mobilenet_v3', 'training_scope', 'MobilenetV3', 224, 1001, 'inception', 'arXiv:1905.02244',
             ('mobilenet_v3_small', 2_543_881, 56_511_424, _MOBILENETS('v3') + 'v3-small_224_1.0_float.tgz', 67.5),
             ('mobilenet_v3_large', 5_484_313, 216_591_040, _MOBILENETS('v3') + 'v3-large_224_1.0_float.tgz', 75.2),
             ('mobilenet_v3_small_minimalistic', 2_045_761, 52_289_472,
              _MOBILENETS('v3') + 'v3-small-minimalistic_224_1.0_float.tgz', 61.9),
             ('mobilenet_v3_large_minimalistic', 3_925_569, 209_137_984,
              _MOBILENETS('v3') + 'v3-large-minimalistic_224_1.0_float.tgz', 72.3),
             builder=lambda name: name.removeprefix('mobilenet_v3_')),
    *_family('nets.mobilenet.mobilenet_v3', 'training_scope', 'MobilenetEdgeTPU', 224, 1001, 'inception',
             'ai.googleblog.com, 2019-11-13',
             ('mobilenet_edgetpu', 4_092_713, 990_670_464, _MOBILENETS('edgetpu') + 'mobilenet_edgetpu_224_1.0.tgz',
              75.6),
             ('mobilenet_edgetpu_075', 2_989_441, 624_487_584),
             builder=lambda name: name.replace('mobilenet_edgetpu', 'edge_tpu')),
    *_family('nets.nasnet.nasnet', 'nasnet_cifar_arg_scope', '', 32, 10, 'cifarnet', 'arXiv:1707.07012',
             ('nasnet_cifar', 3_346_538, 544_333_312), builder='build_{}'.format),
    *_family('nets.nasnet.nasnet', 'nasnet_mobile_arg_scope', '', 224, 1001, 'inception', 'arXiv:1707.07012',
             ('nasnet_mobile', 5_291_035, 563_639_872, 'nasnet-a_mobile_04_10_2017.tar.gz', 74.0, 91.6),
             builder='build_{}'.format),
    *_family('nets.nasnet.nasnet', 'nasnet_large_arg_scope', '', 331, 1001, 'inception', 'arXiv:1707.07012',
             ('nasnet_large', 88_757_183, 23_783_418_690, 'nasnet-a_large_04_10_2017.tar.gz', 82.7, 96.2),
             builder='build_{}'.format),
    *_family('nets.nasnet.pnasnet', 'pnasnet_mobile_arg_scope', '', 224, 1001, 'inception', 'arXiv:1712.00559',
             ('pnasnet_mobile', 5_065_568, 587_294_280, 'pnasnet-5_mobile_2017_12_13.tar.gz', 74.2, 91.9),
             builder='build_{}'.format),
    *_family('nets.nasnet.pnasnet', 'pnasnet_large_arg_scope', '', 331, 1001, 'inception', 'arXiv:1712.00559',
             ('pnasnet_large', 86_061_989, 24_937_400_112, 'pnasnet-5_large_2017_12_13.tar.gz', 82.9, 96.2),
             builder='build_{}'.format),
)}
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
    whole = isinstance(num_classes, numbers.Integral) and not isinstance(num_classes, bool)
    if num_classes is not None and not (whole and num_classes >= 0):
        raise ValueError(f'num_classes must be a whole number, or None for the features; it is {num_classes!r}.')


def get(name: str) -> Network:
    """Returns the row of a network.

    Args:
      name: of a network; or `module:name`, which imports the module in which one's own is registered.

    Raises:
      ValueError: the name is unknown; the message lists the valid ones.
    """
    if not isinstance(name, str):
        raise ValueError(f'The name of a network is a string; {name!r} is none.')
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
