"""What a config is made of: fields that are flags, each with its help and its range, and files of settings.

`training.config` has the configs of training and evaluation.
"""
import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from nets import registry

# The headings under which --help shows the flags, in its order.
GROUPS = ('most used', 'the run', 'data and network', 'output', 'devices and speed', 'learning rate', 'optimizer',
          'loss', 'fine-tuning', 'augmentation', 'evaluation while training', "ImageDataGenerator's distortions",
          "TF-Slim's, kept for old command lines")


class ConfigError(ValueError):
    """A setting is wrong; the message says which, and what would be right."""


def one_of(value: object, valid: Iterable[str]) -> str:
    """The part of an error that names the nearest valid name and lists all."""
    valid = list(valid)
    near = difflib.get_close_matches(str(value), valid, 1)
    return (f'did you mean {near[0]}? It' if near else 'it') + f' must be one of {", ".join(valid)}.'


def flag(default: Any, text: str, group: str, *, choices: Iterable[str] | None = None, minimum: float | None = None,
         above: float | None = None, maximum: float | None = None, instead: str | None = None, fixed: bool = False,
         saved: bool = True) -> Any:
    """A field of a config.

    Args:
      default: where the flag is not given.
      text: its help.
      group: the heading it stands under, one of `GROUPS`.
      choices, minimum, above, maximum: what it may be.
      instead: for a flag of TF-Slim's that has no use any more: what to use in its place.
      fixed: whether a training that is taken up again must have the same.
      saved: whether the config's file has it.
    """
    return dataclasses.field(default=default, metadata=dict(
        help=text, group=group, choices=choices, minimum=minimum, above=above, maximum=maximum, instead=instead,
        fixed=fixed, saved=saved and not instead))


def kind_of(field: dataclasses.Field) -> type:
    """The type of a field's values: bool, int, float or str; None stands for "not set" besides."""
    kind: Any = field.type
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _check(field, value):
    rule, given = field.metadata, f'--{field.name}={value}'
    if rule['instead'] and value != field.default:
        raise ConfigError(f'{given} is not supported: {rule["instead"]}')
    if value is None:
        return
    if value == '' and field.default:
        raise ConfigError(f'{given}: it must not be empty.')
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f'{given}: it must be a finite number.')
    if rule['choices'] and value not in rule['choices']:
        raise ConfigError(f'{given}: {one_of(value, rule["choices"])}')
    if rule['minimum'] is not None and value < rule['minimum']:
        raise ConfigError(f'{given}: it must be at least {rule["minimum"]}.')
    if rule['above'] is not None and value <= rule['above']:
        raise ConfigError(f'{given}: it must be greater than {rule["above"]}.')
    if rule['maximum'] is not None and value > rule['maximum']:
        raise ConfigError(f'{given}: it must be at most {rule["maximum"]}.')


@dataclasses.dataclass(frozen=True)
class Config:
    """What every config does: it checks its fields when it is made, and turns into JSON."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        name = getattr(self, 'model_name', None)
        if name is not None:
            check_model_name(name, videos=getattr(self, 'is_video_model', None) is not None)

    def to_json(self) -> str:
        """The settings as JSON text, one key a flag, without those that only old command lines have."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                    if field.metadata['saved']}
        return json.dumps(settings, indent=2) + '\n'


def check_model_name(name: str, videos: bool = False) -> None:
    """Raises ConfigError where there is no network of that name, or it takes `videos` and they are not expected."""
    try:
        network = registry.get(name)
    except ValueError as error:
        raise ConfigError(f'--model_name={name}: {error}') from None
    if network.frames and not videos:
        raise ConfigError(f'--model_name={name}: it takes videos; this program reads images.')


def numbers(name: str, text: str | None, kind: type = float) -> list:
    """The numbers of a comma-separated list, [] for None; ConfigError, with the flag's name, where they are none."""
    try:
        return [kind(part) for part in (text or '').split(',') if part.strip()]
    except ValueError:
        raise ConfigError(f'--{name}={text}: it must be {"whole " if kind is int else ""}numbers with commas between '
                          'them.') from None


def read_file(config_class: type, path: str) -> dict[str, Any]:
    """The settings in a JSON or YAML file, by name; only those that it has.

    Raises:
      ConfigError: it cannot be read, or has a setting that there is none of (the nearest is named), or of a wrong type.
    """
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'--config={path} cannot be read: {error}.') from None
    try:
        found = _yaml(path, text) if path.endswith(('.yaml', '.yml')) else json.loads(text)
    except ValueError as error:
        raise ConfigError(f'--config={path}: {" ".join(str(error).split())}.') from None
    if not isinstance(found, Mapping):
        raise ConfigError(f'--config={path}: it must hold settings by name, such as {{"batch_size": 64}}.')
    fields = {field.name: field for field in dataclasses.fields(config_class)
              if field.metadata['saved'] or field.metadata['instead']}
    for name in found:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            raise ConfigError(f'--config={path}: {name!r} is not a setting'
                              + (f'; did you mean {near[0]}?' if near else '; --help lists all.'))
    return {name: _typed(path, fields[name], value) for name, value in found.items()}


def _yaml(path, text):
    try:
        import yaml
    except ImportError:
        raise ConfigError(f'--config={path}: YAML needs the package pyyaml (pip install pyyaml); JSON needs none.'
                          ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


_NAMES = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}


def _typed(path, field, value):
    kind = kind_of(field)
    if value is None and kind is not field.type:
        return None
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)     # YAML takes 1e-4 for text
        except (TypeError, ValueError):
            pass
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)           # hidden_units: 512
    if type(value) is kind:
        return value
    raise ConfigError(f'--config={path}: {field.name} is {value!r}; it must be {_NAMES[kind]}.')
