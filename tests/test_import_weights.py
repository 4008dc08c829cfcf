"""`import_weights.py`: what it writes is read by TensorFlow, by Keras and by the other programs' own way of reading."""
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import import_weights
from nets import blueprint, checkpoints, create_model, registry

IMAGES = np.random.RandomState(0).uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)
MOBILENET = '--model_name=mobilenet_v1_025'


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs the program in this process, in a folder of its own; returns exit code, output and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = import_weights.main(['somewhere/import_weights.py', *map(str, arguments)])
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return code, out, err.partition('import_weights.py: ')[2].strip()
    return run


@pytest.fixture(scope='module')
def keras_model():
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNet(weights=None, alpha=0.25, classes=1000, classifier_activation=None,
                                        input_shape=IMAGES.shape[1:])


@pytest.fixture(scope='module')
def keras_file(keras_model, tmp_path_factory):
    path = tmp_path_factory.mktemp('keras') / 'mobilenet.weights.h5'
    keras_model.save_weights(path)
    return path


@pytest.fixture(scope='module')
def expected(keras_model):
    return np.asarray(keras_model(IMAGES))


def answers(folder, num_classes):
    model = create_model('mobilenet_v1_025', num_classes, image_size=32)
    assert checkpoints.restore(checkpoints.Reader(str(folder)), model.by_name) == []
    return model(IMAGES).numpy()


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_a_file_of_keras_becomes_a_checkpoint(run, keras_file, expected, tmp_path):
    code, out, err = run(MOBILENET, f'--checkpoint_path={keras_file}', '--output_dir=new/imported')
    assert (code, err) == (0, '')
    for line in ('137 variables of mobilenet_v1_025, 1000 classes.', 'images of 128x128', 'preprocessing `inception`',
                 'a multiple of 32 pixels', '--labels_offset=1',
                 '--model_name=mobilenet_v1_025 --checkpoint_path=new/imported'):
        assert line in out
    assert tf.train.latest_checkpoint(tmp_path / 'new' / 'imported').endswith('model.ckpt-0')
    reader = tf.train.load_checkpoint(tmp_path / 'new' / 'imported')
    assert reader.get_tensor('global_step') == 0 and reader.get_tensor('global_step').dtype == np.int64
    assert set(reader.get_variable_to_shape_map()) == {
        'global_step', *blueprint.network_variables(registry.get('mobilenet_v1_025'))}
    assert_same(answers(tmp_path / 'new' / 'imported', 1000), expected)


def test_background_comes_and_goes(run, keras_file, expected, tmp_path):
    code, out, _ = run(MOBILENET, f'--checkpoint_path={keras_file}', '--background_class', '--output_dir=imported')
    assert code == 0 and 'background, was added: 1001 classes' in out and 'labels_offset' not in out
    logits = answers('imported', 1001)
    assert_same(logits[:, 1:], expected)
    assert np.all(tf.nn.softmax(logits)[:, 0] == 0)

    code, out, _ = run(MOBILENET, '--checkpoint_path=imported', '--background_class', '--export_path=back.weights.h5')
    assert code == 0 and 'taken away: 1000 classes' in out
    made = re.search(r'keras\.applications\.(\w+)\((.*)\)\.load_weights\(\'back\.weights\.h5\'\)', out)
    assert made.groups() == ('MobileNet', 'weights=None, classes=1000, alpha=0.25')
    model = keras.applications.MobileNet(weights=None, alpha=0.25, classes=1000, classifier_activation=None,
                                         input_shape=IMAGES.shape[1:])
    model.load_weights('back.weights.h5')
    np.testing.assert_array_equal(model(IMAGES), expected)


def test_what_a_file_without_top_lacks_is_told(run, keras_model, tmp_path):
    notop = keras.Model(keras_model.inputs, keras_model.get_layer('conv_pw_13_relu').output)
    notop.save_weights(tmp_path / 'notop.weights.h5')
    code, out, _ = run(MOBILENET, '--checkpoint_path=notop.weights.h5', '--output_dir=imported')
    assert code == 0 and 'no classifier.' in out and '--checkpoint_exclude_scopes=MobilenetV1/Logits\n' in out
    assert 'MobilenetV1/Logits/Conv2d_1c_1x1/weights' not in checkpoints.Reader('imported').shapes
    code, _, err = run(MOBILENET, '--checkpoint_path=imported', '--background_class', '--output_dir=other')
    assert code == 1 and 'has no classifier: leave out --background_class' in err
    code, out, _ = run(MOBILENET, '--checkpoint_path=imported', '--export_path=back.weights.h5')
    assert code == 0 and 'include_top=False' in out
    again = keras.applications.MobileNet(weights=None, alpha=0.25, include_top=False, input_shape=IMAGES.shape[1:])
    again.load_weights('back.weights.h5')
    np.testing.assert_array_equal(again(IMAGES), notop(IMAGES))


