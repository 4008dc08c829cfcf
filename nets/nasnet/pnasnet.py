"""PNASNet-5: Liu and others, Progressive neural architecture search, arXiv:1712.00559.

| network | default size | preprocessing | published weights (2017_12_13, 1001 classes, 0 is background) |
|---|---|---|---|
| `build_pnasnet_mobile` | 224x224 | `inception` | 74.2% top-1, 91.9% top-5 on ImageNet |
| `build_pnasnet_large`  | 331x331 | `inception` | 82.9% top-1, 96.2% top-5 |

It has one kind of cell, which halves the maps where its stride is 2. All else is as in `nets.nasnet.nasnet`.
"""
import tensorflow as tf

from nets.nasnet import nasnet, nasnet_utils
from nets.nasnet.nasnet_utils import HParams, Step
from nets.scopes import Net, Scope

pnasnet_large_arg_scope = nasnet.nasnet_mobile_arg_scope
pnasnet_mobile_arg_scope = nasnet.nasnet_mobile_arg_scope


class PNasNetNormalCell(nasnet_utils.TableCell):
    """The cell of PNASNet-5: arXiv:1712.00559, figure 1."""

    sums = (
        (('separable_5x5_2', 1), ('max_pool_3x3',    1)),
        (('separable_7x7_2', 0), ('max_pool_3x3',    0)),
        (('separable_5x5_2', 0), ('separable_3x3_2', 0)),
        (('separable_3x3_2', 4), ('max_pool_3x3',    0)),
        (('separable_3x3_2', 1), ('none',            0)),
    )
    outputs = (2, 3, 4, 5, 6)


PNASNET = nasnet.Family('PNASNet', PNasNetNormalCell, reduction_cell=None, num_stem_cells=2)


def large_imagenet_config() -> HParams:
    """Returns the settings of `build_pnasnet_large`: 4 cells at each of three sizes, 216 channels."""
    return nasnet.imagenet_config(stem_multiplier=3.0, num_cells=12, num_conv_filters=216,
                                  skip_reduction_layer_input=1, drop_path_keep_prob=0.6)


def mobile_imagenet_config() -> HParams:
    """Returns the settings of `build_pnasnet_mobile`: 3 cells at each of three sizes, 54 channels."""
    return nasnet.imagenet_config(num_cells=9, num_conv_filters=54, skip_reduction_layer_input=1)


def pnasnet_large_base(inputs: tf.Tensor, final_endpoint: str | None = None, config: HParams | None = None,
                       current_step: Step = None, scope: Scope = None) -> Net:
    """Builds PNASNet-5 Large up to an endpoint; see `nasnet.build_base`."""
    return nasnet.build_base(PNASNET, inputs, final_endpoint, config or large_imagenet_config(), current_step, scope)


def pnasnet_mobile_base(inputs: tf.Tensor, final_endpoint: str | None = None, config: HParams | None = None,
                        current_step: Step = None, scope: Scope = None) -> Net:
    """Builds PNASNet-5 Mobile up to an endpoint; see `nasnet.build_base`."""
    return nasnet.build_base(PNASNET, inputs, final_endpoint, config or mobile_imagenet_config(), current_step, scope)


def build_pnasnet_large(images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor = True,
                        final_endpoint: str | None = None, config: HParams | None = None,
                        current_step: Step = None, reuse: bool | None = None, scope: Scope = None) -> Net:
    """Builds PNASNet-5 (4 @ 4320), also called Large; see `nasnet.build_nasnet_large`."""
    return nasnet.build(PNASNET, images, num_classes, is_training, final_endpoint, config or large_imagenet_config(),
                        current_step, reuse, scope)


def build_pnasnet_mobile(images: tf.Tensor, num_classes: int | None, is_training: bool | tf.Tensor = True,
                         final_endpoint: str | None = None, config: HParams | None = None,
                         current_step: Step = None, reuse: bool | None = None, scope: Scope = None) -> Net:
    """Builds PNASNet-5 (3 @ 1080), also called Mobile; see `nasnet.build_nasnet_large`."""
    return nasnet.build(PNASNET, images, num_classes, is_training, final_endpoint, config or mobile_imagenet_config(),
                        current_step, reuse, scope)


build_pnasnet_large.default_image_size = 331
build_pnasnet_mobile.default_image_size = 224
