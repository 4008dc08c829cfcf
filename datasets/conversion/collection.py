"""What there is to convert: images with labels, in splits, and the files that they go to."""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SHARDED = '{name}_{split}_{shard:05d}-of-{num_shards:05d}.tfrecord'
SINGLE = '{name}_{split}.tfrecord'


@dataclasses.dataclass(frozen=True)
class Item:
    """An image to convert, which becomes one Example.

    Attributes:
      name: what it is called in reports, unique in its collection and the same wherever the source lies, such as
        `daisy/5547758_eea9edfd54_n.jpg`.
      image: a path that `tf.io.gfile` reads; or the bytes of an encoded image; or its pixels, uint8
        `[height, width, channels]` with 1 or 3 channels, which are written as PNG.
      label: the class; or a tuple of classes, of an image that may have several or none.
      features: of its Example, by name, besides those of every image (encoded, format, height, width, class/label);
        a value is an int, float, str or bytes, or a sequence of one of these.
    """

    name: str
    image: str | bytes | np.ndarray
    label: int | tuple[int, ...]
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Collection:
    """All images of a dataset, in the order in which they are written.

    Attributes:
      name: of the dataset.
      splits: from the name of a split to its items, in order.
      class_names: from label to name, what labels.txt will hold; every label is in it.
      num_shards: of each split. A split of n items has them from n * i // shards to n * (i + 1) // shards in shard i.
      file_name: of a shard, in the fields `name`, `split`, `shard` and `num_shards`; see `SHARDED`.
      jpeg_format: what `image/format` says of a JPEG: TF-Slim has 'jpg' for flowers, 'JPEG' for ImageNet.
    """

    name: str
    splits: Mapping[str, Sequence[Item]]
    class_names: Mapping[int, str]
    num_shards: Mapping[str, int]
    file_name: str = SHARDED
    jpeg_format: str = 'jpg'

    def shards(self) -> 'list[Shard]':
        """The files to be written, in order."""
        return [Shard(self.file_name.format(name=self.name, split=split, shard=shard, num_shards=shards), split,
                      items[len(items) * shard // shards:len(items) * (shard + 1) // shards], self.jpeg_format)
                for split, items in self.splits.items() for shards in [self.num_shards[split]]
                for shard in range(shards)]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file to be written: its name (without a folder), its split, its items in order."""

    file_name: str
    split: str
    items: Sequence[Item]
    jpeg_format: str


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How a source that comes without splits is split, and into how many files; None: as the source has it by default.

    Attributes:
      seed: of the order in which images are written, and so of what is held out.
      num_validation: how many images are held out.
      validation_fraction: in place of that, the part of them that is.
      stratify: whether each class is held out in the same proportion.
      num_shards: of each split.
    """

    seed: int = 0
    num_validation: int | None = None
    validation_fraction: float | None = None
    stratify: bool = False
    num_shards: int | None = None


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """What is done to images.

    Attributes:
      max_side: images with a longer side are shrunk so that it has this many pixels; None for no bound.
      reencode: whether all become JPEG. Otherwise JPEG and PNG files stay as they are, byte for byte, where they can,
        and what cannot stay so becomes JPEG if it was JPEG, and PNG else.
      jpeg_quality: of what is encoded as JPEG, 1 to 100.
    """

    max_side: int | None = None
    reencode: bool = False
    jpeg_quality: int = 95
