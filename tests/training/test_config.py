"""The settings: TF-Slim's defaults, what is refused and how, files, recipes, evaluation as it was trained."""
import ast
import dataclasses
import itertools
import json
import pathlib
import sys

import pytest

from training.config import CONFIG_FILE, EvalConfig, TrainConfig, eval_config, load_train_config, train_config
from training.recipes import QUICKSTART, RECIPES
from training.settings import GROUPS, ConfigError

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
    assert ours == {
        'validation_fraction', 'verbose_tensorflow', 'keep_checkpoints', 'seed', 'precision', 'jit_compile',
        'create_aux_logits', 'batch_norm_warmup', 'final_endpoint', 'pool', 'hidden_units', 'class_mode', 'padding',
        'pretrained', 'freeze_batch_norm', 'rotation_range', 'width_shift_range', 'height_shift_range', 'shear_range',
        'zoom_range', 'horizontal_flip', 'vertical_flip', 'fill_mode',
        'recipe', 'config', 'num_epochs', 'save_interval_steps', 'rollbacks', 'wandb_project',
        'eval_every', 'early_stopping', 'best_metric', 'keep_best', 'eval_batch_size', 'eval_max_batches',
        'steps_per_loop', 'accumulate_steps', 'recompute', 'sync_batch_norm', 'worker_hosts', 'tpu',
        'learning_rate_milestones', 'plateau_evaluations', 'scale_learning_rate', 'layer_decay',
        'no_decay_on_bias_and_norm', 'clip_gradient_norm', 'class_weights', 'min_crop_area', 'distort_colors',
        'auto_augment', 'randaugment_magnitude', 'random_erasing', 'mixup_alpha', 'cutmix_alpha', 'mix_probability',
        'initial_image_scale', 'image_size_stages', 'file_pattern', 'num_classes', 'skip_corrupt', 'cache',
        'image_key', 'label_key'}
    # ... and those that TF-Slim's own code has no word for do nothing unless they are given.
    off = {'file_pattern', 'num_classes', 'skip_corrupt', 'cache', 'image_key', 'label_key',
           'recipe', 'num_epochs', 'save_interval_steps', 'rollbacks', 'eval_every', 'early_stopping', 'recompute',
           'sync_batch_norm', 'worker_hosts', 'tpu', 'learning_rate_milestones', 'no_decay_on_bias_and_norm',
           'clip_gradient_norm', 'class_weights', 'auto_augment', 'random_erasing', 'mixup_alpha', 'cutmix_alpha'}
    config = TrainConfig(**NAMED)
    assert not any(getattr(config, name) for name in off)
    assert (config.precision, config.layer_decay, config.accumulate_steps, config.initial_image_scale,
            config.scale_learning_rate) == ('float32', 1.0, 1, 1.0, 'none')


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
    optimizer=['sdg', ''], learning_rate_decay_type=['linear'], precision=['float8'], jit_compile=['yes'],
    num_epochs=[0.0, -1.0], eval_every=[0], early_stopping=[0], keep_best=[0], eval_batch_size=[0],
    eval_max_batches=[0], best_metric=['top1'], save_interval_steps=[0], rollbacks=[-1], steps_per_loop=[0],
    accumulate_steps=[0], task=[-1], worker_replicas=[0], plateau_evaluations=[0], scale_learning_rate=['cubic'],
    layer_decay=[0.0, 1.1], clip_gradient_norm=[-1.0, float('nan')], min_crop_area=[0.0, 1.1],
    auto_augment=['autoaugment'], randaugment_magnitude=[-1, 31], random_erasing=[-0.1, 1.1], mixup_alpha=[-0.1],
    cutmix_alpha=[-0.1], mix_probability=[-0.1, 1.1], initial_image_scale=[0.0, 1.1], image_size_stages=[1],
    recipe=['slimm'], num_classes=[0], class_mode=['softmax'],
    train_dir=[''], dataset_name=[''], model_name=['', 'inception_v'], dataset_split_name=[''])


