"""tf-slim 1.1.0 on the installed TensorFlow: its own tests, its own names, and programs as its users write them."""
import ast
import contextlib
import gc
import importlib
import os
import pathlib
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tensorflow.python.ops.variable_scope import EagerVariableStore

import tf_slim_compat

v1 = tf.compat.v1
ROOT = pathlib.Path(tf_slim_compat.__file__).parent
SLIM = pathlib.Path(slim.__file__).parent


def python(*arguments):
    paths = [str(ROOT), str(pathlib.Path(__file__).parent), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths).strip(os.pathsep), 'TF_CPP_MIN_LOG_LEVEL': '3',
             'CUDA_VISIBLE_DEVICES': ''})


def names_of_modules(tree):
    """local name -> object, for all that a file imports from tensorflow and numpy."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('tensorflow'):
            for alias in node.names:
                try:
                    value = importlib.import_module(f'{node.module}.{alias.name}')
                except ImportError:
                    value = getattr(importlib.import_module(node.module), alias.name)
                found[alias.asname or alias.name] = value
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ('tensorflow.compat.v1', 'numpy'):
                    found[alias.asname] = v1 if 'tensorflow' in alias.name else np
    return found


def test_every_name_that_tf_slim_reads_is_there():
    missing, count = set(), 0
    for path in SLIM.rglob('*.py'):
        if path.name.endswith('_test.py'):
            continue
        tree = ast.parse(path.read_text(encoding='utf-8'))
        modules = names_of_modules(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = modules.get(node.value.id)
                if isinstance(module, types.ModuleType):
                    count += 1
                    try:
                        getattr(module, node.attr)
                    except (AttributeError, ImportError):
                        missing.add(f'{node.value.id}.{node.attr}')
    assert count > 1000                                         # the scan does see tf-slim
    # slim.batch_norm no longer asks for the layer of Keras 2.
    assert missing <= {'normalization_layers.BatchNormalization'}


OWN_TESTS = {                                                   # file or folder -> pytest's -k
    'layers/layers_test.py': 'BatchNorm or Conv or FC or Pool', 'learning_test.py': 'test',
    'training/training_test.py': 'test', 'ops': 'test', 'data': 'test', 'evaluation_test.py': 'not Timeout'}
# What is wrong is in the test: the name of a device, ndarray.tostring, an argument of tfdbg's.
BROKEN = 'testVariableWithReplicaDeviceSetter', 'RawEncoding', 'RAWEncoding', 'testAdditionalHooks'


def test_tf_slims_own_tests(tmp_path):
    selected = ' or '.join(f"({path.split('/')[-1]} and ({words}))" for path, words in OWN_TESTS.items())
    result = python(
        '-m', 'pytest', '-p', 'tf_slim_harness', '-o', 'addopts=', '-q', '-p', 'no:cacheprovider', '-o',
        'python_files=*_test.py', '-W', 'ignore', '--rootdir', str(tmp_path), '--tb', 'short', '-k',
        f"({selected}) and not ({' or '.join(BROKEN)})",
        *(str(SLIM / path) for path in OWN_TESTS))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    passed = re.findall(r'(\d+) passed', result.stdout)
    assert passed and int(passed[-1]) > 300, result.stdout[-300:]


def test_tf_slim_may_come_first_and_old_layers_are_quiet():
    program = '''
import warnings
from tf_slim.layers.layers import batch_norm, conv2d, dropout, flatten
from tf_slim import arg_scope
import tensorflow.compat.v1 as tf
with arg_scope([batch_norm], decay=0.5, updates_collections=None):
    import tf_slim_compat
    net = flatten(dropout(conv2d(tf.ones([2, 8, 8, 3]), 4, 3, normalizer_fn=batch_norm)))
assert net.shape == (2, 256)
with tf.Graph().as_default(), arg_scope([batch_norm], decay=0.5, updates_collections=None), tf.Session() as session:
    outputs = batch_norm(tf.constant([[1.], [3.]]))
    session.run(tf.global_variables_initializer())
    session.run(outputs)
    print(*(session.run(v)[0] for v in tf.global_variables()))
warnings.warn('`tf.layers.flatten` is deprecated, says someone else')
'''
    result = python('-c', program)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == ['0.0', '1.0', '1.5']       # beta, mean 2 and variance 2 by halves
    assert result.stderr.count('Warning') == 1 and 'someone else' in result.stderr


def test_what_is_in_place_is_left_alone(monkeypatch):
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import array_ops
    ours = slim.batch_norm.__wrapped__
    layers = importlib.import_module('tf_slim.layers.layers')
    mine, layer = object(), object()
    monkeypatch.setattr(ops, 'Tensor', mine)
    monkeypatch.setattr(array_ops, 'stack', mine)
    monkeypatch.setattr(layers, 'normalization_layers', types.SimpleNamespace(BatchNormalization=layer))
    monkeypatch.setattr(tf_slim_compat, 'batch_norm', layer)
    tf_slim_compat._repair()
    assert ops.Tensor is mine and array_ops.stack is mine and layers.normalization_layers.BatchNormalization is layer
    assert slim.batch_norm.__wrapped__ is ours


def test_a_tensorflow_that_lacks_something_is_named():
    with pytest.raises(ImportError, match=f'no tensorflow.python.nowhere.Name with TensorFlow {tf.__version__}: use'):
        tf_slim_compat._private('tensorflow.python.nowhere', 'Name')


def pass_on(getter, *args, **kwargs):
    return getter(*args, **kwargs)


def test_holds_variables():
    seen = {}

    def look(name):
        seen[name] = tf_slim_compat.holds_variables()
        return tf.constant(0)

    look('eager')
    tf.function(lambda: look('function'))()
    with v1.variable_scope('scope', custom_getter=pass_on):
        look('getter')
        tf.function(lambda: look('function in getter'))()
        tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).run(lambda: look('replica in getter'))
    with EagerVariableStore().as_default():
        look('store')
        tf.function(lambda: look('function in store'))()
    v1.wrap_function(lambda: look('wrap_function'), [])
    with tf.Graph().as_default():
        look('graph')
        tf.cond(v1.placeholder(tf.bool, []), lambda: look('branch in graph'), lambda: tf.constant(1))
        tf.data.Dataset.range(1).map(lambda _: look('map in graph'))
    assert [name for name, held in seen.items() if not held] == ['eager', 'function', 'branch in graph', 'map in graph']


class Getter:
    """Variables in a dictionary, served in the type that is asked for; the regularizers, by name."""

    def __init__(self):
        self.by_name, self.regularizers = {}, {}

    def __call__(self, getter, name, shape=None, dtype=tf.float32, initializer=None, trainable=True, regularizer=None,
                 **unused):
        regularizer = regularizer or tf_slim_compat.layer_regularizer()
        if regularizer:
            self.regularizers[name] = regularizer
        if name not in self.by_name:
            with tf.init_scope():
                self.by_name[name] = tf.Variable(lambda: initializer(shape, dtype=tf.float32), trainable=trainable)
        return tf.cast(self.by_name[name], dtype)


def net(inputs, getter):
    decay = {letter: slim.l2_regularizer(scale) for letter, scale in zip('wbn', (1., 2., 3.), strict=True)}
    with v1.variable_scope('net', custom_getter=getter, reuse=v1.AUTO_REUSE), slim.arg_scope(
            [slim.conv2d, slim.fully_connected], weights_regularizer=decay['w'], variables_collections=['mine'],
            outputs_collections='ends'):
        inputs = slim.conv2d(inputs, 4, 3, scope='conv', normalizer_fn=slim.batch_norm, normalizer_params={
            'is_training': False, 'variables_collections': ['mine'], 'param_regularizers': {'beta': decay['n']}})
        return slim.fully_connected(slim.flatten(inputs), 2, scope='fc', biases_regularizer=decay['b']), decay


@pytest.mark.parametrize('mode', ['eager', 'function'])
@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_layers_with_a_getter(mode, dtype):
    getter, x, decay = Getter(), tf.ones([2, 4, 4, 3], dtype), {}

    def call(x):
        outputs, used = net(x, getter)
        decay.update(used)
        return outputs

    layer = call if mode == 'eager' else tf.function(call)
    assert layer(x).dtype == dtype and layer(x).dtype == dtype
    assert getter.regularizers == {'net/conv/weights': decay['w'], 'net/conv/BatchNorm/beta': decay['n'],
                                   'net/fc/weights': decay['w'], 'net/fc/biases': decay['b']}
    assert tf_slim_compat.layer_regularizer() is None


def test_an_eager_loop_leaves_nothing_behind():
    getter, x = Getter(), tf.ones([2, 4, 4, 3])

    def alive():
        gc.collect()
        graph = v1.get_default_graph()
        collected = sum(len(v1.get_collection(key)) for key in graph.get_all_collection_keys() if isinstance(key, str))
        return collected, sum(isinstance(thing, tf.Tensor) for thing in gc.get_objects())

    with contextlib.ExitStack() as stack:
        stack.callback(v1.get_default_graph().clear_collection, 'ends')
        net(x, getter)
        before = alive()
        for _ in range(10):
            net(x, getter)
        assert alive() == before
        assert list(slim.utils.convert_collection_to_dict('ends')) == ['net/conv', 'net/fc']
        assert v1.get_collection('ends') == []


def test_arg_scopes_are_of_their_thread():
    decays, turn = [], threading.Barrier(2)

    @slim.add_arg_scope
    def layer(decay=0):
        decays.append(decay)

    def replica(decay):
        layer()                                                 # what the thread was started under
        with slim.arg_scope([layer], decay=decay):
            turn.wait()
            turn.wait()
            layer()

    with slim.arg_scope([layer], decay=-1):
        threads = [threading.Thread(target=replica, args=[decay]) for decay in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        layer()
    assert decays[:2] == [-1, -1] and sorted(decays[2:4]) == [1, 2] and decays[4] == -1


def write_records(path, images):
    def strings(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for label, image in enumerate(images):
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                'image/encoded': strings(tf.io.encode_png(image).numpy()), 'image/format': strings(b'png'),
                'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            })).SerializeToString())


def test_a_program_of_2017(tmp_path):
    """DatasetDataProvider with queues, a network with batch norm, slim.learning.train, slim.evaluation, a summary."""
    images = np.zeros([4, 8, 8, 3], np.uint8)
    images[np.arange(4), :, :, np.arange(4) % 3] = 60 * (1 + np.arange(4)).reshape(4, 1, 1)
    write_records(tmp_path / 'colours.tfrecord', images)

    def batch():
        decoder = slim.tfexample_decoder.TFExampleDecoder(
            {'image/encoded': tf.io.FixedLenFeature([], tf.string),
             'image/format': tf.io.FixedLenFeature([], tf.string),
             'image/class/label': tf.io.FixedLenFeature([], tf.int64)},
            {'image': slim.tfexample_decoder.Image(shape=[8, 8, 3]),
             'label': slim.tfexample_decoder.Tensor('image/class/label')})
        dataset = slim.dataset.Dataset(str(tmp_path / '*.tfrecord'), v1.TFRecordReader, decoder, 4, {}, num_classes=4)
        provider = slim.dataset_data_provider.DatasetDataProvider(
            dataset, num_readers=2, common_queue_capacity=16, common_queue_min=4, shuffle=False)
        image, label = provider.get(['image', 'label'])
        queue = slim.prefetch_queue.prefetch_queue(v1.train.batch([v1.to_float(image) / 255, label], 4))
        return queue.dequeue()

    def logits(images, is_training):
        with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, weights_regularizer=slim.l2_regularizer(1e-4),
                            normalizer_params={'is_training': is_training, 'decay': .5}):
            features = slim.max_pool2d(slim.conv2d(images, 8, 3), 2)
        return slim.fully_connected(slim.flatten(features), 4, activation_fn=None)

    with tf.Graph().as_default():
        v1.set_random_seed(1)
        images_batch, labels = batch()
        slim.losses.softmax_cross_entropy(logits(images_batch, True), slim.one_hot_encoding(labels, 4))
        optimizer = v1.train.AdamOptimizer(.01)
        train_op = slim.learning.create_train_op(slim.losses.get_total_loss(), optimizer, summarize_gradients=True)
        slim.model_analyzer.analyze_vars(slim.get_model_variables())
        loss = slim.learning.train(train_op, str(tmp_path / 'logs'), number_of_steps=40, log_every_n_steps=0,
                                   save_summaries_secs=1)
    assert loss < .2                                            # from log(4)
    assert any('tfevents' in path.name for path in (tmp_path / 'logs').iterdir())
    with tf.Graph().as_default():
        images_batch, labels = batch()
        names_to_values, names_to_updates = slim.metrics.aggregate_metric_map({
            'accuracy': slim.metrics.streaming_accuracy(tf.argmax(logits(images_batch, False), 1), labels)})
        accuracy = slim.evaluation.evaluate_once(
            '', tf.train.latest_checkpoint(str(tmp_path / 'logs')), str(tmp_path / 'eval'), num_evals=3,
            eval_op=list(names_to_updates.values()), final_op=names_to_values['accuracy'])
    assert accuracy == 1.
