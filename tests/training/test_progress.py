"""Progress on a terminal and elsewhere."""
import fcntl
import io
import os
import pty
import re
import struct
import termios

import pytest

from training import progress
from training.progress import Progress


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


def shown(columns, **progress):
    """What a terminal of that width shows in the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, columns, 0, 0))
    with open(theirs, 'w') as stream:
        bar = Progress(images=32, what='step', stream=stream, **progress)
        bar.step()
        bar.report(2421, 'loss 0.5947  learning rate 0.0007807')
        bar.close()
        text = b''
        while b'\n' not in text:
            text += os.read(ours, 2**16)
    os.close(ours)
    return re.split(r'[\r\n]+', text.decode())[-2]


def test_a_bar_with_all_figures_on_a_terminal():
    line = shown(120, total=2430, start=2420)
    assert re.match(r'step 2421/2430 \d+:\d\d left, loss 0.5947  learning rate 0.0007807  [\d.e+]+ images/s █', line)
    assert len(line) <= 120
    assert re.search('learning rate 0.0007807  .* ima', shown(80, total=2430, start=2420))
    assert re.match('step 2421, loss 0.5947 .* images/s', shown(120, total=None, start=2420))


def test_a_terminal_without_a_size_gets_lines():
    assert re.match(r'step 2421/2430  loss 0.5947 .* left', shown(0, total=2430, start=2420))