@pytest.mark.parametrize('name, value', [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{**NAMED, name: value})
    message = str(caught.value)
    assert message.startswith(f'--{name}={value}: ') and message.endswith('.') and '\n' not in message


@pytest.mark.parametrize('settings', [
    dict(learning_rate=0.0), dict(label_smoothing=1.0), dict(moving_average_decay=1.0), dict(momentum=0.0),
    dict(batch_size=1), dict(ftrl_learning_rate_power=0.0), dict(dataset_dir=''), dict(checkpoint_path=''),
    dict(layer_decay=1.0), dict(mix_probability=0.0), dict(randaugment_magnitude=30), dict(image_size_stages=2),
    dict(precision='float16')])
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
                                 'adamw, ftrl, momentum, rmsprop, sgd.')
    with pytest.raises(ConfigError, match="--model_name=lenett: Unknown network 'lenett': did you mean 'lenet'"):
        EvalConfig(model_name='lenett')


OBSOLETE = dict(master=('grpc://a', 'tf.distribute'), num_ps_tasks=(1, 'tf.distribute'),
                sync_replicas=(True, 'tf.distribute'), replicas_to_aggregate=(2, '--accumulate_steps'),
                quantize_delay=(0, 'TFLite'), quantize=(True, 'TFLite'))


@pytest.mark.parametrize('config_class', [TrainConfig, EvalConfig])
def test_what_is_no_more_is_refused_with_what_to_use_instead(config_class):
    fields = [field for field in dataclasses.fields(config_class) if field.metadata['instead']]
    assert fields
    for field in fields:
        value, instead = OBSOLETE[field.name]
        with pytest.raises(ConfigError, match=f'--{field.name}={value} is not supported: .*{instead}'):
            config_class(**NAMED, **{field.name: value})


WORKERS = dict(worker_hosts='a:1,b:1')


@pytest.mark.parametrize('settings, words', [
    (dict(max_number_of_steps=1, num_epochs=1.0), '--max_number_of_steps and --num_epochs both say when to stop'),
    (dict(learning_rate_decay_type='cosine'), "cosine reaches to the run's end: give --num_epochs or --max_number"),
    (dict(learning_rate_decay_type='step'), 'say where, by --learning_rate_milestones=30,60,80'),
    (dict(learning_rate_milestones='3,2'), '--learning_rate_milestones=3,2: they must be above 0, and rise'),
    (dict(learning_rate_milestones='0,2'), '--learning_rate_milestones=0,2: they must be above 0, and rise'),
    (dict(learning_rate_milestones='3;2'), '--learning_rate_milestones=3;2: it must be numbers with commas'),
    (dict(learning_rate_decay_type='plateau'), 'plateau looks at evaluations: give --eval_every'),
    (dict(early_stopping=3), '--early_stopping looks at evaluations: give --eval_every'),
    (dict(initial_image_scale=0.5), "--initial_image_scale: images grow to the run's end: give --num_epochs or"),
    (dict(class_mode='multilabel', mixup_alpha=0.1), '--mixup_alpha mixes the labels of classes: --class_mode=multi'),
    (dict(class_mode='binary', cutmix_alpha=0.1), '--cutmix_alpha mixes the labels of classes: --class_mode=binary'),
    (dict(class_weights='1,-2'), '--class_weights=1,-2: no weight may be negative'),
    (dict(class_weights='heavy'), '--class_weights=heavy: it must be numbers with commas between them'),
    (dict(class_weights='balanced', class_mode='multilabel'), '--class_weights: an image of several classes'),
    # TF-Slim's task and worker_replicas: of machines that worker_hosts names.
    (dict(task=1), '--worker_replicas and --task: say where the machines are, by --worker_hosts'),
    (dict(worker_replicas=2), '--worker_replicas and --task: say where the machines are, by --worker_hosts'),
    (dict(**WORKERS, worker_replicas=3), '--worker_replicas and --task: say where'),
    (dict(**WORKERS, task=2), '--task=2: --worker_hosts has 2 machines, 0 to 1'),
    (dict(worker_hosts='a,b:1'), '--worker_hosts: a must be of the form host:port'),
    (dict(worker_hosts='a:1,a:1'), '--worker_hosts=a:1,a:1: a machine is named twice'),
    (dict(**WORKERS, tpu='local'), '--tpu and --worker_hosts: a TPU knows its own machines'),
])
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**NAMED, **settings)
    assert words in str(caught.value) and str(caught.value).endswith('.')


