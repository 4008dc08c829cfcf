"""The command line: TF-Slim's flags as absl takes them, mistakes in words, help, no TensorFlow before it is needed."""
import dataclasses
import pathlib
import subprocess
import sys

import pytest

from training import flags
from training.config import ConfigError, EvalConfig, TrainConfig
from training.convert_config import ConvertConfig
from training.extract_config import ExtractConfig
from training.importing import ImportConfig
from training.recipes import RECIPES

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = [TrainConfig, EvalConfig, ExtractConfig, ImportConfig, ConvertConfig]


def parse(*arguments, config_class=TrainConfig):
    return flags.parse(config_class, ['program', *arguments], 'What it does.')


@pytest.mark.parametrize('config_class', CONFIGS)
def test_every_flag_is_taken_with_its_default(config_class):
    defaults = {field.name: field.default for field in dataclasses.fields(config_class) if field.default is not None}
    found = parse(*(f'--{name}={value}' for name, value in defaults.items()), config_class=config_class)
    assert found == defaults
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in defaults.items()}


def test_only_what_was_given():
    assert parse() == {}
    assert parse('--model_name=lenet', '--batch_size', '8', '-learning_rate=.1', '--use_grayscale',
                 '--nobatch_norm_warmup', '--max_number_of_steps=3', '--create_aux_logits') == dict(
        model_name='lenet', batch_size=8, learning_rate=0.1, use_grayscale=True, batch_norm_warmup=False,
        max_number_of_steps=3, create_aux_logits=True)
    assert parse('--batch_size=8', '--batch_size=9') == {'batch_size': 9}


def test_a_home_folder(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert parse('--train_dir=~/run', '--checkpoint_path=~/a', '--model_name=~') == dict(
        train_dir='/home/me/run', checkpoint_path='/home/me/a', model_name='~')


def test_two_command_lines_share_nothing():
    assert parse('--seed=4') == {'seed': 4} and parse() == {}


def test_a_flag_file(tmp_path):
    (tmp_path / 'flags').write_text('--model_name=lenet\n--seed=3\n')
    assert parse(f'--flagfile={tmp_path / "flags"}', '--seed=4') == {'model_name': 'lenet', 'seed': 4}


@pytest.mark.parametrize('argument, message', [
    ('--modle_name=lenet', '--modle_name is not a flag: did you mean --model_name? --help lists all.'),
    ('--optimiser=sgd', '--optimiser is not a flag: did you mean --optimizer? --help lists all.'),
    ('--xyzzy', '--xyzzy is not a flag: --help lists all.'),
    ('--batch_size=many', '--batch_size=many: it must be a whole number.'),
    ('--batch_size=1.5', '--batch_size=1.5: it must be a whole number.'),
    ('--max_number_of_steps=', '--max_number_of_steps=: it must be a whole number.'),
    ('--learning_rate=0,1', '--learning_rate=0,1: it must be a number.'),
    ('--use_grayscale=maybe', '--use_grayscale=maybe: it must be true or false.'),
    ('--create_aux_logits=2', '--create_aux_logits=2: it must be true or false.'),
    ('--batch_size', 'Missing value for flag --batch_size.'),
    ('--nouse_grayscale=false', '--nouse_grayscale=false does not take an argument.'),
    ('lenet', "Unexpected argument 'lenet': every setting is a flag, --name=value."),
])
def test_mistakes(argument, message):
    with pytest.raises(ConfigError) as caught:
        parse(argument)
    assert str(caught.value) == message


@pytest.mark.parametrize('config_class', CONFIGS)
@pytest.mark.parametrize('asked', ['--help', '-h', '--helpshort', '--helpfull'])
def test_help_lists_every_flag_with_its_default_under_its_heading(config_class, asked):
    with pytest.raises(flags.HelpWanted) as caught:
        parse(asked, '--verbose_tensorflow', config_class=config_class)
    text = str(caught.value)
    assert text.startswith('What it does.\n') and all(len(line) <= 100 for line in text.splitlines())
    for field in dataclasses.fields(config_class):
        heading = field.metadata['group']
        section = text.split(f'\n{heading[0].upper()}{heading[1:]}:\n')[1].split('\n\n')[0]
        entry = f'\n{section}\n  --'.split(f'\n  --{field.name} ')[1].split('\n  --')[0]
        if field.default not in (None, '') and not field.metadata['instead']:
            assert f'Default: {field.default}.' in ' '.join(entry.split())


def test_help_begins_with_what_is_most_used():
    """Readable in one sitting: what a first training needs comes first, TF-Slim's dead flags last."""
    text = flags.help_text(TrainConfig, 'train_image_classifier.py', 'What it does.')
    headings = [line for line in text.splitlines() if line.endswith(':') and not line.startswith(' ')]
    assert headings[0] == 'Most used:' and headings[-1] == "TF-Slim's, kept for old command lines:"
    assert len(headings) == len(set(headings))
    first = text.split('\n\n')[2]
    given = [line.split()[0] for line in first.splitlines() if line.startswith('  --')]
    assert 10 <= len(given) <= 20 and given[:2] == ['--dataset_name', '--dataset_dir']
    assert {'--model_name', '--train_dir', '--recipe', '--config', '--batch_size', '--learning_rate', '--optimizer',
            '--num_epochs', '--max_number_of_steps', '--checkpoint_path', '--precision', '--eval_every',
            '--num_clones'} <= set(given)
    assert '--num_ps_tasks' in text.split(headings[-1])[1]


def test_help_shows_what_each_recipe_sets():
    text = flags.help_text(TrainConfig, 'train_image_classifier.py', 'What it does.')
    entry = text.split('\n  --recipe ')[1].split('\n  --')[0]
    parts = ' '.join(entry.split())
    for name, (what, settings) in RECIPES.items():
        told = parts.split(f' {name}: ')[1]
        assert told.startswith(what)
        assert all(f'--{flag}={value}' in told for flag, value in settings.items())
    # What the help shows can be given as it stands.
    given = [part for part in entry.split() if part.startswith('--') and '=' in part]
    assert parse(*given) == RECIPES['modern'][1]


def test_tensorflow_is_not_started_for_the_command_line():
    program = '''
import sys
import eval_image_classifier, train_image_classifier
for script in (train_image_classifier, eval_image_classifier):
    assert script.main(['p', '--help']) == 0
    assert script.main(['p', '--modle_name=x']) == 2
    assert script.main(['p', '--model_name=x']) == 2
from training.config import train_config
train_config({})
print('tensorflow' in sys.modules, 'keras' in sys.modules)
'''
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ['False False'], done.stderr
    assert len(done.stderr.splitlines()) == 4
