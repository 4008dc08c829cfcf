"""What a training or an evaluation is told: TF-Slim's flags as two dataclasses, checked before TensorFlow starts.

Each field is one flag: its name, type, default and help are written here and nowhere else. A field with `instead` is
one of TF-Slim's flags that the modern program has no use for: any value but its default is refused, with what to use
in its place.
"""
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from nets import registry
from training.recipes import QUICKSTART, QUICKSTART_DIR, RECIPES
from training.settings import GROUPS, Config, ConfigError, flag, numbers, one_of, read_file

CONFIG_FILE = 'train_config.json'
PADDINGS = ('tf_slim', 'torch', 'keras')
POOLS = ('avg', 'max', 'avgmax', 'catavgmax', 'flatten')    # those of nets.heads, which would start TensorFlow

(_MOST_USED, _RUN, _DATA, _OUTPUT, _DEVICES, _RATE, _OPTIMIZER, _LOSS, _TUNE, _AUGMENT, _WATCH, _KERAS,
 _OLD) = GROUPS

_ONE_MACHINE = 'parameter servers gave way to tf.distribute: give --worker_hosts (or TF_CONFIG) for several machines.'
_SYNCHRONOUS = 'replicas are always synchronous under tf.distribute; leave it out.'
_ACCUMULATE = 'gradients of several steps are gathered by --accumulate_steps.'
_NO_QUANTIZE = 'quantized training left TensorFlow with tf.contrib; quantize the trained network instead, with TFLite.'


@dataclasses.dataclass(frozen=True)
class _DatasetConfig(Config):
    """What training and evaluation share: the settings of the dataset."""

    dataset_name: str = flag('imagenet', 'The dataset: digits, image_folder, flowers, ...', _MOST_USED, fixed=True)
    dataset_dir: str | None = flag(None, 'Where the dataset lies; digits needs none.', _MOST_USED)
    validation_fraction: float | None = flag(
        None, 'image_folder, file_list, tfds: the part of each class held out where there are no splits (0.1).', _DATA,
        above=0.0, maximum=0.9)
    file_pattern: str | None = flag(
        None, "TFRecord files: their names, with %s for the split, in place of the dataset's own.", _DATA)
    num_classes: int | None = flag(None, 'tfrecord without a labels.txt: the number of classes; counted if not set.',
                                   _DATA, minimum=1, fixed=True)
    image_key: str | None = flag(None, 'tfds: the feature that is the image, where a dataset has several.', _DATA)
    label_key: str | None = flag(None, 'tfds: likewise the label.', _DATA, fixed=True)
    skip_corrupt: bool = flag(False, 'Pass over images that cannot be used, and count them, rather than stop.', _DATA)
    cache: str | None = flag(None, 'Read the files of the dataset once, into `memory` or this folder of a fast disk.',
                             _DATA)
    labels_offset: int = flag(
        0, 'Subtracted from each label; 1 drops the background class of ImageNet, for VGG and ResNet V1.', _DATA,
        minimum=0, fixed=True)


@dataclasses.dataclass(frozen=True)
class NetworkConfig(Config):
    """What every program that has a network for images shares: what the network is, and what it takes."""

    model_name: str = flag('inception_v3', 'The network; `python -m nets` lists them.', _MOST_USED, fixed=True)
    final_endpoint: str | None = flag(
        None, 'Cut the network at this endpoint (`python -m nets NETWORK` lists them); a new classifier follows.',
        _DATA, fixed=True)
    pool: str | None = flag(None, 'How the last map becomes the features of a new classifier (avg).', _DATA,
                            choices=POOLS, fixed=True)
    hidden_units: str | None = flag(
        None, 'Widths of fully connected layers of a new classifier, before its logits: 1024, or 512,256.', _DATA,
        fixed=True)
    padding: str = flag('tf_slim', "Whose way to pad maps: torch for PyTorch's weights of Inception V1 and V3, "
                        "keras for Keras's of NASNet.", _DATA, choices=PADDINGS, fixed=True)
    class_mode: str = flag('categorical', 'Categorical: a logit for each class, and softmax; binary: one logit for two '
                           'classes, and a sigmoid; multilabel: a sigmoid for each class, of which an image has any '
                           'number.', _DATA, choices=('categorical', 'binary', 'multilabel'), fixed=True)
    preprocessing_name: str | None = flag(None, "The preprocessing; the network's own if not set.", _DATA)
    use_grayscale: bool = flag(False, 'Turn images to one grey channel.', _DATA, fixed=True)
    num_preprocessing_threads: int = flag(4, 'Images decoded and prepared in parallel.', _DATA, minimum=1)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)

    def __post_init__(self):
        super().__post_init__()
        if any(width < 1 for width in self.hidden_layers()):
            raise ConfigError(f'--hidden_units={self.hidden_units}: each must be above 0.')

    def hidden_layers(self) -> tuple[int, ...]:
        """The widths of `hidden_units`."""
        return tuple(numbers('hidden_units', self.hidden_units, int))


