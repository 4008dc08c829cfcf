"""What a training or an evaluation is told: TF-Slim's flags as two dataclasses, checked before TensorFlow starts.

Each field is one flag: its name, type, default and help are written here and nowhere else. A field with `instead` is
one of TF-Slim's flags that the modern program has no use for: any value but its default is refused, with what to use
in its place.
"""
import dataclasses
import difflib
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from nets import registry

QUICKSTART_DIR = os.path.join('runs', 'digits')
CONFIG_FILE = 'train_config.json'
PADDINGS = ('tf_slim', 'torch', 'keras')
POOLS = ('avg', 'max', 'avgmax', 'catavgmax', 'flatten')    # those of nets.heads, which would start TensorFlow

# The headings under which --help shows the flags, in its order.
GROUPS = ('the run', 'data and network', 'output', 'learning rate', 'optimizer', 'fine-tuning', 'augmentation',
          "TF-Slim's, kept for old command lines")
_RUN, _DATA, _OUTPUT, _RATE, _OPTIMIZER, _TUNE, _AUGMENT, _OLD = GROUPS

_ONE_MACHINE = ('parameter servers and workers gave way to tf.distribute; one process trains on --num_clones GPUs '
                'of its machine.')
_SYNCHRONOUS = 'replicas are always synchronous under tf.distribute; leave it out.'
_NO_QUANTIZE = 'quantized training left TensorFlow with tf.contrib; quantize the trained network instead, with TFLite.'


class ConfigError(ValueError):
    """A setting is wrong; the message says which, and what would be right."""


def one_of(value: object, valid: Iterable[str]) -> str:
    """The part of an error that names the nearest valid name and lists all."""
    valid = list(valid)
    near = difflib.get_close_matches(str(value), valid, 1)
    return (f'did you mean {near[0]}? It' if near else 'it') + f' must be one of {", ".join(valid)}.'


def flag(default: Any, text: str, group: str, *, choices: Iterable[str] | None = None, minimum: float | None = None,
         above: float | None = None, maximum: float | None = None, instead: str | None = None) -> Any:
    """A field of a config: its default, its help, the heading it stands under (one of `GROUPS`), and what it may be."""
    return dataclasses.field(default=default, metadata=dict(
        help=text, group=group, choices=choices, minimum=minimum, above=above, maximum=maximum, instead=instead))


def _check(field, value):
    rule, given = field.metadata, f'--{field.name}={value}'
    if rule['instead'] and value != field.default:
        raise ConfigError(f'{given} is not supported: {rule["instead"]}')
    if value is None:
        return
    if value == '' and field.default:
        raise ConfigError(f'{given}: it must not be empty.')
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f'{given}: it must be a finite number.')
    if rule['choices'] and value not in rule['choices']:
        raise ConfigError(f'{given}: {one_of(value, rule["choices"])}')
    if rule['minimum'] is not None and value < rule['minimum']:
        raise ConfigError(f'{given}: it must be at least {rule["minimum"]}.')
    if rule['above'] is not None and value <= rule['above']:
        raise ConfigError(f'{given}: it must be greater than {rule["above"]}.')
    if rule['maximum'] is not None and value > rule['maximum']:
        raise ConfigError(f'{given}: it must be at most {rule["maximum"]}.')


@dataclasses.dataclass(frozen=True)
class Config:
    """What every config does: it checks its fields when it is made, and turns into JSON."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        name = getattr(self, 'model_name', None)
        if name is not None:
            check_model_name(name)

    def to_json(self) -> str:
        """The settings as JSON text, one key a flag, without those that only old command lines have."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                    if not field.metadata['instead']}
        return json.dumps(settings, indent=2) + '\n'


def check_model_name(name: str) -> None:
    """Raises ConfigError where there is no network of that name, or it does not take images."""
    try:
        network = registry.get(name)
    except ValueError as error:
        raise ConfigError(f'--model_name={name}: {error}') from None
    if network.frames:
        raise ConfigError(f'--model_name={name}: it takes videos; this program reads images.')


