"""`python -m datasets verify DIR` reads a dataset to the last byte; `python -m datasets show DIR` draws it.

This is a script, as those beside the packages are: only here are a dataset and a preprocessing brought together.
"""
import argparse
import contextlib
import json
import os
import sys
import threading
import time

from training import arguments, console

SECONDS = 10    # between lines of progress where there is no terminal


def main(args: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 1 where something is wrong with the dataset, 2 for wrong flags."""
    parser = arguments.Parser('python -m datasets', description='Checks a dataset, or draws it.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='verify | show')
    _add_verify(commands)
    _add_show(commands)
    options = parser.parse_args(args)
    code = 0

    def work():
        nonlocal code
        with console.quiet_tensorflow(verbose=False):
            import tensorflow  # noqa: F401
        code = options.work(options)

    return console.run(work, f'{parser.prog} {options.command}') or code


def _add_dataset(command):
    command.add_argument('dir', metavar='DIR', help='the folder of the dataset; or its file, if that is a list')
    command.add_argument('--dataset_name', help='the dataset, as in training; by default all TFRecord files in DIR, or '
                                                'else its lists or class folders')
    command.add_argument('--split', help='one split of it; by default verify reads all that are there, and show '
                                         'the first of them: train, or else validation, test')
    command.add_argument('--multi_label', action='store_true', help='a record may have several labels, or none')
    command.add_argument('--file_pattern', help='of the TFRecord files, with %%s for the split where there is one')


def _add_verify(commands):
    command = commands.add_parser(
        'verify', help='reads every record, and says which of them cannot be used and why',
        description='Reads every record: checksums, features, labels, the image itself. Exit code 1 if one is bad.')
    _add_dataset(command)
    command.add_argument('--json', metavar='FILE', help='writes the report there too, for a program to read')
    command.add_argument('--num_threads', type=_count, help='files read at once (one for each core)')
    command.set_defaults(work=_verify)


def _add_show(commands):
    command = commands.add_parser(
        'show', help='draws samples with their labels, before and after augmentation, and the images of each class',
        description='Draws samples with their labels, before and after augmentation, and the images of each class.')
    _add_dataset(command)
    command.add_argument('--output', metavar='FILE.png', default='dataset.png', help='the picture (dataset.png)')
    command.add_argument('--samples', type=_count, default=16, help='how many images (16)')
    command.add_argument('--preprocessing_name', default='inception', help='the augmentation of a network or '
                                                                           'preprocessing (inception)')
    command.add_argument('--image_size', type=_count, default=224, help='of the augmented images, in pixels (224)')
    command.add_argument('--seed', type=int, default=0, help='of the choice of samples and of the augmentation (0)')
    command.set_defaults(work=_show)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def _verify(options):
    from datasets import checking

    with contextlib.ExitStack() as stack:
        report = checking.verify(
            options.dir, options.dataset_name, options.split, options.file_pattern, options.multi_label,
            options.num_threads,
            begin=lambda total, unit: stack.enter_context(_Progress(total, unit)).add)
    for fault in report.faults:
        print(fault)
    if report.fault_count > len(report.faults):
        print(f'... and {report.fault_count - len(report.faults):,} more faults.')
    print(report)
    if options.json:
        checking.write_whole(options.json, json.dumps(report.as_json(), ensure_ascii=False, indent=1).encode())
    return 1 if report.fault_count else 0


def _show(options):
    from datasets import DatasetError, showing
    from preprocessing import preprocessing_factory

    dataset = _open(options)
    try:
        parts = preprocessing_factory.get_split_preprocessing(options.preprocessing_name, dataset.channels == 1)
    except ValueError as error:
        raise DatasetError(f'--preprocessing_name: {error}') from None
    size = options.image_size
    showing.show(dataset, lambda image, seed: _augmented(parts, image, size, seed), options.output,
                 samples=options.samples, seed=options.seed,
                 caption=f'as {options.preprocessing_name} augments it, {size}x{size}')
    print(f'{dataset} is drawn in {options.output}.')
    return 0


def _open(options):
    """The split to draw: without --split the first that is there."""
    from datasets import DatasetError, checking
    from datasets.dataset_factory import find_row

    name, folder, pattern = checking.locate(options.dir, options.dataset_name, options.file_pattern)
    row, refused = find_row(name), None
    extra = {'multi_label': True} if options.multi_label and 'multi_label' in row.options else {}
    splits = [options.split] if options.split else list(row.splits) or ['train', 'validation', 'test', 'val']
    for split in splits:
        try:
            dataset = row.get_split(split, folder or None, pattern, **extra)
        except DatasetError as error:
            refused = refused or error
            continue
        if refused:     # train may be there, and broken
            print(f'Not {splits[0]}, but {split} is drawn: {refused}', file=sys.stderr)
        return dataset
    raise refused


def _augmented(parts, image, size, seed):
    """What a network is trained on, with black at 0 and white at 255."""
    import tensorflow as tf

    def on_device(image, **kwargs):
        return parts.on_device(image[tf.newaxis], seed, **kwargs)[0].numpy()

    plain = {'distort_colors': False} if parts.window else {}
    distorted = on_device(parts.on_host(image, size, size, seed=seed))
    low, high = (on_device(tf.fill([1, 1, image.shape[-1]], tf.constant(value, tf.uint8)), **plain)
                 for value in (0, 255))
    if (low == high).all():     # each image is standardised
        low, high = distorted.min(), distorted.max()
    return tf.saturate_cast(tf.round((distorted - low) / (high - low) * 255), tf.uint8)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total, unit):
        from tqdm import tqdm

        self._total, self._lock = total, threading.Lock()
        self._records = self._done = 0
        self._next = time.monotonic() + SECONDS
        self._bar = tqdm(total=total, unit='B' if unit == 'bytes' else f' {unit}', unit_scale=unit == 'bytes',
                         desc='verify', dynamic_ncols=True) if _columns() else None

    def __enter__(self):
        return self

    def add(self, records, done):
        with self._lock:
            self._records, self._done = self._records + records, self._done + done
            if self._bar is not None:
                self._bar.update(done)
            elif time.monotonic() >= self._next:
                self._next = time.monotonic() + SECONDS
                print(f'verify {self._records:,} records, {100 * self._done / max(self._total, 1):.0f} %',
                      file=sys.stderr, flush=True)

    def __exit__(self, *unused):
        if self._bar is not None:
            self._bar.close()


def _columns():
    """The width of the terminal; 0 where there is none, or one without a size."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 0


if __name__ == '__main__':
    sys.exit(main())
