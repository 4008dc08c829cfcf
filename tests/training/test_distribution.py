import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from training import distribution
from training.config import ConfigError, TrainConfig

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 400      # seconds, of a machine that is busy
CHIEF, WORKER = 0, 1


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def cluster(**task):
    return json.dumps({'cluster': {'worker': ['127.0.0.1:1', '127.0.0.1:2']}, 'task': task})


@pytest.mark.parametrize('text, message', [
    ('{', 'TF_CONFIG is no cluster'),
    ('[]', 'TF_CONFIG is no cluster'),
    ('{"cluster": {"worker": ["a", "b"]}}', 'are not all host:port'),
    (cluster(type='worker', index='first'), 'TF_CONFIG is no cluster'),
    (cluster(type='worker', index=2), 'the task worker 2 is not in its cluster, which has worker 0 to 1'),
    (cluster(type='chief', index=0), 'the task chief 0 is not in its cluster'),
    (cluster(), 'the task None 0 is not in its cluster'),
    ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}', 'TF_CONFIG has the job ps'),
])
def test_a_broken_tf_config(text, message, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        distribution.make_strategy(TrainConfig(clone_on_cpu=True), pytest.fail)


@pytest.mark.parametrize('text', ['', '{}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'])
def test_a_cluster_of_one_machine_is_none(text, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', text)
    strategy = distribution.make_strategy(TrainConfig(clone_on_cpu=True), pytest.fail)
    assert (strategy.num_replicas_in_sync, distribution.num_workers(strategy)) == (1, 1)
    assert distribution.is_chief(strategy) and distribution.total(strategy, 3, True) == [3, 1]


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(('', 0))
        other.listen()
        hosts = f'127.0.0.1:{other.getsockname()[1]},127.0.0.1:1'
        with pytest.raises(ConfigError, match='should listen, cannot be had: Address already in use'):
            distribution.make_strategy(TrainConfig(worker_hosts=hosts, clone_on_cpu=True), pytest.fail)


def test_devices_that_are_not_there():
    with pytest.raises(ConfigError, match='--num_clones=64: there (is|are) [0-9]+ CPU'):
        distribution.make_strategy(TrainConfig(num_clones=64, clone_on_cpu=True))
    port = free_ports(1)[0]
    with pytest.raises(ConfigError, match=f'--tpu=grpc://127.0.0.1:{port}: it cannot be reached: .*refused'):
        distribution.make_strategy(TrainConfig(tpu=f'grpc://127.0.0.1:{port}'))


def test_the_errors_of_a_lost_machine_are_those_of_several_alone():
    one = tf.distribute.get_strategy()
    with pytest.raises(tf.errors.UnavailableError), distribution.noticing_loss(one):
        raise tf.errors.UnavailableError(None, None, 'gone')


# What two replicas do, in a process with logical devices of its own. It has one strategy of two, since those of several
# strategies take each other's messages.
REPLICAS = r'''
import json, sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
import tf_slim as slim
import tf_slim_compat
from training import data, distribution, evaluation
from training.config import EvalConfig, TrainConfig
from training.trainer import Trainer, make_model

found = {}

strategies = {count: distribution.make_strategy(TrainConfig(num_clones=count, clone_on_cpu=True)) for count in (1, 2)}

def numbers(shards, shard):
    return tf.data.Dataset.range(10**6).shard(shards, shard).batch(4, drop_remainder=True)

strategy = strategies[2]
batches = iter(distribution.distribute(strategy, numbers))
found['positions'] = [np.concatenate(strategy.experimental_local_results(next(batches))).tolist() for _ in range(2)]

# The first channel is far from 0, as its moving mean knows: sums of squares alone would lose digits.
images = np.random.default_rng(0).normal([30, 3, -3], 2, [6, 5, 5, 3]).astype('float32')
weights = np.random.default_rng(1).normal(size=images.shape).astype('float32')

def normalized(replicas, shape, fused):
    strategy = strategies[replicas]
    with strategy.scope():
        moving = dict(trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                      aggregation=tf.VariableAggregation.MEAN)
        variables = dict(
            gamma=tf.Variable([1.0, 2, 3]), beta=tf.Variable([0.1, 0.2, 0.3]),
            moving_mean=tf.Variable([30.0, 0, 0], **moving), moving_variance=tf.Variable(tf.ones(3), **moving))

    def step(x, w):
        getter = lambda get, name, **unused: variables[name.split('/')[-1]]
        with tf_slim_compat.synchronized_batch_norm(), tf.compat.v1.variable_scope('', custom_getter=getter), \
                tf.GradientTape() as tape:
            tape.watch(x)
            y = slim.batch_norm(x, scale=True, fused=fused, decay=0.9)
            loss = tf.reduce_sum(w * (y + w * y ** 2))
        dx, dgamma, dbeta = tape.gradient(loss, [x, variables['gamma'], variables['beta']])
        summed = tf.distribute.get_replica_context().all_reduce('SUM', [dgamma, dbeta])
        return y, dx, summed

    def parts(value):
        parts = np.split(value.reshape(shape), replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group]))

    args = parts(images), parts(weights)
    y, dx, summed = tf.function(lambda *args: strategy.run(step, args), autograph=False)(*args)
    local = strategy.experimental_local_results
    statistics = distribution.reader(strategy, [variables['moving_mean'], variables['moving_variance']])()
    return [np.concatenate(local(y)).tolist(), np.concatenate(local(dx)).tolist(),
            *[local(value)[-1].numpy().tolist() for value in summed], *[value.numpy().tolist() for value in statistics]]

for name, shape, fused in (('fused', [6, 5, 5, 3], None), ('plain', [6, 5, 5, 3], False), ('flat', [150, 3], None)):
    found['norm ' + name] = [normalized(replicas, shape, fused) for replicas in (1, 2)]

def trained(replicas, **flags):
    tf.random.set_seed(0)
    config = TrainConfig(num_clones=replicas, batch_size=12 // replicas, clone_on_cpu=True, dataset_name='digits',
                         precision='float32', optimizer='momentum', learning_rate=0.001, **flags)
    strategy, dataset, size = strategies[replicas], data.open_dataset(config), config.train_image_size
    with strategy.scope():
        trainer = Trainer(config, dataset, size, data.training_batches(config, dataset, size).element_spec[0].shape[-1])
    batches = iter(distribution.distribute(strategy, lambda shards, shard: data.training_batches(
        config, dataset, size, 0, shards, shard)))
    step = tf.function(lambda batch: strategy.reduce('SUM', strategy.run(trainer.step, batch), axis=None),
                       autograph=False)
    losses = [float(step(next(batches))[0]) for _ in range(4)]
    values = distribution.reader(strategy, list(trainer.model.by_name.values()))()
    return losses, [value.numpy().ravel().tolist() for value in values]

# Cut, they have a classifier without dropout; and few layers, since deep ones enlarge what rounding leaves.
CUT = dict(model_name='mobilenet_v1_025', final_endpoint='Conv2d_3_pointwise', train_image_size=32)
found['no norm'] = [trained(replicas, model_name='lenet', final_endpoint='pool2', train_image_size=28)
                    for replicas in (1, 2)]
found['synchronized'] = [trained(replicas, **CUT, sync_batch_norm=True) for replicas in (1, 2)]
found['not synchronized'] = trained(2, **CUT)

config = EvalConfig(dataset_name='digits', model_name='lenet', dataset_split_name='test', batch_size=150)
dataset = data.open_dataset(config)
found['measured'] = []
tf.random.set_seed(0)
with strategies[1].scope():
    values = [variable.numpy() for variable in make_model(config, dataset, 28, 1).variables]
for replicas in (1, 2):
    strategy = strategies[replicas]
    with strategy.scope():
        model = make_model(config, dataset, 28, 1)
        for variable, value in zip(model.variables, values):
            variable.assign(value)
    found['measured'].append(evaluation.measure(config, model, dataset, strategy))
found['test images'] = dataset.num_samples
json.dump(found, open(sys.argv[1], 'w'), default=float)
'''


@pytest.fixture(scope='module')
def replicas(tmp_path_factory):
    path = tmp_path_factory.mktemp('replicas') / 'found.json'
    environment = {**os.environ, 'PYTHONPATH': ROOT, 'TF_CPP_MIN_LOG_LEVEL': '3'}
    done = subprocess.run([sys.executable, '-c', REPLICAS, str(path)], capture_output=True, text=True, env=environment,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(path.read_text())


def test_each_step_takes_the_next_positions(replicas):
    assert replicas['positions'] == [list(range(8)), list(range(8, 16))]


@pytest.mark.parametrize('kind', ['fused', 'plain', 'flat'])
def test_synchronized_batch_norm_is_that_of_the_whole_batch(replicas, kind):
    """Outputs, gradients and moving statistics: for one replica TensorFlow's own op, where it has one."""
    one, two = replicas[f'norm {kind}']
    for mine, whole in zip(two, one, strict=True):
        np.testing.assert_allclose(mine, whole, rtol=2e-5, atol=2e-5 * np.abs(whole).max())


def largest_difference(mine, other):
    return max(np.abs(np.subtract(a, b)).max() / max(np.abs(b).max(), 1e-2) for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize('kind', ['no norm', 'synchronized'])
def test_two_replicas_are_one_with_twice_the_batch(replicas, kind):
    (losses, weights), (other_losses, other_weights) = replicas[kind]
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    assert largest_difference(weights, other_weights) < 2e-3


def test_unsynchronized_batch_norm_is_not(replicas):
    """So that the test above can fail."""
    assert largest_difference(replicas['not synchronized'][1], replicas['synchronized'][0][1]) > 2e-2


def test_replicas_evaluate_each_image_once(replicas):
    one, two = replicas['measured']
    assert one['num_images'] == two['num_images'] == replicas['test images']
    assert 0 < replicas['test images'] % 300 < 150, 'at the end one replica has a part of a batch, the other none'
    assert (two['Accuracy'], two['Recall_5']) == (one['Accuracy'], one['Recall_5'])
    assert two['loss'] == pytest.approx(one['loss'], rel=1e-5)


class Machines:
    """Processes of the program on this machine, each a machine of the cluster."""

    def __init__(self, count, train_dir, *flags):
        self.hosts = ','.join(f'127.0.0.1:{port}' for port in free_ports(count)) if count > 1 else None
        self.train_dir, self.flags, self.logs = train_dir, flags, [train_dir.parent / f'{train_dir.name}.{task}.log'
                                                                  for task in range(count)]
        self.processes = [self.start(task) for task in range(count)]

    def start(self, task):
        hosts = [f'--worker_hosts={self.hosts}', f'--task={task}'] if self.hosts else []
        with open(self.logs[task], 'a') as log:
            return subprocess.Popen(
                [sys.executable, os.path.join(ROOT, 'train_image_classifier.py'), f'--train_dir={self.train_dir}',
                 '--dataset_name=digits', '--precision=float32', '--optimizer=momentum', '--clone_on_cpu',
                 '--learning_rate=0.001', *hosts, *self.flags], stdout=log, stderr=log)

    def kill_and_start(self, task):
        assert self.processes[task].poll() is None, self.log()
        self.processes[task].send_signal(signal.SIGKILL)
        self.processes[task].wait()
        self.processes[task] = self.start(task)

    def wait_for_checkpoint(self, step):
        began = time.monotonic()
        while not any(int(path.stem.split('-')[1]) >= step for path in self.train_dir.glob('model.ckpt-*.index')):
            assert time.monotonic() - began < PATIENCE, self.log()
            assert all(process.poll() is None for process in self.processes), self.log()
            time.sleep(0.02)

    def wait(self):
        return [process.wait(PATIENCE) for process in self.processes]

    def log(self):
        return '\n'.join(f'== {path.name}\n{path.read_text()[-3000:]}' for path in self.logs)


@pytest.fixture
def machines():
    started = []

    def start(*args):
        started.append(Machines(*args))
        return started[-1]

    yield start
    for one in started:
        for process in one.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def values(train_dir, step):
    reader = tf.train.load_checkpoint(str(train_dir / f'model.ckpt-{step}'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_close(mine, other, tolerance):
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        if not name.endswith('Momentum'):
            assert largest_difference([value], [other[name]]) < tolerance, name


LENET = '--model_name=lenet', '--final_endpoint=pool2', '--max_number_of_steps=6'
MOBILENET = ('--model_name=mobilenet_v1_025', '--final_endpoint=Conv2d_3_pointwise', '--train_image_size=32',
             '--sync_batch_norm', '--moving_average_decay=0.9', '--keep_checkpoints=50', '--log_every_n_steps=5')


@pytest.mark.slow
def test_four_machines_are_one(machines, tmp_path):
    four = machines(4, tmp_path / 'four', *LENET, '--batch_size=4')
    one = machines(1, tmp_path / 'one', *LENET, '--batch_size=16')
    assert four.wait() == [0] * 4, four.log()
    assert one.wait() == [0], one.log()
    assert_close(values(tmp_path / 'four', 6), values(tmp_path / 'one', 6), 1e-4)
    assert '16 images a step (4 x 4 replicas)' in four.logs[CHIEF].read_text()
    assert 'loss' not in four.logs[WORKER].read_text(), 'the chief alone tells how it goes'


@pytest.mark.slow
def test_two_machines_that_are_stopped_killed_and_started_again(machines, tmp_path):
    """They end with the bits of two that were not, and with the weights of one."""
    few = *MOBILENET, '--max_number_of_steps=4'
    one = machines(1, tmp_path / 'one', *few, '--batch_size=8')
    flags = *MOBILENET, '--batch_size=4', '--max_number_of_steps=40', '--save_interval_steps=4'
    sound = machines(2, tmp_path / 'sound', *flags)
    assert (one.wait(), sound.wait()) == ([0], [0, 0]), one.log() + sound.log()
    assert_close(values(tmp_path / 'sound', 4), values(tmp_path / 'one', 4), 2e-3)

    harmed = machines(2, tmp_path / 'harmed', *flags)
    harmed.wait_for_checkpoint(4)
    harmed.processes[WORKER].send_signal(signal.SIGTERM)
    assert harmed.wait() == [128 + signal.SIGTERM] * 2, harmed.log()
    harmed.processes = [harmed.start(task) for task in (CHIEF, WORKER)]
    harmed.wait_for_checkpoint(12)
    harmed.kill_and_start(WORKER)
    harmed.wait_for_checkpoint(20)
    harmed.kill_and_start(CHIEF)
    assert harmed.wait() == [0, 0], harmed.log()
    ends = [values(tmp_path / name, 40) for name in ('harmed', 'sound')]
    assert ends[0].keys() == ends[1].keys()
    for name in ends[0]:
        np.testing.assert_array_equal(ends[0][name], ends[1][name], err_msg=name)
    assert 'Starting again, to go on from the last checkpoint' in harmed.logs[CHIEF].read_text()
