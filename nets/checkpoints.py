"""TF-Slim's checkpoints: variable name -> value, `global_step`, moving averages and optimizer slots under their TF1
names.

TF-Slim's own programs read what is written here, and the other way round. A checkpoint is written beside its final name
and moved there when it is whole; the `checkpoint` state file, by which it is found, comes last.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from nets import registry

AVERAGE = '/ExponentialMovingAverage'
BEST = 'best'           # the folder of the best checkpoints, in the training's
BEST_FILE = 'best.json'
LARGEST = 2 ** 29       # numbers in a file of weights; OverFeat, the largest network, has 146 million
_STATE_FILE = 'checkpoint'
_PART = '.writing-'     # what is not whole yet
# What TensorFlow's reader raises where a file is cut short, not a checkpoint, or missing.
_READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, LookupError)
_SUFFIXES = ('.data-00000-of-00001', '.index')  # in the order of moving: without its index there is no checkpoint


class CheckpointError(ValueError):
    """A checkpoint cannot be found, read, used or written; the message says which, why, and what would be right."""


def latest(path: str) -> str | None:
    """The newest checkpoint of a training's folder; None where the folder has none.

    Raises:
      CheckpointError: the folder's state file is damaged, or names checkpoints that are not there.
    """
    return next(_there(path), None)


def _there(folder):
    """The checkpoints of a folder that are there, the newest first."""
    names, found = _named(folder), False
    for name in reversed(names):
        # The folder may have been moved or copied since: what is in it comes first.
        for candidate in (_local(folder, name), name):
            if _exists(candidate):
                found = True
                yield candidate
                break
    if names and not found:
        raise CheckpointError(f'{os.path.join(folder, _STATE_FILE)} names {names[-1]}, which is not there.')


def kept(folder: str) -> list[str]:
    """The checkpoints that a training's folder has, the newest first; raises as `latest` does."""
    return list(_there(folder))


def latest_whole(path: str) -> tuple[str | None, list[str]]:
    """The newest checkpoint of a training's folder of which every value can be read: a machine that crashed may have
    lost the end of a file.

    Returns:
      The checkpoint, None where the folder has none; and what is wrong with each that is newer, the newest first.

    Raises:
      CheckpointError: no checkpoint is whole, or see `latest`.
    """
    faults: list[str] = []
    for prefix in _there(path):
        try:
            reader = Reader(prefix)
            for name in reader.shapes:
                reader.value(name)
            return prefix, faults
        except CheckpointError as error:
            faults.append(str(error).splitlines()[0])
    if faults:
        raise CheckpointError(f'No checkpoint in {path} can be read. {" ".join(faults)}')
    return None, faults


def _named(folder):
    """The checkpoints that the folder's state file names, the newest last."""
    file = os.path.join(folder, _STATE_FILE)
    if not tf.io.gfile.exists(file):
        return []
    try:
        state = tf.train.get_checkpoint_state(folder)
    except ValueError:  # it names none
        state = None
    if state is None:
        raise CheckpointError(
            f'{file} is damaged: its first line should be of the form model_checkpoint_path: "model.ckpt-500".'
        )
    newest = state.model_checkpoint_path
    return [*(name for name in state.all_model_checkpoint_paths if name != newest), newest]


def _local(folder, name):
    return os.path.join(folder, os.path.basename(name))


def resolve(path: str) -> str:
    """The checkpoint that a user means by a folder, a prefix, or one of a checkpoint's files.

    Raises:
      CheckpointError: there is none.
    """
    try:
        return _resolve(path)
    except tf.errors.OpError as error:      # a scheme that TensorFlow does not read
        raise CheckpointError(f'{path} cannot be read: {_reason(error)}.') from None


def _resolve(path):
    if tf.io.gfile.isdir(path):
        found = latest(path)
        if found is None:
            raise CheckpointError(f'There is no checkpoint in {path}: the folder has no file named `{_STATE_FILE}`.')
        return found
    prefix = re.sub(r'\.(index|meta|data-\d+-of-\d+)$', '', path)
    if not _exists(prefix):
        raise CheckpointError(f'There is no checkpoint {path}.')
    return prefix


