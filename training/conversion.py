"""The work of `download_and_convert_data.py`: from its settings to files, and what its user sees of it."""
import shlex
import sys
import time
import warnings
from collections.abc import Callable

from training.console import Interrupted
from training.convert_config import IMAGES, SPLIT, ConvertConfig
from training.progress import Progress

_SECONDS = {True: 0.5, False: 10.0}     # between reports on a terminal, and of lines elsewhere


def convert(config: ConvertConfig, say: Callable[[str], None] = print) -> dict:
    """Reads a source and writes its images into TFRecord files.

    Args:
      config: see there.
      say: receives the lines that tell what was found and written.

    Returns:
      The summary; see `datasets.conversion.convert`.

    Raises:
      datasets.DatasetError: the source is not as it should be, or the files cannot be written.
      slim_zoo_download.DownloadError: a download failed.
      console.Interrupted: by Ctrl-C.
    """
    # Late: the config above is checked before TensorFlow starts.
    from datasets.conversion import beam, sources
    from datasets.conversion import convert as engine
    from datasets.conversion.collection import ImageOptions, SplitOptions

    collection = sources.read(config.dataset_name, config.source_dir, SplitOptions(**config.some(SPLIT)))
    sizes = ', '.join(f'{split} {len(items):,}' for split, items in collection.splits.items())
    say(f'{collection.name}: {len(collection.class_names)} classes; images: {sizes}.')
    dropped: tuple = ()
    if config.duplicates == 'skip' or config.strict:
        collection, dropped = engine.without_duplicates(collection, config.num_workers)
    conversion = engine.Conversion(
        collection, config.dataset_dir, ImageOptions(**config.some(IMAGES)),
        {**config.some(('seed', 'num_validation', 'validation_fraction', 'stratify', 'duplicates'))},
        config.strict, dropped)
    report = _Report(sum(map(len, collection.splits.values())))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='PIL')  # of large images: the report has what is too large
            if config.beam_options is None:
                summary = engine.convert(conversion, config.num_workers, report.step)
            else:
                summary = beam.convert_with_beam(conversion, config.beam_options.split(), report.step)
    except KeyboardInterrupt:
        raise Interrupted('stopped; the files that are finished are kept, and the same command goes on from there.',
                          2) from None
    finally:
        report.close()
    for split, found in summary['splits'].items():
        say(f'{split}: {found["num_images"]:,} images in {found["num_shards"]} '
            f'file{"s" if found["num_shards"] > 1 else ""}')
    if summary['problems']:
        kinds = ', '.join(f'{kind} {count:,}' for kind, count in summary['problems'].items())
        say(f'Problems: {kinds}. Left out: {summary["left_out"]:,}. {conversion.report_path} has each of them.')
    name = collection.name if collection.name in sources.SOURCES else 'tfrecord'
    several = any(isinstance(items[0].label, tuple) for items in collection.splits.values() if items)
    what = f'Wrote {config.dataset_dir}' if report.began else (
        f'All of it was there already: {config.dataset_dir}; images that changed since are not converted anew: give '
        'another --dataset_dir or remove its files for that')
    say(f'{what}. Next: python train_image_classifier.py --dataset_name={name} '
        f'--dataset_dir={shlex.quote(config.dataset_dir)}{" --class_mode=multilabel" if several else ""}')
    return summary


class _Report:
    """The progress, from the number of images that are done at the first call."""

    def __init__(self, total):
        self._total, self._done, self._progress = total, 0, None

    def step(self, images):
        self._done += images
        if self._progress is None:
            self._progress = Progress(self._total, self._done, 1, 'converting')
            self._last = time.monotonic()
            return
        self._progress.step(images)
        if self._done == self._total or time.monotonic() > self._last + _SECONDS[sys.stderr.isatty()]:
            self._progress.report(self._done, 'images')
            self._last = time.monotonic()

    @property
    def began(self):
        return self._progress is not None

    def close(self):
        if self._progress is not None:
            self._progress.close()
