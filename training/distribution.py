"""Replicas: one device, several, several machines, a TPU; what they read, agree on, and do when a machine is lost.

All are tf.distribute's strategies. Replicas are synchronous: a step is one step of all of them, on the sum of their
gradients. Images are handed out by position, so that a step uses the same ones however many replicas share it.
"""
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from training.config import ConfigError, TrainConfig
from training.console import RunError

_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
_SECONDS_TO_NOTICE = 3      # until every machine has seen that one is gone


def _print(line):
    print(line, flush=True)     # who waits for a machine looks at a log file


class WorkerLost(RunError):
    """Another machine died or cannot be reached; `restart` goes on from the last checkpoint once it is back."""


class _Cluster(NamedTuple):
    spec: dict[str, list[str]]
    job: str
    task: int


def make_strategy(config: TrainConfig, say: Callable[[str], None] = _print) -> tf.distribute.Strategy:
    """The strategy that a config names: for one device or `num_clones`, for `worker_hosts` or TF_CONFIG, for a TPU.

    For several machines it must come before anything else makes TensorFlow open its devices, be it a tensor; listing
    the physical devices is fine. It returns when all machines are there.

    Args:
      config: see `training.config`.
      say: receives the line that tells what is waited for.

    Raises:
      ConfigError: there are not so many devices, TF_CONFIG is wrong, the port is taken, the TPU cannot be reached.
      WorkerLost: a machine went away again while the others were waited for.
    """
    if config.tpu:
        return _tpu(config.tpu)
    cluster, kind = _cluster(config), device_kind(config)
    if cluster is None:
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
    else:       # a logical device would start TensorFlow, which must know the cluster by then
        devices = [device.name for device in tf.config.list_physical_devices(kind)]
    if config.num_clones > len(devices):
        raise ConfigError(
            f'--num_clones={config.num_clones}: there {"is" if len(devices) == 1 else "are"} {len(devices)} {kind}.')
    if cluster is not None:
        return _several_machines(cluster, kind, config.num_clones, say)
    if config.num_clones == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices[:config.num_clones])


def device_kind(config: TrainConfig) -> str:
    """What a replica runs on: CPU, GPU or TPU."""
    if config.tpu:
        return 'TPU'
    return 'CPU' if config.clone_on_cpu or not tf.config.list_physical_devices('GPU') else 'GPU'


def _tpu(name):
    try:
        if name.startswith('grpc://'):      # TensorFlow would try for ever
            host, _, port = name.removeprefix('grpc://').rpartition(':')
            socket.create_connection((host, int(port)), timeout=30).close()
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        if name != 'local':
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:      # whatever the cloud's client, the network or TensorFlow finds
        raise ConfigError(f'--tpu={name}: it cannot be reached: {_first_line(error)}') from None


def _cluster(config):
    """The cluster of several machines that this one is of, or None."""
    hosts = config.workers()
    if hosts:
        return _Cluster({'worker': hosts}, 'worker', config.task) if len(hosts) > 1 else None
    text = os.environ.get('TF_CONFIG')
    if not text:
        return None
    try:
        found = json.loads(text)
        spec = {job: list(hosts) for job, hosts in found.get('cluster', {}).items()}
        job, task = found.get('task', {}).get('type'), int(found.get('task', {}).get('index', 0))
        hosts = [host for hosts in spec.values() for host in hosts]
        if not all(host.rpartition(':')[0] and host.rpartition(':')[2].isdigit() for host in hosts):
            raise ValueError(f'its machines {hosts} are not all host:port')
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f'TF_CONFIG is no cluster ({error}); it must be like {{"cluster": {{"worker": ["host:port", '
                          '"host:port"]}, "task": {"type": "worker", "index": 0}}.') from None
    if len(hosts) < 2:
        return None
    for name in spec:
        if name not in ('chief', 'worker'):
            raise ConfigError(f'TF_CONFIG has the job {name}: only chief and worker take part in a training.')
    if job not in spec or not 0 <= task < len(spec[job]):
        raise ConfigError(f'TF_CONFIG: the task {job} {task} is not in its cluster, which has '
                          + ', '.join(f'{name} 0 to {len(hosts) - 1}' for name, hosts in spec.items()) + '.')
    return _Cluster(spec, job, task)


