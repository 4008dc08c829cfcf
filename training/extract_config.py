"""What an extraction is told: the flags of `extract_endpoints.py`, checked before TensorFlow starts."""
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from training.config import PADDINGS, load_train_config
from training.settings import GROUPS, Config, ConfigError, flag

FORMATS = ('npz', 'npy', 'hdf5', 'tfrecord')

_RUN, _DATA, _OUTPUT = GROUPS[1:4]
# Without --images_per_shard a shard has at least so many images.
_SHARD = 1000
_INPUTS = ('images', 'file_list', 'dataset_name')


@dataclasses.dataclass(frozen=True)
class ExtractConfig(Config):
    """The settings of `extract_endpoints.py`.

    Raises:
      ConfigError: a value is out of range or unknown, something needed is not given, or two do not go together.
    """

    checkpoint_path: str | None = flag(
        None, "The weights: a checkpoint or a folder with one, or another library's file (see `nets.weights.read`).",
        _RUN)
    moving_average_decay: float | None = flag(
        None, 'Use the moving averages of the variables (any value turns this on).', _RUN)
    batch_size: int = flag(32, 'Images at a time.', _RUN, minimum=1)
    precision: str = flag('float32', 'What the network computes in.', _RUN, choices=('float32', 'bfloat16'))
    num_shards: int = flag(1, 'Workers that share the job, each with the same flags but for --shard_index.', _RUN,
                           minimum=1)
    shard_index: int = flag(0, 'Which of them this is; it writes the files shard_index, shard_index + num_shards, ...',
                            _RUN, minimum=0)
    skip_unreadable: bool = flag(False, 'Leave out images that cannot be read, and list them in index.json.', _RUN)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)

    images: str | None = flag(None, 'A folder with images, any tree; or one image.', _DATA)
    file_list: str | None = flag(None, 'A text file with the path of an image on each line.', _DATA)
    dataset_name: str | None = flag(None, 'A dataset: digits, image_folder, flowers, ...', _DATA)
    dataset_dir: str | None = flag(None, 'Where the dataset lies; digits needs none.', _DATA)
    dataset_split_name: str = flag('train', 'The split of the dataset.', _DATA)
    validation_fraction: float | None = flag(
        None, 'image_folder: the part of each class held out where the folder has no splits of its own (0.1).', _DATA,
        above=0.0, maximum=0.9)
    file_pattern: str | None = flag(
        None, "TFRecord files: their names, with %s for the split, in place of the dataset's own.", _DATA)
    num_classes: int | None = flag(None, 'tfrecord without a labels.txt: the number of classes; counted if not set.',
                                   _DATA, minimum=1)
    model_name: str = flag('inception_v3', 'The network; `python -m nets` lists them.', _DATA)
    padding: str = flag('tf_slim', "Whose way to pad maps: torch for PyTorch's weights of Inception V1 and V3, "
                        "keras for Keras's of NASNet.", _DATA, choices=PADDINGS)
    preprocessing_name: str | None = flag(None, "The preprocessing; the network's own if not set.", _DATA)
    image_size: int | None = flag(None, "Height and width of the network's input; its default if not set.", _DATA,
                                  minimum=1)
    num_preprocessing_threads: int = flag(4, 'Images decoded and prepared in parallel.', _DATA, minimum=1)

    endpoints: str | None = flag(
        None, 'Comma-separated names or patterns: Mixed_3c,Mixed_5*,Logits; `python -m nets MODEL` lists them.',
        _OUTPUT)
    pool: str = flag('none', 'Over height and width: all values, their mean, or their maximum.', _OUTPUT,
                     choices=('none', 'avg', 'max'))
    output_dir: str = flag('features', 'Where to; an extraction in it is resumed.', _OUTPUT)
    format: str = flag('npz', 'Of the files.', _OUTPUT, choices=FORMATS)
    output_type: str = flag('float32', 'Of the values in them.', _OUTPUT, choices=('float32', 'float16'))
    images_per_shard: int | None = flag(
        None, f'Images in a file, a multiple of batch_size; the first from {_SHARD} if not set.', _OUTPUT, minimum=1)
    plot: str | None = flag(
        None, 'Draw the maps of one image (--images=photo.jpg) into this file, FILE.png, and write nothing else.',
        _OUTPUT)

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in _INPUTS if getattr(self, name)]
        if len(given) != 1:
            there = ' and '.join(f'--{name}' for name in given) or 'none'
            raise ConfigError('One of --images (a folder, or an image), --file_list and --dataset_name says what to '
                              f'read; given: {there}.')
        if not self.checkpoint_path:
            raise ConfigError("--checkpoint_path is needed: without weights a network's endpoints mean nothing.")
        if not self.endpoint_names:
            raise ConfigError('--endpoints is needed, such as --endpoints=Mixed_3c,Mixed_5*; '
                              f'`python -m nets {self.model_name}` lists the endpoints.')
        if self.shard_index >= self.num_shards:
            raise ConfigError(f'--shard_index={self.shard_index}: with --num_shards={self.num_shards} it must be from '
                              f'0 to {self.num_shards - 1}.')
        if self.shard_size % self.batch_size:
            below = self.shard_size // self.batch_size * self.batch_size
            valid = ' or '.join(str(size) for size in (below, below + self.batch_size) if size)
            raise ConfigError(f'--images_per_shard={self.shard_size}: it must be a multiple of '
                              f'--batch_size={self.batch_size}, such as {valid}, so that no batch lies in two files.')
        if '://' in self.output_dir:
            raise ConfigError(f'--output_dir={self.output_dir}: it must be a folder of this machine.')
        if self.plot and not self.images:
            raise ConfigError('--plot draws one image: name it, --images=photo.jpg.')
        if self.plot and self.pool != 'none':
            raise ConfigError(f'--plot draws whole maps: leave out --pool={self.pool}.')

    @property
    def endpoint_names(self) -> list[str]:
        """The names and patterns of `endpoints`."""
        return [name.strip() for name in (self.endpoints or '').split(',') if name.strip()]

    @property
    def shard_size(self) -> int:
        """The number of images in each file but the last."""
        return self.images_per_shard or -(-_SHARD // self.batch_size) * self.batch_size


def extract_config(given: Mapping[str, Any]) -> ExtractConfig:
    """The config from what the user gave.

    Without `model_name`, a checkpoint of a training of ours is used as it was trained: network, size, preprocessing and
    moving averages are those of the config beside it.

    Raises:
      ConfigError: see `ExtractConfig`.
    """
    given = {name: os.path.expanduser(value) if name in ('images', 'file_list', 'plot') else value
             for name, value in given.items()}
    path = given.get('checkpoint_path') or ''
    trained = None
    if path and 'model_name' not in given:
        trained = load_train_config(path if os.path.isdir(path) else os.path.dirname(path) or '.')
    if trained is None:
        return ExtractConfig(**given)
    as_trained = dict(model_name=trained.model_name, image_size=trained.train_image_size,
                      preprocessing_name=trained.preprocessing_name, padding=trained.padding,
                      moving_average_decay=trained.moving_average_decay)
    return ExtractConfig(**{**as_trained, **given})
