"""The datasets: a row each.

One's own is a row too. It can be given to `dataset_factory.get_dataset` in place of a name, or named there, and so on
the command line, by where it stands, as `--dataset_name=birds:BIRDS` for this in a file `birds.py` on the Python path:

    from datasets.registry import DatasetRow

    BIRDS = DatasetRow(name='birds', splits={'train': 900, 'test': 100}, num_classes=20,
                       file_pattern='birds_%s_*.tfrecord', licence='own photos')

The sizes of the splits are nominal: what the files hold is counted. Class folders of images need no row, `image_folder`
reads them. Anything else takes a `provider`: a class that derives from `provider.Dataset` and is called as
`tfrecords.TFRecords` is.
"""
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from datasets.digits import Digits
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
    items_to_descriptions: Mapping[str, str] = field(default_factory=lambda: {
        'image': 'A colour image of any size.', 'label': 'The class, an integer.'})
    options: tuple[str, ...] = ()  # keyword arguments of the provider beyond TF-Slim's

    def get_split(self, split_name: str, dataset_dir: str | None = None, file_pattern: str | None = None,
                  reader=None, **options) -> Dataset:
        """Opens a split.

        Args:
          split_name: such as 'train'.
          dataset_dir: the folder of the files.
          file_pattern: in place of the row's, with %s for the split name.
          reader: the class that `DatasetDataProvider` reads `data_sources` with, in place of the TFRecord reader.
          **options: those that the row names, such as `validation_fraction` of image_folder.

        Raises:
          DatasetError: if an argument does not fit, or the files are missing or cut short.
        """
        if self.splits and split_name not in self.splits:
            raise unknown(f'split of {self.name}', split_name, self.splits)
        for option in options:
            if option not in self.options:
                raise DatasetError(f'{self.name} has no option {option}; it has {", ".join(self.options) or "none"}.')
        folder = os.path.expanduser(dataset_dir) if dataset_dir else None
        return self.provider(self, split_name, folder, file_pattern, reader, **options)


IMAGENET_ITEMS = {
    'image': 'A colour image of any size.',
    'label': 'The class, an integer; 0 is the background.',
    'label_text': 'The words of the class.',
    'object/bbox': 'Bounding boxes [n, 4]: ymin, xmin, ymax, xmax, from 0 to 1.',
    'object/label': 'The class of each box.',
}

DATASETS: Mapping[str, DatasetRow] = {row.name: row for row in (
    DatasetRow('digits', {'train': 1437, 'test': 360}, 10, None, 'CC BY 4.0', Digits, channels=1, shape=(32, 32, 1)),
    DatasetRow('image_folder', {}, None, None, "the images' own", ImageFolder, options=('validation_fraction',)),
    DatasetRow('mnist', {'train': 60000, 'test': 10000}, 10, 'mnist_%s.tfrecord', 'CC BY-SA 3.0',
               channels=1, shape=(28, 28, 1)),
    DatasetRow('cifar10', {'train': 50000, 'test': 10000}, 10, 'cifar10_%s.tfrecord', 'none stated',
               shape=(32, 32, 3)),
    DatasetRow('flowers', {'train': 3320, 'validation': 350}, 5, 'flowers_%s_*.tfrecord', "CC BY, the photographers'"),
    DatasetRow('imagenet', {'train': 1281167, 'validation': 50000}, 1001, '%s-*', 'for non-commercial research',
               items_to_descriptions=IMAGENET_ITEMS),
    DatasetRow('visualwakewords', {'train': 82783, 'val': 40504}, 2, '%s.record-*', "COCO: CC BY 4.0, photos' own"),
)}
