"""What the programs are told that use a trained network: where its weights are, and what it takes and answers."""
import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from nets import registry
from training.config import CONFIG_FILE, NetworkConfig, TrainConfig, load_train_config
from training.recipes import QUICKSTART_DIR
from training.settings import GROUPS, ConfigError, flag

_MOST_USED, _RUN, _DATA = GROUPS[:3]
SAVED_MODEL = 'saved_model.pb'
# What a training's own config says, by the names that it has there.
_AS_TRAINED = ('model_name', 'final_endpoint', 'pool', 'hidden_units', 'padding', 'class_mode', 'preprocessing_name',
               'use_grayscale', 'moving_average_decay')
# What a SavedModel has settled.
_OF_WEIGHTS = ('model_name', 'final_endpoint', 'pool', 'hidden_units', 'padding', 'use_grayscale', 'image_size',
               'moving_average_decay', 'precision')


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(NetworkConfig):
    """The settings that those programs share.

    Raises:
      ConfigError: a value is out of range or unknown, or two do not go together.
    """

    checkpoint_path: str | None = flag(
        None, "The weights: a training's folder, a checkpoint, a SavedModel, or another library's file (see "
        '`nets.weights.read`).', _MOST_USED)
    pretrained: bool = flag(False, "Take the network's published weights, which are downloaded once.", _MOST_USED)
    labels_file: str | None = flag(
        None, 'Names of the classes: a text file of lines like 0:daisy. If not set, those of the training, or for '
        "other weights with 1000 or 1001 classes ImageNet's.", _DATA)
    image_size: int | None = flag(None, "Height and width of the network's input; if not set, as in the training, or "
                                  "as the published weights were evaluated.", _DATA, minimum=1, maximum=8192)
    eval_crop_fraction: float | None = flag(
        None, "inception, vgg: how much of each side of an image is shown; the preprocessing's own (0.875) if not set.",
        _DATA, above=0.0, maximum=1.0)
    moving_average_decay: float | None = flag(
        None, 'Use the moving averages of the variables (any value turns this on).', _RUN)

    def __post_init__(self):
        super().__post_init__()
        if self.pretrained and self.checkpoint_path:
            raise ConfigError('--pretrained and --checkpoint_path both say which weights to use: give one.')
        if self.pretrained and registry.get(self.model_name).weights is None:
            raise ConfigError(f'--pretrained: there are no published weights of {self.model_name}, only of '
                              f'{", ".join(registry.list_models(pretrained=True))}.')

    @property
    def is_saved_model(self) -> bool:
        """Whether the weights are a SavedModel."""
        return bool(self.checkpoint_path) and _is_saved_model(str(self.checkpoint_path))

    @property
    def trained_in(self) -> TrainConfig | None:
        """The config of the training that the weights are of, where they are of one of ours and of this network."""
        trained = load_train_config(folder_of(self.checkpoint_path)) if self.checkpoint_path else None
        return trained if trained and trained.model_name == self.model_name else None


_Config = TypeVar('_Config', bound=ClassifierConfig)


def _is_saved_model(path):
    return os.path.exists(os.path.join(path, SAVED_MODEL))


def folder_of(path: str) -> str:
    """The folder that a checkpoint is in, or that `path` is."""
    return path if os.path.isdir(path) else os.path.dirname(path) or '.'


def classifier_config(config_class: type[_Config], given: Mapping[str, Any]) -> _Config:
    """The config from what the user gave; the rest is as in the training that the weights are of.

    Without weights, those of the quickstart are taken, `runs/digits`.

    Args:
      config_class: a subclass of `ClassifierConfig`.
      given: the settings that were given.

    Raises:
      ConfigError: a setting is wrong, or nothing tells what network the weights are of.
    """
    settings = dict(given)
    if settings.get('pretrained') or 'model_name' in settings and 'checkpoint_path' not in settings:
        if not settings.get('pretrained'):
            raise ConfigError('Give --checkpoint_path, or --pretrained for the published weights of '
                              f'{settings["model_name"]}.')
        if 'model_name' not in settings:
            raise ConfigError('--pretrained: say of which network, by --model_name; `python -m nets` lists them.')
        return config_class(**settings)
    path = settings.setdefault('checkpoint_path', QUICKSTART_DIR)
    if '://' not in path and not any(map(os.path.exists, (path, f'{path}.index'))):
        raise ConfigError(f'There is no checkpoint {path}: run train_image_classifier.py first, or give '
                          '--checkpoint_path, or --pretrained and --model_name.')
    if _is_saved_model(path):
        for name in settings:
            if name in _OF_WEIGHTS:
                raise ConfigError(f'--{name}: {path} is a SavedModel, whose network is what it is; leave it out.')
        return config_class(**settings)
    trained = load_train_config(folder_of(path))
    if trained is None and 'model_name' not in settings:
        raise ConfigError(f'{folder_of(path)} has no {CONFIG_FILE}, which would tell what network it is of: give '
                          '--model_name too.')
    if trained is not None and settings.get('model_name', trained.model_name) == trained.model_name:
        settings = {**{name: getattr(trained, name) for name in _AS_TRAINED}, 'image_size': trained.train_image_size,
                    **settings}
    return config_class(**settings)
