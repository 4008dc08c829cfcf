"""export_image_classifier.py as its users see it: what is there afterwards, and what they are told."""
import importlib.util
import json
import os
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import export_image_classifier
import nets
import train_image_classifier
from training import exporting_runtimes

FILES = {'onnx': 'model.onnx', 'tflite': 'model.tflite', 'tflite_int8': 'model_int8.tflite'}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A LeNet that has learnt the digits somewhat."""
    folder = tmp_path_factory.mktemp('trained')
    assert train_image_classifier.main([
        'train', '--model_name=lenet', '--dataset_name=digits', '--train_image_size=16', '--optimizer=adam',
        '--opt_epsilon=1e-7', '--learning_rate=0.003', '--learning_rate_decay_type=fixed', '--max_number_of_steps=60',
        '--moving_average_decay=0.9', f'--train_dir={folder}']) == 0
    return folder


@pytest.fixture(scope='module')
def other(tmp_path_factory):
    """A checkpoint of another origin: nothing beside it tells what it is of."""
    tf.random.set_seed(0)
    return nets.create_model('lenet', 3, image_size=16).save(str(tmp_path_factory.mktemp('other')))


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs the program in this process, in a folder of its own; returns exit code, output and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = export_image_classifier.main(['somewhere/export_image_classifier.py', *map(str, arguments)])
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return code, out, err
    return run


def test_a_training_needs_no_more_than_its_folder(trained, run, tmp_path):
    """Calibrated on what was trained on, compared on what was held out; quiet but for the program's own lines."""
    code, out, err = run(f'--checkpoint_path={trained}', '--format=tflite_int8, onnx')
    assert (code, err) == (0, '')
    assert sorted(os.listdir(tmp_path)) == ['exported']
    assert sorted(os.listdir(tmp_path / 'exported')) == ['export.json', 'labels.txt', 'model.onnx',
                                                         'model_int8.tflite']
    assert 'Compared with the checkpoint on 16 images' in out and out.count('of 16') == 2
    told = json.loads((tmp_path / 'exported/export.json').read_text())
    assert told['class_names'] == list('0123456789') and told['image_size'] == 16
    assert set(told['exports']) == {'tflite_int8', 'onnx'}


@pytest.mark.parametrize('kept', [False, True])
def test_what_differs_leaves_nothing(kept, trained, run, tmp_path):
    """All answers of int8 to the last bit are too much to ask for; what was there before stays."""
    if kept:
        assert run(f'--checkpoint_path={trained}', '--format=onnx')[0] == 0
        before = (tmp_path / 'exported/export.json').read_bytes()
    code, out, err = run(f'--checkpoint_path={trained}', '--format=tflite,tflite_int8', '--tolerance=0.0001',
                         '--overwrite')
    assert code == 1
    assert [line.split()[0] for line in out.splitlines() if line.endswith('DIFFERS')] == ['tflite_int8']
    assert 'tflite_int8: not as the checkpoint answers' in err and '--tolerance is 0.0001' in err
    assert 'Wrote' not in out
    assert os.listdir(tmp_path) == (['exported'] if kept else [])
    if kept:
        assert (tmp_path / 'exported/export.json').read_bytes() == before
        assert not (tmp_path / 'exported/model.tflite').exists()


def test_a_converter_that_is_wrong_is_found_out(trained, run, tmp_path, monkeypatch):
    """The file itself is run: an ONNX file in which one weight is another answers otherwise."""
    import onnx

    write = exporting_runtimes.Onnx.write

    def broken(network, path):
        told, model = write(network, path), onnx.load(path)
        weights = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 0.9, weights.name))
        onnx.save(model, path)
        return told

    monkeypatch.setattr(exporting_runtimes.Onnx, 'write', staticmethod(broken))
    code, _, err = run(f'--checkpoint_path={trained}', '--format=onnx,frozen_graph')
    assert code == 1 and 'onnx: not as the checkpoint answers' in err
    assert not os.listdir(tmp_path)


def test_a_converter_that_fails(trained, run, tmp_path, monkeypatch):
    def fail(network, path):
        raise TypeError('no such\noperator')

    monkeypatch.setattr(exporting_runtimes.Onnx, 'write', staticmethod(fail))
    code, _, err = run(f'--checkpoint_path={trained}', '--format=onnx,frozen_graph')
    assert code == 1 and 'onnx: lenet cannot be exported so: TypeError: no such operator.' in err
    assert 'leave onnx out of --format' in err and not os.listdir(tmp_path)


def test_an_export_is_replaced_only_when_told(trained, run, tmp_path):
    command = [f'--checkpoint_path={trained}', '--output_dir=out']
    assert run(*command, '--format=onnx')[0] == 0
    code, _, err = run(*command, '--format=frozen_graph')
    assert code == 2 and '--output_dir=out holds an export already: --overwrite replaces it.' in err
    assert (tmp_path / 'out/model.onnx').exists()
    assert run(*command, '--format=frozen_graph', '--overwrite')[0] == 0
    assert sorted(os.listdir(tmp_path / 'out')) == ['export.json', 'frozen_graph.pb', 'labels.txt']
    assert os.listdir(tmp_path) == ['out']


