"""Progress on a terminal and elsewhere."""
import io
import re

import pytest

from training import progress
from training.progress import Progress


class Terminal(io.StringIO):

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


def test_plain_lines_with_rate_and_time_left(clock):
    stream = io.StringIO()
    bar = Progress(100, 10, 32, 'step', stream)
    clock[0] += 20
    bar.report(20, 'loss 1.5')  # 10 steps of 32 images in 20 s, and 80 to go
    clock[0] += 5
    bar.report(30, 'loss 1.4')  # the rate is that since the last line, the time left that of the whole run
    bar.close()
    assert stream.getvalue().splitlines() == ['step 20/100  loss 1.5  16 images/s  02:40 left',
                                              'step 30/100  loss 1.4  64 images/s  01:27 left']
    assert bar.images_per_second == 64


def test_without_an_end_there_is_no_time_left(clock):
    stream = io.StringIO()
    bar = Progress(None, 0, 8, 'step', stream)
    clock[0] += 1
    bar.report(4, 'loss 2')
    assert stream.getvalue() == 'step 4  loss 2  32 images/s\n'


def test_bar_on_a_terminal():
    stream = Terminal()
    bar = Progress(4, 1, 8, 'step', stream)
    bar.step()
    bar.report(2, 'loss 0.5')
    bar.close()
    last = stream.getvalue().split('\r')[-1]
    assert re.search(r'step:  50%.*2/4.*loss 0.5  .*images/s', last), last
