import dataclasses

import pytest

from datasets import DatasetError, dataset_factory
from datasets.registry import DATASETS, DatasetRow

BIRDS = DatasetRow(name='birds', splits={'train': None}, num_classes=3, file_pattern='birds_%s.tfrecord', licence='own')


@pytest.mark.parametrize('name, words', [
    ('flower', ["'flower'", "did you mean 'flowers'", 'cifar10', 'image_folder']),
    ('xyzzy', ["'xyzzy'", 'there is digits']),
    ('no_such_module:BIRDS', ['no_such_module']),
    ('dataclasses:BIRDS', ["no attribute 'BIRDS'"]),
    ('dataclasses:field', ['DatasetRow', 'function']),
])
def test_unknown_dataset(name, words):
    with pytest.raises(DatasetError) as error:
        dataset_factory.get_dataset(name, 'train', 'somewhere')
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize('row', [row for row in DATASETS.values() if row.splits], ids=lambda row: row.name)
def test_unknown_split_lists_the_splits(row):
    with pytest.raises(DatasetError) as error:
        dataset_factory.get_dataset(row.name, 'trian', 'somewhere')
    assert "did you mean 'train'" in str(error.value) and ', '.join(row.splits) in str(error.value)


@pytest.mark.parametrize('row', DATASETS.values(), ids=lambda row: row.name)
def test_options_are_refused_where_they_mean_nothing(row):
    with pytest.raises(DatasetError, match='colour'):
        dataset_factory.get_dataset(row.name, 'train', 'somewhere', colour=1)
    if 'validation_fraction' not in row.options:
        with pytest.raises(DatasetError, match=f'{row.name} has no option validation_fraction'):
            dataset_factory.get_dataset(row.name, 'train', 'somewhere', validation_fraction=0.1)


def test_a_row_of_ones_own(records, encode, tmp_path, monkeypatch):
    folder = records('birds_train.tfrecord', [(encode(i), i) for i in range(3)])
    assert dataset_factory.get_dataset(BIRDS, 'train', folder).num_samples == 3
    (tmp_path / 'my_birds.py').write_text(
        'from datasets.registry import DatasetRow\n'
        "BIRDS = DatasetRow('birds', {'train': None}, 3, 'birds_%s.tfrecord', 'own')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    dataset = dataset_factory.get_dataset('my_birds:BIRDS', 'train', folder)
    assert (dataset.num_samples, dataset.num_classes, dataset.name) == (3, 3, 'birds')


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DATASETS['flowers'].num_classes = 6