def _several_machines(cluster, kind, num_clones, say):
    if kind == 'CPU' and num_clones > 1:
        raise ConfigError(f'--num_clones={num_clones}: on CPUs each machine of several has one replica; start more '
                          'processes instead, each with a port and a --task of its own.')
    own = cluster.spec[cluster.job][cluster.task]
    _check_port(own)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.spec), task_type=cluster.job, task_id=cluster.task, rpc_layer='grpc',
        num_accelerators={'GPU': num_clones} if kind == 'GPU' else {})
    how = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=how.NCCL if kind == 'GPU' else how.RING)
    machines = sum(map(len, cluster.spec.values()))
    say(f'This is {cluster.job} {cluster.task} at {own}; waiting for all {machines} machines of the cluster.')
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except tf.errors.OpError as error:
        if 'gRPC server' in error.message:
            raise ConfigError(f'{own} cannot be listened at: {_first_line(error)}') from None
        raise WorkerLost(f'The machines of the cluster did not come together: {_first_line(error)}') from None


def _check_port(own):
    # gRPC would share a port with another gRPC server, and each would get some of the messages.
    port = int(own.rpartition(':')[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f'{own}, where this machine should listen, cannot be had: '
                              f'{getattr(error, "strerror", None) or error}.') from None


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """The machines that take part."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(map(len, strategy.cluster_resolver.cluster_spec().as_dict().values()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this machine is the one that writes checkpoints, logs and configs."""
    if num_workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    first = 'chief' if 'chief' in resolver.cluster_spec().jobs else 'worker'
    return (resolver.task_type, resolver.task_id) == (first, 0)


def distribute(strategy: tf.distribute.Strategy, make_batches: Callable[[int, int], tf.data.Dataset],
               endless: bool = True):
    """The batches of all replicas, each on its device before it is needed.

    A machine's batches go to its replicas in turn. With batches of B images and N replicas on W machines, `pipeline.
    make_batches(num_shards=W, shard_index=w)` makes each step use exactly the positions [step * N * B, (step + 1) * N
    * B) of the data's order. Its `start_step`, which counts batches of one shard, is then step * N / W.

    Args:
      strategy: from `make_strategy`.
      make_batches: from (number of machines, this one's number) to batches of one replica's size.
      endless: for training. Otherwise the data ends when no replica has any more; one that has none before gets a
        batch of 0 images.

    Returns:
      What to iterate over; each element goes to `strategy.run` as it is.
    """
    def of_this_machine(context):
        batches = make_batches(context.num_input_pipelines, context.input_pipeline_id)
        if not endless:
            return batches
        # Else the machines would ask each other before every step whether all have data.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(of_this_machine)


def reader(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> Callable[[], list[tf.Tensor]]:
    """A function that reads variables, and gives every replica what it read.

    Moving statistics differ between replicas, and are averaged where they are read. On several machines that is
    communication, so that all must call it at the same step, even where only the chief writes. As each replica has
    the mean from then on, a training that is resumed goes on from what the checkpoint holds, as one that was not
    stopped does, and evaluation on any replica is that of the checkpoint.
    """
    def read():
        values = [tf.convert_to_tensor(variable) for variable in variables]
        for variable, value in zip(variables, values, strict=True):
            if getattr(variable, 'synchronization', None) == tf.VariableSynchronization.ON_READ:
                variable.assign(value)
        return values

    return tf.function(read, autograph=False) if strategy.num_replicas_in_sync > 1 else read


def total(strategy: tf.distribute.Strategy, *numbers: float) -> list[int]:
    """The sums over all machines of these whole numbers, which all must ask for at the same step.

    So machines agree: `total(strategy, stopped, is_chief(strategy) and due)` is above 0 where any was stopped, or
    the chief's clock says that something is due. It also waits for all.
    """
    if num_workers(strategy) == 1:
        return [int(number) for number in numbers]
    summed = strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(numbers, tf.int64), axis=None)
    return summed.numpy().tolist()


def same_everywhere(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Whether all machines have the same number; all must ask at the same step, and all get the same answer."""
    first, second = total(strategy, number, number * number)
    return first * first == second * num_workers(strategy)      # Cauchy and Schwarz


@contextlib.contextmanager
def noticing_loss(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the errors of a machine that is gone into `WorkerLost`; a machine that hangs is noticed in some 10 s."""
    try:
        yield
    except _LOST as error:
        if num_workers(strategy) == 1:
            raise
        raise WorkerLost(f'Another machine was lost: {_first_line(error)}') from None


def restart(lost: WorkerLost, say: Callable[[str], None] = _print) -> None:
    """Starts this program again, with the command line that it has; does not return.

    TensorFlow's connections cannot be mended within a process. The new one waits for all machines, and they resume
    from the last checkpoint.
    """
    say(f'{lost} Starting again, to go on from the last checkpoint when all machines are back.')
    time.sleep(_SECONDS_TO_NOTICE)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _first_line(error):
    lines = [line.strip() for line in getattr(error, 'message', str(error)).splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith('Collective ops is aborted by: ')), (lines or ['?'])[0])
    return found.removeprefix('Collective ops is aborted by: ').rstrip('.:')[:300] + '.'
