"""The import direction: scripts -> training -> {nets, preprocessing, datasets} -> the bottom layer."""
import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = 'scripts'
BOTTOM = {'tf_slim_compat', 'slim_zoo_download'}
BOTTOM_FILES = [f'{name}.py' for name in sorted(BOTTOM)]
MAY_IMPORT = {
    **dict.fromkeys(BOTTOM, set()),
    'nets': BOTTOM, 'preprocessing': BOTTOM, 'datasets': BOTTOM,
    'training': {*BOTTOM, 'nets', 'preprocessing', 'datasets'},
}
MAY_IMPORT[SCRIPT] = set(MAY_IMPORT)
SCRIPTS = [path.name for path in ROOT.glob('*.py') if path.name not in ('setup.py', *BOTTOM_FILES)]
ENTRIES = ['nets/__main__.py', 'datasets/__main__.py']     # scripts inside a room: `python -m nets`
MODULES = sorted([*BOTTOM_FILES, *SCRIPTS, *(
    path.relative_to(ROOT).as_posix() for room in MAY_IMPORT for path in (ROOT / room).rglob('*.py'))])


def imported(tree):
    """The dotted names that a module imports, anywhere in it; importlib's among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and 'import_module' in ast.unparse(node.func):
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def faults(module, source):
    room = SCRIPT if module in SCRIPTS + ENTRIES else module.split('/')[0].removesuffix('.py')
    for name in imported(ast.parse(source)):
        top = name.split('.')[0]
        top = SCRIPT if f'{top}.py' in SCRIPTS else top
        if top in MAY_IMPORT and top != room and top not in MAY_IMPORT[room]:
            yield f'{module} imports {name}'
        if f'{name}.'.startswith('absl.flags.') and room != SCRIPT and module != 'training/flags.py':
            yield f'{module} imports {name}: flags are for the scripts and training/flags.py'
        if f'{name}.'.startswith('tensorflow.python.') and module != 'tf_slim_compat.py':
            yield f'{module} imports {name}: private parts of TensorFlow are for tf_slim_compat.py'


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_down(module):
    assert not list(faults(module, (ROOT / module).read_text()))


@pytest.mark.parametrize('module, source', [
    ('nets/lenet.py', 'from datasets import digits'),
    ('datasets/digits.py', 'def f():\n    import nets.registry'),
    ('preprocessing/images.py', 'import importlib\nimportlib.import_module("nets.lenet")'),
    ('nets/lenet.py', 'import training'),
    ('tf_slim_compat.py', 'from nets import lenet'),
    ('slim_zoo_download.py', 'from nets import lenet'),
    ('training/loop.py', 'import train_image_classifier'),
    ('training/config.py', 'from absl import flags'),
    ('nets/lenet.py', 'from tensorflow.python.ops import nn_ops'),
])
def test_each_rule_can_be_broken(module, source):
    assert module in MODULES and len(list(faults(module, source))) == 1


def test_the_rooms_are_there():
    assert {module.split('/')[0] for module in MODULES} == {
        *BOTTOM_FILES, 'nets', 'preprocessing', 'datasets', 'training', *SCRIPTS}
    assert {'train_image_classifier.py', 'eval_image_classifier.py'} <= set(SCRIPTS)