@pytest.mark.parametrize('settings', [
    dict(learning_rate_decay_type='cosine', num_epochs=1.0), dict(learning_rate_decay_type='cosine',
                                                                  max_number_of_steps=3),
    dict(learning_rate_decay_type='step', learning_rate_milestones='0.5, 30'), dict(early_stopping=1, eval_every=1),
    dict(learning_rate_decay_type='plateau', eval_every=1), dict(initial_image_scale=0.5, num_epochs=0.5),
    dict(class_weights='balanced'), dict(class_weights='1,0.5', class_mode='binary'),
    dict(**WORKERS, task=1, worker_replicas=2)], ids=str)
def test_settings_that_go_together_are_allowed(settings):
    TrainConfig(**NAMED, **settings)


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
            yield getattr(node.args[1], 'value', None)


def parse(name, *functions):
    tree = ast.parse((ROOT / name).read_text())
    if functions:
        tree.body = [node for node in tree.body if getattr(node, 'name', None) in functions]
        assert len(tree.body) == len(functions)
    return tree


SHARED = [('training/data.py', 'open_dataset', 'held_out', 'evaluation_batches', '_preprocessing_name'),
          ('training/trainer.py', 'make_model', 'padding_arguments')]


@pytest.mark.parametrize('config_class, trees', [
    (TrainConfig, [(f'training/{name}.py',) for name in ('data', 'trainer', 'loop', 'losses', 'schedules', 'optimizers',
                                                         'distribution', 'run_folder')]
     + [('train_image_classifier.py',)]),
    (EvalConfig, [*SHARED, ('training/evaluation.py',), ('eval_image_classifier.py',)])])
def test_no_flag_is_ignored(config_class, trees):
    read = {name for tree in trees for name in reads(parse(*tree))}
    through_a_method = {'hidden_units': 'hidden_layers', 'learning_rate_milestones': 'milestones',
                        'worker_hosts': 'workers', "ImageDataGenerator's distortions": 'augmentation'}
    # `config` is read by train_config, and worker_replicas is nothing but checked, against worker_hosts.
    ignored = [field.name for field in dataclasses.fields(config_class)
               if not field.metadata['instead'] and field.name not in {*read, 'config', 'worker_replicas'}
               and not {through_a_method.get(field.name), through_a_method.get(field.metadata['group'])} & read]
    assert not ignored


# Files of settings, and recipes.

def write(folder, text, name='settings.json'):
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


def test_flags_go_before_the_file_and_that_before_the_recipe(tmp_path):
    recipe = RECIPES['modern'][1]
    path = write(tmp_path, dict(learning_rate=0.5, batch_size=16, label_smoothing=0.3, model_name='lenet'))
    config = train_config(dict(config=path, recipe='modern', batch_size=8, weight_decay=7.0))
    assert (config.batch_size, config.weight_decay) == (8, 7.0)
    assert (config.learning_rate, config.label_smoothing, config.model_name) == (0.5, 0.3, 'lenet')
    changed = {'learning_rate', 'label_smoothing', 'weight_decay'}
    assert changed < set(recipe)
    assert all(getattr(config, name) == value for name, value in recipe.items() if name not in changed)
    assert config.dataset_name == 'imagenet'        # TF-Slim's, as the file names a network


