"""The command line: absl flags made from the fields of a config, so that each is written once, in `training.config`."""

import dataclasses
import difflib
import itertools
import os
import textwrap
import typing

from absl import flags

from training.recipes import RECIPES
from training.settings import GROUPS, ConfigError, kind_of

_WIDTH = 100
_PATHS = ('_dir', '_path', 'labels_file', 'output')  # ends of the names of flags that are paths
_MUST_BE = {'bool': 'true or false', 'int': 'a whole number', 'float': 'a number'}


class HelpWanted(Exception):
    """`--help` was given; the message is the help text."""


def parse(config_class: type, argv: list[str], summary: str) -> dict[str, typing.Any]:
    """The flags that were given on the command line, by name; what is not given is not in the dictionary.

    For the arguments and errors see `parse_with_operands`; there are no operands.
    """
    given, operands = parse_with_operands(config_class, argv, summary, '')
    if operands:
        raise ConfigError(f'Unexpected argument {operands[0]!r}: every setting is a flag, --name=value.')
    return given


def parse_with_operands(config_class: type, argv: list[str], summary: str,
                        operands: str) -> tuple[dict[str, typing.Any], list[str]]:
    """The flags that were given on the command line, by name, and what else was given.

    Args:
      config_class: a dataclass of `training.config`.
      argv: the program's name and its arguments.
      summary: the first lines of the help.
      operands: what stands beside the flags, in the words of the help: `IMAGE ...`.

    Raises:
      ConfigError: a flag is unknown (the nearest one is named) or its value has the wrong type.
      HelpWanted: `--help`, `-h`, `--helpshort` or `--helpfull`.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt()     # flags may follow operands
    for field in dataclasses.fields(config_class):
        _define(values, field)
    for name, short in (('help', 'h'), ('helpshort', None), ('helpfull', None)):
        flags.DEFINE_bool(name, False, 'Show this help.', short_name=short, flag_values=values)
    try:
        extra = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [field.name for field in dataclasses.fields(config_class)], 1)
        hint = f'did you mean --{near[0]}? ' if near else ''
        raise ConfigError(f'--{error.flagname} is not a flag: {hint}--help lists all.') from None
    except flags.IllegalFlagValueError as error:
        given = str(error).split(': ')[0].removeprefix('flag ')  # absl says "flag --name=value: why"
        kind = values[given[2:].split('=')[0]].flag_type()
        raise ConfigError(f'{given}: it must be {_MUST_BE[kind]}.') from None
    except (flags.Error, ValueError) as error:  # a ValueError for --noflag=value
        raise ConfigError(f'{str(error).removeprefix("ERROR:: ")}.') from None
    if values.help or values.helpshort or values.helpfull:
        raise HelpWanted(help_text(config_class, os.path.basename(argv[0]), summary, operands))
    present = {
        field.name: values[field.name].value for field in dataclasses.fields(config_class) if values[field.name].present
    }
    # A shell leaves the ~ of --train_dir=~/run alone.
    return {
        name: os.path.expanduser(str(value)) if name.endswith(_PATHS) else value
        for name, value in present.items()
    }, extra


def help_text(config_class: type, program: str, summary: str, operands: str = '') -> str:
    """All flags of a config under their groups' headings, in the order in which the config has them."""
    lines = [summary.strip(), '', f'usage: {program} [--flag=value ...] {operands}'.rstrip()]
    fields = sorted(dataclasses.fields(config_class), key=lambda field: GROUPS.index(field.metadata['group']))
    for group, members in itertools.groupby(fields, key=lambda field: field.metadata['group']):
        lines += ['', f'{group[0].upper()}{group[1:]}:']
        for field in members:
            text = field.metadata['help']
            if field.metadata['choices']:
                text += f' One of {", ".join(field.metadata["choices"])}.'
            if field.default not in (None, '') and not field.metadata['instead']:
                text += f' Default: {field.default}.'
            head = f'  --{field.name} '
            lines.append(textwrap.fill(head.ljust(32) + text, _WIDTH, subsequent_indent=' ' * 32))
            if field.name == 'recipe':
                lines += _recipes()
    return '\n'.join(lines)


def _recipes():
    """What each recipe sets, as lines of the help."""
    for name, (what, settings) in RECIPES.items():
        text = ' '.join([what, *(f'--{flag}={value}' for flag, value in settings.items())])
        yield textwrap.fill(f'{name}: {text}', _WIDTH, initial_indent=' ' * 34, subsequent_indent=' ' * 36,
                            break_on_hyphens=False)


def _define(values, field):
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[
        kind_of(field)
    ]
    define(field.name, field.default, field.metadata['help'], flag_values=values)