def _step(prefix):
    number = re.search(r'-(\d+)$', prefix)
    return int(number[1]) if number else -1


def _exists(prefix):
    return tf.io.gfile.exists(prefix + '.index') or (tf.io.gfile.exists(prefix) and not tf.io.gfile.isdir(prefix))


class Reader:
    """An open checkpoint: a path, shapes by name, values by name."""

    lacks: tuple[str, ...] = ()

    def __init__(self, path: str):
        """Opens the checkpoint that `path` means; raises CheckpointError where there is none or it is damaged."""
        self.path = resolve(path)
        try:
            self._reader = tf.train.load_checkpoint(self.path)
        except _READ_ERRORS as error:
            raise CheckpointError(f'{self.path} is not a TensorFlow checkpoint, or is damaged: {error}') from None
        self.shapes = {name: tuple(shape) for name, shape in self._reader.get_variable_to_shape_map().items()}

    def value(self, name: str) -> np.ndarray:
        """The value of a variable; raises CheckpointError where the file is damaged."""
        try:
            return self._reader.get_tensor(name)
        except _READ_ERRORS as error:
            if not _exists(self.path):
                raise CheckpointError(f'{self.path} was removed while it was read; try again.') from None
            raise CheckpointError(f'{self.path} is damaged, {name} cannot be read: {error}') from None


class Values:
    """Values in memory, under TF-Slim's names: what was read from another library's file, in place of a `Reader`.

    Args:
      path: of the file.
      values: variable name -> value.
      lacks: beginnings of names of variables that the file need not have, as its library does not: auxiliary
        classifiers, or the classifier of a file without top.
    """

    def __init__(self, path: str, values: Mapping[str, np.ndarray], lacks: Iterable[str] = ()):
        self.path, self.lacks, self._values = path, tuple(lacks), dict(values)
        self.shapes = {name: tuple(value.shape) for name, value in values.items()}

    def value(self, name: str) -> np.ndarray:
        """The value of a variable."""
        return self._values[name]