def test_a_file_may_name_the_recipe_and_a_flag_another(tmp_path):
    path = write(tmp_path, dict(recipe='modern', model_name='lenet'))
    assert train_config(dict(config=path)).optimizer == 'adamw'
    assert train_config(dict(config=path, recipe='slim')) == TrainConfig(model_name='lenet', recipe='slim', config=path)
    with pytest.raises(ConfigError, match='--recipe=modem: did you mean modern. It must be one of slim, modern'):
        train_config(dict(config=write(tmp_path, dict(recipe='modem'))))


def test_all_of_these_go_before_the_quickstart(tmp_path):
    path = write(tmp_path, dict(batch_size=16))
    config = train_config(dict(config=path, train_image_size=24))
    assert config == TrainConfig(**{**QUICKSTART, 'batch_size': 16, 'train_image_size': 24, 'config': path})
    modern = train_config(dict(recipe='modern'))
    assert (modern.dataset_name, modern.optimizer, modern.num_epochs) == ('digits', 'adamw', 30.0)
    assert modern.max_number_of_steps is None       # the recipe's epochs stand in place of the quickstart's steps


def test_a_later_word_on_when_to_stop_takes_the_place_of_an_earlier(tmp_path):
    def ends(**given):
        config = train_config(given)
        return config.max_number_of_steps, config.num_epochs

    steps = write(tmp_path, dict(max_number_of_steps=9), 'a.json')
    epochs = write(tmp_path, dict(num_epochs=3), 'b.json')
    assert ends(num_epochs=2.0) == (None, 2.0)      # in place of the quickstart's 500 steps
    assert ends(config=steps) == (9, None) and ends(config=steps, num_epochs=2.0) == (None, 2.0)
    assert ends(config=epochs, max_number_of_steps=5) == (5, None)
    assert ends(recipe='modern', max_number_of_steps=5) == (5, None)
    assert ends(recipe='modern', config=steps) == (9, None)
    with pytest.raises(ConfigError, match='both say when to stop'):
        train_config(dict(max_number_of_steps=5, num_epochs=2.0))
    weights = write(tmp_path, dict(pretrained=True), 'c.json')
    config = train_config(dict(config=weights, checkpoint_path='mine'))
    assert (config.checkpoint_path, config.pretrained) == ('mine', False)


@pytest.mark.parametrize('given, words', [
    ({'batch_sise': 3}, "'batch_sise' is not a setting; did you mean batch_size?"),
    ({'xyzzy': 3}, "'xyzzy' is not a setting; --help lists all."),
    ({'config': 'other.json'}, "'config' is not a setting"),
    ({'batch_size': 'many'}, "batch_size is 'many'; it must be a whole number."),
    ({'batch_size': 1.5}, 'batch_size is 1.5; it must be a whole number.'),
    ({'batch_size': True}, 'batch_size is True; it must be a whole number.'),
    ({'batch_size': None}, 'batch_size is None; it must be a whole number.'),
    ({'learning_rate': 'fast'}, "learning_rate is 'fast'; it must be a number."),
    ({'learning_rate': True}, 'learning_rate is True; it must be a number.'),
    ({'learning_rate': [0.1]}, 'learning_rate is [0.1]; it must be a number.'),
    ({'use_grayscale': 1}, 'use_grayscale is 1; it must be true or false.'),
    ({'use_grayscale': 'yes'}, "use_grayscale is 'yes'; it must be true or false."),
    ({'model_name': ['lenet']}, "model_name is ['lenet']; it must be text."),
    ([], 'it must hold settings by name, such as {"batch_size": 64}.'),
    ('{"batch_size": 3', 'delimiter'), ('', 'Expecting value')], ids=str)
def test_a_file_that_is_wrong(tmp_path, given, words):
    path = write(tmp_path, given)
    with pytest.raises(ConfigError) as caught:
        train_config(dict(config=path))
    message = str(caught.value)
    assert message.startswith(f'--config={path}: ') and words in message and message.endswith(('.', '?'))
    assert '\n' not in message


