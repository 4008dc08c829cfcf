"""Exports of a trained network: each is written, run by its own runtime, and compared, before it gets its name."""
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import datasets
from datasets import DatasetError, image_folder
from datasets.provider import READ_ERRORS, reason
from training import data
from training.classifier import Classifier
from training.config import ConfigError, TrainConfig
from training.console import RunError, shown
from training.export_config import FORMATS, INDEX_FILE, ExportConfig
from training.exporting_litert import TFLite
from training.exporting_network import Images, Network
from training.exporting_runtimes import Onnx, OpenVino
from training.exporting_tensorflow import LABELS, FrozenGraph, SavedModel, labels_text
from training.extract_shards import writing


class Comparison(NamedTuple):
    """How an export, run by its own runtime, answers beside the checkpoint."""

    images: int
    largest_difference: float   # of any probability
    image: str                  # where that is
    same_class: int             # images whose most probable class is the same
    within_tolerance: bool


def export(config: ExportConfig, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Exports a classifier to the formats that a config names.

    All of them, or nothing, are in `output_dir` at the end, with `labels.txt` and `export.json`.

    Args:
      config: see there.
      say: receives the lines that tell what happens.

    Returns:
      What is in `export.json`.

    Raises:
      ConfigError, datasets.DatasetError, nets.checkpoints.CheckpointError: a setting, the images or the weights are
        wrong.
      RunError: an export does not answer as the checkpoint does, cannot be made, or cannot be written.
    """
    network = Network(Classifier(config), config.eval_crop_fraction)
    classifier = network.classifier
    images = _images(config, network)
    calibration = _dataset(config) if 'tflite_int8' in config.formats else None
    say(f'Exporting {classifier.path}: {classifier.model.network}, {len(classifier.class_names)} classes'
        + (f', names from {classifier.names_from}' if classifier.names_from else ', which have no names '
           '(--labels_file)') + f', images at {classifier.size}x{classifier.size}.')
    say(f'{network.folded.folded} batch norms are folded into their convolutions'
        + (f', {len(network.folded.left)} that follow none are left' if network.folded.left else '') + '.')
    expected = _by_the_checkpoint(network, images)
    index: dict[str, Any] = {**network.description, 'exports': {}}
    with _whole_folder(config.output_dir) as folder:
        say(f'Compared with the checkpoint on {_count(len(images.names), "image")}, by the probabilities:')
        say(f'{"format":<15} {"MB":>7} {"largest difference":>19} {"tolerance":>10} {"same class":>11}')
        for name in config.formats:
            with _silent(config.verbose_tensorflow):
                index['exports'][name] = _exported(name, config, network, images, expected, calibration, folder)
            _tell(name, index['exports'][name], config.tolerance_of(name), say)
        _check(config, index['exports'])
        with open(os.path.join(folder, LABELS), 'w', encoding='utf-8') as file:
            file.write(labels_text(classifier.class_names))
        with open(os.path.join(folder, INDEX_FILE), 'w', encoding='utf-8') as file:
            json.dump(index, file, indent=1)
            file.write('\n')
    say(f'Wrote {", ".join(FORMATS[name].file for name in config.formats)}, {LABELS} and {INDEX_FILE} into '
        f'{config.output_dir}.')
    return index


def _exported(name, config, network, images, expected, calibration, folder):
    """Writes one, runs it, and returns what is to be told of it."""
    writer, path = _writer(name, config, network, calibration), os.path.join(folder, FORMATS[name].file)
    try:
        told = writer.write(network, path)
        ways = {way: _compared(found, expected, images, config.tolerance_of(name))
                for way, found in writer.run(path, images, told)}
    except (OSError, RunError, DatasetError):
        raise
    except Exception as error:  # converters and runtimes have errors of any kind
        said = ' '.join(str(error).split())
        raise RunError(f'{name}: {network.description["model_name"]} cannot be exported so: {type(error).__name__}: '
                       f'{said[:300]}. Nothing was written; leave {name} out of --format.') from error
    worst = max(ways.values(), key=lambda comparison: comparison.largest_difference)
    return {'file': FORMATS[name].file, 'bytes': _size(path), **told, 'comparison': {
        **worst._asdict(), 'same_class': min(comparison.same_class for comparison in ways.values()),
        'within_tolerance': all(comparison.within_tolerance for comparison in ways.values()),
        'tolerance': config.tolerance_of(name)}}


def _writer(name, config, network, calibration):
    kinds = {'tflite': 'float32', 'tflite_float16': 'float16', 'tflite_int8': 'int8'}
    if name in kinds:
        return TFLite(kinds[name], lambda: (
            _prepared(network, source, encoded)[np.newaxis]
            for source, encoded in _some(calibration, config.calibration_images)))
    return {'saved_model': SavedModel, 'frozen_graph': FrozenGraph, 'onnx': Onnx, 'openvino': OpenVino}[name]


def _compared(found, expected, images, tolerance):
    if found.shape != expected.shape or not np.all(np.isfinite(found)):
        return Comparison(len(expected), float('inf'), images.names[0], 0, False)
    differences = np.abs(found - expected).max(1)
    first, wanted = found.argmax(1), expected.argmax(1)
    # Classes that the checkpoint itself has no farther apart than the tolerance may change places.
    lost = expected.max(1) - expected[np.arange(len(first)), first]
    worst = int(differences.argmax())
    return Comparison(len(expected), float(differences[worst]), images.names[worst], int(np.sum(first == wanted)),
                      bool(differences[worst] <= tolerance and np.all(lost <= tolerance)))


def _by_the_checkpoint(network, images):
    """The probabilities by the network as it was restored: not folded, not converted."""
    answers = [network.classifier.probabilities(network.classifier.model(batch[tf.newaxis])).numpy()
               for batch in images.prepared]
    expected = np.concatenate(answers)
    if not np.all(np.isfinite(expected)):
        raise RunError(f'{network.classifier.path} answers with what is no number; there is nothing to export.')
    return expected


def _tell(name, told, tolerance, say):
    found = told['comparison']
    say(f'{name:<15} {told["bytes"] / 1e6:>7.2f} {found["largest_difference"]:>19.3g} {tolerance:>10.3g} '
        f'{found["same_class"]:>5} of {found["images"]}' + ('' if found['within_tolerance'] else '   DIFFERS'))


def _check(config, exports):
    bad = [name for name in exports if not exports[name]['comparison']['within_tolerance']]
    if not bad:
        return
    name = max(bad, key=lambda name: exports[name]['comparison']['largest_difference'])
    found = exports[name]['comparison']
    raise RunError(f'{", ".join(bad)}: not as the checkpoint answers. The probabilities by {name} differ by up to '
                   f'{found["largest_difference"]:.3g}, on {shown(found["image"])}, and the most probable class is the '
                   f'same for {found["same_class"]} of {_count(found["images"], "image")}; --tolerance is '
                   f'{config.tolerance_of(name):g}. Nothing was written.'
                   + (' Calibrate on images like those that it will see, by --dataset_name and --calibration_images.'
                      if name == 'tflite_int8' else ''))


def _images(config, network):
    """The images to compare on, as many as the config says and there are."""
    if config.images:
        paths = sorted(image_folder.images_below(config.images)) if os.path.isdir(config.images) else [config.images]
        if not paths:
            raise DatasetError(f'--images={config.images}: there are no images in it '
                               f'({", ".join(image_folder.EXTENSIONS)}).')
        # From all of the folder, whose first ones may be of one class.
        chosen = [paths[round(place)] for place in np.linspace(
            0, len(paths) - 1, min(config.num_images, len(paths)))]
        found = [(path, _read(path)) for path in chosen]
    else:
        found = list(_some(_dataset_to_compare_on(config), config.num_images))
    return Images([name for name, _ in found], [encoded for _, encoded in found],
                  np.stack([_prepared(network, name, encoded) for name, encoded in found]))


def _read(path):
    try:
        return tf.io.read_file(os.fsencode(path)).numpy()
    except tf.errors.OpError as error:
        raise DatasetError(f'{shown(path)} cannot be read: {reason(error)}') from None


def _prepared(network, name, encoded):
    try:
        return network.prepare(encoded)
    except READ_ERRORS as error:
        raise DatasetError(f'{shown(name)} is no image that can be read: {reason(error)}') from None


def _dataset_to_compare_on(config):
    trained = config.trained_in
    if config.dataset_name:
        return _dataset(config)
    if trained is None:
        raise ConfigError('--images is needed: a folder of images, or one image, to compare the exports with the '
                          'checkpoint on.')
    try:
        return data.held_out(trained)
    except DatasetError as error:
        raise DatasetError(f'There are no images to compare the exports on: {error} Give others by --images.') from None


def _dataset(config: ExportConfig) -> datasets.Dataset:
    """The split that the config names, or the one that the weights were trained on."""
    trained = config.trained_in
    if config.dataset_name:
        return data.open_dataset(TrainConfig(
            dataset_name=config.dataset_name, dataset_dir=config.dataset_dir, class_mode=config.class_mode,
            dataset_split_name=config.dataset_split_name))
    if trained is None:
        raise ConfigError('--format=tflite_int8 is calibrated on images of a dataset: give --dataset_name and '
                          '--dataset_dir, such as --dataset_name=image_folder with a folder of class folders.')
    try:
        return data.open_dataset(trained)
    except DatasetError as error:
        raise DatasetError(f'There are no images to calibrate tflite_int8 on: {error} Give --dataset_name and '
                           '--dataset_dir.') from None


def _some(dataset: datasets.Dataset, count: int) -> Iterator[tuple[str, bytes]]:
    """Names and files of so many images of all of a dataset, the same each time."""
    try:
        for example in dataset.as_tf_data(shuffle=True, seed=0).take(count):
            yield os.fsdecode(example['source'].numpy()), example['image'].numpy()
    except READ_ERRORS as error:
        raise DatasetError(f'{dataset.name} cannot be read: {reason(error)}') from None


@contextlib.contextmanager
def _whole_folder(path: str) -> Iterator[str]:
    """A new folder to write into, which at the end takes the place of `path`; after an error it goes again."""
    path = os.path.realpath(path)
    with writing(path, then=''):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        work = tempfile.mkdtemp(prefix=f'.{os.path.basename(path)}.writing-', dir=os.path.dirname(path))
    try:
        with writing(path, then=''):
            os.chmod(work, 0o777 & ~_umask())
            yield work
            if os.path.exists(path):
                old = tempfile.mkdtemp(prefix=f'.{os.path.basename(path)}.old-', dir=os.path.dirname(path))
                os.replace(path, old)
                try:
                    os.rename(work, path)
                except BaseException:
                    os.replace(old, path)
                    raise
                shutil.rmtree(old)
            else:
                os.rename(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _silent(verbose: bool) -> Iterator[None]:
    """Hides what converters and runtimes write to file descriptor 2; what goes wrong they raise."""
    if verbose:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _size(path):
    """The bytes of a file, of a folder, or of a pair like model.xml and model.bin."""
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    beside = f'{os.path.splitext(path)[0]}.bin'
    return os.path.getsize(path) + (os.path.getsize(beside) if path.endswith('.xml') else 0)


def _count(number, thing):
    return f'{number} {thing}{"s" if number != 1 else ""}'
