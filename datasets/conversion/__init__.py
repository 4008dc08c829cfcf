"""Conversion of images into TFRecord shards of TF-Slim's layout.

A *source* (`sources.SOURCES`, a row each) reads a folder into a `collection.Collection`: which images there are, with
which labels, in which split and order. `convert.convert` writes a collection into shards; what happens to one image is
`images.convert_image`. A shard depends on its items and on the options alone, so shards can be written in any order, by
any number of workers, on any engine, and again.
"""


def download_and_convert(name: str, dataset_dir: str) -> None:
    """Downloads a dataset and converts it, as TF-Slim's modules `download_and_convert_flowers` and so on do.

    Args:
      name: one of `sources.SOURCES`.
      dataset_dir: the folder to write to.

    Raises:
      DatasetError, slim_zoo_download.DownloadError: it cannot be had or written.
    """
    from datasets.conversion import convert, sources
    from datasets.conversion.collection import SplitOptions

    convert.convert(convert.Conversion(sources.read(name, None, SplitOptions()), dataset_dir))
