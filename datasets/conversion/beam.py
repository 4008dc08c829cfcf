"""The same conversion on Apache Beam, for collections past one machine: the same shards, byte for byte, and report.

The folder that is written, and what the items name, must be where every worker reaches them, as gs:// is; the workers
need this package too (Beam's own guide says how: a container, or --setup_file).
"""
import contextlib
import dataclasses
import functools
import json
import os
import pickle
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

import slim_zoo_download
from datasets.conversion.collection import Shard
from datasets.conversion.convert import Conversion
from datasets.provider import DatasetError

_ITEMS, _ERROR = '.items', '.error'     # files of a shard on the way


def convert_with_beam(conversion: Conversion, pipeline_options: Sequence[str] = (),
                      step: Callable[[int], None] = lambda images: None) -> dict[str, Any]:
    """Converts a collection; `convert.convert` does the same on this machine, and either goes on with the other's work.

    Args:
      conversion: see there.
      pipeline_options: Beam's flags, such as `['--runner=DataflowRunner', '--project=...']`; none: on this machine.
      step: called with the number of images that are done, before and after; what is between, the engine shows.

    Returns:
      The summary, as `convert.convert` does.

    Raises:
      DatasetError: Beam is not installed; or see `Conversion`.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise DatasetError("converting on Apache Beam needs it installed: pip install 'slim-zoo[beam]'.") from None
    with contextlib.ExitStack() as stack:
        if conversion.check() and '://' not in conversion.dataset_dir:
            stack.enter_context(slim_zoo_download.locked(conversion.make_folders()))
        if not conversion.begin():
            conversion.clean()
            with tf.io.gfile.GFile(conversion.summary_path, 'rb') as file:
                return json.loads(file.read())
        folder, missing = conversion.make_folders(), conversion.missing()
        to_do = sum(len(shard.items) for shard in missing)
        step(sum(map(len, conversion.collection.splits.values())) - to_do)
        for shard in missing:
            # As files: a pipeline that held a million items itself is refused by the engines.
            with tf.io.gfile.GFile(os.path.join(folder, shard.file_name + _ITEMS), 'wb') as file:
                file.write(pickle.dumps(shard))
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.remove(os.path.join(folder, shard.file_name + _ERROR))
        none = dataclasses.replace(conversion.collection, splits={})
        work = functools.partial(_write, dataclasses.replace(conversion, collection=none, dropped=()), folder)
        with apache_beam.Pipeline(options=PipelineOptions(list(pipeline_options))) as pipeline:
            (pipeline | 'Shards' >> apache_beam.Create([shard.file_name for shard in missing])
             | 'Spread' >> apache_beam.Reshuffle() | 'Write' >> apache_beam.Map(work))
        for shard in missing:
            error = os.path.join(folder, shard.file_name + _ERROR)
            if tf.io.gfile.exists(error):
                with tf.io.gfile.GFile(error) as file:
                    raise DatasetError(file.read())
        step(to_do)
        return conversion.finish()


def _write(conversion: Conversion, folder: str, name: str) -> None:
    """Writes a shard, in a folder of its own first, since an engine may begin it twice: whichever ends later stays."""
    with tf.io.gfile.GFile(os.path.join(folder, name + _ITEMS), 'rb') as file:
        shard: Shard = pickle.loads(file.read())
    own = dataclasses.replace(conversion, dataset_dir=os.path.join(folder, f'{name}.{uuid.uuid4().hex}'))
    own_folder = own.make_folders()
    try:
        own.write(shard)
        tf.io.gfile.rename(os.path.join(own_folder, f'{name}.json'), os.path.join(folder, f'{name}.json'), True)
        tf.io.gfile.rename(os.path.join(own.dataset_dir, name), os.path.join(conversion.dataset_dir, name), True)
    except DatasetError as error:   # the user's to mend: to try again, as engines do, is of no use
        with tf.io.gfile.GFile(os.path.join(folder, name + _ERROR), 'w') as file:
            file.write(str(error))
    finally:
        tf.io.gfile.rmtree(own.dataset_dir)
