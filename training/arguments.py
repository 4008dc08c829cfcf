"""The command line of `python -m nets` and `python -m datasets`, by argparse, with the manners of the other scripts."""
import argparse
import difflib
import sys


class Parser(argparse.ArgumentParser):
    """Refuses an unknown flag by one sentence that names the nearest; a flag's name must be whole."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        """As of argparse."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split('=')[0]
            near = difflib.get_close_matches(name, list(self._flags()), 1)
            self.error(f'{name} is not a flag: {f"did you mean {near[0]}? " if near else ""}--help lists all.'
                       if name.startswith('-') else f'unexpected argument {name!r}.')
        return options

    def error(self, message):
        """Ends the program with one line and exit code 2."""
        print(f'{self.prog}: {message}', file=sys.stderr)
        sys.exit(2)

    def _flags(self):
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._flags()
