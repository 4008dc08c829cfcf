"""What a prediction is told: the flags of `predict_image_classifier.py`, checked before TensorFlow starts."""
import dataclasses
import os

from training.classifier_config import ClassifierConfig
from training.settings import GROUPS, ConfigError, flag

FORMATS = ('table', 'csv', 'jsonl')
STDIN = '-'

_MOST_USED, _RUN, _, _OUTPUT = GROUPS[:4]


@dataclasses.dataclass(frozen=True)
class PredictConfig(ClassifierConfig):
    """The settings of `predict_image_classifier.py`.

    Raises:
      ConfigError: a value is out of range or unknown, or two do not go together.
    """

    top_k: int = flag(5, 'How many classes of each image are told, the most probable first.', _MOST_USED, minimum=1)
    output: str | None = flag(None, 'Write the predictions into this file; to standard output if not set.', _MOST_USED)
    batch_size: int = flag(32, 'Images at a time.', _RUN, minimum=1)
    precision: str = flag('float32', 'What the network computes in.', _RUN, choices=('float32', 'bfloat16'))
    format: str | None = flag(None, "Of the predictions; if not set, by the end of --output's name, or a table.",
                              _OUTPUT, choices=FORMATS)
    overwrite: bool = flag(False, 'Replace --output where it is there already.', _OUTPUT)
    explain: str | None = flag(
        None, 'Draw for each image where the network sees the class: by the gradient at its last map, or by what '
        'covering parts of the image changes (slow).', _OUTPUT, choices=('gradcam', 'occlusion'))
    explain_class: str | None = flag(None, 'Which class, by name or label; the most probable if not set.', _OUTPUT)
    explain_endpoint: str | None = flag(None, 'gradcam: at which endpoint (`python -m nets NETWORK` lists them); the '
                                        'last with a map if not set.', _OUTPUT)
    explain_dir: str = flag('explained', 'Where these pictures go.', _OUTPUT)

    def __post_init__(self):
        super().__post_init__()
        if self.output and os.path.exists(self.output) and not self.overwrite:
            raise ConfigError(f'--output={self.output} is there already: --overwrite replaces it.')
        if self.output and os.path.isdir(self.output):
            raise ConfigError(f'--output={self.output} is a folder; it must be a file.')
        for name in ('explain_class', 'explain_endpoint'):
            if getattr(self, name) and not self.explain:
                raise ConfigError(f'--{name} says what is explained: add --explain=gradcam.')
        if self.explain_endpoint and self.explain != 'gradcam':
            raise ConfigError('--explain_endpoint is of --explain=gradcam.')
        if self.explain == 'gradcam' and self.is_saved_model:
            raise ConfigError('--explain=gradcam: a SavedModel gives no gradients; take --explain=occlusion, or the '
                              'checkpoint that it was made of.')

    @property
    def output_format(self) -> str:
        """`format`, or what the name of `output` says."""
        ending = os.path.splitext(self.output or '')[1][1:].lower()
        return self.format or {'json': 'jsonl', 'ndjson': 'jsonl'}.get(ending, ending if ending in FORMATS else 'table')


def check_images(operands: list[str]) -> None:
    """ConfigError where there is none of the images and folders that are to be looked at."""
    if not operands:
        raise ConfigError('Say which images: files, folders, or - for a list of files on standard input.')
    if operands.count(STDIN) > 1:
        raise ConfigError('- stands for standard input, which can be read once.')
    for operand in operands:
        if operand != STDIN and '://' not in operand and not os.path.exists(operand):
            raise ConfigError(f'There is no image or folder {operand}.')
