"""Where collections come from: a row for each dataset, and any folder of class folders."""
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

import slim_zoo_download
from datasets.conversion.collection import Collection, SplitOptions
from datasets.conversion.sources import arrays, folders, imagenet, visualwakewords
from datasets.provider import DatasetError, unknown


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that a dataset is published in, alone if it is an archive; its size and hashes where they are known."""

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.url.rpartition('/')[2]

    @property
    def packed(self) -> bool:
        """Whether it is an archive of files, and not a file."""
        return self.name.endswith(slim_zoo_download.ARCHIVES)

    @property
    def known(self) -> dict[str, Any]:
        """What `slim_zoo_download` can check."""
        return {'size': self.size, 'sha256': self.sha256, 'md5': self.md5}


@dataclasses.dataclass(frozen=True)
class Source:
    """How a known dataset is read.

    Attributes:
      name: the dataset's.
      read: called with a folder that holds what the archives unpack to (a user's --source_dir, or the downloads) and
        the options of the split; returns the Collection, or raises DatasetError.
      archives: what to download; none where the owners of the images want to be asked first.
      advice: where archives is empty: where to get the files, and what --source_dir should hold; a sentence.
    """

    name: str
    read: Callable[[str, SplitOptions], Collection]
    archives: tuple[Archive, ...] = ()
    advice: str = ''


_CIFAR = 'https://www.cs.toronto.edu/~kriz/'
_MNIST = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
_FASHION = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/'

# Sizes and hashes are those that TensorFlow Datasets has published.
SOURCES: Mapping[str, Source] = {source.name: source for source in (
    Source('flowers', folders.flowers, (Archive(
        'http://download.tensorflow.org/example_images/flower_photos.tgz', 228813984,
        '4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c'),)),
    Source('cifar10', arrays.cifar10, (Archive(
        _CIFAR + 'cifar-10-binary.tar.gz', 170052171,
        'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'),)),
    Source('cifar100', arrays.cifar100, (Archive(
        _CIFAR + 'cifar-100-binary.tar.gz', 168513733,
        '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec'),)),
    Source('mnist', arrays.mnist, (
        Archive(_MNIST + 'train-images-idx3-ubyte.gz', 9912422,
                '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
        Archive(_MNIST + 'train-labels-idx1-ubyte.gz', 28881,
                '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
        Archive(_MNIST + 't10k-images-idx3-ubyte.gz', 1648877,
                '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
        Archive(_MNIST + 't10k-labels-idx1-ubyte.gz', 4542,
                'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'))),
    Source('fashion_mnist', arrays.fashion_mnist, (
        Archive(_FASHION + 'train-images-idx3-ubyte.gz', 26421880,
                '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
        Archive(_FASHION + 'train-labels-idx1-ubyte.gz', 29515,
                'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
        Archive(_FASHION + 't10k-images-idx3-ubyte.gz', 4422102,
                '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
        Archive(_FASHION + 't10k-labels-idx1-ubyte.gz', 5148,
                '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5'))),
    Source('imagenette', folders.imagenette, (Archive(
        'https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz', 341663724,
        '569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c'),)),
    Source('imagenet', imagenet.imagenet, advice=(
        'its owners want to be asked first, at image-net.org or on Kaggle; then give the folder with train, validation '
        'and the files beside them, --source_dir.')),
    Source('visualwakewords', visualwakewords.visualwakewords, advice=(
        'get train2014.zip, val2014.zip and annotations_trainval2014.zip from cocodataset.org, unpack them into one '
        'folder, and give that, --source_dir.')),
)}


def read(name: str, source_dir: str | None, options: SplitOptions) -> Collection:
    """The collection of a name.

    Args:
      name: one of `SOURCES`, or with `source_dir` any other, of a dataset of one's own.
      source_dir: what to read: class folders, a list of images, or what a dataset of `SOURCES` is published as, packed
        or unpacked; None to download it.
      options: how it is split.

    Raises:
      DatasetError: there is nothing of that name, or the folder is not as it should be.
      slim_zoo_download.DownloadError: a file cannot be had, or is not what it should be.
    """
    if source_dir and not tf.io.gfile.exists(source_dir):
        raise DatasetError(f'there is no {source_dir} (--source_dir).')
    if name not in SOURCES:
        if not source_dir:
            near = unknown('dataset', name, SOURCES)
            raise DatasetError(f'{str(near)[:-1]}; to convert images of your own, give their folder, --source_dir.')
        return (folders.listed if folders.is_listed(source_dir) else folders.own)(name, source_dir, options)
    source = SOURCES[name]
    if not source_dir and not source.archives:
        raise DatasetError(f'{name} cannot be downloaded: {source.advice}')
    return source.read(fetch(source, source_dir), options)


def fetch(source: Source, source_dir: str | None = None) -> str:
    """The folder with what a dataset's archives unpack to; they are downloaded once if there is no `source_dir`.

    An archive in a `source_dir` is unpacked in the cache; without one there, it is itself the folder.
    """
    if source_dir:
        there = [path for archive in source.archives if archive.packed
                 for path in [os.path.join(source_dir, archive.name)] if os.path.exists(path)]
        return slim_zoo_download.fetch(there[0]) if there else source_dir
    advice = 'give its folder (--source_dir=DIR)'
    if source.archives[0].packed:
        archive, = source.archives
        return slim_zoo_download.fetch(archive.url, advice=advice, **archive.known)
    folder = os.path.join(slim_zoo_download.cache_folder(), source.name)
    with slim_zoo_download.locked(folder):
        for archive in source.archives:
            if not os.path.exists(os.path.join(folder, archive.name)):
                slim_zoo_download.download(archive.url, os.path.join(folder, archive.name), advice=advice,
                                           **archive.known)
    return folder
