"""As TF-Slim's modules of datasets; this dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['fashion_mnist'].splits
get_split = DATASETS['fashion_mnist'].get_split
