"""TF-Slim's module of this name; the dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['visualwakewords'].splits
get_split = DATASETS['visualwakewords'].get_split