def test_a_file_that_cannot_be_read(tmp_path):
    for path in tmp_path / 'nothing.json', tmp_path:
        with pytest.raises(ConfigError, match=f'--config={path} cannot be read: '):
            train_config(dict(config=str(path)))
    (tmp_path / 'a.json').write_bytes(b'\xff\xfe')
    with pytest.raises(ConfigError, match='cannot be read'):
        train_config(dict(config=str(tmp_path / 'a.json')))


def test_a_value_out_of_range_in_a_file(tmp_path):
    with pytest.raises(ConfigError, match='--batch_size=0: it must be at least 1'):
        train_config(dict(config=write(tmp_path, dict(batch_size=0))))


def test_numbers_and_text_stand_for_one_another_where_that_is_clear(tmp_path):
    path = write(tmp_path, dict(hidden_units=512, learning_rate=1, num_epochs=None, class_weights=None, seed=3))
    config = train_config(dict(config=path))
    assert (config.hidden_units, config.learning_rate, config.seed) == ('512', 1.0, 3)
    assert type(config.learning_rate) is float


def test_yaml(tmp_path):
    pytest.importorskip('yaml')
    path = write(tmp_path, '# mine\nmodel_name: lenet\nlearning_rate: 1e-4\nuse_grayscale: true\n'
                 'hidden_units: 512,256\ncheckpoint_path: ~\n', 'settings.yaml')
    assert train_config(dict(config=path)) == TrainConfig(
        model_name='lenet', learning_rate=1e-4, use_grayscale=True, hidden_units='512,256', config=path)
    with pytest.raises(ConfigError, match='--config=.*bad.yml: .*line 1'):
        train_config(dict(config=write(tmp_path, 'a: [1', 'bad.yml')))


def test_yaml_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'yaml', None)
    with pytest.raises(ConfigError, match='YAML needs the package pyyaml .pip install pyyaml.; JSON needs none'):
        train_config(dict(config=write(tmp_path, 'batch_size: 3', 'settings.yaml')))


def test_a_saved_config_is_a_file_of_settings(tmp_path):
    """All of it, whatever would be the defaults: the quickstart's, a recipe's."""
    first = train_config(dict(recipe='modern', learning_rate=0.5, num_epochs=3.0))
    save(first, tmp_path)
    again = train_config(dict(config=str(tmp_path / CONFIG_FILE)))
    assert dataclasses.replace(again, config=None) == first
    elsewhere = train_config(dict(config=str(tmp_path / CONFIG_FILE), train_dir='elsewhere'))
    assert dataclasses.replace(elsewhere, config=None) == dataclasses.replace(first, train_dir='elsewhere')


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_are_settings_that_go_together(name):
    what, settings = RECIPES[name]
    assert what.endswith('.') and set(settings) <= {field.name for field in dataclasses.fields(TrainConfig)}
    config = train_config(dict(recipe=name, **NAMED))
    assert config == TrainConfig(**NAMED, recipe=name, **settings)


def test_slim_is_tf_slims_own(tmp_path):
    settings = dataclasses.asdict(train_config(dict(recipe='slim', **NAMED)))
    assert {name: settings[name] for name in TF_SLIM_TRAIN} == {**TF_SLIM_TRAIN, **NAMED}


# The config beside the checkpoints.

def save(config, folder):
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_text(config.to_json())


def test_json_round_trip(tmp_path):
    config = TrainConfig(**NAMED, learning_rate=1 / 3, max_number_of_steps=7, use_grayscale=True, opt_epsilon=1e-7)
    save(config, tmp_path)
    assert load_train_config(str(tmp_path)) == config
    text = json.loads(config.to_json())
    assert text['learning_rate'] == 1 / 3 and text['dataset_dir'] is None
    assert not {'num_ps_tasks', 'config', 'task', 'worker_replicas'} & set(text)


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
