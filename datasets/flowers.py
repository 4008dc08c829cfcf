"""TF-Slim's module of this name; the dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['flowers'].splits
get_split = DATASETS['flowers'].get_split
