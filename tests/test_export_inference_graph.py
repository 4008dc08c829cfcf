"""TF-Slim's export_inference_graph.py: its flags, and TensorFlow's own freeze_graph on what it writes."""
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

import export_inference_graph
import nets


@pytest.fixture
def run(capfd):
    def run(*arguments):
        code = export_inference_graph.main(['somewhere/export_inference_graph.py', *map(str, arguments)])
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return code, out, err
    return run


def graph_of(path):
    return tf.compat.v1.GraphDef.FromString(path.read_bytes())


def placeholder(graph_def):
    node, = (node for node in graph_def.node if node.op == 'Placeholder')
    return node.name, [dim.size for dim in node.attr['shape'].shape.dim]


@pytest.mark.parametrize('network, outputs', [
    ('inception_v1', ['InceptionV1/Logits/SpatialSqueeze', 'InceptionV1/Logits/Predictions/Reshape_1']),
    ('mobilenet_v1_025', ['MobilenetV1/Logits/SpatialSqueeze', 'MobilenetV1/Predictions/Reshape_1'])])
def test_frozen_by_tensorflow(network, outputs, run, tmp_path):
    """The names are those of TF-Slim's graphs; the frozen one answers as the network of the checkpoint."""
    model, random = nets.create_model(network, 5, image_size=64), np.random.RandomState(0)
    for name, variable in model.by_name.items():    # the initial values are so small that nothing depends on the image
        if variable.shape.rank > 1:
            fan = np.prod(variable.shape[:2 if 'depthwise' in name else -1])
            variable.assign(random.normal(0, (2 / fan) ** 0.5, variable.shape))
    checkpoint = model.save(str(tmp_path / 'run'), 7)
    graph, frozen = tmp_path / 'new' / 'graph.pb', tmp_path / 'frozen.pb'
    code, out, _ = run(f'--model_name={network}', '--dataset_name=flowers', '--image_size=64', f'--output_file={graph}')
    assert code == 0
    assert placeholder(graph_of(graph)) == ('input', [-1, 64, 64, 3])
    assert 'its outputs are ' + ' and '.join(f'`{name}`' for name in outputs) in out
    advice = out.splitlines()[-1].replace('model.ckpt', checkpoint).replace('frozen_graph.pb', str(frozen)).split()
    done = subprocess.run([sys.executable, *advice[1:]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {node.op for node in graph_of(frozen).node} & {'VariableV2', 'VarHandleOp'}
    images = random.uniform(-1, 1, [3, 64, 64, 3]).astype(np.float32)
    with tf.Graph().as_default():
        answers = tf.graph_util.import_graph_def(graph_of(frozen), name='',
                                                 return_elements=[f'{name}:0' for name in outputs])
        with tf.compat.v1.Session() as session:
            logits, probabilities = session.run(answers, {'input:0': images})
    expected = model(images).numpy()
    assert np.ptp(expected, 0).max() > 1e-3
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(probabilities, tf.nn.softmax(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('flags, shape, classes', [
    (['--model_name=lenet', '--dataset_name=mnist'], [-1, 28, 28, 1], 10),
    (['--model_name=mobilenet_v1_025', '--batch_size=2', '--use_grayscale', '--labels_offset=1'],
     [2, 224, 224, 1], 1000),
    (['--model_name=s3dg', '--is_video_model', '--num_frames=16', '--image_size=96'], [-1, 16, 96, 96, 3], 1001)])
def test_flags(flags, shape, classes, run, tmp_path):
    path = tmp_path / 'graph.pb'
    code, out, _ = run(*flags, f'--output_file={path}')
    assert (code, placeholder(graph_of(path))) == (0, ('input', shape))
    assert f'{classes} classes' in out


def test_text_and_training(run, tmp_path):
    """As text; in training there is dropout, in inference there is none."""
    for training in (False, True):
        path = tmp_path / f'{training}.pbtxt'
        assert run('--model_name=lenet', '--dataset_name=digits', f'--is_training={training}',
                   '--write_text_graphdef', f'--output_file={path}')[0] == 0
        graph_def = text_format.Parse(path.read_text(), tf.compat.v1.GraphDef())
        assert any('dropout' in node.name.lower() and node.op == 'RandomUniform' for node in graph_def.node) == training


@pytest.mark.parametrize('flags, code, message', [
    ([], 2, '--output_file is needed'),
    (['--output_file=a.pb', '--model_name=lenett'], 2, "did you mean 'lenet'?"),
    (['--output_file=a.pb', '--model_name=i3d'], 2, 'it takes videos; --is_video_model says so.'),
    (['--output_file=a.pb', '--is_video_model'], 2, 'it takes images; leave out --is_video_model.'),
    (['--output_file=a.pb', '--num_frames=3'], 2, '--num_frames is of videos: --is_video_model.'),
    (['--output_file=a.pb', '--quantize'], 2, 'export_image_classifier.py --format=tflite_int8'),
    (['--output_file=a.pb', '--dataset_name=flwers'], 1, "did you mean 'flowers'?"),
    (['--output_file=a.pb', '--dataset_name=flowers', '--labels_offset=5'], 2, 'flowers has 5 classes'),
    (['--output_file=a.pb', '--model_name=alexnet_v2', '--image_size=20'], 2, 'cannot be built for images of 20x20'),
    (['--output_file=/proc/none/a.pb', '--model_name=lenet'], 1, '/proc/none/a.pb cannot be written')])
def test_mistakes(flags, code, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*flags)
    assert found == code and message in err
    assert not list(tmp_path.iterdir())
