"""The benchmarks run, and say what they could not measure. Their figures are nobody's test."""
import csv
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

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


def measured(stdout):
    """Candidate -> the cells of its line in the tables that throughput.py printed."""
    lines = [line.split() for line in stdout.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 5 and line[1].replace('.', '').isdecimal()}


def test_throughput_of_training(tmp_path):
    done = run(tmp_path, 'throughput.py', '--mode=train', '--models=lenet', '--precisions=bfloat16', '--batch_sizes=4',
               '--seconds=0', '--peers=tf_slim,keras', '--output_dir=out')
    assert done.returncode == 0, done.stderr
    assert measured(done.stdout)['slim_zoo'][3] == '1.00'
    assert 'not measured: tf_slim (TF-Slim computes in float32)' in done.stdout
    assert 'not measured: keras, keras/no XLA (keras has no lenet)' in done.stdout
    rows = json.loads((tmp_path / 'out' / 'throughput_train.json').read_text())['rows']
    with open(tmp_path / 'out' / 'throughput_train.csv', newline='') as file:
        table = list(csv.DictReader(file))
    assert [row['candidate'] for row in rows] == [row['candidate'] for row in table] == [
        'slim_zoo', 'tf_slim', 'keras', 'keras/no XLA']
    ours = rows[0]
    # LeNet's multiply-adds: 28*28*32*25 + 14*14*64*25*32 + 3136*1024 + 1024*1000; in training thrice.
    flop = 2 * 3 * (627_200 + 10_035_200 + 3_211_264 + 1_024_000) * ours['images_per_second']
    assert ours['of_product'] == pytest.approx(flop / ours['product_teraflops'] / 1e12)
    assert float(table[0]['min']) == float(table[0]['max']) == pytest.approx(ours['images_per_second'])
    assert 100 < ours['peak_mib'] < 10_000


def test_throughput_beside_tf_slims_networks(tmp_path):
    done = run(tmp_path, 'throughput.py', '--mode=infer', '--models=inception_v1', '--precisions=float32',
               '--batch_sizes=1', '--seconds=0', '--peers=tf_slim')
    assert done.returncode == 0, done.stderr
    assert list(measured(done.stdout)) == ['slim_zoo', 'slim_zoo/folded', 'tf_slim']
    assert 'times the rate of tf_slim, the fastest peer' in done.stdout


def test_throughput_of_the_input(tmp_path):
    photos = pathlib.Path(tmp_path, 'photos')
    for number in range(8):
        path = photos / 'ab'[number % 2] / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(np.full([40, 50, 3], 20 * number, np.uint8)).numpy())
    done = run(tmp_path, 'throughput.py', '--mode=input', '--models=inception_v1', '--batch_sizes=2', '--seconds=0',
               '--image_size=32', '--peers=tf_slim,keras', f'--images={photos}')
    assert done.returncode == 0, done.stderr
    assert list(measured(done.stdout)) == ['slim_zoo', 'slim_zoo/uint8', 'tf_slim', 'keras']


@pytest.mark.parametrize('option, message', [
    ('--models=incepton_v1', "did you mean 'inception_v1'?"),
    ('--models=i3d', '--models=i3d: it takes videos'),
    ('--precisions=float64', '--precisions=float64: there is float32 and bfloat16.'),
    ('--peers=tensorflow', '--peers=tensorflow: of --mode=train there is slim_zoo, tf_slim, keras'),
    ('--batch_sizes=8,many', '--batch_sizes=many: it must be a whole number above 0.'),
    ('--images=.', '--images=.: there is no CLASS/NAME.jpg in it.'),
])
def test_wrong_options_of_throughput(tmp_path, option, message):
    done = run(tmp_path, 'throughput.py', option)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]


def test_the_end_of_a_candidate(tmp_path, monkeypatch):
    """One that crashes, or is not there, is reported; the processes of others go on."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    worker = importlib.import_module('worker')
    (tmp_path / 'mortal.py').write_text(
        'import itertools, os, sys\n'
        'def make(cell, how):\n'
        '    if how == "absent":\n'
        '        import no_such_library\n'
        '    turns = itertools.count()\n'
        '    def begin():\n'
        '        if next(turns) == 3 and how == "dies":\n'
        '            print("last words", file=sys.stderr, flush=True)\n'
        '            os._exit(9)\n'
        '        print("noise")\n'
        '        return itertools.count()\n'
        '    return f"{cell.model} 1.0", begin\n')
    cell = worker.Cell('train', 'lenet', 'float32', 1, 28)
    absent, dies, lives = (worker.Worker('mortal:make', cell, [how]) for how in ('absent', 'dies', 'lives'))
    assert absent.fault == 'no_such_library is not installed' and absent.turn(0) is None
    assert dies.turn(0)['batches'] == 1 and dies.turn(0) is None
    assert dies.fault == 'ended with code 9: last words'
    assert lives.version == 'lenet 1.0' and lives.fault is None
    assert [lives.turn(0)['batches'] for _ in range(3)] == [1, 1, 1] and lives.turn(0.05)['batches'] > 1
    for one in (absent, dies, lives):
        one.close()
