"""TF-Slim's module of this name; the dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['cifar10'].splits
get_split = DATASETS['cifar10'].get_split
