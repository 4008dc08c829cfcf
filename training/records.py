"""What a training tells of itself, step by step: `summary.csv`, TensorBoard's events, Weights & Biases."""
import csv
import io
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from nets import checkpoints
from training.console import RunError

SUMMARY_FILE = 'summary.csv'
# The columns that are always there, after `step`; others follow in the order in which they first appear.
COLUMNS = ('epoch', 'total_loss', 'learning_rate', 'images_per_second', 'data_wait', 'train_accuracy', 'train_recall_5',
           'eval_accuracy', 'eval_recall_5', 'eval_loss')
_RUN_FILE = 'wandb_run_id.txt'


class Records:
    """The records of a training; a context manager that closes them.

    A training that goes on from a checkpoint goes on with its records: what they have of later steps, from before a
    kill, is taken back. TensorBoard is told so by a mark of restart; Weights & Biases keeps its points, and the same
    run goes on.

    Args:
      folder: the training's; it may be at gs://.
      start_step: the step that the training goes on from.
      flush_secs: seconds until what was written is on disk at last. A local `summary.csv` never waits.
      wandb_project: a project of Weights & Biases to log to as well.
      settings: of the training, for Weights & Biases.

    Raises:
      ValueError: `wandb_project` is given, and the package is not installed; nothing has been written.
      RunError: `summary.csv` in the folder is something else, or Weights & Biases cannot be started.
      checkpoints.CheckpointError: the records cannot be written (as in all methods).
    """

    def __init__(self, folder: str, start_step: int, *, flush_secs: float = 600, wandb_project: str | None = None,
                 settings: Mapping[str, Any] | None = None):
        wandb = _import_wandb(wandb_project) if wandb_project else None
        self._folder, self._flush_secs, self._flushed_at = folder, flush_secs, time.monotonic()
        self._path = os.path.join(folder, SUMMARY_FILE)
        self._waiting: dict[int, dict[str, str]] = {}    # step -> name -> cell, not in the file yet
        self._keep_rows(start_step)
        self._events = _Events(folder, start_step)
        self._run = _start_wandb(wandb, folder, wandb_project, settings) if wandb else None

    def rewind(self, step: int) -> None:
        """Takes back what was recorded of later steps, of a training that goes back to an earlier checkpoint."""
        self.flush()
        self._keep_rows(step)
        self._events.restart(step)

    def _keep_rows(self, last_step):
        text = _text(self._path)
        rows = {step: row for step, row in _parse(self._path, text).items() if step <= last_step}
        self._columns, self._last = _columns(rows), float(max(rows, default=-1))
        if _table(rows) != text:
            checkpoints.write_text(self._folder, SUMMARY_FILE, _table(rows))

    def write(self, step: int, /, **scalars: float | None) -> None:
        """Records values at a step, beside those that it has already; None is no value."""
        values = {name: value for name, value in scalars.items() if value is not None}
        self._waiting.setdefault(step, {}).update({name: _cell(value) for name, value in values.items()})
        self._events.write(step, values)
        if self._run is not None:
            self._run.log({name: float(value) for name, value in values.items()}, step=step)
        if time.monotonic() - self._flushed_at >= self._flush_secs:
            self.flush()
        elif '://' not in self._folder:     # elsewhere to add a line is to write the whole file
            self._write_rows()

    def flush(self) -> None:
        """Sees that all is on disk: call it before a checkpoint is saved, from which the training may go on."""
        self._flushed_at = time.monotonic()
        self._write_rows()
        self._events.flush()

    def _write_rows(self):
        waiting = self._waiting
        if not waiting:
            return
        if min(waiting) > self._last and all(name in self._columns for row in waiting.values() for name in row):
            self._last = float('inf')   # should a line be cut short, the next write is of the whole file
            with checkpoints.writing(self._path), tf.io.gfile.GFile(self._path, 'a') as file:
                file.write(_lines(self._columns, waiting))
            self._last = max(waiting)
        else:
            rows = _parse(self._path, _text(self._path))
            for step, row in waiting.items():
                rows.setdefault(step, {}).update(row)
            checkpoints.write_text(self._folder, SUMMARY_FILE, _table(rows))
            self._columns, self._last = _columns(rows), max(rows)
        self._waiting = {}

    def close(self, exit_code: int = 0) -> None:
        """Writes what waits, and ends the records; another exit code than 0 is of a training that failed."""
        try:
            self.flush()
        finally:
            self._events.close()
            if self._run is not None:
                self._run.finish(exit_code)
                self._run = None

    def __enter__(self) -> 'Records':
        return self

    def __exit__(self, kind, *unused) -> None:
        try:
            self.close(0 if kind is None else 1)
        except checkpoints.CheckpointError:
            if kind is None:    # or what went wrong first is told
                raise


