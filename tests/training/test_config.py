"""The settings: TF-Slim's defaults, what is refused and in which words, JSON, evaluation as it was trained."""
import ast
import dataclasses
import itertools
import json
import pathlib

import pytest

from training.config import (
    CONFIG_FILE,
    GROUPS,
    QUICKSTART,
    ConfigError,
    EvalConfig,
    TrainConfig,
    eval_config,
    load_train_config,
    train_config,
)

ROOT = pathlib.Path(__file__).parents[2]

# The flags of TF-Slim's train_image_classifier.py and eval_image_classifier.py at their last state, with defaults.
TF_SLIM_TRAIN = dict(
    master='', train_dir='/tmp/tfmodel/', num_clones=1, clone_on_cpu=False, worker_replicas=1, num_ps_tasks=0, task=0,
    num_readers=4, num_preprocessing_threads=4, log_every_n_steps=10, save_summaries_secs=600, save_interval_secs=600,
    max_number_of_steps=None,
    optimizer='rmsprop', weight_decay=0.00004, adadelta_rho=0.95, adagrad_initial_accumulator_value=0.1,
    adam_beta1=0.9, adam_beta2=0.999, opt_epsilon=1.0, ftrl_learning_rate_power=-0.5,
    ftrl_initial_accumulator_value=0.1, ftrl_l1=0.0, ftrl_l2=0.0, momentum=0.9, rmsprop_momentum=0.9, rmsprop_decay=0.9,
    quantize_delay=-1,
    learning_rate=0.01, learning_rate_decay_type='exponential', end_learning_rate=0.0001,
    learning_rate_decay_factor=0.94, num_epochs_per_decay=2.0, warmup_epochs=0.0, label_smoothing=0.0,
    sync_replicas=False, replicas_to_aggregate=1, moving_average_decay=None,
    dataset_name='imagenet', dataset_split_name='train', dataset_dir=None, labels_offset=0, model_name='inception_v3',
    preprocessing_name=None, batch_size=32, train_image_size=None, use_grayscale=False,
    checkpoint_path=None, checkpoint_exclude_scopes=None, trainable_scopes=None, ignore_missing_vars=False)
TF_SLIM_EVAL = dict(
    batch_size=100, max_num_batches=None, master='', checkpoint_path='/tmp/tfmodel/', eval_dir='/tmp/tfmodel/',
    num_preprocessing_threads=4, dataset_name='imagenet', dataset_split_name='test', dataset_dir=None, labels_offset=0,
    model_name='inception_v3', preprocessing_name=None, moving_average_decay=None, eval_image_size=None, quantize=False,
    use_grayscale=False)
TF_SLIM = [(TrainConfig, TF_SLIM_TRAIN), (EvalConfig, TF_SLIM_EVAL)]
NAMED = dict(dataset_name='flowers', model_name='inception_v1')


@pytest.mark.parametrize('config_class, flags', TF_SLIM)
def test_every_flag_has_tf_slims_default(config_class, flags):
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    assert {name: defaults.get(name, 'missing') for name in flags} == flags
    assert {name: type(defaults[name]) for name in flags} == {name: type(value) for name, value in flags.items()}


@pytest.mark.parametrize('make, flags', [(train_config, TF_SLIM_TRAIN), (eval_config, TF_SLIM_EVAL)])
@pytest.mark.parametrize('given', [NAMED, dict(model_name='lenet')])
def test_once_a_network_is_named_the_rest_is_tf_slims(make, flags, given):
    settings = dataclasses.asdict(make(given))
    assert {name: settings[name] for name in flags} == {**flags, **given}
    assert dataclasses.asdict(make({**given, **flags, **given})) == settings  # each default may be given


def test_what_is_not_tf_slims_changes_nothing_but_is_named():
    """Flags of our own: a program written for TF-Slim meets none of them by surprise."""
    ours = {field.name for field in dataclasses.fields(TrainConfig)} - set(TF_SLIM_TRAIN)
    assert ours == {'validation_fraction', 'verbose_tensorflow', 'keep_checkpoints', 'seed', 'precision', 'jit_compile',
                    'create_aux_logits', 'batch_norm_warmup', 'final_endpoint', 'pool', 'hidden_units', 'class_mode',
                    'padding', 'pretrained', 'freeze_batch_norm', 'rotation_range', 'width_shift_range',
                    'height_shift_range', 'shear_range', 'zoom_range', 'horizontal_flip', 'vertical_flip', 'fill_mode'}


