"""Atrous (dilated) convolution: strides that become rates, and padding that does not depend on the map's size."""
import itertools
import operator
from collections.abc import Iterable

import tensorflow as tf

Size = int | tuple[int, int] | list[int]


def strides_and_rates(strides: Iterable[int], output_stride: int | None) -> list[tuple[int, int]]:
    """Returns (stride, rate) of each layer: dilated, not strided, once the product of the strides is `output_stride`.

    Raises:
      ValueError: the product of the strides passes by `output_stride`.
    """
    strides = list(strides)
    products = sorted({1, *itertools.accumulate(strides, operator.mul)})
    if output_stride is not None and output_stride < products[-1] and output_stride not in products:
        raise ValueError(f'output_stride must be one of {", ".join(map(str, products))}; it is {output_stride}.')
    result, total, rate = [], 1, 1
    for stride in strides:
        if total == output_stride:
            result.append((1, rate))
            rate *= stride
        else:
            result.append((stride, rate))
            total *= stride
    return result


def fixed_padding(net: tf.Tensor, kernel_size: Size, rate: int = 1) -> tf.Tensor:
    """Pads [batch, height, width, channels] with zeros for a `VALID` convolution.

    Where a stride follows, SAME pads by the size of the map; this depends on the kernel alone.
    """
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    total = [(size - 1) * rate for size in (height, width)]
    return tf.pad(net, [[0, 0], *([size // 2, size - size // 2] for size in total), [0, 0]])
