"""README.md and docs/ do what they say: the examples run, commands and flags exist, outputs are right.

In a document, a block of Python that begins with `# FILE.py` is that file. All other blocks of Python, and the commands
of sh blocks, run in their order as one program, in a folder with a copy of the project. A block of text right after one
is its output. Trainings are cut to one step on small images.
"""
import base64
import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf

import datasets
import nets.keras_model  # noqa: F401
from datasets.registry import DATASETS
from nets import registry
from preprocessing import preprocessing_factory
from training import (
    config,
    convert_config,
    evaluation,
    export_config,
    extract_config,
    flags,
    importing,
    predict_config,
)

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = ['README.md', *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('docs/*.md'))]
SCRIPTS = {'train_image_classifier.py': (config.TrainConfig, config.train_config),
           'eval_image_classifier.py': (config.EvalConfig, config.eval_config),
           'predict_image_classifier.py': (predict_config.PredictConfig,
                                           lambda given: predict_config.PredictConfig(**given)),
           'extract_endpoints.py': (extract_config.ExtractConfig, extract_config.extract_config),
           'export_image_classifier.py': (export_config.ExportConfig,
                                          lambda given: export_config.ExportConfig(**given)),
           'export_inference_graph.py': (export_config.InferenceGraphConfig,
                                         lambda given: export_config.InferenceGraphConfig(**given)),
           'import_weights.py': (importing.ImportConfig, lambda given: importing.ImportConfig(**given)),
           'download_and_convert_data.py': (convert_config.ConvertConfig,
                                            lambda given: convert_config.ConvertConfig(**given))}
QUICK = ('--max_number_of_steps=1', '--train_image_size=32', '--batch_size=4')
PROJECT = ['nets', 'datasets', 'preprocessing', 'training', 'tf_slim_compat.py', 'slim_zoo_download.py', *SCRIPTS]

# What the program of a document begins with.
PROGRAM = '''
import contextlib, io, runpy, subprocess, sys


def run(shown, name, *args):
    sys.argv = [name, *args]
    with contextlib.nullcontext() if shown else contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_module(name.removesuffix('.py'), run_name='__main__')
        except SystemExit as end:
            assert not end.code, f'{name} {args}: exit code {end.code}'

'''


def read(document):
    return (ROOT / document).read_text(encoding='utf-8')


def blocks(document):
    """The language and the text of each block."""
    return re.findall(r'^```(\w+)\n(.*?)^```$', read(document), re.S | re.M)


def commands(block):
    """The commands of an sh block, each a list of words."""
    return [shlex.split(line, comments=True) for line in block.replace('\\\n', ' ').splitlines() if line.strip()]


def all_commands():
    return [command for document in DOCUMENTS for language, block in blocks(document) if language == 'sh'
            for command in commands(block)]


def prose(document):
    """A document without its blocks."""
    return re.sub(r'^```.*?^```$', '', read(document), flags=re.S | re.M)