def test_with_nothing_named_it_is_the_quickstart():
    config = train_config({})
    assert (config.dataset_name, config.model_name) == ('digits', 'inception_v1')
    assert dataclasses.asdict(train_config({'batch_size': 8})) == {**dataclasses.asdict(config), 'batch_size': 8}
    assert set(QUICKSTART) <= {field.name for field in dataclasses.fields(TrainConfig)}


BAD = dict(
    learning_rate=[-0.1, float('nan'), float('inf')], end_learning_rate=[-1.0], learning_rate_decay_factor=[0.0, -1.0],
    num_epochs_per_decay=[0.0], warmup_epochs=[-1.0], label_smoothing=[-0.1, 1.1], weight_decay=[-1e-4, float('nan')],
    moving_average_decay=[0.0, 1.5, float('nan')], momentum=[-0.1, 1.1], rmsprop_momentum=[-0.1],
    rmsprop_decay=[1.1], opt_epsilon=[-1.0], adam_beta1=[-0.1, 1.1], adam_beta2=[-0.1, 1.1], adadelta_rho=[-0.1, 1.1],
    adagrad_initial_accumulator_value=[0.0], ftrl_learning_rate_power=[0.5], ftrl_initial_accumulator_value=[-1.0],
    ftrl_l1=[-1.0], ftrl_l2=[-1.0], batch_size=[0, -3], num_clones=[0], max_number_of_steps=[0], num_readers=[0],
    num_preprocessing_threads=[0], log_every_n_steps=[0], save_summaries_secs=[0], save_interval_secs=[0],
    keep_checkpoints=[0], seed=[-1, 2**63], labels_offset=[-1], train_image_size=[0], validation_fraction=[0.0, 0.95],
    optimizer=['sdg', ''], learning_rate_decay_type=['linear'], precision=['float16'], jit_compile=['yes'],
    train_dir=[''], dataset_name=[''], model_name=['', 'inception_v'], dataset_split_name=[''])


