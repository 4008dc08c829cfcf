"""The public names of TF-Slim's modules, with their arguments and defaults, read from it: tests/golden/signatures.json.

Ours may take further arguments, behind TF-Slim's.
"""
import importlib
import inspect
import json
import pathlib

import pytest

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / 'golden/signatures.json').read_text())
NAMES = [(module, name) for module, names in GOLDEN.items() for name in names]


def arguments(function):
    """As TF-Slim's are written down: `kernel_size=(3, 3)`, `activation_fn=relu`, `**kwargs`."""
    for p in inspect.signature(function).parameters.values():
        stars = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        default = getattr(p.default, '__name__', None) if callable(p.default) else repr(p.default)
        yield stars + p.name + ('' if p.default is p.empty else f'={default}')


@pytest.mark.parametrize('module, name', NAMES)
def test_signature(module, name):
    value = importlib.import_module(module)
    for attribute in name.split('.'):
        value = getattr(value, attribute)
    expected = GOLDEN[module][name]
    if isinstance(expected, list):
        ours = list(arguments(value))
        named = [argument for argument in expected if argument != '**kwargs']
        assert ours[:len(named)] == named
        # What **kwargs took may be written out: by name alone, and only behind the others.
        assert len(named) == len(expected) or '**kwargs' in ours or any(
            p.kind is p.KEYWORD_ONLY for p in inspect.signature(value).parameters.values())
    elif expected is not None:
        assert value == expected
