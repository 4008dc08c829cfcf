"""The wheel, installed in a folder of its own and used from outside the checkout."""
import ast
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = next(ast.literal_eval(node.value) for node in ast.parse(pathlib.Path(ROOT, 'setup.py').read_text()).body
               if isinstance(node, ast.Assign) and node.targets[0].id == 'SCRIPTS')
PROGRAM = '''
import sys
import datasets.dataset_factory, nets, tf_slim_compat
import train_image_classifier, eval_image_classifier
for module in (datasets, nets, tf_slim_compat, train_image_classifier):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
assert datasets.dataset_factory.get_dataset('digits', 'test').num_samples == 360
model = nets.create_model('lenet', 10)
assert train_image_classifier.main(['train_image_classifier', '--help']) == 0
'''


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'  # a copy: a build would leave its folders in the checkout
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.*', 'runs', 'build', '*.egg-info', 'tests'))
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, '-w', folder, source], check=True)
    path, = folder.glob('*.whl')
    build = 'import setuptools.build_meta as build, sys; build.build_sdist(sys.argv[1])'
    subprocess.run([sys.executable, '-c', build, folder], cwd=source, check=True, stdout=subprocess.DEVNULL)
    return path


def test_twine_takes_both(wheel):
    sdist, = wheel.parent.glob('*.tar.gz')
    done = subprocess.run([sys.executable, '-m', 'twine', 'check', '--strict', wheel, sdist], capture_output=True,
                          text=True)
    assert done.returncode == 0 and done.stdout.count('PASSED') == 2, done.stdout + done.stderr


def test_a_wheel_of_the_sdist_holds_the_same(wheel, tmp_path):
    sdist, = wheel.parent.glob('*.tar.gz')
    with tarfile.open(sdist) as tar:
        names = {name.partition('/')[2] for name in tar.getnames()}
        tar.extractall(tmp_path, filter='data')
    assert {'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CITATION.cff',
            'datasets/digits.npz', 'nets/py.typed'} <= names
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', tmp_path]
    source, = tmp_path.iterdir()
    subprocess.run([*pip, source], check=True)
    again, = tmp_path.glob('*.whl')
    assert again.name == wheel.name
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {'tf_slim_compat.py', 'slim_zoo_download.py', 'train_image_classifier.py', 'eval_image_classifier.py',
            'datasets/digits.npz', 'nets/py.typed', 'training/py.typed'} <= names
    assert {path.relative_to(ROOT).as_posix() for path in pathlib.Path(ROOT, 'nets').rglob('*.py')} <= names
    tops = {name.split('/')[0] for name in names if '.dist-info' not in name}
    assert tops == {'nets', 'datasets', 'preprocessing', 'training', 'tf_slim_compat.py', 'slim_zoo_download.py',
                    *(f'{script}.py' for script in SCRIPTS)}
    modules = {name for name in names if name.endswith('.py')}
    for room in ('nets', 'datasets', 'preprocessing', 'training'):
        there = {f'{room}/{file}' for file in os.listdir(os.path.join(ROOT, room)) if file.endswith('.py')}
        assert there <= modules


def test_wheel_works_outside_the_checkout(wheel, tmp_path):
    target = tmp_path / 'installed'
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
    subprocess.run([*pip, '--target', target, wheel], check=True)
    environment = {**os.environ, 'PYTHONPATH': str(target), 'PYTHONSAFEPATH': '1'}

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run(sys.executable, '-c', PROGRAM, str(target))
    assert done.returncode == 0, done.stderr
    assert '--model_name' in done.stdout
    done = run(target / 'bin' / 'train_image_classifier', '--model_nam=x')
    assert done.returncode == 2 and 'model_name' in done.stderr
    for command in (['extract_endpoints', '--images=missing', '--endpoints=conv1'], ['import_weights']):
        done = run(target / 'bin' / command[0], *command[1:], '--model_name=lenet', '--checkpoint_path=missing.ckpt',
                   '--output_dir=out')
        assert done.returncode in (1, 2) and 'missing' in done.stderr and 'Traceback' not in done.stderr, done.stderr
