"""What a user of the scripts sees: a quiet TensorFlow, one sentence for a mistake, an exit code."""

import contextlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

from training.config import ConfigError
from training.flags import HelpWanted


class RunError(RuntimeError):
    """A training or an evaluation cannot go on, for a reason that its user can mend; the message says which and how."""


class Interrupted(RunError):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved its state; `exit_code` is the signal's usual one."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def shown(text: str) -> str:
    """A name for a terminal: what would move its cursor or colour it is left out."""
    return ''.join(letter if letter.isprintable() else '\N{REPLACEMENT CHARACTER}' for letter in text)


class StopSignals:
    """Notes SIGINT and SIGTERM, so that the step under way can end; a second one stops at once."""

    def __enter__(self):
        self.signal, self._before = None, {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread, where there are no signals
                break
        return self

    def _note(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(self, *unused):
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet_tensorflow(verbose: bool) -> Iterator[None]:
    """Starts TensorFlow without its start-up messages: import it, and touch the devices first, inside this context.

    They are written to file descriptor 2 before any logger is set up, so only redirecting that silences them; it is
    given back at the end, and everything is shown if the start fails. Warnings stay filtered after it.
    """
    os.environ['KERAS_BACKEND'] = 'tensorflow'  # our loop is TensorFlow's, whatever the user's other programs run on
    with StopSignals() as stop, contextlib.nullcontext() if verbose else _hidden():
        yield
    if stop.signal:     # Within an import it would leave half a module, whose errors hide what happened.
        signal.raise_signal(stop.signal)


@contextlib.contextmanager
def _hidden():
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    warnings.filterwarnings('ignore', category=DeprecationWarning)
    warnings.filterwarnings('ignore', module='.*(keras|tf_slim).*')
    sys.stderr.flush()
    kept = os.dup(2)
    with _hiding_place() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
            import tensorflow as tf

            tf.get_logger().setLevel('ERROR')
            tf.config.list_physical_devices()
        except Exception:       # Ctrl-C is none of TensorFlow's
            sys.stderr.flush()
            hidden.seek(0)
            os.write(kept, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def _hiding_place():
    try:
        return tempfile.TemporaryFile()
    except OSError:     # there is no folder that can be written
        return open(os.devnull, 'w+b')


def run(work: Callable[[], None], program: str) -> int:
    """Runs a script's work; returns its exit code, after one sentence on stderr where the user made a mistake.

    0: done. 1: the run failed. 2: wrong flags. 128 + signal: stopped by it, or 141 where who read the output has gone.
      Faults of the program itself keep their traceback.
    """
    _open_standard_streams()
    try:
        work()
        sys.stdout.flush()
    except HelpWanted as help_wanted:
        text = str(help_wanted)
        return run(lambda: print(text), program)
    except BrokenPipeError:     # as of `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes what is left when it ends
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        return _say(program, error, 2)
    except Interrupted as error:
        return _say(program, error, error.exit_code)
    except RunError as error:
        return _say(program, error, 1)
    except KeyboardInterrupt:
        return _say(program, 'stopped at once; what was saved before is as it was.', 130)
    except Exception as error:
        if not isinstance(error, _errors_of_the_rooms()):
            raise
        return _say(program, error, 1)
    return 0


def _open_standard_streams():
    """Gives what was closed (`>&-`) back: or else the next file that is opened would be taken for it."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)      # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, 'w' if number else 'r', closefd=False))


def _errors_of_the_rooms():
    # Imported here, since they need TensorFlow, which --help and a wrong flag should not wait for.
    from datasets import DatasetError
    from nets.checkpoints import CheckpointError
    from slim_zoo_download import DownloadError

    return DatasetError, CheckpointError, DownloadError


def _say(program, message, code):
    print(f'{os.path.basename(program)}: {message}', file=sys.stderr)
    return code
