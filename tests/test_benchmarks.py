"""The benchmarks run, and say what they could not measure. Their figures are nobody's test."""
import pathlib
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).parents[1] / 'benchmarks'


def run(folder, *options):
    return subprocess.run([sys.executable, BENCHMARKS / options[0], '--repeats=1', *options[1:]], cwd=folder,
                          capture_output=True, text=True, timeout=300)


def test_build_time(tmp_path):
    done = run(tmp_path, 'build_time.py', '--networks=lenet')
    assert done.returncode == 0, done.stderr
    _, ours, packaged = done.stdout.splitlines()
    assert ours.split()[:2] == ['lenet', 'slim_zoo'] and ours.count('(1.00)') == 4
    assert packaged.split()[:2] == ['lenet', 'tf_slim.nets']
    assert "not measured: ModuleNotFoundError: No module named 'tf_slim.nets.lenet'" in packaged


def test_a_folder_without_tf_slims_networks(tmp_path):
    done = run(tmp_path, 'build_time.py', '--networks=lenet', f'--research_slim={tmp_path}')
    assert done.returncode == 2 and done.stderr.endswith(f'{tmp_path}: there is no nets/nets_factory.py in it.\n')


def test_endpoint_time(tmp_path):
    done = run(tmp_path, 'endpoint_time.py', '--network=lenet', '--endpoints', 'pool1', 'fc3')
    assert done.returncode == 0, done.stderr
    _, ways, first, second = done.stdout.splitlines()
    assert ways.split() == ['endpoint', 'part', 'endpoints', 'graph', 'logits']
    assert first.split()[0] == 'pool1' and second.split()[0] == 'fc3' and first.count('(1.00)') >= 1