def photos(folder, classes):
    """Four small photos of noise in a folder for each class: `folder/daisy/1.jpg`."""
    random = np.random.RandomState(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(1, 5):
            image = random.randint(0, 256, (40, 48, 3), np.uint8)
            PIL.Image.fromarray(image).save(folder / name / f'{number}.jpg')


def published_weights(path):
    """Weights of Inception V1 under the names and in the format of TF-Slim's checkpoint, which is one file."""
    variables = json.loads((ROOT / 'tests/golden/inception_v1.json').read_text())['variables']
    random = np.random.RandomState(0)
    values = [np.ones(shape, np.float32) if name.endswith('moving_variance') else
              random.normal(0, 0.1, shape).astype(np.float32) for name, shape in variables.items()]
    tf.raw_ops.Save(filename=str(path), tensor_names=list(variables), data=values)


@pytest.fixture
def folder(tmp_path):
    for name in PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(ROOT / name, tmp_path)
    photos(tmp_path / 'flowers', ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip'])
    photos(tmp_path / 'birds', ['robin', 'wren'])
    return tmp_path


def run_document(document, folder, quick=QUICK, shown=True, then=''):
    """Runs a document in the folder, trainings with `quick` added, and compares what it prints; `then` is run last."""
    program, expected, found = [PROGRAM], [], blocks(document)
    for (language, block), (following, output) in zip(found, [*found[1:], ('', '')], strict=True):
        if following == 'text':
            expected.append(output)
        file = re.match(r'# (\S+\.py)\n', block)
        if file:
            (folder / file[1]).write_text(block)
        elif language == 'python':
            program.append(block)
        elif language == 'sh':
            for words in commands(block):
                program.append(in_python(words, following == 'text', folder, quick))
    (folder / 'program.py').write_text('\n'.join([*program, then]))
    done = subprocess.run([sys.executable, 'program.py'], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.endswith(''.join(expected)) if not shown else done.stdout == ''.join(expected)


def in_python(words, shown, folder, quick):
    """A line that does in a program what the command does; nothing for a command that is checked elsewhere."""
    if words[0] != 'python':
        return ''
    if words[1] == '-m':
        return f'run({shown}, {", ".join(map(repr, words[2:]))})'
    if words[1] in SCRIPTS:
        more = quick if words[1] == 'train_image_classifier.py' else ()
        return f'run({shown}, {", ".join(map(repr, [*words[1:], *more]))})'
    assert (folder / words[1]).exists()
    return f'subprocess.run({[sys.executable, *words[1:]]!r}, check=True)'


def value(path, name):
    return tf.train.load_variable(str(path), name)


@pytest.mark.parametrize('words', all_commands(), ids=' '.join)
def test_command(words):
    """Each command exists, with its flags, whether or not it is run below."""
    command = ' '.join(words)
    if words[:2] == ['pip', 'install']:
        extras = re.search(r'\[(.*)\]', command)
        for extra in extras[1].split(',') if extras else ():
            assert f"'{extra}': [" in (ROOT / 'setup.py').read_text()
    elif words[0] == 'curl':
        assert words[-1].startswith('https://storage.googleapis.com/tensorflow/keras-applications/') or words[-1] in [
            registry.WEIGHTS_URL + row.weights for row in registry.NETWORKS.values() if row.weights]
    elif words[0] == 'tar':
        assert words[-1] in [row.weights for row in registry.NETWORKS.values()]
    elif words[0] == 'python' and words[1] in SCRIPTS:
        check_flags(words[1:])
    else:
        known = words[:2] == ['python', '-m'] and words[2] in (
            'nets', 'datasets', 'tensorflow.python.tools.freeze_graph')
        assert known or f'# {words[1]}\n' in ''.join(map(read, DOCUMENTS))


def check_flags(words):
    settings, make = SCRIPTS[words[0]]
    given, _ = flags.parse_with_operands(settings, words, '', '')
    if given.get('model_name') in registry.NETWORKS:    # others are the reader's own
        make(given)


def test_commands_in_the_text():
    """Those between backquotes, and those that the Makefile runs and suggests."""
    makefile = (ROOT / 'Makefile').read_text().replace("\\'\n\t@echo '", '').replace("'\n", '\n')
    texts = [makefile, *(f'{command}\n' for name in DOCUMENTS for command in re.findall('`([^`]*)`', prose(name)))]
    found = [shlex.split(command) for text in texts for command in re.findall(r'python (\w+\.py\b.*)', text)]
    for words in found:
        check_flags(words)
    assert len(found) >= 5


def test_flags_in_the_text():
    known = {field.name for settings, _ in SCRIPTS.values() for field in dataclasses.fields(settings)}
    known |= {f'no{name}' for name in known}
    known |= {'help', 'image_size', 'num_classes', 'with', 'logdir', 'runner', 'project',
              'multi_label'}  # of `nets`, other programs
    known |= {name for path in ROOT.glob('benchmarks/*.py') for name in re.findall(r"'--(\w+)'", path.read_text())}
    known |= set('model num sched warmup epochs opt lr weight amp mixup cutmix smoothing aa reprob grad clip resume '
                 'experiment topk results'.split())     # timm's
    named = [name for document in DOCUMENTS for name in re.findall(r'--(\w+)', prose(document))]
    assert 'num_clones' in named and set(named) <= known


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links(document):
    for target in re.findall(r'\]\(([^)]+)\)', prose(document)):
        path, _, heading = target.partition('#')
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists()
        headings = re.findall(r'^#+ (.*)$', target.read_text(), re.M)
        assert not heading or heading in [line.lower().replace(' ', '-') for line in headings]


def test_make_targets():
    targets = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M)
    assert sorted(re.findall(r'^    make (\w+)', read('README.md'), re.M)) == sorted(targets) == ['test', 'train']


def test_every_extra_is_named():
    table = read('README.md').split('| extra | for |')[1].split('\n\n')[0]
    setup = (ROOT / 'setup.py').read_text().split('extras_require={')[1].split('},')[0]
    assert set(re.findall(r'^\| `(\w+)`', table, re.M)) == set(re.findall(r"^ +'(\w+)': \[", setup, re.M))


def test_every_dataset_is_named():
    for row in DATASETS.values():
        line, = (line for line in read('README.md').splitlines() if line.startswith('|') and f'| `{row.name}`' in line
                 or f', `{row.name}` |' in line)
        assert all(split in line for split in row.splits)


@pytest.mark.slow
def test_readme(folder):
    published_weights(folder / 'inception_v1.ckpt')
    run_document('README.md', folder)
    results = (folder / 'runs/flowers/eval/eval_results.json').read_text()
    assert '"num_images": 5,' in results                # one of each class is held out
    kept, trained = 'InceptionV1/Mixed_3b/Branch_1/Conv2d_0b_3x3/weights', 'InceptionV1/Logits/Conv2d_0c_1x1/weights'
    np.testing.assert_array_equal(*(value(folder / path, kept) for path in ('inception_v1.ckpt', 'runs/last_layer')))
    assert value(folder / 'runs/last_layer', trained).shape == (1, 1, 1024, 5)


def parts_of_two_photos(folder):
    """Real photos in two classes: parts of the two that come with scikit-learn, of a temple and of a flower."""
    random = np.random.RandomState(0)
    for name, photo in zip(('china', 'flower'), sklearn.datasets.load_sample_images().images, strict=True):
        for split, count in (('train', 20), ('validation', 10)):
            (folder / split / name).mkdir(parents=True)
            for number in range(1, count + 1):
                top, left = random.randint(0, 427 - 200), random.randint(0, 640 - 200)
                image = PIL.Image.fromarray(photo[top:top + 200, left:left + 200])
                image.save(folder / split / name / f'{number}.jpg')


@pytest.mark.slow
def test_transfer_learning(folder):
    """Both ways run; the script's learns to tell the classes apart, on features of weights that were never trained."""
    parts_of_two_photos(folder / 'photos')
    keras.utils.set_random_seed(0)
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(150, 150, 3))
    for layer in network.layers:
        layer.momentum = 0.0            # of batch norm: as statistics, those of the photos
    photos = keras.utils.image_dataset_from_directory(folder / 'photos/train', batch_size=40, image_size=(150, 150))
    network(next(iter(photos))[0] / 127.5 - 1, training=True)
    network.save_weights(folder / 'made.weights.h5')
    (folder / 'made.weights.h5').rename(folder / 'inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5')
    run_document('docs/transfer_learning.md', folder, ('--max_number_of_steps=60',), shown=False)
    assert json.loads((folder / 'runs/recipe/eval/eval_results.json').read_text())['num_images'] == 20
    # Of 40 photos little can be learnt that holds for others; these it knows.
    settings = config.eval_config(dict(
        checkpoint_path=str(folder / 'runs/recipe'), eval_dir=str(folder), dataset_split_name='train'))
    results = evaluation.evaluate(settings, lambda line: None)
    assert results['num_images'] == 40 and results['Accuracy'] >= 0.75
    names = dict(tf.train.list_variables(str(folder / 'runs/recipe')))
    assert names['Head/fc1/weights'] == [7 * 7 * 768, 1024] and names['Head/Logits/weights'] == [1024, 1]
    assert not [name for name in names if 'Mixed_7' in name]
    loaded = keras.models.load_model(folder / 'recipe.keras')
    frozen = 'InceptionV3/Mixed_6e/Branch_0/Conv2d_0a_1x1/weights'
    kept = loaded.layers[0].layers[1].model.by_name[frozen]
    np.testing.assert_array_equal(kept, value(folder / 'runs/recipe', frozen))


@pytest.mark.slow
def test_extracting_features(folder):
    published_weights(folder / 'inception_v1.ckpt')
    run_document('docs/extracting_features.md', folder)
    index = json.loads((folder / 'shared/index.json').read_text())
    assert index['complete'] and [shard['num_images'] for shard in index['shards']] == [8, 8, 4]
    with PIL.Image.open(folder / 'maps.png') as picture:
        assert picture.width == 1400


@pytest.mark.slow
def test_coming_from_tf_slim(folder):
    run_document('docs/coming_from_tf_slim.md', folder)
    assert value(folder / 'runs/old', 'global_step') == 100


@pytest.mark.slow
def test_walkthrough(folder):
    run_document('docs/walkthrough.md', folder, (*QUICK, '--eval_every=1'), shown=False)
    report = (folder / 'runs/walk/best/eval/report.html').read_text()
    assert '<h1>mobilenet_v2 on image_folder validation</h1>' in report
    assert (folder / 'runs/why/1.gradcam.png').exists() and (folder / 'flowers.png').exists()


@pytest.mark.slow
def test_predicting(folder):
    run_document('docs/predicting.md', folder, shown=False)
    assert len((folder / 'found.csv').read_text().splitlines()) == 21
    assert len((folder / 'found.jsonl').read_text().splitlines()) == 20
    assert sorted(path.name for path in (folder / 'why').iterdir()) == [
        '1.gradcam.png', '1.rose.occlusion.png', '2.gradcam.png', '3.gradcam.png', '4.gradcam.png']


@pytest.mark.slow
def test_evaluating(folder):
    run_document('docs/evaluating.md', folder, shown=False)
    results = json.loads((folder / 'runs/flowers/eval/eval_results.json').read_text())
    named = set(re.findall(r'`(\w+)`', read('docs/evaluating.md').split('## Figures')[1].split('## Which')[0]))
    others = {'multilabel', 'subset_accuracy', 'roc_auc', 'average_precision', 'micro_precision', 'micro_recall',
              'micro_f1'}
    assert named - others <= set(results)
    assert {name for name, figure in results.items() if isinstance(figure, float)} <= named     # none goes untold
    drawn = set(re.findall(r'`(\w+\.png)`', read('docs/evaluating.md')))
    assert {path.name for path in (folder / 'runs/flowers/eval').glob('*.png')} <= drawn
    assert (folder / 'runs/every/best/best.json').exists()


@pytest.mark.slow
@pytest.mark.parametrize('peer', ['timm', 'keras'])
def test_coming_from_a_peer(folder, peer):
    run_document(f'docs/coming_from_{peer}.md', folder)


@pytest.mark.slow
def test_data(folder):
    run_document('docs/data.md', folder, shown=False)
    results = json.loads((folder / 'runs/list/eval/eval_results.json').read_text())
    assert results['num_images'] == 2       # a tenth of 20
    assert json.loads((folder / 'runs/blooms/ten_crops/eval_results.json').read_text())['num_images'] == 2
    with PIL.Image.open(folder / 'blooms.png') as picture:
        assert picture.width > 400


@pytest.mark.slow
def test_extending(folder):
    run_document('docs/extending.md', folder)
    assert value(folder / 'runs/tinynet', 'TinyNet/Mixed_2a/Branch_2/Conv2d_0b_1x1/weights').shape == (1, 1, 32, 32)
    assert value(folder / 'runs/birds', 'TinyNet/Logits/biases').shape == (2,)


@pytest.mark.slow
def test_exporting(folder):
    """The example without TensorFlow prepares the images as the project does, and its answers are the network's."""
    published_weights(folder / 'inception_v1.ckpt')
    names = ('names', 'images.tolist()', 'probabilities.tolist()', 'by_litert.tolist()', 'by_openvino.tolist()',
             "answer['probabilities'].numpy().tolist()")
    run_document('docs/exporting.md', folder, shown=False,
                 then=f"pathlib.Path('found.json').write_text(json.dumps([{', '.join(names)}]))")
    names, *values = json.loads((folder / 'found.json').read_text())
    images, by_onnx, by_litert, by_openvino, by_tensorflow = map(np.array, values)
    for image, path in zip(images, ('rose/1.jpg', 'tulip/2.jpg'), strict=True):
        photo = datasets.decode_image(tf.io.read_file(str(folder / 'flowers' / path)))
        prepared = preprocessing_factory.get_preprocessing('inception')(photo, 32, 32).numpy()
        assert np.abs(image - prepared).max() < 0.05    # two decoders of JPEG
    np.testing.assert_allclose(by_onnx, by_tensorflow, atol=0.02)
    np.testing.assert_allclose(by_openvino, by_onnx, atol=1e-4)
    np.testing.assert_allclose(by_litert, by_onnx, atol=0.25)
    assert set(names) <= {'daisy', 'dandelion', 'rose', 'sunflower', 'tulip'}
    body = json.loads((folder / 'body.json').read_text())
    assert base64.b64decode(body['instances'][1]['b64']) == (folder / 'flowers/tulip/2.jpg').read_bytes()
    frozen = tf.compat.v1.GraphDef.FromString((folder / 'runs/frozen.pb').read_bytes())
    assert 'InceptionV1/Logits/Predictions/Reshape_1' in [node.name for node in frozen.node]
