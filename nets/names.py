"""What is said where a name is unknown."""
import difflib
from collections.abc import Iterable


class UnknownNameError(ValueError):
    """A name that none of the valid ones is."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UnknownNameError:
    """Returns the error for an unknown name: it lists the valid ones, and first the nearest."""
    valid = list(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f'did you mean {near[0]!r}? ' if near else ''
    return UnknownNameError(f'Unknown {kind} {name!r}: {hint}Valid are {", ".join(valid) or "none"}.')
