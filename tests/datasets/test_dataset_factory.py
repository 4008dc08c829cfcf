import dataclasses

import pytest

import datasets
from datasets import DatasetError, dataset_factory, registry
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


def test_a_row_that_is_registered(records, encode, tmp_path, monkeypatch):
    folder = records('robins_train.tfrecord', [(encode(i), i) for i in range(3)])
    (tmp_path / 'my_robins.py').write_text(
        'import datasets\nfrom datasets.registry import DatasetRow\n'
        "datasets.register(DatasetRow('robins', {'train': None}, 3, 'robins_%s.tfrecord', 'own'))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, '_datasets', rows := dict(DATASETS))
    for module in (registry, dataset_factory):
        monkeypatch.setattr(module, 'DATASETS', rows)
    with pytest.raises(DatasetError, match="'robins' is no dataset"):
        dataset_factory.get_dataset('robins', 'train', folder)
    for name in ('my_robins:robins', 'robins'):
        assert dataset_factory.get_dataset(name, 'train', folder).num_samples == 3
    with pytest.raises(DatasetError, match='my_robins has no attribute .wrens., and has registered no dataset'):
        dataset_factory.get_dataset('my_robins:wrens', 'train', folder)


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, '_datasets', rows := dict(DATASETS))
    monkeypatch.setattr(registry, 'DATASETS', rows)
    assert datasets.register(BIRDS) is BIRDS and datasets.register(dataclasses.replace(BIRDS)) == BIRDS
    for row in (dataclasses.replace(BIRDS, num_classes=4), dataclasses.replace(BIRDS, name='flowers')):
        with pytest.raises(DatasetError, match=f'there is a dataset {row.name} already'):
            datasets.register(row)
    for name in ('', 'my:birds'):
        with pytest.raises(DatasetError, match='cannot be the name of a dataset'):
            datasets.register(dataclasses.replace(BIRDS, name=name))


@pytest.mark.parametrize('row', [row for row in DATASETS.values() if row.num_classes], ids=lambda row: row.name)
def test_classes_have_names(row):
    again = {'imagenet': 1}     # there is a crane that flies and one that lifts
    assert len(row.class_names) == row.num_classes == len(set(row.class_names)) + again.get(row.name, 0)


def test_imagenets_classes():
    """Of TF-Slim's published MobileNet: what it answers on photos of these."""
    names = DATASETS['imagenet'].class_names
    assert names[0] == 'background' and names[135] == names[518] == 'crane'
    for label, word in ((20, 'chickadee'), (89, 'macaw'), (282, 'tabby, tabby cat'), (286, 'Egyptian cat'),
                        (301, 'tiger beetle'), (986, 'daisy'), (1000, 'toilet tissue, toilet paper, bathroom tissue')):
        assert names[label] == word


def test_cifar100s_classes():
    names = DATASETS['cifar100'].class_names
    assert list(names) == sorted(names)  # as the authors' list is; these stand at these places of it
    assert [names[i] for i in (0, 19, 49, 51, 99)] == ['apple', 'cattle', 'mountain', 'mushroom', 'worm']


@pytest.mark.parametrize('theirs, ours', [('fashion_mnist', 'fashion_mnist'), ('tf_flowers', 'flowers')])
def test_class_names_are_tensorflow_datasets(theirs, ours, tmp_path):
    tfds = pytest.importorskip('tensorflow_datasets')
    names = tfds.builder(theirs, data_dir=str(tmp_path)).info.features['label'].names
    # They have the flowers in another order, TF-Slim sorted them.
    assert list(DATASETS[ours].class_names) == (sorted(names) if ours == 'flowers' else names)


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DATASETS['flowers'].num_classes = 6
    with pytest.raises(TypeError):
        DATASETS['mine'] = DATASETS['flowers']
