"""A TF1 and a TF2 program on the same network and images: both train a step, and each reads the other's checkpoint."""
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets import dataset_factory, decode_image
from nets import checkpoints, create_model
from preprocessing import preprocessing_factory

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 32

# As a user of TF-Slim wrote it, but for the first import. It trains one step; then it reads the checkpoint named
# on its command line. Arguments: its own folder, the other program's checkpoint, the file of its figures.
TF1_PROGRAM = '''
import sys

import tf_slim_compat
import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim

from datasets import dataset_factory
from nets import nets_factory
from preprocessing import preprocessing_factory

tf.disable_v2_behavior()
train_dir, other_checkpoint, figures = sys.argv[1:]

dataset = dataset_factory.get_dataset('digits', 'train', None)
provider = slim.dataset_data_provider.DatasetDataProvider(
    dataset, num_readers=1, shuffle=False, common_queue_capacity=20, common_queue_min=1)
image, label = provider.get(['image', 'label'])
image = preprocessing_factory.get_preprocessing('lenet', is_training=True)(image, 32, 32)
images, labels = tf.train.batch([image, label], batch_size=4, num_threads=1, capacity=8)

network_fn = nets_factory.get_network_fn('inception_v1', 10, weight_decay=0.00004, is_training=True)
logits, end_points = network_fn(images)
slim.losses.softmax_cross_entropy(logits, slim.one_hot_encoding(labels, 10))
optimizer = tf.train.MomentumOptimizer(0.01, 0.9, name='Momentum')
train_op = slim.learning.create_train_op(slim.losses.get_total_loss(), optimizer)
print('loss', slim.learning.train(train_op, train_dir, number_of_steps=1, log_every_n_steps=1))

with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(tf.float32, [None, 32, 32, 1])
    logits, _ = nets_factory.get_network_fn('inception_v1', 10)(images)
    saver = tf.train.Saver(slim.get_variables_to_restore())
    given, found = np.load(figures)['images'], {}
    for name, path in ('own', tf.train.latest_checkpoint(train_dir)), ('other', other_checkpoint):
        saver.restore(session, path)
        found[name] = session.run(logits, {images: given})
np.savez(figures, images=given, **found)
'''


def first_batch():
    """The first four digits, as the TF1 program's queue gives them."""
    preprocess = preprocessing_factory.get_preprocessing('lenet', is_training=True)
    elements = list(dataset_factory.get_dataset('digits', 'train').as_tf_data().take(4))
    images = [preprocess(decode_image(element['image'], 1), SIZE, SIZE) for element in elements]
    return tf.stack(images), tf.stack([element['label'] for element in elements])


def tf2_step(model, images, labels):
    """One step of gradient descent, eagerly; returns the loss."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    trained = model.trainable_variables
    for variable, gradient in zip(trained, tape.gradient(loss, trained), strict=True):
        variable.assign_sub(0.01 * gradient)
    return float(loss)


@pytest.fixture(scope='module')
def model():
    return create_model('inception_v1', num_classes=10, image_size=SIZE, channels=1)


@pytest.fixture(scope='module')
def programs(model, tmp_path_factory):
    """Both programs, the TF2 one first: what they left, by name."""
    folder = tmp_path_factory.mktemp('programs')
    images, labels = first_batch()
    before = {name: variable.numpy() for name, variable in model.by_name.items()}
    loss = tf2_step(model, images, labels)
    after = {name: variable.numpy() for name, variable in model.by_name.items()}
    checkpoint = checkpoints.save(str(folder / 'tf2'), 1, {**after, 'global_step': np.int64(1)}, keep=1)
    logits = model(images).numpy()
    np.savez(folder / 'figures.npz', images=images)
    done = subprocess.run([sys.executable, '-c', TF1_PROGRAM, folder / 'tf1', checkpoint, folder / 'figures.npz'],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(before=before, after=after, loss=loss, images=images, labels=labels, logits=logits,
                train_dir=str(folder / 'tf1'), output=done.stdout, figures=dict(np.load(folder / 'figures.npz')))


def test_the_tf2_program_trains_a_step(model, programs):
    assert np.isfinite(programs['loss'])
    assert all(np.any(programs['before'][name] != value) for name, value in programs['after'].items())


def test_the_tf1_program_trains_a_step(programs):
    assert np.isfinite(float(programs['output'].split('loss ')[1].split()[0]))
    reader = tf.train.load_checkpoint(programs['train_dir'])
    assert reader.get_tensor('global_step') == 1
    assert np.any(reader.get_tensor('InceptionV1/Mixed_3b/Branch_1/Conv2d_0b_3x3/weights/Momentum') != 0)
    assert np.any(reader.get_tensor('InceptionV1/Mixed_5c/Branch_0/Conv2d_0a_1x1/BatchNorm/moving_mean') != 0)


def test_the_tf1_program_reads_the_tf2_programs_checkpoint(programs):
    np.testing.assert_allclose(programs['figures']['other'], programs['logits'], rtol=1e-4, atol=1e-4)


def test_the_tf2_program_reads_the_tf1_programs_checkpoint_and_goes_on(model, programs):
    images, own = programs['images'], programs['figures']['own']
    assert np.abs(programs['logits'] - own).max() > 1e-2  # so the next line is not met by chance
    assert checkpoints.restore(checkpoints.Reader(programs['train_dir']), model.by_name) == []
    np.testing.assert_allclose(model(images), own, rtol=1e-4, atol=1e-4)
    assert np.isfinite(tf2_step(model, images, programs['labels']))
