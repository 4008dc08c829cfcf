"""docs/errors.md quotes what the programs say."""
import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ROWS = [line.split('|')[1].strip() for line in (ROOT / 'docs/errors.md').read_text(encoding='utf-8').splitlines()
        if line.startswith('| `')]


def texts():
    """Every string of the source, with … where something is put in."""
    for path in sorted([*ROOT.glob('*.py'), *(path for room in ('nets', 'datasets', 'preprocessing', 'training')
                                              for path in (ROOT / room).rglob('*.py'))]):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(part.value if isinstance(part, ast.Constant) else '…' for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


SOURCE = '\n'.join(texts())


@pytest.mark.parametrize('row', range(len(ROWS)))
def test_the_message_is_in_the_source(row):
    quoted = ROWS[row].strip('`').rstrip('.')
    pieces = [re.escape(piece) for piece in re.split('…', quoted) if piece.strip(' :.,;')]
    assert pieces and re.search('[^\n]*'.join(pieces), SOURCE), quoted
