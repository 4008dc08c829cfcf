"""Prediction: the most probable classes of images, any number of them, in bounded memory."""
import contextlib
import csv
import io
import itertools
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow as tf

from datasets import DatasetError, decode_image, image_folder
from datasets.provider import READ_ERRORS, reason
from training import classifier
from training.classifier import Classifier
from training.console import Interrupted, RunError, StopSignals, shown
from training.output_file import OutputFile
from training.predict_config import STDIN, PredictConfig
from training.progress import Progress
from training.saved_classifier import SavedClassifier

# How the files begin that could be on standard input in place of a list.
_IMAGES = (b'\xff\xd8\xff', b'\x89PNG\r\n', b'GIF87a', b'GIF89a', b'RIFF')
_AHEAD = 3      # batches that are read before they are needed


class Image(NamedTuple):
    """An image that is to be looked at."""

    name: str               # as it is told
    source: str | bytes     # its path, or the bytes of the file


class Prediction(NamedTuple):
    """What was found: labels, most probable first, and their probabilities."""

    image: str
    labels: list[int]
    probabilities: list[float]


def predict(config: PredictConfig, operands: Sequence[str], stdin: IO[bytes] | None = None,
            stdout: IO[bytes] | None = None, say: Callable[[str], None] | None = None) -> int:
    """Tells the most probable classes of images.

    Images that cannot be read are told of, and passed over.

    Args:
      config: see `training.predict_config`.
      operands: files, folders, and `-` for standard input.
      stdin, stdout: in place of the process's own.
      say: receives the lines that tell what happens; standard error if None, since standard output has the results.

    Returns:
      The number of images that were predicted.

    Raises:
      ConfigError, datasets.DatasetError, nets.checkpoints.CheckpointError: a setting, a folder or the weights are
        wrong.
      RunError: no image can be read, or `output` cannot be written; Interrupted after Ctrl-C or SIGTERM.
    """
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    images = find_images(operands, stdin)
    first = next(images, None)
    if first is None:
        places = ', '.join('standard input' if operand == STDIN else operand for operand in operands)
        raise DatasetError(f'There are no images in {places} ({", ".join(image_folder.EXTENSIONS)}).')
    network = classifier.open_classifier(config)
    explain = None
    if config.explain:
        from training import explaining

        explain = explaining.Explainer(config, network)
    say(f'Predicting by {network.path}: {len(network.class_names)} classes'
        + (f', names from {network.names_from}' if network.names_from else ', which have no names (--labels_file)')
        + f', images at {network.size}x{network.size}.')
    began, to_terminal = time.monotonic(), not config.output and (stdout or sys.stdout).isatty()
    with OutputFile(config.output, stdout) as out, StopSignals() as stop, \
            contextlib.closing(Progress(None, 0, config.batch_size, 'batch')) as progress:
        writer = _WRITERS[config.output_format](out, network.class_names)
        done = unreadable = 0
        for number, (names, batch, faults) in enumerate(
                _batches(itertools.chain([first], images), network, config), 1):
            for fault in faults:
                progress.note(fault)
            unreadable += len(faults)
            if names:
                probabilities = _probabilities(network, batch, config)
                writer.write(_top(names, probabilities, config.top_k))
                out.flush()
                if explain:
                    explain.draw(names, batch, probabilities)
                done += len(names)
            if not to_terminal:
                progress.step()
                if number % 10 == 0:
                    progress.report(number, f'{done:,} images')
            if stop.signal:
                where = f'; they are in {out.part}' if config.output else ''
                raise Interrupted(f'Stopped after {done:,} images{where}.', stop.signal)
    if unreadable and not done:
        raise RunError(f'none of the {unreadable:,} images can be read.')
    seconds = time.monotonic() - began
    say(f'{done:,} image{"s" if done != 1 else ""} in {seconds:.1f} s ({done / seconds:.4g} images/s)'
        + (f'; {unreadable:,} cannot be read, and were passed over' if unreadable else '')
        + (f'. The predictions are in {config.output}' if config.output else '')
        + (f'. The pictures are in {config.explain_dir}' if explain else '') + '.')
    return done


def find_images(operands: Sequence[str], stdin: IO[bytes] | None = None) -> Iterator[Image]:
    """Yields the images of files, folders and standard input, in this order; those of a folder sorted by path.

    Raises:
      datasets.DatasetError: a folder cannot be read.
    """
    for operand in operands:
        if operand == STDIN:
            yield from _from_stdin(stdin or sys.stdin.buffer)
        elif tf.io.gfile.isdir(operand) if '://' in operand else os.path.isdir(operand):
            yield from (Image(path, path) for path in image_folder.walk(operand))
        else:
            yield Image(operand, operand)


