"""The wheel, installed in a folder of its own and used from outside the checkout."""
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
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
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {'tf_slim_compat.py', 'slim_zoo_download.py', 'train_image_classifier.py', 'eval_image_classifier.py',
            'datasets/digits.npz', 'nets/py.typed', 'training/py.typed'} <= names
    assert {path.relative_to(ROOT).as_posix() for path in pathlib.Path(ROOT, 'nets').rglob('*.py')} <= names
    tops = {name.split('/')[0] for name in names if '.dist-info' not in name}
    assert tops == {'nets', 'datasets', 'preprocessing', 'training', 'tf_slim_compat.py', 'slim_zoo_download.py',
                    'train_image_classifier.py', 'eval_image_classifier.py', 'extract_endpoints.py',
                    'import_weights.py', 'download_and_convert_data.py'}
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