def read(folder: str) -> dict[str, dict[int, float]]:
    """The columns of a training's `summary.csv`: name -> step -> value; without those that are empty.

    Raises:
      RunError: it is something else, or cannot be read.
    """
    path = os.path.join(folder, SUMMARY_FILE)
    columns: dict[str, dict[int, float]] = {}
    for step, row in _parse(path, _text(path)).items():
        for name, cell in row.items():
            columns.setdefault(name, {})[step] = float(cell)
    return columns


def _text(path):
    try:
        if not tf.io.gfile.exists(path):
            return ''
        with tf.io.gfile.GFile(path, 'rb') as file:
            return file.read().decode()
    except (tf.errors.OpError, UnicodeDecodeError):
        raise _not_a_table(path) from None


def _parse(path, text):
    """step -> name -> cell, without empty ones. A last line without its end was cut short by a kill, and is dropped."""
    if not text:
        return {}
    rows = {}
    try:
        names, *lines = csv.reader(io.StringIO(text[:text.rfind('\n') + 1]))
        if names[:1] != ['step'] or len(set(names)) < len(names):
            raise ValueError
        for step, *cells in lines:
            row = {name: cell for name, cell in zip(names[1:], cells, strict=True) if cell}
            for cell in row.values():
                float(cell)
            rows[int(step)] = row
    except (ValueError, csv.Error):
        raise _not_a_table(path) from None
    return rows


def _not_a_table(path):
    return RunError(f'{path} is no table of a training, whose first column is `step`: move it away, or use another '
                    'folder.')


def _columns(rows):
    return list(dict.fromkeys([*COLUMNS, *(name for row in rows.values() for name in row)]))


def _table(rows):
    columns = _columns(rows)
    header = io.StringIO()
    csv.writer(header, lineterminator='\n').writerow(['step', *columns])
    return header.getvalue() + _lines(columns, rows)


def _lines(columns, rows):
    return ''.join(','.join([str(step), *(row.get(name, '') for name in columns)]) + '\n'
                   for step, row in sorted(rows.items()))


def _cell(value):
    return str(value) if isinstance(value, int) else f'{float(value):.9g}'  # tells any two float32 apart


class _Events:
    """TensorBoard's file of events, which are TFRecords: neither its package nor a thread of its own is needed."""

    def __init__(self, folder, start_step):
        name = f'events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.v2'
        self._path = os.path.join(folder, name)
        with checkpoints.writing(self._path):
            tf.io.gfile.makedirs(folder)
            self._writer = tf.io.TFRecordWriter(self._path)
        self._add(file_version='brain.Event:2')
        self.restart(start_step)

    def restart(self, step):
        """Points of later steps, from before, are no longer shown."""
        session_log = tf.compat.v1.SessionLog
        self._add(step=step + 1, session_log=session_log(status=session_log.START))
        self.flush()

    def _add(self, **what):
        with checkpoints.writing(self._path):
            self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **what).SerializeToString())

    def write(self, step, values):
        value = tf.compat.v1.Summary.Value
        self._add(step=step, summary=tf.compat.v1.Summary(
            value=[value(tag=name, simple_value=float(number)) for name, number in values.items()]))

    def flush(self):
        with checkpoints.writing(self._path):
            self._writer.flush()

    def close(self):
        with checkpoints.writing(self._path):
            self._writer.close()


def _import_wandb(project):
    try:
        import wandb
    except ImportError:
        raise ValueError(f"Logging to the project {project} of Weights & Biases needs its package: "
                         "pip install 'slim-zoo[wandb]'.") from None
    return wandb


def _start_wandb(wandb, folder, project, settings):
    known = _text(os.path.join(folder, _RUN_FILE)).strip()
    try:
        run = wandb.init(project=project, config=dict(settings or {}), dir=None if '://' in folder else folder,
                         id=known or None, resume='allow')
    except wandb.errors.Error as error:
        raise RunError(f'Weights & Biases cannot be started: {str(error).splitlines()[0].rstrip(".")}. '
                       'Log in by `wandb login`, or set WANDB_MODE=offline.') from None
    if run.id != known:
        checkpoints.write_text(folder, _RUN_FILE, f'{run.id}\n')
    return run
