"""The order of examples, of every kind of dataset."""
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from datasets import DatasetError
from datasets.dataset_factory import get_dataset


@pytest.fixture(params=['digits', 'image_folder', 'flowers', 'file_list', 'tfrecord'])
def dataset(request):
    if request.param == 'digits':
        return get_dataset('digits', 'test')
    if request.param == 'flowers':
        return get_dataset('flowers', 'train', request.getfixturevalue('flowers'))
    if request.param == 'tfrecord':
        return get_dataset('tfrecord', 'train', request.getfixturevalue('flowers'))
    folder = request.getfixturevalue('tree')(*(f'{name}/{i}.png' for name in 'abc' for i in range(8)))
    if request.param == 'file_list':
        list_file = pathlib.Path(folder, 'list.csv')
        list_file.write_text('path,labels\n' + '\n'.join(
            f'{name}/{i}.png,{name if i % 3 else ""}' for name in 'abc' for i in range(8)))
        return get_dataset('file_list', 'train', str(list_file))
    return get_dataset('image_folder', 'train', folder)


def sources(dataset, count=None, **kwargs):
    data = dataset.as_tf_data(**kwargs)
    return [e['source'] for e in (data if count is None else data.take(count)).as_numpy_iterator()]


def test_each_epoch_holds_everything_once(dataset):
    n, everything = dataset.num_samples, set(sources(dataset))
    assert len(everything) == n
    stream = sources(dataset, 3 * n, shuffle=True, seed=7, repeat=True)
    epochs = [stream[i * n:(i + 1) * n] for i in range(3)]
    assert all(len(epoch) == n and set(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert sources(dataset, shuffle=True, seed=7) == epochs[0]


def test_start_continues(dataset):
    n = dataset.num_samples
    for shuffle in (False, True):
        whole = sources(dataset, 3 * n, shuffle=shuffle, seed=5, repeat=True)
        for start in (0, 1, n - 1, n, 2 * n + 3):
            assert sources(dataset, 9, shuffle=shuffle, seed=5, repeat=True, start=start) == whole[start:start + 9]
        assert sources(dataset, shuffle=shuffle, seed=5, start=4) == whole[4:n]
        assert sources(dataset, start=n) == []


def test_order_depends_on_the_seed_alone(dataset):
    first = sources(dataset, 15, shuffle=True, seed=3)
    tf.random.set_seed(99)
    assert sources(dataset, 15, shuffle=True, seed=3) == first
    assert sources(dataset, 15, shuffle=True, seed=4) != first
    assert sources(dataset, 15, shuffle=True, seed=-3) != first
    assert sources(dataset, 15, shuffle=True, seed=2**40 + 3) != first


def test_shards_share_the_stream(dataset):
    whole = sources(dataset, 30, shuffle=True, seed=1, repeat=True, start=5)
    for index in range(3):
        part = sources(dataset, 10, shuffle=True, seed=1, repeat=True, start=5, num_shards=3, shard_index=index)
        assert part == whole[index::3]


def test_shuffle_is_uniform(flowers):
    dataset, epochs = get_dataset('flowers', 'train', flowers), 160
    everything = sources(dataset)
    stream = [everything.index(s) for s in sources(dataset, 20 * epochs, shuffle=True, repeat=True)]
    for place in (0, 7, 19):
        counts = np.bincount(stream[place::20], minlength=20)
        assert ((counts - epochs / 20)**2).sum() / (epochs / 20) < 50  # chi square, 19 degrees: 1 in 8,000 is above


@pytest.mark.parametrize('arguments', [{'start': -1}, {'num_shards': 2, 'shard_index': 2}, {'num_shards': 0}])
def test_bad_arguments(dataset, arguments):
    with pytest.raises(DatasetError, match='start must be'):
        dataset.as_tf_data(**arguments)