def _from_stdin(stdin):
    first = stdin.readline()
    if first.startswith(_IMAGES):
        yield Image(STDIN, first + stdin.read())
        return
    for line in itertools.chain([first], stdin):
        path = os.fsdecode(line.rstrip(b'\r\n'))
        if path:
            yield Image(path, path)


def _batches(images: Iterable[Image], network: Classifier | SavedClassifier,
             config: PredictConfig) -> Iterator[
        tuple[list[str], np.ndarray, list[str]]]:
    """Yields names and prepared images, and sentences about those that cannot be read, of so many images at a time."""
    # A few images are read ahead by threads, each by itself, so that one that cannot be read stops no other.
    prepare = tf.function(lambda encoded: network.preprocess(decode_image(encoded, classifier.CHANNELS)),
                          input_signature=[tf.TensorSpec([], tf.string)], autograph=False)

    def load(image):
        try:
            encoded = image.source if isinstance(image.source, bytes) else tf.io.read_file(os.fsencode(image.source))
            return image.name, prepare(encoded).numpy()
        except READ_ERRORS as error:
            return image.name, f'{shown(image.name)} cannot be read as an image: {reason(error)}'

    with ThreadPoolExecutor(config.num_preprocessing_threads) as pool:
        waiting: deque[Any] = deque()
        try:
            while True:
                more = itertools.islice(images, _AHEAD * config.batch_size - len(waiting))
                waiting += [pool.submit(load, image) for image in more]
                if not waiting:
                    return
                loaded = [waiting.popleft().result() for _ in range(min(config.batch_size, len(waiting)))]
                sound = [(name, value) for name, value in loaded if isinstance(value, np.ndarray)]
                yield ([name for name, _ in sound], np.stack([value for _, value in sound]) if sound else np.empty(0),
                       [value for _, value in loaded if isinstance(value, str)])
        finally:
            pool.shutdown(cancel_futures=True)


def _probabilities(network, batch, config):
    try:
        return network.predict(batch)
    except tf.errors.ResourceExhaustedError:
        raise RunError(f'Out of memory: make --batch_size (now {config.batch_size}) smaller.') from None


def _top(names, probabilities, top_k):
    order = np.argsort(-probabilities, axis=1, kind='stable')[:, :top_k]
    best = np.take_along_axis(probabilities, order, 1)
    return [Prediction(*row) for row in zip(names, order.tolist(), best.tolist(), strict=True)]


class _Table:
    """A line for each class, for people."""

    def __init__(self, out, class_names):
        self._out, self._names, self._width = out, class_names, 0

    def write(self, predictions):
        names = [shown(prediction.image) for prediction in predictions]
        if not self._width:
            self._width = max(map(len, ['image', *names]))
            self._line('image', 'probability', 'class')
        for name, prediction in zip(names, predictions, strict=True):
            for label, probability in zip(prediction.labels, prediction.probabilities, strict=True):
                self._line(name, f'{probability:.4f}', shown(self._names[label]))
                name = ''

    def _line(self, image, probability, name):
        self._out.write(f'{image:<{self._width}}  {probability:>11}  {name}\n')


class _Csv:
    """A row for each image, as spreadsheets read it: RFC 4180, UTF-8."""

    def __init__(self, out, class_names):
        self._out, self._names, self._begun = out, class_names, False

    def write(self, predictions):
        if not self._begun:
            self._begun = True
            ranks = [''] + [f'_{rank}' for rank in range(2, len(predictions[0].labels) + 1)]
            self._row(['image', *(f'{what}{rank}' for rank in ranks for what in ('label', 'class', 'probability'))])
        for image, labels, probabilities in predictions:
            self._row([image, *itertools.chain.from_iterable(
                (label, self._names[label], f'{probability:.6g}')
                for label, probability in zip(labels, probabilities, strict=True))])

    def _row(self, cells):
        line = io.StringIO()
        csv.writer(line, lineterminator='\n').writerow(cells)
        self._out.write(line.getvalue())


class _JsonLines:
    """A JSON object for each image."""

    def __init__(self, out, class_names):
        self._out, self._names = out, class_names

    def write(self, predictions):
        for image, labels, probabilities in predictions:
            found = [{'label': label, 'class': self._names[label], 'probability': float(f'{probability:.6g}')}
                     for label, probability in zip(labels, probabilities, strict=True)]
            # JSON is Unicode, and a file's name need not be.
            image = os.fsencode(image).decode('utf-8', 'replace')
            self._out.write(json.dumps({'image': image, 'predictions': found}, ensure_ascii=False) + '\n')


_WRITERS = {'table': _Table, 'csv': _Csv, 'jsonl': _JsonLines}
