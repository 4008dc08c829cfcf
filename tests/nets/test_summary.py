"""Counts against the paper's Table 1 (arXiv:1409.4842) and sums that can be done by hand."""
import functools
import subprocess
import sys

import pytest
import tensorflow as tf

from nets import registry
from nets.__main__ import main
from nets.inception_v1 import inception_v1
from nets.summary import format_rows, summarize, summarize_network
from nets.table import build, conv, max_pool

# Endpoint: parameters (in 1024) and operations (in millions) as the paper prints them. The paper's figures for the
# 7x7 stem are not those of a 7x7 (2.7K, 34M), and some parameters are not those of the widths that it prints.
PAPER = {
    'Conv2d_2c_3x3': (112, 360), 'Mixed_3b': (159, 128), 'Mixed_3c': (380, 304), 'Mixed_4b': (364, 73),
    'Mixed_4c': (437, 88), 'Mixed_4d': (463, 100), 'Mixed_4e': (580, 119), 'Mixed_4f': (840, 170),
    'Mixed_5b': (1072, 54), 'Mixed_5c': (1388, 71), 'Logits': (1000, 1),
}


def test_table_1_of_the_paper():
    rows = {row.endpoint: row for row in summarize(functools.partial(inception_v1, true_5x5=True), (224, 224, 3))}
    reduce = rows['Conv2d_2b_1x1']      # the paper's second row is both layers
    rows['Conv2d_2c_3x3'] = rows['Conv2d_2c_3x3']._replace(
        parameters=rows['Conv2d_2c_3x3'].parameters + reduce.parameters,
        multiply_adds=rows['Conv2d_2c_3x3'].multiply_adds + reduce.multiply_adds)
    for name, (parameters, operations) in PAPER.items():
        assert rows[name].parameters / 1024 == pytest.approx(parameters, rel=0.08), name
        if name != 'Mixed_5b':          # 54 is not the count of the widths in that row: 51.1
            assert abs(rows[name].multiply_adds / 1e6 - operations) < 1, name
    for name in ('Conv2d_2c_3x3', 'Mixed_3b', 'Mixed_3c', 'Mixed_4b', 'Mixed_4c', 'Mixed_4f', 'Logits'):
        assert rows[name].parameters / 1024 == pytest.approx(PAPER[name][0], rel=0.015), name
    assert rows['Mixed_5b'].multiply_adds == 1_042_432 * 49


def test_the_textbook_sum():
    naive, = summarize([('5x5', ([conv(32, 5)],))], (28, 28, 192))
    reduced, = summarize([('5x5', ([conv(16, 1), conv(32, 5)],))], (28, 28, 192))
    assert naive.multiply_adds == 120_422_400
    assert reduced.multiply_adds == 12_443_648
    assert (naive.shape, reduced.shape) == ((28, 28, 32), (28, 28, 32))
    assert naive.parameters == 192 * 32 * 25 + 32       # weights and biases
    assert reduced.parameters == 192 * 16 + 16 + 16 * 32 * 25 + 32


def test_the_naive_module_beside_the_reduced_one():
    naive = [('naive', ([conv(64, 1)], [conv(128, 3)], [conv(32, 5)], [max_pool(3)]))]
    reduced = [('reduced', ([conv(64, 1)], [conv(96, 1), conv(128, 3)], [conv(16, 1), conv(32, 5)],
                            [max_pool(3), conv(32, 1)]))]
    naive, reduced = (summarize(table, (28, 28, 192))[0] for table in (naive, reduced))
    assert naive.shape == (28, 28, 64 + 128 + 32 + 192)
    assert reduced.shape == (28, 28, 256)
    assert naive.multiply_adds == 784 * 192 * (64 + 128 * 9 + 32 * 25)
    assert reduced.multiply_adds == 784 * 163_328       # the paper's 3a: 128M


def test_shared_work_counts_for_the_first():
    def network(images):
        _, end_points = build([('A', conv(4, 1)), ('B', conv(2, 3)), ('C', max_pool(2, 2))], images)
        return None, {name: end_points[name] for name in 'BAC'}

    rows = summarize(network, (8, 8, 3))
    assert [(row.endpoint, row.parameters, row.multiply_adds) for row in rows] == [
        ('B', 3 * 4 + 4 + 4 * 2 * 9 + 2, 64 * 3 * 4 + 64 * 4 * 2 * 9), ('A', 0, 0), ('C', 0, 0)]


