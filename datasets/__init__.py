"""Datasets: where images and their labels come from.

`dataset_factory.get_dataset(name, split_name, dataset_dir)` gives a `provider.Dataset`, which is TF-Slim's
`slim.dataset.Dataset` and a source of `tf.data`; `pipeline.make_batches` turns it into batches for a network;
`registry.DATASETS` lists what there is, and says how to add one's own.
"""
from datasets.provider import Dataset, DatasetError, decode_image

__all__ = ['Dataset', 'DatasetError', 'decode_image']
