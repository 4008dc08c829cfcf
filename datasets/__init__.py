"""Datasets: where images and their labels come from.

`dataset_factory.get_dataset(name, split_name, dataset_dir)` gives a `provider.Dataset`, which is TF-Slim's
`slim.dataset.Dataset` and a source of `tf.data`; `pipeline.make_batches` turns it into batches for a network;
`registry.DATASETS` lists what there is, and says how to add one's own. On the command line, `python -m datasets verify`
checks a dataset and `python -m datasets show` draws it.
"""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets.provider import Dataset, DatasetError, decode_image
    from datasets.registry import register

__all__ = ['Dataset', 'DatasetError', 'decode_image', 'register']


def __getattr__(name):
    # Only when asked for, so that `python -m datasets` can start TensorFlow without its messages, and --help at once.
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from datasets import provider, registry

    return getattr(registry if name == 'register' else provider, name)