def test_every_counted_kind():
    def network(images):
        depthwise = tf.nn.depthwise_conv2d(images, tf.ones([3, 3, 3, 2]), [1, 2, 2, 1], 'SAME')
        grouped = tf.nn.conv2d(depthwise, tf.ones([1, 1, 3, 8]), 1, 'SAME')
        volume = tf.nn.conv3d(images[:, None], tf.ones([1, 3, 3, 3, 5]), [1] * 5, 'SAME')
        product = tf.matmul(tf.reshape(images, [1, -1]), tf.ones([7, 192]), transpose_b=True)
        return None, dict(depthwise=depthwise, grouped=grouped, volume=volume, product=product)

    assert [row.multiply_adds for row in summarize(network, (8, 8, 3))] == [
        4 * 4 * 6 * 9, 4 * 4 * 8 * 3, 8 * 8 * 5 * 27, 192 * 7]


def test_format():
    lines = format_rows(summarize([('A', conv(4, 1)), ('B', max_pool(2, 2))], (8, 8, 3))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ['A', '8x8x4', '16', '0', '768'], ['B', '4x4x4', '0', '0', '0'], ['total', '16', '0', '768']]
    assert len({len(line) for line in lines}) == 1


def test_videos():
    """Of as many frames as the registry says; a seven-frame kernel halves them."""
    first = summarize_network('i3d', 32)[0]
    frames = registry.get('i3d').frames // 2
    assert first.shape == (frames, 16, 16, 64)
    assert first.multiply_adds == frames * 16 * 16 * 64 * 7 * 7 * 7 * 3
    assert f'{frames}x16x16x64' in format_rows([first])


def run(*args):
    return subprocess.run([sys.executable, '-m', 'nets', *args], capture_output=True, text=True)


def test_command_line():
    done = run('lenet', '--image_size=32', '--num_classes=7')
    assert (done.returncode, done.stderr) == (0, '')    # TensorFlow's start-up messages stay out
    total = done.stdout.splitlines()[-1].split()
    assert total[1] == f'{832 + 51_264 + (8 * 8 * 64 + 1) * 1024 + 1025 * 7:,}'


def test_switches():
    rows = summarize_network('inception_v1', 288, 10, ['global_pool', 'create_aux_logits'])
    shapes = {row.endpoint: row.shape for row in rows}
    assert shapes['global_pool'] == (1, 1, 1024)
    assert shapes['AuxLogits_4e'] == (10,)
    with pytest.raises(ValueError, match="switch of inception_v1 'true_5x': did you mean 'true_5x5'"):
        summarize_network('inception_v1', switches=['true_5x'])
    with pytest.raises(ValueError, match='Valid are none'):
        summarize_network('lenet', switches=['is_training'])


@pytest.mark.parametrize('option', ['--image_size=0', '--num_classes=-1', '--num_classes=ten'])
def test_command_line_bad_number(option, capsys):
    with pytest.raises(SystemExit) as exit:
        main(['lenet', option])
    assert exit.value.code == 2
    assert 'is not a whole number of at least 1' in capsys.readouterr().err


@pytest.mark.parametrize('options', [['--image_size=32'], ['--with', 'true_5x5', 'inception_v1']])
def test_command_line_options_without_a_network(options, capsys):
    with pytest.raises(SystemExit) as exit:
        main(options)
    assert exit.value.code == 2 and 'name it, before --with' in capsys.readouterr().err


def test_command_line_unknown_network():
    done = run('lenett')
    assert done.returncode != 0
    valid = ', '.join(registry.NETWORKS)
    assert done.stderr == f"python -m nets: Unknown network 'lenett': did you mean 'lenet'? Valid are {valid}.\n"


def test_command_line_lists(capsys):
    """The figures of MobileNet's and NASNet's papers: arXiv:1704.04861, table 8; 1801.04381, 4; 1707.07012, 2 and 3."""
    main([])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert list(lines) == list(registry.NETWORKS)
    published = {'mobilenet_v1': (4.2, 569), 'mobilenet_v1_050': (1.3, 149), 'mobilenet_v2': (3.4, 300),
                 'mobilenet_v3_small': (2.5, 56), 'nasnet_mobile': (5.3, 564), 'nasnet_large': (88.9, 23_800),
                 'pnasnet_mobile': (5.1, 588), 'pnasnet_large': (86.1, 25_000)}
    for name, (parameters, multiply_adds) in published.items():
        found = [float(cell.rstrip('M').replace(',', '')) for cell in lines[name][2:4]]
        assert found == [pytest.approx(parameters, abs=0.15), pytest.approx(multiply_adds, rel=0.01)], name
    assert lines['resnet_v2_50'][4:7] == ['75.6%', '92.8%', '299']
    main(['*v[12]_50'])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ['resnet_v1_50', 'resnet_v2_50']


def test_command_line_pattern_of_no_network():
    done = run('efficient*')
    assert done.returncode == 1 and done.stderr.startswith("python -m nets: Unknown network 'efficient*': Valid are ")