@dataclasses.dataclass(frozen=True)
class _TrainedConfig(Config):
    """What training and evaluation share: the settings of data and network."""

    dataset_name: str = flag('imagenet', 'The dataset: digits, image_folder, flowers, ...', _DATA)
    dataset_dir: str | None = flag(None, 'Where the dataset lies; digits needs none.', _DATA)
    validation_fraction: float | None = flag(
        None, 'image_folder: the part of each class held out where the folder has no splits of its own (0.1).', _DATA,
        above=0.0, maximum=0.9)
    labels_offset: int = flag(
        0, 'Subtracted from each label; 1 drops the background class of ImageNet, for VGG and ResNet V1.', _DATA,
        minimum=0)
    model_name: str = flag('inception_v3', 'The network; `python -m nets` lists them.', _DATA)
    final_endpoint: str | None = flag(
        None, 'Cut the network at this endpoint (`python -m nets NETWORK` lists them); a new classifier follows.',
        _DATA)
    pool: str | None = flag(None, 'How the last map becomes the features of a new classifier (avg).', _DATA,
                            choices=POOLS)
    hidden_units: str | None = flag(
        None, 'Widths of fully connected layers of a new classifier, before its logits: 1024, or 512,256.', _DATA)
    padding: str = flag('tf_slim', "Whose way to pad maps: torch for PyTorch's weights of Inception V1 and V3, "
                        "keras for Keras's of NASNet.", _DATA, choices=PADDINGS)
    class_mode: str = flag('categorical', 'Categorical: a logit for each class, and softmax; binary: one logit for two '
                           'classes, and a sigmoid.', _DATA, choices=('categorical', 'binary'))
    preprocessing_name: str | None = flag(None, "The preprocessing; the network's own if not set.", _DATA)
    use_grayscale: bool = flag(False, 'Turn images to one grey channel.', _DATA)
    num_preprocessing_threads: int = flag(4, 'Images decoded and prepared in parallel.', _DATA, minimum=1)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)
    master: str = flag('', 'Address of a TensorFlow master.', _OLD, instead=_ONE_MACHINE)

    def __post_init__(self):
        super().__post_init__()
        widths = self.hidden_layers()
        if widths is None or any(width < 1 for width in widths):
            raise ConfigError(f'--hidden_units={self.hidden_units}: it must be whole numbers above 0 with commas '
                              'between them, such as 512,256.')

    def hidden_layers(self) -> tuple[int, ...] | None:
        """The widths of `hidden_units`; None where they are no numbers."""
        try:
            return tuple(int(width) for width in (self.hidden_units or '').split(',') if width.strip())
        except ValueError:
            return None


