"""The datasets: a row each.

One's own is a row too. It is given to `dataset_factory.get_dataset` in place of a name, or registered from anywhere:

    import datasets
    from datasets.registry import DatasetRow

    BIRDS = datasets.register(DatasetRow(
        name='birds', splits={'train': 900, 'test': 100}, num_classes=20, file_pattern='birds_%s_*.tfrecord',
        licence='own photos'))

From then on `birds` is a name like the others. Where a name is given before the module that holds it was imported, as
on a command line, it is written with its module: `--dataset_name=my_data:birds`, or `my_data:BIRDS`, for the above in a
file `my_data.py` on the Python path.

The sizes of the splits are nominal: what the files hold is counted. Class folders of images need no row, `image_folder`
reads them; nor do lists of images (`file_list`) and TFRecords of TF-Slim's layout (`tfrecord`). Anything else takes a
`provider`: a class that derives from `provider.Dataset` and is called as `tfrecords.TFRecords` is.
"""
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from datasets import tfds
from datasets.digits import Digits
from datasets.file_list import FileList
from datasets.image_folder import ImageFolder
from datasets.provider import Dataset, DatasetError, unknown
from datasets.tfrecords import TFRecords


@dataclass(frozen=True)
class DatasetRow:
    """What is known of a dataset before its files are opened."""

    name: str
    splits: Mapping[str, int | None]  # the nominal number of images of each; empty: what there is, the files say
    num_classes: int | None
    file_pattern: str | None  # of TFRecord files, with %s for the split
    licence: str
    provider: Callable[..., Dataset] = TFRecords
    channels: int = 3
    shape: tuple[int, int, int] | None = None  # where all images have the same
    class_names: tuple[str, ...] | None = None  # by label, where they are fixed; a labels.txt beside the files wins
    items_to_descriptions: Mapping[str, str] = field(default_factory=lambda: {
        'image': 'A colour image of any size.', 'label': 'The class, an integer.'})
    options: tuple[str, ...] = ()  # keyword arguments of the provider beyond TF-Slim's

    def get_split(self, split_name: str, dataset_dir: str | None = None, file_pattern: str | None = None,
                  reader=None, skip_corrupt: bool = False, **options) -> Dataset:
        """Opens a split.

        Args:
          split_name: such as 'train'.
          dataset_dir: the folder of the files.
          file_pattern: in place of the row's, with %s for the split name.
          reader: the class that `DatasetDataProvider` reads `data_sources` with, in place of the TFRecord reader.
          skip_corrupt: whether damage to TFRecord files ends nothing, see `TFRecords`.
          **options: those that the row names, such as `validation_fraction` of image_folder.

        Raises:
          DatasetError: if an argument does not fit, or the files are missing or cut short.
        """
        if self.splits and split_name not in self.splits:
            raise unknown(f'split of {self.name}', split_name, self.splits)
        for option in options:
            if option not in self.options:
                raise DatasetError(f'{self.name} has no option {option}; it has {", ".join(self.options) or "none"}.')
        if skip_corrupt and isinstance(self.provider, type) and issubclass(self.provider, TFRecords):
            options['skip_corrupt'] = True
        folder = os.path.expanduser(dataset_dir) if dataset_dir else None  # which leaves gs:// as it is
        return self.provider(self, split_name, folder, file_pattern, reader, **options)


IMAGENET_ITEMS = {
    'image': 'A colour image of any size.',
    'label': 'The class, an integer; 0 is the background.',
    'label_text': 'The words of the class.',
    'object/bbox': 'Bounding boxes [n, 4]: ymin, xmin, ymax, xmax, from 0 to 1.',
    'object/label': 'The class of each box.',
}

GREY_ITEMS = {'image': 'A grey image.', 'label': 'The class, an integer.'}

FLOWERS = ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips')
DIGIT_WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
FASHION = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
CIFAR100 = tuple("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split())
IMAGENETTE = ('tench', 'English springer', 'cassette player', 'chain saw', 'church', 'French horn', 'garbage truck',
              'gas pump', 'golf ball', 'parachute')

# The words that stand beside TF-Slim's published weights; two classes are called crane.
IMAGENET = tuple(line.partition(':')[2] for line in (Path(__file__).parent / 'imagenet_labels.txt').read_text(
    encoding='utf-8').splitlines())

_OWN = "the images' own"
_datasets = {row.name: row for row in (
    DatasetRow('digits', {'train': 1437, 'test': 360}, 10, None, 'CC BY 4.0', Digits, channels=1, shape=(32, 32, 1),
               class_names=tuple('0123456789')),
    DatasetRow('image_folder', {}, None, None, _OWN, ImageFolder, options=('validation_fraction',)),
    DatasetRow('file_list', {}, None, None, _OWN, FileList, options=('validation_fraction',)),
    DatasetRow('tfrecord', {}, None, None, _OWN, options=('num_classes', 'multi_label')),
    DatasetRow(tfds.TENSORFLOW_DATASETS, {}, None, None, "the dataset's own, which its info states", tfds.open_split,
               options=('validation_fraction', 'image_key', 'label_key')),
    DatasetRow('mnist', {'train': 60000, 'test': 10000}, 10, 'mnist_%s.tfrecord', 'CC BY-SA 3.0',
               channels=1, shape=(28, 28, 1), class_names=DIGIT_WORDS, items_to_descriptions=GREY_ITEMS),
    DatasetRow('fashion_mnist', {'train': 60000, 'test': 10000}, 10, 'fashion_mnist_%s.tfrecord', 'MIT',
               channels=1, shape=(28, 28, 1), class_names=FASHION, items_to_descriptions=GREY_ITEMS),
    DatasetRow('cifar10', {'train': 50000, 'test': 10000}, 10, 'cifar10_%s.tfrecord', 'none stated',
               shape=(32, 32, 3), class_names=CIFAR10),
    DatasetRow('cifar100', {'train': 50000, 'test': 10000}, 100, 'cifar100_%s.tfrecord', 'none stated',
               shape=(32, 32, 3), class_names=CIFAR100),
    DatasetRow('flowers', {'train': 3320, 'validation': 350}, 5, 'flowers_%s_*.tfrecord', "CC BY, the photographers'",
               class_names=FLOWERS),
    DatasetRow('imagenet', {'train': 1281167, 'validation': 50000}, 1001, '%s-*', 'for non-commercial research',
               class_names=IMAGENET, items_to_descriptions=IMAGENET_ITEMS),
    DatasetRow('imagenette', {'train': 9469, 'validation': 3925}, 10, 'imagenette_%s_*.tfrecord',
               "Apache 2.0; the photos are ImageNet's, for non-commercial research", class_names=IMAGENETTE),
    DatasetRow('visualwakewords', {'train': 82783, 'val': 40504}, 2, '%s.record-*', "COCO: CC BY 4.0, photos' own",
               class_names=('background', 'person')),
)}
DATASETS: Mapping[str, DatasetRow] = MappingProxyType(_datasets)


def register(row: DatasetRow) -> DatasetRow:
    """Makes a dataset of one's own known by its name, and returns its row.

    Raises:
      DatasetError: another dataset has the name, or it has a colon, which stands between a module and a name.
    """
    if ':' in row.name or not row.name:
        raise DatasetError(f'{row.name!r} cannot be the name of a dataset: it should have a letter, and no colon.')
    if DATASETS.get(row.name, row) != row:
        raise DatasetError(f'there is a dataset {row.name} already: give yours another name.')
    _datasets[row.name] = row
    return row
