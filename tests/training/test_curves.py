"""The picture of a training: what is drawn is what summary.csv says; nothing is drawn without matplotlib."""
import sys

import numpy as np
import pytest

from nets.checkpoints import CheckpointError
from training import curves
from training.console import RunError
from training.records import Records

STEPS = range(10, 601, 10)


@pytest.fixture
def folder(tmp_path):
    with Records(str(tmp_path), 0) as records:
        for step in STEPS:
            records.write(step, total_loss=100 / step, learning_rate=0.1 if step < 300 else 0.01, train_accuracy=0.5,
                          images_per_second=200 + step % 3)
            if step % 100 == 0:
                records.write(step, eval_accuracy=0.25 + step / 1000 if step < 500 else 0.5, eval_recall_5=0.75)
    return str(tmp_path)


@pytest.fixture
def figure(folder, monkeypatch):
    """The figure that is drawn, by matplotlib's own account."""
    matplotlib = pytest.importorskip('matplotlib.figure')
    drawn = []
    monkeypatch.setattr(matplotlib.Figure, 'savefig', lambda figure, *args, **kwargs: drawn.append(figure))
    curves.draw(folder)
    return drawn[0]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_picture_is_a_png_of_a_readable_size(folder):
    image = pytest.importorskip('matplotlib.image')
    path = curves.draw(folder)
    assert path == f'{folder}/curves.png' == curves.draw(folder)
    height, width = image.imread(path).shape[:2]
    assert height >= 700 and width >= 1000


def test_pyplot_is_not_touched(folder):
    pytest.importorskip('matplotlib')
    before = 'matplotlib.pyplot' in sys.modules
    curves.draw(folder)
    assert ('matplotlib.pyplot' in sys.modules) == before


def test_the_lines_are_the_tables(figure):
    loss, accuracy, rate, speed = figure.axes
    raw = loss.lines[0].get_xydata()
    np.testing.assert_allclose(raw, [(step, 100 / step) for step in STEPS], rtol=1e-8)
    assert loss.lines[0].get_alpha() < 0.5      # and it is faint
    assert loss.get_yscale() == 'log'
    held_out = lines(accuracy)['held out']
    np.testing.assert_allclose(held_out, [(100, 35), (200, 45), (300, 55), (400, 65), (500, 50), (600, 50)])
    np.testing.assert_allclose(lines(accuracy)['held out, top 5'][:, 1], 75)
    np.testing.assert_allclose(lines(accuracy)['training'][:, 1], 50)
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.1] * 29 + [0.01] * 31)      # not smoothed
    np.testing.assert_allclose(speed.lines[0].get_ydata(), [200 + step % 3 for step in STEPS])
    assert [axes.get_title('left') for axes in figure.axes] == ['Loss', 'Accuracy, %', 'Learning rate',
                                                               'Images per second']


def test_the_best_is_marked(figure):
    marked = lines(figure.axes[1])['best held out: 65.00 % at step 400']
    np.testing.assert_allclose(marked, [(400, 65)])


def test_smoothing_keeps_lines_and_makes_noise_small():
    np.testing.assert_allclose(curves.smoothed(np.full(200, 3.5)), 3.5)
    line = np.arange(200.0)
    np.testing.assert_allclose(curves.smoothed(line)[20:-20], line[20:-20])     # no lag
    noise = np.random.default_rng(0).normal(size=2000)
    assert curves.smoothed(noise).std() < 0.2 * noise.std()
    np.testing.assert_array_equal(curves.smoothed(np.array([2.0])), [2.0])


@pytest.mark.parametrize('values', [{'total_loss': float('nan')}, {'total_loss': 1.0}, {'mine': 3}])
def test_little_to_draw(tmp_path, values):
    pytest.importorskip('matplotlib')
    with Records(str(tmp_path), 0) as records:
        records.write(1, **values)
    assert curves.draw(str(tmp_path)) == str(tmp_path / 'curves.png')


def test_nothing_to_draw(tmp_path, folder, monkeypatch):
    assert curves.draw(str(tmp_path / 'nowhere')) is None
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert curves.draw(folder) is None


def test_what_cannot_be_read_or_written_is_said(folder, tmp_path, full_disk):
    pytest.importorskip('matplotlib')
    with full_disk(100), pytest.raises(CheckpointError, match=r'curves.png cannot be written: File too large\.$'):
        curves.draw(folder)
    (tmp_path / 'summary.csv').write_text('a,b\n1,2\n')
    with pytest.raises(RunError, match='summary.csv is no table of a training'):
        curves.draw(folder)