def test_another_folder_is_never_replaced(trained, run, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').write_text('')
    code, _, err = run(f'--checkpoint_path={trained}', '--output_dir=mine', '--overwrite')
    assert code == 2 and 'is no export: give a new folder' in err
    assert os.listdir(tmp_path / 'mine') == ['thesis.tex']


def test_an_empty_folder_will_do(trained, run, tmp_path):
    (tmp_path / 'exported').mkdir()
    assert run(f'--checkpoint_path={trained}', '--format=frozen_graph', '--num_images=1')[0] == 0
    (tmp_path / 'made').mkdir()     # others can read it as any folder
    assert (tmp_path / 'exported').stat().st_mode == (tmp_path / 'made').stat().st_mode


def test_a_full_disk(trained, run, tmp_path, full_disk):
    with full_disk(100_000):
        code, _, err = run(f'--checkpoint_path={trained}', '--format=frozen_graph')
    assert code == 1 and 'exported cannot be written: File too large.' in err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('package, name, extra', [
    ('ai_edge_litert', 'tflite', 'litert'), ('tf2onnx', 'onnx', 'onnx'), ('onnxruntime', 'onnx', 'onnx'),
    ('openvino', 'openvino', 'openvino')])
def test_a_package_that_is_missing(package, name, extra, trained, run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda wanted: None if wanted == package else find(wanted))
    code, _, err = run(f'--checkpoint_path={trained}', f'--format=saved_model,{name}')
    assert code == 2
    assert f"--format={name} needs {package}: pip install 'slim-zoo[{extra}]', or " in err


@pytest.mark.parametrize('flags, code, message', [
    (['--format=onx'], 2, '--format=onx: did you mean onnx?'),
    (['--format=,'], 2, 'name one of saved_model, tflite'),
    (['--tolerance=2'], 2, '--tolerance=2.0: it must be at most 1.0'),
    (['--images=nowhere'], 2, '--images=nowhere: there is no such folder or image.'),
    (['--images=empty'], 1, '--images=empty: there are no images in it'),
    (['--images=damaged.jpg'], 1, 'damaged.jpg is no image that can be read'),
    (['--output_dir=gs://bucket/out'], 2, 'must be a folder of this machine'),
    (['--output_dir=/proc/none/out', '--images=one.png'], 1, '/proc/none/out cannot be written'),
    (['--format=tflite_int8', '--dataset_name=digts'], 1, "did you mean 'digits'?")])
def test_mistakes(flags, code, message, trained, run, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'damaged.jpg').write_bytes(b'\xff\xd8\xff damaged')
    PIL.Image.fromarray(np.zeros([20, 20, 3], np.uint8)).save(tmp_path / 'one.png')
    before = sorted(os.listdir(tmp_path))
    found, _, err = run(f'--checkpoint_path={trained}', *flags)
    assert found == code and message in err
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize('flags, code, message', [
    ([], 2, '--images is needed: a folder of images, or one image'),
    (['--images=one.png', '--format=tflite_int8'], 2, '--format=tflite_int8 is calibrated on images of a dataset'),
    (['--images=one.png', '--labels_file=none.txt'], 1, 'none.txt cannot be read')])
def test_mistakes_with_weights_of_another_origin(flags, code, message, other, run, tmp_path):
    PIL.Image.fromarray(np.zeros([20, 20, 3], np.uint8)).save(tmp_path / 'one.png')
    found, _, err = run(f'--checkpoint_path={other}', '--model_name=lenet', '--image_size=16', *flags)
    assert found == code and message in err
    assert os.listdir(tmp_path) == ['one.png']


def test_a_dataset_that_has_moved(trained, run, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    settings = json.loads((tmp_path / 'run/train_config.json').read_text())
    settings.update(dataset_name='image_folder', dataset_dir='/nowhere')
    (tmp_path / 'run/train_config.json').write_text(json.dumps(settings))
    code, _, err = run('--checkpoint_path=run')
    assert code == 1
    assert 'There are no images to compare the exports on: ' in err and 'Give others by --images.' in err


def test_a_saved_model_is_no_checkpoint(trained, run, tmp_path):
    assert run(f'--checkpoint_path={trained}', '--num_images=2')[0] == 0
    code, _, err = run('--checkpoint_path=exported/saved_model', '--output_dir=again')
    assert code == 2 and 'is a SavedModel, an export already: give the checkpoint.' in err


def test_a_small_network_that_is_no_number(run, tmp_path):
    model = nets.create_model('lenet', 3, image_size=16)
    model.by_name['LeNet/fc4/biases'].assign([0, np.nan, 0])
    PIL.Image.fromarray(np.zeros([20, 20, 3], np.uint8)).save(tmp_path / 'one.png')
    code, _, err = run(f'--checkpoint_path={model.save(str(tmp_path / "run"))}', '--model_name=lenet',
                       '--image_size=16', '--images=one.png')
    assert code == 1 and 'answers with what is no number; there is nothing to export.' in err