@pytest.mark.slow
def test_an_auxiliary_classifier_has_initial_values(run, tmp_path):
    keras.applications.InceptionV3(weights=None, classes=5, input_shape=(75, 75, 3)).save_weights('v3.weights.h5')
    code, out, _ = run('--checkpoint_path=v3.weights.h5', '--output_dir=imported')
    assert code == 0 and 'It lacks InceptionV3/AuxLogits, which training alone uses' in out
    values = checkpoints.Reader('imported')
    assert values.shapes['InceptionV3/AuxLogits/Conv2d_2b_1x1/weights'] == (1, 1, 768, 5)
    assert 0 < np.abs(values.value('InceptionV3/AuxLogits/Conv2d_2a_5x5/weights')).max() < 0.1
    assert set(values.shapes) == {'global_step', *blueprint.network_variables(registry.get('inception_v3'))}


def test_moving_averages_of_a_checkpoint(run):
    values = {name: np.random.RandomState(0).rand(*variable.shape).astype(np.float32)
              for name, variable in create_model('lenet', 10).by_name.items()}
    averages = {name + checkpoints.AVERAGE: value + 1 for name, value in values.items()}
    checkpoints.save('trained', 7, {**values, **averages, 'global_step': np.int64(7)}, keep=1)
    lenet = ('--model_name=lenet', '--checkpoint_path=trained')
    assert run(*lenet, '--output_dir=plain')[0] == run(*lenet, '--moving_averages', '--output_dir=averages')[0] == 0
    for folder, offset in ('plain', 0), ('averages', 1):
        reader = checkpoints.Reader(folder)
        assert set(reader.shapes) == {*values, 'global_step'}
        for name, value in values.items():
            np.testing.assert_array_equal(reader.value(name), value + offset)
    code, _, err = run('--model_name=lenet', '--checkpoint_path=plain', '--moving_averages', '--output_dir=none')
    assert code == 1 and 'holds no moving averages' in err


def test_nothing_is_replaced_unasked(run, keras_file, tmp_path):
    (tmp_path / 'mine.weights.h5').write_text('mine')
    code, _, err = run(MOBILENET, f'--checkpoint_path={keras_file}', '--export_path=mine.weights.h5')
    assert code == 2 and 'mine.weights.h5 is there already: --overwrite' in err
    assert (tmp_path / 'mine.weights.h5').read_text() == 'mine'
    checkpoints.save('run', 500, {'x': np.float32(1)}, keep=1)
    code, _, err = run(MOBILENET, f'--checkpoint_path={keras_file}', '--output_dir=run')
    assert code == 1 and 'run holds a checkpoint already' in err
    assert run(MOBILENET, f'--checkpoint_path={keras_file}', '--output_dir=run', '--overwrite')[0] == 0
    assert checkpoints.latest('run').endswith('model.ckpt-0')
    assert checkpoints.Reader('run/model.ckpt-500').value('x') == 1


@pytest.mark.parametrize('arguments, code, message', [
    ([], 2, '--checkpoint_path is needed: the weights to read.'),
    (['--checkpoint_path=a.h5'], 2, 'Give one of --output_dir, for a checkpoint, and --export_path'),
    (['--checkpoint_path=a.h5', '--output_dir=b', '--export_path=c.weights.h5'], 2, 'Give one of --output_dir'),
    (['--checkpoint_path=a', '--export_path=c.h5'], 2, 'ends with .weights.h5'),
    (['--checkpoint_path=a.h5', '--output_dir=b', '--model_name=inception_v33'], 2, "did you mean 'inception_v3'?"),
    (['--checkpoint_path=a.h5', '--output=b'], 2, '--output is not a flag: did you mean --output_dir?'),
    (['--checkpoint_path=none.h5', '--output_dir=b'], 1, 'There is no file none.h5.'),
    (['--checkpoint_path=none', '--output_dir=b'], 1, 'There is no checkpoint none.'),
    (['--checkpoint_path={keras_file}', '--output_dir=b'], 1,
     "holds Keras's MobileNet(alpha=0.25), which is not inception_v3: its network here is mobilenet_v1_025."),
])
def test_mistakes(arguments, code, message, run, keras_file, tmp_path):
    found, _, err = run(*(argument.format(keras_file=keras_file) for argument in arguments))
    assert found == code and message in err
    assert not list(tmp_path.iterdir())
