"""Exports, each run by its own runtime as its users run it, against the network itself."""
import base64
import json
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf

import export_image_classifier
import nets
import predict_image_classifier
from datasets import dataset_utils
from preprocessing import preprocessing_factory
from training import exporting
from training.exporting_network import Images

DOCUMENT = pathlib.Path(__file__).parents[2] / 'docs/exporting.md'
SIZE, NAMES = 64, ['Gänseblümchen', 'rose, "red"', 'tulip', 'house', 'sky', 'roof']
NETWORK = ['--model_name=mobilenet_v1_025', f'--image_size={SIZE}']


def learn(model, images, labels, steps):
    """Trains, so that the answers depend on the images, and batch norm has the statistics of real maps."""
    optimizer = tf.keras.optimizers.Adam(0.003)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:     # statistics: those of the last batch
            logits, _ = model.build(images, True, batch_norm_decay=lambda decay: 0.0)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables,
                                      strict=True))

    for _ in range(steps):
        step()
    model.build(images, True, batch_norm_decay=lambda decay: 0.0)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Parts of two real photos, in two class folders: JPEG and PNG files."""
    folder, random = tmp_path_factory.mktemp('photos'), np.random.RandomState(0)
    for name, photo in zip(('china', 'flower'), sklearn.datasets.load_sample_images().images, strict=True):
        (folder / name).mkdir()
        for number in range(6):
            top, left = random.randint(0, 427 - 150), random.randint(0, 640 - 200)
            image = PIL.Image.fromarray(photo[top:top + 150, left:left + 200])
            image.save(folder / name / f'{number}.{"jpg" if number % 2 else "png"}')
    return folder


@pytest.fixture(scope='module')
def model(photos, tmp_path_factory):
    """A network with depthwise convolutions and batch norms; and the folder with its checkpoint and names."""
    tf.random.set_seed(0)
    folder, model = tmp_path_factory.mktemp('run'), nets.create_model('mobilenet_v1_025', len(NAMES), image_size=SIZE)
    preprocess = preprocessing_factory.get_preprocessing('inception')
    images = tf.stack([preprocess(tf.io.decode_image(file.read_bytes(), 3, expand_animations=False), SIZE, SIZE)
                       for file in sorted(photos.glob('*/*'))])
    learn(model, images, [0] * 6 + [3] * 6, 20)
    model.save(str(folder))
    (folder / 'labels.txt').write_text(''.join(f'{label}:{name}\n' for label, name in enumerate(NAMES)))
    return model, folder


@pytest.fixture(scope='module')
def exported(model, photos, tmp_path_factory):
    """The folder with the network in all formats, and what the program said."""
    folder, lines = tmp_path_factory.mktemp('exports') / 'new' / 'mine', []
    settings = export_image_classifier.export_config.export_config(dict(
        checkpoint_path=str(model[1]), model_name='mobilenet_v1_025', image_size=SIZE, format='all',
        images=str(photos), dataset_name='image_folder', dataset_dir=str(photos), output_dir=str(folder)))
    exporting.export(settings, lines.append)
    return folder, lines


@pytest.fixture(scope='module')
def expected(model, photos):
    """Three files, decoded by Pillow (the JPEG by TensorFlow), as the network takes them, and its probabilities."""
    files = [photos / name for name in ('china/0.png', 'flower/1.jpg', 'flower/2.png')]
    pixels = [tf.io.decode_jpeg(file.read_bytes()) if file.suffix == '.jpg' else
              tf.constant(np.asarray(PIL.Image.open(file))) for file in files]
    prepared = tf.stack([preprocessing_factory.get_preprocessing('inception')(image, SIZE, SIZE) for image in pixels])
    probabilities = tf.nn.softmax(model[0](prepared)).numpy()
    assert np.ptp(probabilities, 0).max() > 0.05
    return files, pixels, prepared.numpy(), probabilities


def by_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(images):
        interpreter.resize_tensor_input(taken['index'], images.shape, strict=True)
        interpreter.allocate_tensors()
        if taken['dtype'] == np.int8:
            scale, zero = taken['quantization']
            images = np.clip(np.round(images / scale + zero), -128, 127).astype(np.int8)
        interpreter.set_tensor(taken['index'], images)
        interpreter.invoke()
        found = interpreter.get_tensor(given['index'])
        if given['dtype'] == np.int8:
            scale, zero = given['quantization']
            found = scale * (found.astype(np.float64) - zero)
        return found
    return run


def by_onnxruntime(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    assert [(value.name, value.shape) for value in session.get_inputs()] == [('images', ['batch', SIZE, SIZE, 3])]
    assert [value.name for value in session.get_outputs()] == ['logits', 'probabilities']
    return lambda images: session.run(['probabilities'], {'images': images})[0]


def by_openvino(path):
    import openvino

    compiled = openvino.Core().compile_model(str(path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda images: compiled({'images': images})['probabilities']


def by_session(path):
    graph, session = frozen(path)
    return lambda images: session.run(graph.get_tensor_by_name('MobilenetV1/Predictions/Reshape_1:0'),
                                      {'input:0': images})


def frozen(path):
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
    return graph, tf.compat.v1.Session(graph=graph)


def by_signature(path):
    signature = tf.saved_model.load(str(path)).signatures['tensor']
    return lambda images: signature(images=tf.constant(images))['probabilities']


@pytest.mark.parametrize('file, load, tolerance', [
    ('saved_model', by_signature, 1e-5), ('model.tflite', by_litert, 1e-5), ('model_float16.tflite', by_litert, 5e-3),
    ('model_int8.tflite', by_litert, 0.15), ('model.onnx', by_onnxruntime, 1e-5), ('model.xml', by_openvino, 1e-5),
    ('frozen_graph.pb', by_session, 1e-5)], ids=lambda value: value if isinstance(value, str) else None)
def test_answers_as_the_network(file, load, tolerance, exported, expected):
    """In batches of three and of one."""
    run = load(exported[0] / file)
    *_, images, probabilities = expected
    for rows in (slice(0, 3), slice(1, 2)):
        found = np.asarray(run(images[rows]))
        np.testing.assert_allclose(found, probabilities[rows], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(found.argmax(1), probabilities[rows].argmax(1))


ALONE = '''
import json, pathlib, sys
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
assert not [name for name in sys.modules if name.partition('.')[0] in ('nets', 'training', 'preprocessing', 'tf_slim')]
files = [pathlib.Path(path).read_bytes() for path in sys.argv[2:]]
found = loaded.signatures['serving_default'](image_bytes=tf.constant(files))
print(json.dumps({name: value.numpy().astype(str if value.dtype == tf.string else float).tolist() if
                  value.dtype != tf.string else [[word.decode() for word in row] for row in value.numpy()]
                  for name, value in found.items()}))
'''


def test_saved_model_needs_tensorflow_alone(exported, expected, tmp_path):
    """Files in, names of classes out; elsewhere, without this project."""
    files, _, _, probabilities = expected
    done = subprocess.run([sys.executable, '-I', '-c', ALONE, exported[0] / 'saved_model', *files], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    order = np.argsort(-probabilities, 1)[:, :5]
    assert found['classes'] == [[NAMES[label] for label in row] for row in order]
    np.testing.assert_allclose(found['scores'], np.take_along_axis(probabilities, order, 1), atol=1e-5)
    np.testing.assert_allclose(found['probabilities'], probabilities, atol=1e-5)
    np.testing.assert_allclose(tf.nn.softmax(found['logits']), probabilities, atol=1e-5)


def test_every_signature(exported, expected):
    loaded = tf.saved_model.load(str(exported[0] / 'saved_model'))
    assert set(loaded.signatures) == {'serving_default', 'serving_bytes', 'uint8', 'tensor'}
    files, pixels, images, probabilities = expected
    found = loaded.signatures['uint8'](images=tf.stack(pixels))
    np.testing.assert_allclose(found['probabilities'], probabilities, atol=1e-5)
    found = loaded.signatures['serving_bytes'](image_bytes=tf.constant([file.read_bytes() for file in files]))
    np.testing.assert_allclose(found['probabilities'], probabilities, atol=1e-5)
    np.testing.assert_allclose(loaded.probabilities(loaded.preprocess(pixels[0])[tf.newaxis])[0], probabilities[0],
                               atol=1e-5)


def test_a_body_of_tensorflow_serving(exported, expected):
    """Its REST interface takes b64 for bytes, and makes a batch of the instances."""
    files, _, _, probabilities = expected
    body = json.dumps({'instances': [{'b64': base64.b64encode(file.read_bytes()).decode()} for file in files]})
    signature = tf.saved_model.load(str(exported[0] / 'saved_model')).signatures['serving_default']
    (name, spec), = signature.structured_input_signature[1].items()
    assert (name, spec.dtype, spec.shape.as_list()) == ('image_bytes', tf.string, [None])     # one: needs no name
    decoded = [base64.b64decode(instance['b64']) for instance in json.loads(body)['instances']]
    found = signature(image_bytes=tf.constant(decoded))
    assert {value.shape[0] for value in found.values()} == {3}      # in rows, as the REST interface answers
    np.testing.assert_allclose(found['probabilities'], probabilities, atol=1e-5)


@pytest.mark.parametrize('damaged, message', [
    (b'hello', r'must be JPEG, PNG, GIF or BMP files; these of the batch \(from 0\) are none:\] \[1\]'),
    (b'', 'must be JPEG'), (b'RIFF\x10\0\0\0WEBPVP8X', 'must be JPEG'), (None, 'Invalid JPEG data')])
def test_a_damaged_image_in_a_batch(damaged, message, exported, expected):
    sound = expected[0][1].read_bytes()
    signature = tf.saved_model.load(str(exported[0] / 'saved_model')).signatures['serving_default']
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signature(image_bytes=tf.constant([sound, sound[:len(sound) // 2] if damaged is None else damaged]))


def test_batch_norm_is_folded(exported):
    import onnx

    graph_def = tf.compat.v1.GraphDef.FromString((exported[0] / 'frozen_graph.pb').read_bytes())
    assert not [node.name for node in graph_def.node if 'BatchNorm' in node.op]
    signature = tf.saved_model.load(str(exported[0] / 'saved_model')).signatures['tensor']
    kinds = [node.op for function in signature.graph.as_graph_def().library.function for node in function.node_def]
    assert kinds.count('Conv2D') + kinds.count('DepthwiseConv2dNative') == 28
    assert not [kind for kind in kinds if 'BatchNorm' in kind]
    operators = [node.op_type for node in onnx.load(exported[0] / 'model.onnx').graph.node]
    assert operators.count('Conv') == 28 and not {'BatchNormalization', 'Mul'} & set(operators)
    assert '27 batch norms are folded into their convolutions.' in exported[1]


def test_names_lie_beside_and_inside(exported):
    import onnx

    folder, lines = exported[0], ''.join(f'{name}\n' for name in NAMES)
    for place in (folder, folder / 'saved_model/assets'):
        assert dataset_utils.read_label_file(str(place)) == dict(enumerate(NAMES))
    for file in ('model.tflite', 'model_int8.tflite'):
        with zipfile.ZipFile(folder / file) as archive:
            assert archive.read('labels.txt').decode() == lines
    properties = {entry.key: entry.value for entry in onnx.load(folder / 'model.onnx').metadata_props}
    assert json.loads(properties['class_names']) == NAMES and properties['preprocessing'] == 'inception'
    described = json.loads((folder / 'saved_model/assets/classifier.json').read_text())
    assert described['class_names'] == NAMES and described['image_size'] == SIZE
    names = set(re.findall(r'`(\w+)`', DOCUMENT.read_text().split('`classifier.json`, which tells')[1].split('.')[0]))
    assert set(described) - {'version', 'weights'} == names


def test_what_is_told(exported):
    folder, lines = exported
    told = json.loads((folder / 'export.json').read_text())
    assert (told['image_size'], told['channels'], told['input_range']) == (SIZE, 3, [-1, 1])
    assert list(told['exports']) == ['saved_model', 'tflite', 'tflite_float16', 'tflite_int8', 'onnx', 'openvino',
                                     'frozen_graph']
    for name, entry in told['exports'].items():
        assert (folder / entry['file']).exists()
        compared = entry['comparison']
        assert compared['images'] == 12 and compared['within_tolerance'] is True
        assert 0 <= compared['largest_difference'] <= compared['tolerance']
        line, = (line for line in lines if line.split()[0] == name)
        assert line.split()[2] == f'{compared["largest_difference"]:.3g}' and line.endswith(' of 12')
    sizes = {name: entry['bytes'] for name, entry in told['exports'].items()}
    assert sizes['tflite_int8'] < 0.5 * sizes['tflite'] and sizes['tflite_float16'] < 0.6 * sizes['tflite']
    # Of pixels from -1 to 1 in 256 steps.
    assert told['exports']['tflite_int8']['input_quantization']['scale'] == pytest.approx(2 / 255, rel=0.02)
    assert not list(folder.parent.glob('.*'))


@pytest.mark.parametrize('mode, outputs, names', [('binary', 1, 2), ('multilabel', 3, 3)])
def test_sigmoids(mode, outputs, names, photos, tmp_path):
    import onnxruntime

    tf.random.set_seed(0)
    model = nets.create_model('lenet', outputs, image_size=16)
    assert export_image_classifier.main([
        'export', f'--checkpoint_path={model.save(str(tmp_path / "run"))}', '--model_name=lenet', '--image_size=16',
        f'--class_mode={mode}', f'--images={photos}', '--format=saved_model,tflite,onnx,frozen_graph',
        f'--output_dir={tmp_path / "out"}']) == 0
    images = np.random.RandomState(1).uniform(-1, 1, [3, 16, 16, 1]).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-model(images).numpy().astype(np.float64)))
    expected = np.hstack([1 - sigmoid, sigmoid]) if mode == 'binary' else sigmoid
    session = onnxruntime.InferenceSession(str(tmp_path / 'out/model.onnx'))
    np.testing.assert_allclose(session.run(['probabilities'], {'images': images})[0], expected, atol=1e-5)
    graph, session = frozen(tmp_path / 'out/frozen_graph.pb')
    found = session.run('probabilities:0', {'input:0': images})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len((tmp_path / 'out/labels.txt').read_text().splitlines()) == names
    found = tf.saved_model.load(str(tmp_path / 'out/saved_model')).signatures['tensor'](images=tf.constant(images))
    np.testing.assert_allclose(found['scores'], -np.sort(-expected, 1), atol=1e-5)


def test_prediction_takes_the_saved_model(exported, model, photos, tmp_path):
    for number, weights in enumerate([[f'--checkpoint_path={model[1]}', *NETWORK],
                                      [f'--checkpoint_path={exported[0]}/saved_model']]):
        assert predict_image_classifier.main(['predict', str(photos), *weights, '--format=jsonl', '--top_k=9',
                                              f'--output={tmp_path}/{number}.jsonl']) == 0
    ours, saved = ([json.loads(line) for line in (tmp_path / f'{number}.jsonl').read_text().splitlines()]
                   for number in (0, 1))
    assert len(ours) == 12
    for one, other in zip(ours, saved, strict=True):
        assert one['image'] == other['image']
        assert [row['class'] for row in one['predictions']] == [row['class'] for row in other['predictions']]
        assert [row['probability'] for row in one['predictions']] == pytest.approx(
            [row['probability'] for row in other['predictions']], abs=1e-4)


def test_comparison():
    """By hand: the most probable class may change only where the checkpoint itself has two as near as the tolerance."""
    images = Images(['a', 'b'], [], np.zeros([2]))
    expected = np.array([[0.50, 0.48, 0.02], [0.9, 0.1, 0.0]])
    near = np.array([[0.48, 0.50, 0.02], [0.9, 0.07, 0.03]])
    assert exporting._compared(near, expected, images, 0.031) == (2, pytest.approx(0.03), 'b', 1, True)
    assert not exporting._compared(near, expected, images, 0.025).within_tolerance       # of a probability
    assert not exporting._compared(near, expected, images, 0.01).within_tolerance
    for broken in (near[:, :2], np.where(near > 0.8, np.nan, near)):
        assert not exporting._compared(broken, expected, images, 1.0).within_tolerance