@pytest.mark.parametrize('name, value', [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{**NAMED, name: value})
    message = str(caught.value)
    assert message.startswith(f'--{name}={value}: ') and message.endswith('.') and '\n' not in message


@pytest.mark.parametrize('settings', [
    dict(learning_rate=0.0), dict(label_smoothing=1.0), dict(moving_average_decay=1.0), dict(momentum=0.0),
    dict(batch_size=1), dict(ftrl_learning_rate_power=0.0), dict(dataset_dir=''), dict(checkpoint_path='')])
def test_the_ends_of_the_ranges_are_allowed(settings):
    TrainConfig(**NAMED, **settings)


@pytest.mark.parametrize('settings', [dict(eval_dir=''), dict(checkpoint_path=''), dict(batch_size=0),
                                      dict(max_num_batches=0), dict(eval_image_size=0), dict(labels_offset=-1)])
def test_evaluation_refuses_too(settings):
    name, value = *settings, *settings.values()
    with pytest.raises(ConfigError, match=f'--{name}={value}: '):
        EvalConfig(**NAMED, **settings)


def test_a_misspelt_name_gets_the_nearest_and_all():
    with pytest.raises(ConfigError) as caught:
        TrainConfig(optimizer='rmspop', **NAMED)
    assert str(caught.value) == ('--optimizer=rmspop: did you mean rmsprop? It must be one of adadelta, adagrad, adam, '
                                 'ftrl, momentum, rmsprop, sgd.')
    with pytest.raises(ConfigError, match="--model_name=lenett: Unknown network 'lenett': did you mean 'lenet'"):
        EvalConfig(model_name='lenett')


OBSOLETE = dict(master=('grpc://a', 'tf.distribute'), worker_replicas=(2, 'tf.distribute'),
                num_ps_tasks=(1, 'tf.distribute'), task=(1, 'tf.distribute'), sync_replicas=(True, 'tf.distribute'),
                replicas_to_aggregate=(2, 'tf.distribute'), quantize_delay=(0, 'TFLite'), quantize=(True, 'TFLite'))


@pytest.mark.parametrize('config_class', [TrainConfig, EvalConfig])
def test_what_is_no_more_is_refused_with_what_to_use_instead(config_class):
    fields = [field for field in dataclasses.fields(config_class) if field.metadata['instead']]
    assert fields
    for field in fields:
        value, instead = OBSOLETE[field.name]
        with pytest.raises(ConfigError, match=f'--{field.name}={value} is not supported: .*{instead}'):
            config_class(**NAMED, **{field.name: value})


def test_every_flag_has_help_and_a_group():
    for field in itertools.chain(dataclasses.fields(TrainConfig), dataclasses.fields(EvalConfig)):
        assert field.metadata['group'] in GROUPS and field.metadata['help'].endswith('.'), field.name


# No flag is ignored.

def reads(tree):
    """What code reads: `config.NAME`, `self.config.NAME`, `settings.NAME`, `getattr(config, 'NAME', ...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, 'id', getattr(node.value, 'attr', None))
            if owner in ('config', 'settings'):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'getattr':
            yield node.args[1].value


def parse(name, *functions):
    tree = ast.parse((ROOT / name).read_text())
    if functions:
        tree.body = [node for node in tree.body if getattr(node, 'name', None) in functions]
        assert len(tree.body) == len(functions)
    return tree


@pytest.mark.parametrize('config_class, trees', [
    (TrainConfig, [('training/loop.py',), ('training/optimizers.py',), ('train_image_classifier.py',)]),
    (EvalConfig, [('training/loop.py', 'open_dataset', 'input_batches', 'make_model', 'padding_arguments'),
                  ('training/evaluation.py',), ('eval_image_classifier.py',)])])
def test_no_flag_is_ignored(config_class, trees):
    read = {name for tree in trees for name in reads(parse(*tree))}
    through_a_method = {'augmentation': 'augmentation', 'hidden_units': 'hidden_layers'}     # or its whole group
    ignored = [field.name for field in dataclasses.fields(config_class)
               if not field.metadata['instead'] and field.name not in read
               and not {through_a_method.get(field.name), through_a_method.get(field.metadata['group'])} & read]
    assert not ignored


# The config beside the checkpoints.

def save(config, folder):
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_text(config.to_json())


def test_json_round_trip(tmp_path):
    config = TrainConfig(**NAMED, learning_rate=1 / 3, max_number_of_steps=7, use_grayscale=True, opt_epsilon=1e-7)
    save(config, tmp_path)
    assert load_train_config(str(tmp_path)) == config
    text = json.loads(config.to_json())
    assert text['learning_rate'] == 1 / 3 and text['dataset_dir'] is None and 'num_ps_tasks' not in text


@pytest.mark.parametrize('text', ['', '[]', '{"batch_size": 0}', '{"batch_sise": 3}', '{"batch_size": "a"}', '\x00'])
def test_a_damaged_config(tmp_path, text):
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ConfigError, match=f'{CONFIG_FILE} is not the config of a training'):
        load_train_config(str(tmp_path))


def test_evaluation_is_as_the_training_was(tmp_path):
    save(TrainConfig(**NAMED, train_dir='somewhere/else', dataset_dir='photos', train_image_size=96,
                     preprocessing_name='vgg', labels_offset=1, use_grayscale=True, moving_average_decay=0.99,
                     validation_fraction=0.2, batch_size=3), tmp_path)
    config = eval_config({'checkpoint_path': str(tmp_path)})
    assert config == EvalConfig(
        **NAMED, checkpoint_path=str(tmp_path), eval_dir=str(tmp_path / 'eval'), dataset_dir='photos',
        eval_image_size=96, preprocessing_name='vgg', labels_offset=1, use_grayscale=True, moving_average_decay=0.99,
        validation_fraction=0.2, dataset_split_name=None)
    (tmp_path / 'model.ckpt-5.index').touch()
    given = dict(checkpoint_path=str(tmp_path / 'model.ckpt-5'), dataset_split_name='train', eval_image_size=64)
    assert eval_config(given) == dataclasses.replace(config, **given)


def test_evaluation_of_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match='run train_image_classifier.py first'):
        eval_config({})
    (tmp_path / 'runs').mkdir()
    save(train_config({}), tmp_path / QUICKSTART['train_dir'])
    config = eval_config({})
    assert (config.model_name, config.dataset_name, config.eval_image_size) == ('inception_v1', 'digits', 32)


def test_evaluation_of_what_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match='There is no checkpoint .*/nothing'):
        eval_config({'checkpoint_path': str(tmp_path / 'nothing')})
    with pytest.raises(ConfigError, match=f'{tmp_path} has no {CONFIG_FILE}.* give --model_name'):
        eval_config({'checkpoint_path': str(tmp_path)})