@dataclasses.dataclass(frozen=True)
class TrainConfig(_TrainedConfig):
    """The settings of `train_image_classifier.py`.

    Raises:
      ConfigError: a value is out of range, unknown, or of a feature that no longer exists.
    """

    train_dir: str = flag('/tmp/tfmodel/', 'Where checkpoints and logs are written; a run in it is resumed.', _RUN)
    max_number_of_steps: int | None = flag(None, 'Train up to this step; without it, until stopped.', _RUN, minimum=1)
    batch_size: int = flag(32, 'Images per step and clone.', _RUN, minimum=1)
    num_clones: int = flag(1, 'GPUs to train on (tf.distribute); each takes batch_size images.', _RUN, minimum=1)
    clone_on_cpu: bool = flag(False, 'Train on the CPU even where there is a GPU.', _RUN)
    log_every_n_steps: int = flag(10, 'Steps between two log lines and two TensorBoard points.', _RUN, minimum=1)
    save_summaries_secs: int = flag(600, 'Seconds until TensorBoard points are on disk at last.', _RUN, minimum=1)
    save_interval_secs: int = flag(600, 'Seconds between two checkpoints.', _RUN, minimum=1)
    keep_checkpoints: int = flag(5, 'How many checkpoints are kept, the newest ones.', _RUN, minimum=1)
    seed: int = flag(0, 'Of initial weights, data order, augmentation and dropout.', _RUN, minimum=0,
                     maximum=2**63 - 1)
    precision: str = flag('float32', 'What activations are computed in; parameters are always float32.', _RUN,
                          choices=('float32', 'bfloat16'))
    jit_compile: str = flag('auto', 'Compile the step with XLA; auto: on GPUs, which gain by it as CPUs do not.', _RUN,
                            choices=('auto', 'true', 'false'))

    dataset_split_name: str = flag('train', 'The split to train on.', _DATA)
    train_image_size: int | None = flag(
        None, "Height and width of the network's input; its default if not set.", _DATA, minimum=1)
    create_aux_logits: bool | None = flag(None, "Auxiliary classifiers; the network's default if not set.", _DATA)
    num_readers: int = flag(4, 'Files read in parallel.', _DATA, minimum=1)

    learning_rate: float = flag(0.01, 'At the start.', _RATE, minimum=0.0)
    learning_rate_decay_type: str = flag('exponential', 'How it falls: not, in steps, or linearly.', _RATE,
                                         choices=('fixed', 'exponential', 'polynomial'))
    end_learning_rate: float = flag(0.0001, 'Where polynomial decay ends.', _RATE, minimum=0.0)
    learning_rate_decay_factor: float = flag(0.94, 'Of a step of exponential decay.', _RATE, above=0.0)
    num_epochs_per_decay: float = flag(
        2.0, 'Epochs of such a step, or of the whole polynomial decay; batch_size images a step, whatever num_clones.',
        _RATE, above=0.0)
    warmup_epochs: float = flag(0.0, 'Epochs of linear rise from 0.', _RATE, minimum=0.0)
    label_smoothing: float = flag(0.0, 'Probability spread evenly over all classes.', _RATE, minimum=0.0, maximum=1.0)
    weight_decay: float = flag(0.00004, "Of the L2 loss on the network's weights.", _RATE, minimum=0.0)
    moving_average_decay: float | None = flag(
        None, 'Keep exponential moving averages of all variables, with this decay.', _RATE, above=0.0, maximum=1.0)
    batch_norm_warmup: bool = flag(
        True, "Start batch norm's moving averages fast, with decay min(the network's, (1 + step) / (10 + step)); "
        'without it a run shorter than some 10,000 steps evaluates badly.', _RATE)

    optimizer: str = flag('rmsprop', 'The optimizer.', _OPTIMIZER,
                          choices=('adadelta', 'adagrad', 'adam', 'ftrl', 'momentum', 'rmsprop', 'sgd'))
    momentum: float = flag(0.9, 'Of momentum.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    rmsprop_momentum: float = flag(0.9, 'Of rmsprop.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    rmsprop_decay: float = flag(0.9, 'Of the mean square in rmsprop.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    opt_epsilon: float = flag(1.0, 'Epsilon of rmsprop, adam and adadelta.', _OPTIMIZER, minimum=0.0)
    adam_beta1: float = flag(0.9, 'Decay of the first moment.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adam_beta2: float = flag(0.999, 'Decay of the second moment.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adadelta_rho: float = flag(0.95, 'Decay of adadelta.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adagrad_initial_accumulator_value: float = flag(0.1, 'Start of the sums.', _OPTIMIZER, above=0.0)
    ftrl_learning_rate_power: float = flag(-0.5, 'Power of the learning rate.', _OPTIMIZER, maximum=0.0)
    ftrl_initial_accumulator_value: float = flag(0.1, 'Start of the sums.', _OPTIMIZER, minimum=0.0)
    ftrl_l1: float = flag(0.0, 'L1 strength.', _OPTIMIZER, minimum=0.0)
    ftrl_l2: float = flag(0.0, 'L2 strength.', _OPTIMIZER, minimum=0.0)

    checkpoint_path: str | None = flag(
        None, "Weights to start from: a checkpoint, a folder with one, or a file of Keras's, torchvision's or timm's. "
        'Not used where train_dir has a checkpoint.', _TUNE)
    checkpoint_exclude_scopes: str | None = flag(
        None, 'Comma-separated prefixes of variables that are not restored from it.', _TUNE)
    trainable_scopes: str | None = flag(None, 'Comma-separated scopes to train; all if not set.', _TUNE)
    ignore_missing_vars: bool = flag(False, 'Leave what checkpoint_path lacks at its initial value.', _TUNE)
    pretrained: bool = flag(False, "Start from the network's published weights, which are downloaded once. Not used "
                            'where train_dir has a checkpoint.', _TUNE)
    freeze_batch_norm: bool = flag(False, 'Batch norm of layers that are not trained (see trainable_scopes) uses its '
                                   'moving averages, and keeps them.', _TUNE)

    rotation_range: float = flag(0.0, 'Degrees to turn photos by, at most.', _AUGMENT, minimum=0.0)
    width_shift_range: float = flag(0.0, 'Part of the width to shift by, at most.', _AUGMENT, minimum=0.0)
    height_shift_range: float = flag(0.0, 'Part of the height to shift by, at most.', _AUGMENT, minimum=0.0)
    shear_range: float = flag(0.0, 'Degrees to shear by, at most.', _AUGMENT, minimum=0.0)
    zoom_range: float = flag(0.0, 'Part of the size to zoom in or out by, at most.', _AUGMENT, minimum=0.0,
                             maximum=0.99)
    horizontal_flip: bool = flag(False, 'Mirror half of the photos.', _AUGMENT)
    vertical_flip: bool = flag(False, 'Turn half of the photos upside down.', _AUGMENT)
    fill_mode: str = flag('nearest', 'What lies outside of a photo.', _AUGMENT,
                          choices=('nearest', 'constant', 'reflect', 'wrap'))

    worker_replicas: int = flag(1, 'Workers.', _OLD, instead=_ONE_MACHINE)
    num_ps_tasks: int = flag(0, 'Parameter servers.', _OLD, instead=_ONE_MACHINE)
    task: int = flag(0, "The worker's number.", _OLD, instead=_ONE_MACHINE)
    sync_replicas: bool = flag(False, 'Synchronize replicas.', _OLD, instead=_SYNCHRONOUS)
    replicas_to_aggregate: int = flag(1, 'Gradients to gather.', _OLD, instead=_SYNCHRONOUS)
    quantize_delay: int = flag(-1, 'Steps before quantized training.', _OLD, instead=_NO_QUANTIZE)

    def __post_init__(self):
        super().__post_init__()
        if self.pretrained and self.checkpoint_path:
            raise ConfigError('--pretrained and --checkpoint_path both say which weights to start from: give one.')
        if self.freeze_batch_norm and not self.trainable_scopes:
            raise ConfigError('--freeze_batch_norm: nothing is frozen without --trainable_scopes.')
        if self.augmentation() and self.preprocessing_name != 'keras':
            raise ConfigError(f'--{next(iter(self.augmentation()))} is of the preprocessing `keras`: add '
                              '--preprocessing_name=keras.')

    def augmentation(self) -> dict[str, Any]:
        """The distortions of the preprocessing `keras` that are asked for."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                if field.metadata['group'] == _AUGMENT and getattr(self, field.name) != field.default}


@dataclasses.dataclass(frozen=True)
class EvalConfig(_TrainedConfig):
    """The settings of `eval_image_classifier.py`; `dataset_split_name=None` stands for the held-out split.

    Raises:
      ConfigError: a value is out of range, unknown, or of a feature that no longer exists.
    """

    checkpoint_path: str = flag('/tmp/tfmodel/', 'The checkpoint to evaluate, or a folder: then its newest.', _RUN)
    eval_dir: str = flag('/tmp/tfmodel/', 'Where the results are written.', _RUN)
    batch_size: int = flag(100, 'Images at a time.', _RUN, minimum=1)
    max_num_batches: int | None = flag(None, 'Stop after so many batches; all images if not set.', _RUN, minimum=1)
    moving_average_decay: float | None = flag(
        None, 'Evaluate the moving averages of the variables (any value turns this on).', _RUN)
    dataset_split_name: str | None = flag('test', 'The split to evaluate.', _DATA)
    eval_image_size: int | None = flag(None, "Height and width of the network's input; its default if not set.", _DATA,
                                       minimum=1)
    quantize: bool = flag(False, 'Evaluate a quantized graph.', _OLD, instead=_NO_QUANTIZE)


# With neither --dataset_name nor --model_name: Inception V1 learns the embedded digits in some two minutes on two
# cores. Digits have no mirror images and no colour, hence lenet's preprocessing; TF-Slim's epsilon of 1 is for long
# runs.
QUICKSTART = dict(
    train_dir=QUICKSTART_DIR, dataset_name='digits', model_name='inception_v1', preprocessing_name='lenet',
    train_image_size=32, batch_size=64, max_number_of_steps=500, optimizer='adam', opt_epsilon=1e-7,
    learning_rate=0.001, learning_rate_decay_type='polynomial', num_epochs_per_decay=22.0, log_every_n_steps=25)


def train_config(given: Mapping[str, Any]) -> TrainConfig:
    """The config from what the user gave; the rest is TF-Slim's, or `QUICKSTART` where no dataset or model is named."""
    named = 'dataset_name' in given or 'model_name' in given
    return TrainConfig(**{**({} if named else QUICKSTART), **given})


def eval_config(given: Mapping[str, Any]) -> EvalConfig:
    """The config from what the user gave; the rest is TF-Slim's, or the training's own where no dataset or model is
    named.

    In that case the checkpoint (the quickstart's if none is given) is evaluated as it was trained: the same network,
    size and dataset, on the dataset's held-out split.
    """
    if 'dataset_name' in given or 'model_name' in given:
        return EvalConfig(**given)
    checkpoint = given.get('checkpoint_path', QUICKSTART_DIR)
    folder = checkpoint if os.path.isdir(checkpoint) else os.path.dirname(checkpoint) or '.'
    if not any(map(os.path.exists, (checkpoint, f'{checkpoint}.index'))):
        raise ConfigError(f'There is no checkpoint {checkpoint}: run train_image_classifier.py first, or give '
                          '--checkpoint_path.')
    trained = load_train_config(folder)
    if trained is None:
        raise ConfigError(f'{folder} has no {CONFIG_FILE}, which would tell what was trained: give --model_name and '
                          '--dataset_name too.')
    shared = {field.name: getattr(trained, field.name) for field in dataclasses.fields(_TrainedConfig)}
    as_trained = dict(
        shared, checkpoint_path=checkpoint, eval_dir=os.path.join(folder, 'eval'), dataset_split_name=None,
        eval_image_size=trained.train_image_size, moving_average_decay=trained.moving_average_decay)
    return EvalConfig(**{**as_trained, **given})


def load_train_config(train_dir: str) -> TrainConfig | None:
    """The config that a training saved beside its checkpoints; None where there is none.

    Raises:
      ConfigError: the file is damaged, or holds settings that this version does not know.
    """
    path = os.path.join(train_dir, CONFIG_FILE)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            return TrainConfig(**json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f'{path} is not the config of a training: {error}') from None
