"""A candidate of `throughput.py` in a process of its own, which runs when it is told to and sleeps until then.

Processes keep the libraries apart: each has its own threads, its own memory to be measured, and its own crash.
"""
import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

_HERE = pathlib.Path(__file__).resolve()


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a candidate has to do.

    Attributes:
      mode: `train`, `infer` or `input`.
      model: a network's name here.
      precision: `float32` or `bfloat16`.
      batch_size: images at a time.
      image_size: their height and width.
      images: for input, a folder with a folder of JPEGs for each class.
    """

    mode: str
    model: str
    precision: str
    batch_size: int
    image_size: int
    images: str | None = None


class NotThere(Exception):
    """A candidate cannot take part; the message says why, in a few words."""


class Worker:
    """This side of a candidate's process.

    Args:
      make: `module:function` here. `function(cell, *arguments)` prepares all and gives the versions used, and a
        function that begins a turn: it returns an iterator, of which each step does a batch and ends when that is done.
      cell: what to do.
      arguments: further arguments of the function.

    Attributes:
      fault: why it does not run; None while it does.
      peak: MiB, the most memory that the process held.
      waiting_cpu: the share of a core that it used while it was not its turn.
    """

    def __init__(self, make: str, cell: Cell, arguments: list):
        self.fault, self.peak, self.waiting_cpu, self.version = None, None, 0.0, ''
        self._errors = tempfile.TemporaryFile('w+')
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL='2', KERAS_BACKEND='tensorflow',
                           TF_FORCE_GPU_ALLOW_GROWTH='true')     # several of them share a GPU
        self._process = subprocess.Popen([sys.executable, _HERE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors, text=True, env=environment)
        self.version = self._ask(make=make, cell=dataclasses.asdict(cell), arguments=arguments).get('version', '')

    def turn(self, seconds: float) -> dict | None:
        """Runs it for about so long: `batches`, `seconds` and `cpu` seconds of them; None once it has a fault."""
        answer = {} if self.fault else self._ask(seconds=seconds)
        if self.fault:
            return None
        self.peak, self.waiting_cpu = answer.pop('peak'), max(self.waiting_cpu, answer.pop('waiting_cpu'))
        return answer

    def _ask(self, **order):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {'fault': self._last_words()}
        self.fault = answer.get('fault')
        return answer

    def _last_words(self):
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f'ended with code {self._process.wait()}: {lines[-1][:200] if lines else "no message"}'

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def _serve():
    """The process's side: prepares the candidate, then a turn for each line that comes."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)       # what libraries print is no answer

    def answer(**figures):
        print(json.dumps(figures), file=answers, flush=True)

    order = json.loads(sys.stdin.readline())
    module, _, function = order['make'].partition(':')
    try:
        version, begin = getattr(importlib.import_module(module), function)(Cell(**order['cell']), *order['arguments'])
        _run(begin, 0.0)
        _run(begin, 0.0)    # compilers and caches of algorithms have had their turn
    except ModuleNotFoundError as error:
        return answer(fault=f'{error.name} is not installed')
    except NotThere as error:
        return answer(fault=str(error))
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        return answer(fault=f'{type(error).__name__}: {text.splitlines()[0][:200]}')
    answer(version=version)
    slept, busy = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        waiting_cpu = (time.process_time() - busy) / (time.perf_counter() - slept)
        figures = _run(begin, json.loads(line)['seconds'])
        answer(**figures, waiting_cpu=waiting_cpu, peak=_peak_memory())
        slept, busy = time.perf_counter(), time.process_time()


def _run(begin, seconds):
    batches = begin()
    next(batches)       # threads wake up, pipelines fill
    count, busy, start = 0, time.process_time(), time.perf_counter()
    while not count or time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    took = time.perf_counter() - start
    return {'batches': count, 'seconds': took, 'cpu': time.process_time() - busy}


def _peak_memory():
    try:        # Linux; ru_maxrss would count the process that this one was made from
        status = pathlib.Path('/proc/self/status').read_text()
        return int(status.partition('VmHWM:')[2].split()[0]) / 1024
    except (OSError, IndexError):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 20 if sys.platform == 'darwin' else 1024)


if __name__ == '__main__':
    sys.modules['worker'] = sys.modules['__main__']     # whose NotThere and Cell the candidates are to use
    _serve()
