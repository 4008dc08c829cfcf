"""What a conversion is told: the flags of `download_and_convert_data.py`, checked before TensorFlow starts."""
import dataclasses
import os
import re

from training.settings import GROUPS, Config, ConfigError, flag

_USED, _RUN, _DATA, _OUTPUT = GROUPS[:4]
SPLIT = ('seed', 'num_validation', 'validation_fraction', 'stratify', 'num_shards')
IMAGES = ('max_side', 'reencode', 'jpeg_quality')


@dataclasses.dataclass(frozen=True)
class ConvertConfig(Config):
    """The settings of `download_and_convert_data.py`.

    Raises:
      ConfigError: a value is out of range or unknown, something needed is not given, or two do not go together.
    """

    dataset_name: str = flag(
        '', 'flowers, cifar10, cifar100, mnist, fashion_mnist, imagenette, ...; or with --source_dir any name for your '
        'own.', _USED)
    dataset_dir: str = flag('', 'Where the TFRecord files, labels.txt and the report go; a conversion in it goes on.',
                            _USED)
    source_dir: str | None = flag(
        None, 'Images of your own: a folder of class folders (or of train, validation and test with class folders in '
        'them), or a list: .csv, .tsv or .jsonl with path and label. With the name of a known dataset: its files, '
        'packed or not, in place of the download.', _USED)

    num_workers: int | None = flag(None, 'Images at a time; as many as there are processors if not set. The files are '
                                   'the same.', _RUN, minimum=1)
    strict: bool = flag(False, 'Stop at the first image that the report would have.', _RUN)
    beam_options: str | None = flag(
        None, 'Convert on Apache Beam, for collections past one machine, with these of its own options, separated by '
        'spaces: "--runner=DataflowRunner --project=..."; "" is on this machine.', _RUN)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)

    max_side: int | None = flag(None, 'Shrink images whose longer side has more pixels than this.', _DATA, minimum=1)
    reencode: bool = flag(False, 'Make every image JPEG, and turn it upright where its EXIF says so. Otherwise JPEG '
                          'and PNG files stay as they are, byte for byte.', _DATA)
    jpeg_quality: int = flag(95, 'Of what is encoded as JPEG.', _DATA, minimum=1, maximum=100)
    duplicates: str = flag('keep', 'What is done with images of the same bytes as one before; the report has them.',
                           _DATA, choices=('keep', 'skip'))
    num_validation: int | None = flag(None, 'Images to hold out where the source has no splits; flowers: 350.', _DATA,
                                      minimum=0)
    validation_fraction: float | None = flag(None, 'In place of that, which part of them; 0.1 if neither is set.',
                                             _DATA, minimum=0.0, maximum=0.9)
    stratify: bool = flag(False, 'Hold out the same part of each class.', _DATA)
    seed: int = flag(0, 'Of the order of the images, and so of which are held out.', _DATA, minimum=0)

    num_shards: int | None = flag(None, 'Files of each split; 5 if not set.', _OUTPUT, minimum=1, maximum=99999)

    def __post_init__(self):
        super().__post_init__()
        if not self.dataset_name:
            raise ConfigError('--dataset_name is needed: a dataset to download, such as flowers, or with --source_dir '
                              'a name for your own.')
        if not re.fullmatch(r'\w[\w.-]*', self.dataset_name):
            raise ConfigError(f'--dataset_name={self.dataset_name}: file names begin with it, so it must be letters, '
                              'digits, and any of _ - .')
        if not self.dataset_dir:
            raise ConfigError('--dataset_dir is needed: the folder to write to.')
        if self.num_validation is not None and self.validation_fraction is not None:
            raise ConfigError('Give one of --num_validation and --validation_fraction.')
        if self.source_dir and _inside(self.dataset_dir, self.source_dir):
            raise ConfigError(f'--dataset_dir={self.dataset_dir} lies in --source_dir={self.source_dir}: write to '
                              'another folder, so that what is read and what is written do not mix.')

    def some(self, names: tuple[str, ...]) -> dict:
        """The values of some settings, by name."""
        return {name: getattr(self, name) for name in names}


def _inside(folder, other):
    if '://' in folder or '://' in other:
        return f'{folder.rstrip("/")}/'.startswith(f'{other.rstrip("/")}/')
    folder, other = os.path.realpath(folder), os.path.realpath(other)
    return os.path.commonpath([folder, other]) == other
