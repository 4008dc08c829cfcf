"""The progress of long work: a bar on a terminal, plain lines elsewhere; rate and time left on both."""
import contextlib
import os
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm


class Progress:
    """Counts steps of work, each of `images` images.

    Args:
      total: the number of steps at the end; None if unknown.
      start: the step to count from.
      images: of one step.
      what: the work's name.
      stream: where to; standard error if None.
    """

    def __init__(self, total: int | None, start: int, images: int, what: str, stream=None):
        self._stream = stream or sys.stderr
        self._total, self._images, self._what = total, images, what
        self._began, self._start = time.monotonic(), start
        self._last = (self._began, start)
        self.images_per_second = 0.0
        # The bar itself comes last: on a narrow terminal it is what gives way.
        layout = '{desc} {n_fmt}/{total_fmt} {remaining} left{postfix} {bar}' if total else '{desc} {n_fmt}{postfix}'
        self._bar = tqdm(total=total, initial=start, desc=what, file=self._stream, dynamic_ncols=True, smoothing=0.1,
                         bar_format=layout) if _columns(self._stream) else None

    def step(self, count: int = 1) -> None:
        """So many steps are done: moves the bar."""
        if self._bar is not None:
            self._bar.update(count)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is spent on something else is not the work's."""
        began = time.monotonic()
        yield
        spent = time.monotonic() - began
        self._began, self._last = self._began + spent, (self._last[0] + spent, self._last[1])

    def restart(self, step: int) -> None:
        """The work goes on from another step."""
        self._last = (time.monotonic(), step)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def note(self, text: str) -> None:
        """Shows a line of its own."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def report(self, step: int, text: str) -> None:
        """Shows figures at a step, with the rate since the last report and the time left."""
        now = time.monotonic()
        steps, seconds = step - self._last[1], max(now - self._last[0], 1e-9)
        if steps > 0:
            self.images_per_second, self._last = steps * self._images / seconds, (now, step)
        text = f'{text}  {self.images_per_second:.4g} images/s'
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        total = f'/{self._total}' if self._total else ''
        left = ''
        if self._total and step > self._start:
            seconds = (now - self._began) / (step - self._start) * (self._total - step)
            left = f'  {tqdm.format_interval(seconds)} left'
        print(f'{self._what} {step}{total}  {text}{left}', file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def _columns(stream):
    """The width of a terminal; 0 for anything else, and for a terminal without a size, which could show no bar."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
        return columns if lines else 0
    except OSError:
        return 0
