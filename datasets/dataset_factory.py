"""TF-Slim's `get_dataset`: a dataset by its name."""
import dataclasses
import importlib

from datasets.provider import Dataset, DatasetError, unknown
from datasets.registry import DATASETS, DatasetRow
from datasets.tfds import TENSORFLOW_DATASETS

datasets_map = DATASETS


def get_dataset(name: str | DatasetRow, split_name: str, dataset_dir: str | None = None,
                file_pattern: str | None = None, reader=None, **options) -> Dataset:
    """Opens a split of a dataset.

    Args:
      name: of a row in `registry.DATASETS`; or `tfds:NAME` for any of TensorFlow Datasets; or `module:ROW` for a row of
        one's own, or the row itself.
      split_name: such as 'train'.
      dataset_dir: the folder of the files; of file_list also the list itself.
      file_pattern: of the TFRecord files, with %s for the split name, in place of TF-Slim's.
      reader: the class that `DatasetDataProvider` reads with, in place of `tf.compat.v1.TFRecordReader`.
      **options: what the dataset takes besides, such as `validation_fraction` of image_folder: see its row.

    Returns:
      A `slim.dataset.Dataset` that is also a source of `tf.data`: see `provider.Dataset`.

    Raises:
      DatasetError: if there is no such dataset or split, an argument does not fit, or files are missing or cut short.
    """
    row = name if isinstance(name, DatasetRow) else find_row(name)
    return row.get_split(split_name, dataset_dir, file_pattern, reader, **options)


def find_row(name: str) -> DatasetRow:
    """The row of a name, of `tfds:NAME`, or of `module:ROW`; DatasetError if there is none."""
    if name in DATASETS:
        return DATASETS[name]
    module, colon, attribute = name.partition(':')
    if not colon:
        raise unknown('dataset', name, DATASETS)
    if module == 'tfds':
        return dataclasses.replace(DATASETS[TENSORFLOW_DATASETS], name=name)
    try:
        holder = importlib.import_module(module)
        row = getattr(holder, attribute) if hasattr(holder, attribute) else DATASETS[attribute]
    except ImportError as error:
        raise DatasetError(f'there is no dataset {name}: {error}.') from None
    except KeyError:
        raise DatasetError(f'there is no dataset {name}: the module {module} has no attribute {attribute!r}, and has '
                           f'registered no dataset of that name.') from None
    if not isinstance(row, DatasetRow):
        raise DatasetError(f'{name} should be a datasets.registry.DatasetRow, but is a {type(row).__name__}.')
    return row
