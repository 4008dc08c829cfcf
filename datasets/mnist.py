"""TF-Slim's module of this name; the dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['mnist'].splits
get_split = DATASETS['mnist'].get_split
