"""TF-Slim's module of this name: `run(dataset_dir)`."""
import functools

from datasets.conversion import download_and_convert

run = functools.partial(download_and_convert, 'flowers')
