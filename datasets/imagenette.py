"""As TF-Slim's modules of datasets; this dataset is a row of the registry."""
from datasets.registry import DATASETS

SPLITS_TO_SIZES = DATASETS['imagenette'].splits
get_split = DATASETS['imagenette'].get_split
