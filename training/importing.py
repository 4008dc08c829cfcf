"""Weights of any origin into a checkpoint as TF-Slim's, or into a file for Keras; the flags of `import_weights.py`."""
import dataclasses
import os
from collections.abc import Callable

import numpy as np

from training.settings import GROUPS, Config, ConfigError, flag

_RUN, _DATA, _OUTPUT = GROUPS[1:4]
# Classes of a network that is built to see which variables depend on their number: no layer is as wide.
_CLASSES = 997
# The logit of a class that must never be the answer. Not lower, so that it has an exponential in any type.
_NEVER = -1e4
# Networks that PyTorch's libraries pad otherwise; see nets.weights.pytorch.
_TORCH_PADDING = ('inception_v1', 'inception_v3')


@dataclasses.dataclass(frozen=True)
class ImportConfig(Config):
    """The settings of `import_weights.py`.

    Raises:
      ConfigError: a value is unknown, something needed is not given, or two do not go together.
    """

    checkpoint_path: str = flag(
        '', "The weights to read: .h5 or .weights.h5 of Keras Applications, .safetensors or .pth of torchvision or "
        'timm, a frozen graph (.pb), an archive or URL with a checkpoint, a checkpoint, or a folder with one.', _RUN)
    moving_averages: bool = flag(False, 'Take the moving averages of a checkpoint, in place of its variables.', _RUN)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)
    model_name: str = flag('inception_v3', 'The network that they are of; `python -m nets` lists them.', _DATA)
    background_class: bool = flag(
        False, "Put TF-Slim's class 0, background, before the classes, so that 1000 become 1001; it is never the "
        'answer. With --export_path: take it away.', _DATA)
    output_dir: str = flag('', 'Write the checkpoint model.ckpt-0 into this folder.', _OUTPUT)
    export_path: str = flag('', 'In place of that, write this file for Keras, FILE.weights.h5.', _OUTPUT)
    overwrite: bool = flag(False, 'Write even where there is a file, or a checkpoint, already.', _OUTPUT)

    def __post_init__(self):
        super().__post_init__()
        if not self.checkpoint_path:
            raise ConfigError('--checkpoint_path is needed: the weights to read.')
        if bool(self.output_dir) == bool(self.export_path):
            raise ConfigError('Give one of --output_dir, for a checkpoint, and --export_path, for a file of Keras.')
        if self.export_path and not self.export_path.endswith('.weights.h5'):
            raise ConfigError(f'--export_path={self.export_path}: Keras wants a name that ends with .weights.h5.')
        if self.export_path and os.path.exists(self.export_path) and not self.overwrite:
            raise ConfigError(f'--export_path={self.export_path} is there already: --overwrite replaces it.')


def import_weights(config: ImportConfig, say: Callable[[str], None] = print) -> str:
    """Reads weights and writes them as a checkpoint, or for Keras.

    A checkpoint is what TF-Slim's programs and ours take: all variables of the network and a global step of 0. Where
    the weights have a classifier but no auxiliary one, which training alone uses, that has initial values; weights
    without a classifier make a checkpoint without.

    Args:
      config: see there.
      say: receives the lines that tell what was found and written.

    Returns:
      The prefix of the checkpoint, or the path of the file.

    Raises:
      nets.checkpoints.CheckpointError: the weights cannot be read, do not fit the network or have no classifier to
        change; or what should be written cannot be, or would replace something.
    """
    # Late: the config above is checked before TensorFlow starts.
    import tensorflow as tf

    from nets import checkpoints, create_model, registry, weights
    from nets.blueprint import network_variables
    from nets.weights import keras_applications

    network = registry.get(config.model_name)
    if config.output_dir and not config.overwrite and checkpoints.latest(config.output_dir):
        raise checkpoints.CheckpointError(f'{config.output_dir} holds a checkpoint already: --overwrite adds this one.')
    source = weights.read(config.checkpoint_path, network)
    per_class = {name for name, shape in network_variables(network, _CLASSES).items() if shape[-1] == _CLASSES}
    num_classes = next((source.shapes[name][-1] for name in per_class if name in source.shapes), None)
    if config.background_class and config.export_path and num_classes == 1000:
        raise checkpoints.CheckpointError(f'{source.path} has 1000 classes, and no background among them: leave out '
                                          '--background_class.')
    if config.background_class and not num_classes:
        raise checkpoints.CheckpointError(f'{source.path} has no classifier: leave out --background_class.')
    tf.random.set_seed(0)
    model = create_model(config.model_name, num_classes)
    # Keras has less than the network; what it needs is checked when it is written.
    lacking = checkpoints.restore(source, model.by_name, moving_averages=config.moving_averages,
                                  ignore_missing=bool(config.export_path))
    values = {name: variable.numpy() for name, variable in model.by_name.items() if name not in lacking}
    say(f'{source.path} has {len(values)} variables of {config.model_name}, '
        + (f'{num_classes} classes.' if num_classes else 'no classifier.'))
    if source.lacks and num_classes and not config.export_path:
        values.update((name, model.by_name[name].numpy()) for name in lacking)
        say(f'It lacks {", ".join(source.lacks)}, which training alone uses: these have initial values.')
    elif source.lacks and not config.export_path:
        say(f'It lacks {", ".join(source.lacks)}: train with --checkpoint_exclude_scopes={",".join(source.lacks)}')
    if config.background_class:
        change = _without_background if config.export_path else _with_background
        values.update((name, change(values[name])) for name in per_class & set(values))
        num_classes = change(np.zeros(num_classes)).size
        say(f'Class 0, background, was {"taken away" if config.export_path else "added"}: {num_classes} classes.')
    application = keras_applications.APPLICATIONS.get(config.model_name)
    if application and application.note and (config.export_path or source.path.endswith(weights.KERAS)):
        say(application.note)
    if config.model_name in _TORCH_PADDING and source.path.endswith(weights.PYTORCH):
        say('PyTorch pads maps otherwise: with --padding=torch (torch_padding=True in Python) it answers as there.')
    if config.export_path:
        taker = keras_applications.write(values, network, config.export_path)
        say(f'Wrote {config.export_path}. Next: {taker}.load_weights({config.export_path!r})')
        return config.export_path
    prefix = checkpoints.save(config.output_dir, 0, {**values, 'global_step': np.int64(0)}, keep=None)
    size = network.eval_image_size or network.default_image_size
    say(f'It takes images of {size}x{size}, as preprocessing `{network.preprocessing}` gives them.')
    if num_classes == 1000:
        say("If these are ImageNet's classes, there is no background among them: --labels_offset=1.")
    say(f'Wrote {prefix}. Next: --model_name={config.model_name} --checkpoint_path={config.output_dir}')
    return prefix


def _with_background(value):
    return np.insert(value, 0, _NEVER if value.ndim == 1 else 0, axis=-1)


def _without_background(value):
    return value[..., 1:]