@dataclasses.dataclass(frozen=True)
class _TrainedConfig(NetworkConfig, _DatasetConfig):
    """What training and evaluation share: the settings of data and network, in this order (the last base's first)."""

    master: str = flag('', 'Address of a TensorFlow master.', _OLD, instead=_ONE_MACHINE)


@dataclasses.dataclass(frozen=True)
class TrainConfig(_TrainedConfig):
    """The settings of `train_image_classifier.py`.

    Raises:
      ConfigError: a value is out of range, unknown, or of a feature that no longer exists.
    """

    train_dir: str = flag('/tmp/tfmodel/', 'Where checkpoints and logs are written; a run in it is resumed.',
                          _MOST_USED)
    recipe: str | None = flag(None, 'Settings that go together, below; flags and --config change them.', _MOST_USED,
                              choices=tuple(RECIPES))
    config: str | None = flag(None, "A JSON or YAML file of settings by flag name, such as a run's train_config.json; "
                              'flags change them.', _MOST_USED, saved=False)
    max_number_of_steps: int | None = flag(None, 'Train up to this step; without it, until stopped.', _MOST_USED,
                                           minimum=1)
    num_epochs: float | None = flag(None, 'The same in epochs.', _MOST_USED, above=0.0)
    batch_size: int = flag(32, 'Images per step and replica (clone): a step takes batch_size x replicas x '
                           'accumulate_steps.', _MOST_USED, minimum=1)
    train_image_size: int | None = flag(
        None, "Height and width of the network's input; its default if not set.", _MOST_USED, minimum=1)
    learning_rate: float = flag(0.01, 'At the start, or after the warm-up.', _MOST_USED, minimum=0.0)
    optimizer: str = flag('rmsprop', 'The optimizer.', _MOST_USED, fixed=True,
                          choices=('adadelta', 'adagrad', 'adam', 'adamw', 'ftrl', 'momentum', 'rmsprop', 'sgd'))
    precision: str = flag('float32', 'What activations are computed in (parameters are always float32); auto: '
                          'bfloat16 where the hardware has it. float16 scales the loss.', _MOST_USED,
                          choices=('auto', 'float32', 'bfloat16', 'float16'))
    num_clones: int = flag(1, 'Devices of this machine to train on, a replica each.', _MOST_USED, minimum=1)
    checkpoint_path: str | None = flag(
        None, "Weights to start from: a checkpoint, a folder with one, or a file of Keras's, torchvision's or timm's. "
        'Not used where train_dir has a checkpoint.', _MOST_USED)
    pretrained: bool = flag(False, "Start from the network's published weights, which are downloaded once. Not used "
                            'where train_dir has a checkpoint.', _MOST_USED)
    eval_every: int | None = flag(None, 'Evaluate the held-out split after so many steps, and keep the best.',
                                  _MOST_USED, minimum=1)

    log_every_n_steps: int = flag(10, 'Steps between two log lines and two TensorBoard points.', _RUN, minimum=1)
    save_summaries_secs: int = flag(600, 'Seconds until TensorBoard points are on disk at last.', _RUN, minimum=1)
    save_interval_secs: int = flag(600, 'Seconds between two checkpoints.', _RUN, minimum=1)
    save_interval_steps: int | None = flag(None, 'Steps between two checkpoints, besides.', _RUN, minimum=1)
    keep_checkpoints: int = flag(5, 'How many checkpoints are kept, the newest ones.', _RUN, minimum=1)
    seed: int = flag(0, 'Of initial weights, data order, augmentation and dropout.', _RUN, minimum=0,
                     maximum=2**63 - 1)
    rollbacks: int = flag(0, 'So many times, a loss that is not a number takes the training back to an earlier '
                          'checkpoint, and goes on at half the learning rate.', _RUN, minimum=0)
    wandb_project: str | None = flag(None, 'Also report to this project of Weights & Biases (pip install wandb).', _RUN)

    dataset_split_name: str = flag('train', 'The split to train on.', _DATA)
    create_aux_logits: bool | None = flag(None, "Auxiliary classifiers; the network's default if not set.", _DATA,
                                          fixed=True)
    num_readers: int = flag(4, 'Files read in parallel.', _DATA, minimum=1)

    jit_compile: str = flag('auto', 'Compile the step with XLA; auto: on GPUs and TPUs, which gain by it as CPUs do '
                            'not.', _DEVICES, choices=('auto', 'true', 'false'))
    steps_per_loop: int | None = flag(None, 'Steps for each call from Python; 1 on CPUs, 10 elsewhere if not set.',
                                      _DEVICES, minimum=1)
    clone_on_cpu: bool = flag(False, 'Train on the CPU even where there is a GPU.', _DEVICES)
    accumulate_steps: int = flag(1, 'Add up the gradients of so many batches for each step.', _DEVICES, minimum=1)
    recompute: bool = flag(False, 'Compute activations again in the backward pass: less memory, about a third more '
                           'time.', _DEVICES)
    sync_batch_norm: bool = flag(False, 'Batch norm over the images of all replicas.', _DEVICES)
    worker_hosts: str | None = flag(None, 'host:port of each machine, with commas, the same for all; each gives its '
                                    '--task. Or set TF_CONFIG.', _DEVICES)
    task: int = flag(0, "This machine's number in worker_hosts.", _DEVICES, minimum=0, saved=False)
    worker_replicas: int = flag(1, 'The number of machines in worker_hosts; need not be given.', _DEVICES, minimum=1,
                                saved=False)
    tpu: str | None = flag(None, 'Train on this TPU: its name or address, or local.', _DEVICES)

    learning_rate_decay_type: str = flag(
        'exponential', "How it falls: not, in steps of num_epochs_per_decay, linearly, by a cosine to the run's end, "
        'at learning_rate_milestones, or when evaluations stop getting better.', _RATE,
        choices=('fixed', 'exponential', 'polynomial', 'cosine', 'step', 'plateau'))
    end_learning_rate: float = flag(0.0001, 'Where polynomial and cosine decay end, and plateau at the least.', _RATE,
                                    minimum=0.0)
    learning_rate_decay_factor: float = flag(0.94, 'Of a step of exponential decay, a milestone, or a plateau.', _RATE,
                                             above=0.0)
    num_epochs_per_decay: float = flag(
        2.0, 'Epochs of such a step, or of the whole polynomial decay; batch_size images a step, whatever num_clones.',
        _RATE, above=0.0)
    learning_rate_milestones: str | None = flag(None, 'Epochs at which it falls by learning_rate_decay_factor: '
                                                '30,60,80.', _RATE)
    plateau_evaluations: int = flag(5, 'Evaluations without a better one before it falls (plateau).', _RATE, minimum=1)
    warmup_epochs: float = flag(0.0, 'Epochs of linear rise from 0.', _RATE, minimum=0.0)
    scale_learning_rate: str = flag('none', 'Multiply it by the number of batch_size in a step (replicas x '
                                    'accumulate_steps), or by the root of that.', _RATE,
                                    choices=('none', 'linear', 'sqrt'))
    layer_decay: float = flag(1.0, 'The rate of a layer or module is this times that of the next; the classifier has '
                              'the full rate.', _RATE, above=0.0, maximum=1.0)

    weight_decay: float = flag(0.00004, "Of the L2 loss on the network's weights; of adamw: of the weights "
                               'themselves, at each step times the learning rate.', _OPTIMIZER, minimum=0.0)
    no_decay_on_bias_and_norm: bool = flag(False, 'Weight decay of kernels alone, of no biases, beta or gamma.',
                                           _OPTIMIZER)
    clip_gradient_norm: float = flag(0.0, 'Scale the gradients of a step down to this norm; 0 for not.', _OPTIMIZER,
                                     minimum=0.0)
    moving_average_decay: float | None = flag(
        None, 'Keep exponential moving averages of all variables, with min(this, (1 + step) / (10 + step)).',
        _OPTIMIZER, above=0.0, maximum=1.0)
    batch_norm_warmup: bool = flag(
        True, "Start batch norm's moving averages fast, with decay min(the network's, (1 + step) / (10 + step)); "
        'without it a run shorter than some 10,000 steps evaluates badly.', _OPTIMIZER)
    momentum: float = flag(0.9, 'Of momentum.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    rmsprop_momentum: float = flag(0.9, 'Of rmsprop.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    rmsprop_decay: float = flag(0.9, 'Of the mean square in rmsprop.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    opt_epsilon: float = flag(1.0, 'Epsilon of rmsprop, adam, adamw and adadelta.', _OPTIMIZER, minimum=0.0)
    adam_beta1: float = flag(0.9, 'Decay of the first moment.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adam_beta2: float = flag(0.999, 'Decay of the second moment.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adadelta_rho: float = flag(0.95, 'Decay of adadelta.', _OPTIMIZER, minimum=0.0, maximum=1.0)
    adagrad_initial_accumulator_value: float = flag(0.1, 'Start of the sums.', _OPTIMIZER, above=0.0)
    ftrl_learning_rate_power: float = flag(-0.5, 'Power of the learning rate.', _OPTIMIZER, maximum=0.0)
    ftrl_initial_accumulator_value: float = flag(0.1, 'Start of the sums.', _OPTIMIZER, minimum=0.0)
    ftrl_l1: float = flag(0.0, 'L1 strength.', _OPTIMIZER, minimum=0.0)
    ftrl_l2: float = flag(0.0, 'L2 strength.', _OPTIMIZER, minimum=0.0)

    label_smoothing: float = flag(0.0, 'Probability spread evenly over all classes.', _LOSS, minimum=0.0, maximum=1.0)
    class_weights: str | None = flag(None, 'What an image of each class counts: balanced, for as much as all classes '
                                     'together are equal, or a number for each, with commas.', _LOSS)

    checkpoint_exclude_scopes: str | None = flag(
        None, 'Comma-separated prefixes of variables that are not restored from it.', _TUNE)
    trainable_scopes: str | None = flag(None, 'Comma-separated scopes to train; all if not set.', _TUNE, fixed=True)
    ignore_missing_vars: bool = flag(False, 'Leave what checkpoint_path lacks at its initial value.', _TUNE)
    freeze_batch_norm: bool = flag(False, 'Batch norm of layers that are not trained (see trainable_scopes) uses its '
                                   'moving averages, and keeps them.', _TUNE)

    min_crop_area: float = flag(0.05, 'inception: the least part of a photo that a crop holds.', _AUGMENT, above=0.0,
                                maximum=1.0)
    distort_colors: bool = flag(True, "inception: distort brightness and saturation.", _AUGMENT)
    auto_augment: str | None = flag(None, 'Distort by two operations of 14 at random, of magnitude '
                                    'randaugment_magnitude, or by one of any.', _AUGMENT,
                                    choices=('randaugment', 'trivialaugment'))
    randaugment_magnitude: int = flag(9, 'From 0 to 30.', _AUGMENT, minimum=0, maximum=30)
    random_erasing: float = flag(0.0, 'Part of the images that get a rectangle of noise.', _AUGMENT, minimum=0.0,
                                 maximum=1.0)
    mixup_alpha: float = flag(0.0, 'Mix pairs of images and their labels by Beta(alpha, alpha); 0 for not.', _AUGMENT,
                              minimum=0.0)
    cutmix_alpha: float = flag(0.0, 'Paste a part of one image into another; with mixup, one of the two a batch.',
                               _AUGMENT, minimum=0.0)
    mix_probability: float = flag(1.0, 'Part of the batches that are mixed, by either.', _AUGMENT, minimum=0.0,
                                  maximum=1.0)
    initial_image_scale: float = flag(1.0, "Begin with images of this part of train_image_size, and let them grow to "
                                      "it by the run's end.", _AUGMENT, above=0.0, maximum=1.0)
    image_size_stages: int = flag(4, 'The number of sizes of a run that begins with smaller ones.', _AUGMENT, minimum=2)

    early_stopping: int | None = flag(None, 'Stop after so many evaluations without a better one.', _WATCH, minimum=1)
    best_metric: str = flag('accuracy', 'What makes an evaluation the best.', _WATCH,
                            choices=('accuracy', 'recall_5', 'loss'))
    keep_best: int = flag(1, 'How many of the best checkpoints are kept, in train_dir/best.', _WATCH, minimum=1)
    eval_batch_size: int = flag(100, 'Images at a time.', _WATCH, minimum=1)
    eval_max_batches: int | None = flag(None, 'Evaluate so many batches; all images if not set.', _WATCH, minimum=1)

    rotation_range: float = flag(0.0, 'Degrees to turn photos by, at most.', _KERAS, minimum=0.0)
    width_shift_range: float = flag(0.0, 'Part of the width to shift by, at most.', _KERAS, minimum=0.0)
    height_shift_range: float = flag(0.0, 'Part of the height to shift by, at most.', _KERAS, minimum=0.0)
    shear_range: float = flag(0.0, 'Degrees to shear by, at most.', _KERAS, minimum=0.0)
    zoom_range: float = flag(0.0, 'Part of the size to zoom in or out by, at most.', _KERAS, minimum=0.0,
                             maximum=0.99)
    horizontal_flip: bool = flag(False, 'Mirror half of the photos.', _KERAS)
    vertical_flip: bool = flag(False, 'Turn half of the photos upside down.', _KERAS)
    fill_mode: str = flag('nearest', 'What lies outside of a photo.', _KERAS,
                          choices=('nearest', 'constant', 'reflect', 'wrap'))

    num_ps_tasks: int = flag(0, 'Parameter servers.', _OLD, instead=_ONE_MACHINE)
    sync_replicas: bool = flag(False, 'Synchronize replicas.', _OLD, instead=_SYNCHRONOUS)
    replicas_to_aggregate: int = flag(1, 'Gradients to gather.', _OLD, instead=_ACCUMULATE)
    quantize_delay: int = flag(-1, 'Steps before quantized training.', _OLD, instead=_NO_QUANTIZE)

    def __post_init__(self):
        super().__post_init__()
        if self.pretrained and self.checkpoint_path:
            raise ConfigError('--pretrained and --checkpoint_path both say which weights to start from: give one.')
        if self.freeze_batch_norm and not self.trainable_scopes:
            raise ConfigError('--freeze_batch_norm: nothing is frozen without --trainable_scopes.')
        if self.max_number_of_steps and self.num_epochs:
            raise ConfigError('--max_number_of_steps and --num_epochs both say when to stop: give one.')
        if self.augmentation() and self.preprocessing_name != 'keras':
            raise ConfigError(f'--{next(iter(self.augmentation()))} is of the preprocessing `keras`: add '
                              '--preprocessing_name=keras.')
        self._check_schedule()
        self._check_workers()
        if self.mixes and self.class_mode != 'categorical':
            raise ConfigError(f'--{self.mixes} mixes the labels of classes: --class_mode={self.class_mode} has none.')
        if self.class_weights not in (None, 'balanced'):
            if any(weight < 0 for weight in numbers('class_weights', self.class_weights)):
                raise ConfigError(f'--class_weights={self.class_weights}: no weight may be negative.')
        if self.class_weights and self.class_mode == 'multilabel':
            raise ConfigError('--class_weights: an image of several classes (--class_mode=multilabel) has no one.')

    def _check_schedule(self):
        kind, ends = self.learning_rate_decay_type, self.max_number_of_steps or self.num_epochs
        if kind == 'cosine' and not ends:
            raise ConfigError("--learning_rate_decay_type=cosine reaches to the run's end: give --num_epochs or "
                              '--max_number_of_steps.')
        if kind == 'step' and not self.milestones():
            raise ConfigError('--learning_rate_decay_type=step: say where, by --learning_rate_milestones=30,60,80.')
        if any(earlier >= later for earlier, later in zip([0.0, *self.milestones()], self.milestones(), strict=False)):
            raise ConfigError(f'--learning_rate_milestones={self.learning_rate_milestones}: they must be above 0, and '
                              'rise.')
        for name, asked in (('learning_rate_decay_type=plateau', kind == 'plateau'),
                            ('early_stopping', self.early_stopping)):
            if asked and not self.eval_every:
                raise ConfigError(f'--{name} looks at evaluations: give --eval_every.')
        if self.initial_image_scale < 1 and not ends:
            raise ConfigError("--initial_image_scale: images grow to the run's end: give --num_epochs or "
                              '--max_number_of_steps.')

    def _check_workers(self):
        hosts = self.workers()
        if self.worker_replicas not in (1, len(hosts)) or self.task and not hosts:
            raise ConfigError('--worker_replicas and --task: say where the machines are, by --worker_hosts=host:port,'
                              'host:port, one for each.')
        if hosts and self.task >= len(hosts):
            raise ConfigError(f'--task={self.task}: --worker_hosts has {len(hosts)} machines, 0 to {len(hosts) - 1}.')
        for host in hosts:
            if not host.rpartition(':')[0] or not host.rpartition(':')[2].isdigit():
                raise ConfigError(f'--worker_hosts: {host} must be of the form host:port.')
        if len(set(hosts)) < len(hosts):
            raise ConfigError(f'--worker_hosts={self.worker_hosts}: a machine is named twice.')
        if self.sync_batch_norm:
            # Replicas talk to each other in the forward pass: not in a loop, nor under XLA or twice.
            for name, on in (('accumulate_steps', self.accumulate_steps > 1), ('recompute', self.recompute),
                             ('jit_compile', self.jit_compile == 'true')):
                if on:
                    raise ConfigError(f'--sync_batch_norm does not go with --{name}={getattr(self, name)}.')
        if self.tpu and hosts:
            raise ConfigError('--tpu and --worker_hosts: a TPU knows its own machines; give one of the two.')

    def augmentation(self) -> dict[str, Any]:
        """The distortions of the preprocessing `keras` that are asked for."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                if field.metadata['group'] == _KERAS and getattr(self, field.name) != field.default}

    def milestones(self) -> list[float]:
        """The epochs at which the learning rate falls (`step`)."""
        return numbers('learning_rate_milestones', self.learning_rate_milestones)

    def workers(self) -> list[str]:
        """The machines of `worker_hosts`."""
        return [host.strip() for host in (self.worker_hosts or '').split(',') if host.strip()]

    @property
    def mixes(self) -> str | None:
        """The flag by which images are mixed, if any."""
        return next((name for name in ('mixup_alpha', 'cutmix_alpha') if getattr(self, name)), None)


@dataclasses.dataclass(frozen=True)
class EvalConfig(_TrainedConfig):
    """The settings of `eval_image_classifier.py`; `dataset_split_name=None` stands for the held-out split.

    Raises:
      ConfigError: a value is out of range, unknown, or of a feature that no longer exists.
    """

    checkpoint_path: str = flag('/tmp/tfmodel/', 'The checkpoint to evaluate, or a folder: then its newest; or another '
                                "library's file.", _MOST_USED)
    pretrained: bool = flag(False, "Evaluate the network's published weights, which are downloaded once.", _MOST_USED)
    eval_dir: str = flag('/tmp/tfmodel/', 'Where the results are written.', _MOST_USED)
    predictions: str | None = flag(None, 'Also write what was answered for each image, into FILE.csv or FILE.jsonl.',
                                   _OUTPUT)
    report: bool = flag(True, 'Write pictures and report.html (needs matplotlib).', _OUTPUT)
    all_checkpoints: bool = flag(False, 'Evaluate every checkpoint of the folder, the oldest first, and keep the best '
                                 'in eval_dir/best.', _RUN)
    eval_interval_secs: int = flag(0, 'Wait for new checkpoints: look for one after so many seconds, and keep the '
                                   'best; 0 for not. It ends with the last step of a training of ours.', _RUN,
                                   minimum=0)
    timeout: int | None = flag(None, 'Stop waiting after so many seconds without a new one; never if not set.', _RUN,
                               minimum=1)
    best_metric: str = flag('accuracy', 'What makes a checkpoint the best.', _RUN,
                            choices=('accuracy', 'recall_5', 'loss'))
    batch_size: int = flag(100, 'Images at a time.', _RUN, minimum=1)
    max_num_batches: int | None = flag(None, 'Stop after so many batches; all images if not set.', _RUN, minimum=1)
    moving_average_decay: float | None = flag(
        None, 'Evaluate the moving averages of the variables (any value turns this on).', _RUN)
    dataset_split_name: str | None = flag('test', 'The split to evaluate.', _DATA)
    eval_image_size: int | None = flag(None, "Height and width of the network's input; its default if not set.", _DATA,
                                       minimum=1)
    eval_crop_fraction: float | None = flag(
        None, "inception, vgg: how much of each side the crop shows; the preprocessing's own (0.875) if not set.",
        _DATA, above=0.0, maximum=1.0)
    eval_corners: bool = flag(False, 'inception, vgg: the mean of the crops in the centre and the four corners.', _DATA)
    eval_flip: bool = flag(False, 'The mean of each crop and its mirror image.', _DATA)
    quantize: bool = flag(False, 'Evaluate a quantized graph.', _OLD, instead=_NO_QUANTIZE)

    def __post_init__(self):
        super().__post_init__()
        if self.timeout is not None and not self.eval_interval_secs:
            raise ConfigError('--timeout ends the waiting for new checkpoints: add --eval_interval_secs=60.')
        if self.pretrained and (self.all_checkpoints or self.eval_interval_secs):
            raise ConfigError('--pretrained are one checkpoint: leave out --all_checkpoints and --eval_interval_secs.')
        if self.pretrained and registry.get(self.model_name).weights is None:
            raise ConfigError(f'--pretrained: there are no published weights of {self.model_name}, only of '
                              f'{", ".join(registry.list_models(pretrained=True))}.')
        if self.predictions and not self.predictions.endswith(('.csv', '.jsonl')):
            raise ConfigError(f'--predictions={self.predictions}: its name must end in .csv or .jsonl.')
        if self.predictions and self.several:
            raise ConfigError('--predictions are of one checkpoint: leave out --all_checkpoints and '
                              '--eval_interval_secs.')

    @property
    def several(self) -> bool:
        """Whether more than one checkpoint may be evaluated."""
        return self.all_checkpoints or self.eval_interval_secs > 0



def train_config(given: Mapping[str, Any]) -> TrainConfig:
    """The config from what the user gave; then what `config`, a file, says; then what `recipe` says.

    The rest is TF-Slim's, or `QUICKSTART` where no dataset or model is named.

    Raises:
      ConfigError: a setting is wrong, or the file.
    """
    filed = read_file(TrainConfig, given['config']) if given.get('config') else {}
    recipe = given.get('recipe', filed.get('recipe'))
    if recipe is not None and recipe not in RECIPES:
        raise ConfigError(f'--recipe={recipe}: {one_of(recipe, RECIPES)}')
    settings: dict[str, Any] = {}
    named = {'dataset_name', 'model_name'} & {*filed, *given}
    for layer in ({} if named else QUICKSTART, RECIPES[recipe][1] if recipe else {}, filed, given):
        for one, other in (('num_epochs', 'max_number_of_steps'), ('checkpoint_path', 'pretrained')):
            # Each stands for the other: the later word counts.
            if layer.get(one) or layer.get(other):
                settings.pop(one, None)
                settings.pop(other, None)
        settings.update(layer)
    return TrainConfig(**settings)


def eval_config(given: Mapping[str, Any]) -> EvalConfig:
    """The config from what the user gave; the rest is TF-Slim's, or the training's own where no dataset or model is
    named.

    In that case the checkpoint (the quickstart's if none is given) is evaluated as it was trained: the same network,
    size and dataset, on the dataset's held-out split.
    """
    if given.get('pretrained'):
        if 'model_name' not in given:
            raise ConfigError('--pretrained: say of which network, by --model_name; `python -m nets` lists them.')
        if 'checkpoint_path' in given:
            raise ConfigError('--pretrained and --checkpoint_path both say which weights to evaluate: give one.')
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
    as_trained = evaluation_of(trained, checkpoint, eval_dir=os.path.join(folder, 'eval'))
    return dataclasses.replace(as_trained, **given)


def evaluation_of(trained: TrainConfig, checkpoint_path: str, **changes: Any) -> EvalConfig:
    """The evaluation of a checkpoint as it was trained: the same network, size and dataset, on the held-out split."""
    shared = {field.name: getattr(trained, field.name) for field in dataclasses.fields(_TrainedConfig)}
    return EvalConfig(**{**shared, **dict(
        checkpoint_path=checkpoint_path, dataset_split_name=None, eval_image_size=trained.train_image_size,
        moving_average_decay=trained.moving_average_decay), **changes})


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
        raise ConfigError(f'{path} is not the config of a training ({error}); without that file the flags alone say '
                          'what is trained.') from None