def restore(
    reader: Reader | Values, variables: Mapping[str, tf.Variable], *, ignore_missing: bool = False,
    moving_averages: bool = False, changed: Mapping[str, np.ndarray] = MappingProxyType({}), hint: str = ''
) -> list[str]:
    """Assigns values from a checkpoint to variables; all are looked up and read before the first is changed.

    Args:
      reader: the checkpoint.
      variables: name in the checkpoint -> variable.
      ignore_missing: leave variables alone that the checkpoint lacks.
      moving_averages: take the exponential moving average of a variable, where the checkpoint has one.
      changed: values to take in place of those that the checkpoint has under these names.
      hint: what the user could do about a mismatch, put after the reason.

    Returns:
      The names that were not in the checkpoint.

    Raises:
      CheckpointError: gives the likely reason, and names every missing and every misshapen variable, and the
        checkpoint's own names that were not asked for; or it has no moving averages.
    """
    stored = {name: name for name in variables}
    if moving_averages:
        stored = {name: name + AVERAGE if name + AVERAGE in reader.shapes else name for name in variables}
        if not any(name.endswith(AVERAGE) for name in stored.values()):
            raise CheckpointError(f'{reader.path} holds no moving averages of these variables: take the variables '
                                  'themselves, without moving averages.')
    missing = [name for name in variables if stored[name] not in reader.shapes]
    shapes = {name: changed[name].shape if name in changed else reader.shapes[stored[name]]
              for name in variables if name not in missing}
    misshapen = {name: shape for name, shape in shapes.items() if shape != tuple(variables[name].shape)}
    missing_in_vain = [name for name in missing if not (ignore_missing or name.startswith(reader.lacks))]
    if misshapen or missing_in_vain or variables and len(missing) == len(variables):
        raise CheckpointError(_mismatch(reader, variables, missing, misshapen, hint))
    values = {name: changed[name] if name in changed else reader.value(stored[name]) for name in shapes}
    for name, value in values.items():
        variables[name].assign(value)
    return missing


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The kernel of a first layer for images of another number of channels.

    For one channel its own are summed, so that a grey image answers as it would with three; for more they are repeated
    in turn, and made smaller, so that sums stay what they were. timm does the same (`adapt_input_conv`).

    Args:
      kernel: [height, width, channels of the published weights, maps].
      channels: of the images to take.
    """
    published = kernel.shape[-2]
    if channels == 1:
        return kernel.sum(-2, keepdims=True)
    return np.take(kernel, np.arange(channels) % published, -2) * (published / channels)


def _mismatch(reader, variables, missing, misshapen, hint):
    # Slots and averages of a variable belong to it; global_step and the like are no network's.
    known = {'', *variables, *reader.shapes}
    extra = sorted(name for name in reader.shapes if name not in variables and os.path.dirname(name) not in known)
    unfit = [f'{name} {list(there)} (here {list(variables[name].shape)})' for name, there in misshapen.items()]
    if len(missing) == len(variables):
        hint = ''       # which would be about parts
    parts = [f'{reader.path} does not fit: {_reason_of(reader, variables, missing, misshapen)} {hint}'.rstrip()]
    for title, names in (('Missing', missing), ('Of another shape', unfit), ('In the checkpoint alone', extra)):
        if names:
            parts.append(f'{title}: {", ".join(names)}.')
    return '\n'.join(parts)


def _reason_of(reader, variables, missing, misshapen):
    """The likely cause, a sentence."""
    if len(missing) == len(variables):
        roots = sorted({name.split('/')[0] for name in reader.shapes if '/' in name})
        of = ', '.join(row.name for row in registry.NETWORKS.values() if row.scope and row.scope in roots)
        return (f'it is a checkpoint of another network ({of or ", ".join(roots[:3]) or "without scopes"}) and has '
                f'none of the {len(variables)} variables wanted.')
    shapes = [(there, tuple(variables[name].shape)) for name, there in misshapen.items()]
    if shapes and not missing and all(there[:-1] == here[:-1] for there, here in shapes):
        counts = sorted({(there[-1], here[-1]) for there, here in shapes})
        why = 'it was made for another number of classes.'
        if counts in ([(1000, 1001)], [(1001, 1000)]):
            (there, here), = counts
            why += (f' It has {there}, where {here} are wanted: 1001 are the classes of ImageNet with a background, '
                    f'class 0, and 1000 without. Make the network with num_classes={there}, and see that the labels '
                    'fit: labels_offset=1 takes the background away.')
        return why
    if shapes and all(len(there) == len(here) > 2 and there[-1] == here[-1] for there, here in shapes):
        return f'its first layer takes {shapes[0][0][-2]} channels, where the images have {shapes[0][1][-2]}.'
    headed, heads_wanted = (any(name.startswith('Head/') for name in names) for names in (reader.shapes, variables))
    if headed and not heads_wanted:
        return (f'{len(missing)} of {len(variables)} variables missing; it is of a network that was cut or given a '
                'classifier of its own (final_endpoint, pool, hidden_units), which must be made in the same way.')
    counts = (len(missing), 'missing'), (len(misshapen), 'of another shape')
    why = ' and '.join(f'{count} of {len(variables)} variables {what}' for count, what in counts if count) + '.'
    if len(misshapen) > len(variables) / 3:
        why += ' It may be of another width of this network.'
    return why


def save(folder: str, step: int, values: Mapping[str, object], keep: int | None) -> str:
    """Writes `model.ckpt-STEP`, whole or not at all, and removes the oldest checkpoints beyond `keep`.

    With `keep`, it removes those of later steps too, which were there before a training went back.

    Args:
      folder: where to; it is made if it is not there.
      step: in the name.
      values: name in the checkpoint -> tensor, variable or array.
      keep: how many to keep, this one included; None for all.

    Returns:
      The checkpoint's prefix.

    Raises:
      CheckpointError: it cannot be written (a full disk, no permission); earlier checkpoints are as they were.
    """
    prefix = os.path.join(folder, f'model.ckpt-{step}')
    part = os.path.join(folder, f'{_PART}model.ckpt')
    named = [path for path in (_local(folder, name) for name in _named(folder)) if _exists(path)]
    # Those of later steps are of a course that was given up.
    others = [path for path in named if path != prefix and not (keep and _step(path) > step)]
    dropped = [path for path in named if path not in (*others, prefix)] + ([*others, prefix][:-keep] if keep else [])
    try:
        tf.io.gfile.makedirs(folder)
        with tf.device('/cpu:0'):
            names = sorted(values)
            tf.raw_ops.SaveV2(
                prefix=part,
                tensor_names=names,
                shape_and_slices=[''] * len(names),
                tensors=[tf.convert_to_tensor(values[name]) for name in names],
            )
        if prefix in named:     # its two files are not replaced at once: until they are, another one is the newest
            if not others:
                others = [_copy(prefix, os.path.join(folder, f'earlier-{os.path.basename(prefix)}'))]
                dropped += others
            _name(folder, others)
        for suffix in _SUFFIXES:
            tf.io.gfile.rename(part + suffix, prefix + suffix, overwrite=True)
        remain = [path for path in (*others, prefix) if path not in dropped]
        _name(folder, [*dropped, *remain])      # what is named still, a later call would remove after a kill
        for path in dropped:
            _remove(path)
        if dropped:
            _name(folder, remain)
    except (tf.errors.OpError, OSError) as error:
        newest = latest(folder)
        raise CheckpointError(
            f'The checkpoint of step {step} could not be written to {folder}: {_reason(error)}. '
            + (f'The last whole one is {newest}.' if newest else 'There is no earlier one.')
        ) from None
    finally:
        _remove(part)
    return prefix


def keep_best(
    prefix: str, folder: str, metric_name: str, value: float, keep: int = 1, larger_is_better: bool = True,
    extra_files: Iterable[str] = ()
) -> bool:
    """Copies a checkpoint into `folder/best` where it is among the best; the best is the newest in its state file.

    `best.json` there lists those kept, the best first: {checkpoint, metric, value, step}. A kill at any moment leaves
    what was there before, or what is there after, and the next call clears up.

    Args:
      prefix: the checkpoint.
      folder: the training's.
      metric_name: what `value` measures; entries of another metric give way.
      value: of the metric; NaN is never the best.
      keep: how many to keep. Of equals the earlier is better; another value for a step replaces the first.
      larger_is_better: or smaller.
      extra_files: names in the checkpoint's folder of files to copy beside it, such as the training's config.

    Returns:
      Whether it is the best.

    Raises:
      CheckpointError: it cannot be read or copied (a full disk, no permission), or `best.json` is damaged; what was
        there is as it was.
    """
    best = os.path.join(folder, BEST)
    entries = _best_entries(best)
    step = Reader(prefix).value('global_step').item()
    kept = [entry for entry in entries if entry['metric'] == metric_name and entry['step'] != step]
    entry = {'checkpoint': f'model.ckpt-{step}', 'metric': metric_name, 'value': float(value), 'step': step}
    if not math.isnan(value):
        kept = sorted([*kept, entry], key=lambda e: (-e['value'] if larger_is_better else e['value'], e['step']))[:keep]
    wanted = entry in kept
    try:
        _settle(best, [entry['checkpoint'] for entry in entries])
        if wanted:
            tf.io.gfile.makedirs(best)
            # What is named is never touched: should the step be there with other values, both are until one is named.
            taken = [entry['checkpoint'] for entry in entries]
            while entry['checkpoint'] in taken and not _same(prefix, os.path.join(best, entry['checkpoint'])):
                entry['checkpoint'] += '-again'
            if entry['checkpoint'] not in taken:
                _copy(prefix, os.path.join(best, entry['checkpoint']))
            for name in extra_files:
                _copy_file(os.path.join(os.path.dirname(prefix), name), os.path.join(best, name))
            _replace(best, BEST_FILE, json.dumps(kept, indent=2) + '\n')
            _settle(best, [entry['checkpoint'] for entry in kept])
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError(f'{prefix} could not be kept in {best}: {_reason(error)}.') from None
    return wanted and kept[0] is entry


def _best_entries(best):
    file = os.path.join(best, BEST_FILE)
    if not tf.io.gfile.exists(file):
        return []
    try:
        with tf.io.gfile.GFile(file) as text:
            entries = [{key: kind(entry[key]) for key, kind in
                        (('checkpoint', str), ('metric', str), ('value', float), ('step', int))}
                       for entry in json.loads(text.read())]
    except (ValueError, LookupError, TypeError, tf.errors.OpError):
        raise CheckpointError(f'{file} is damaged: it should be a list of checkpoint, metric, value and step; without '
                              'the file, the best is found anew.') from None
    return [entry for entry in entries if _exists(os.path.join(best, entry['checkpoint']))]


def _same(prefix, other):
    # An index has the checksum of each value.
    contents = []
    for path in (prefix, other):
        with tf.io.gfile.GFile(f'{path}.index', 'rb') as file:
            contents.append(file.read())
    return contents[0] == contents[1]


def _settle(best, names):
    """Names the checkpoints of `best.json` in the state file, and removes others that a kill left."""
    if not names:
        return
    paths = [os.path.join(best, name) for name in reversed(names)]
    try:
        named = [_local(best, path) for path in _named(best)]
    except CheckpointError:     # damaged; it is made anew
        named = []
    if named != paths:
        _name(best, paths)
    for file in tf.io.gfile.listdir(best):
        checkpoint = re.match(r'(model\.ckpt-\d+(-again)*)\.(index|data-|meta)', file)
        if file.startswith(_PART) or checkpoint and checkpoint[1] not in names:
            tf.io.gfile.remove(os.path.join(best, file))


def _copy(prefix, to):
    """Copies the files of a checkpoint, its index last; returns `to`."""
    folder, name = os.path.split(prefix)
    endings = [file[len(name):] for file in tf.io.gfile.listdir(folder) if file.startswith(name + '.')]
    for ending in sorted(endings, key=lambda ending: (ending == '.index', ending)):
        _copy_file(prefix + ending, to + ending)
    return to


def _copy_file(path, to):
    folder, name = os.path.split(to)
    part = os.path.join(folder, _PART + name)
    try:
        tf.io.gfile.copy(path, part, overwrite=True)
        tf.io.gfile.rename(part, to, overwrite=True)
    finally:
        _remove(part)


def _name(folder, paths):
    """Writes the state file, by which checkpoints are found, the newest last."""
    state = tf.compat.v1.train.generate_checkpoint_state_proto(folder, paths[-1], paths)
    _replace(folder, _STATE_FILE, text_format.MessageToString(state))


def write_text(folder: str, name: str, text: str | bytes) -> str:
    """Writes a file into a folder, which is made if it is not there; whole or not at all. Returns its path.

    Raises:
      CheckpointError: it cannot be written; an earlier file of the name is as it was.
    """
    with writing(os.path.join(folder, name)):
        tf.io.gfile.makedirs(folder)
        return _replace(folder, name, text)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns what TensorFlow raises where `path` cannot be written into a CheckpointError of one sentence."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError(f'{path} cannot be written: {_reason(error)}.') from None


def _replace(folder, name, text):
    path, part = os.path.join(folder, name), os.path.join(folder, _PART + name)
    try:
        with tf.io.gfile.GFile(part, 'wb' if isinstance(text, bytes) else 'w') as file:
            file.write(text)
        tf.io.gfile.rename(part, path, overwrite=True)
    finally:
        _remove(part)
    return path


def _remove(prefix):
    folder, name = os.path.split(prefix)
    there = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    for file in sorted(there, key=lambda file: file.endswith('.index')):    # last, as by it a later call finds the rest
        if file == name or file.startswith(name + '.'):
            tf.io.gfile.remove(os.path.join(folder, file))


def _reason(error):
    # TensorFlow says "{{node}} path; reason [Op:name]".
    text = (getattr(error, 'message', None) or str(error)).splitlines()[0]
    return text.split(' [Op:')[0].split('}} ')[-1].split('; ')[-1]


def starts_with_any(name: str, prefixes: str | None) -> bool:
    """Whether a variable's name starts with one of TF-Slim's comma-separated scopes."""
    return any(name.startswith(prefix) for prefix in split_scopes(prefixes))


def split_scopes(scopes: str | None) -> Iterable[str]:
    """The scopes of a comma-separated list, without blanks."""
    return [scope.strip() for scope in (scopes or '').split(',') if scope.strip()]
