"""How long a network takes to build, and to its first training step, beside TF-Slim's way of building the same one.

    python benchmarks/build_time.py --networks resnet_v2_200 --repeats 5

Each measurement is a process of its own, and the implementations take turns. The peers are the networks inside the
tf-slim package (`tf_slim.nets`: AlexNet, OverFeat, VGG, ResNets, Inception V1 to V3) and, with `--research_slim`, a
folder that holds TF-Slim's own `nets` (models/research/slim), which needs nothing of this project but tf_slim_compat.
"""
import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEEPEST = ['inception_resnet_v2', 'resnet_v2_200', 'nasnet_large']
FIGURES = {'forward': 's, forward graph', 'gradients': 's, gradients', 'first_step': 's, first step',
           'peak': 'MiB, peak memory'}


def measure(implementation: str, network: str, batch_size: int) -> dict[str, float]:
    """Builds a network for training, in this process, and takes one step. Seconds, and MiB."""
    sys.path.append(str(ROOT))
    import tensorflow.compat.v1 as tf
    import tf_slim as slim

    import tf_slim_compat  # noqa: F401
    spec = importlib.util.spec_from_file_location('rows', ROOT / 'nets' / 'registry.py')
    if implementation == 'tf_slim.nets':
        registry = importlib.util.module_from_spec(spec)
        sys.modules['rows'] = registry      # before it is run: dataclasses look their module up
        spec.loader.exec_module(registry)
        row = registry.NETWORKS[network]
        module = importlib.import_module(f'tf_slim.nets.{row.module.rpartition(".")[2]}')
        build, arg_scope = getattr(module, row.builder), getattr(module, row.arg_scope)
        size = row.default_image_size
    else:       # whichever `nets` comes first on the path
        nets_factory = importlib.import_module('nets.nets_factory')
        build, arg_scope = nets_factory.networks_map[network], nets_factory.arg_scopes_map[network]
        size = build.default_image_size
    figures = {}
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.random.uniform([batch_size, size, size, 3])
        start = time.perf_counter()
        with slim.arg_scope(arg_scope(weight_decay=4e-5)):
            logits, _ = build(images, num_classes=10, is_training=True)
        figures['forward'] = time.perf_counter() - start
        logits = tf.reshape(logits, [batch_size, 10])       # tf_slim.nets' ResNets leave [batch, 1, 1, classes]
        loss = tf.losses.sparse_softmax_cross_entropy(tf.zeros([batch_size], tf.int64), logits)
        start = time.perf_counter()
        step = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        figures['gradients'] = time.perf_counter() - start
        session.run(tf.global_variables_initializer())
        start = time.perf_counter()
        session.run(step)
        figures['first_step'] = time.perf_counter() - start
    figures['peak'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def in_own_process(implementation: str, folder: str, options: argparse.Namespace, network: str) -> dict | str:
    """Calls `measure` in a new process with `folder` first on its path; the error where the peer cannot build it."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [folder, os.environ.get('PYTHONPATH')])))
    done = subprocess.run([sys.executable, __file__, '--measure', implementation, '--networks', network, '--batch_size',
                           str(options.batch_size)], env=environment, capture_output=True, text=True)
    if done.returncode and implementation == 'slim_zoo':
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else done.stderr.splitlines()[-1]


def main() -> None:
    """Prints the medians, and their ratio to ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', default=DEEPEST, metavar='NAME')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--batch_size', type=int, default=2)
    parser.add_argument('--research_slim', metavar='DIR', help="a folder with TF-Slim's own `nets`")
    parser.add_argument('--measure', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.networks[0], options.batch_size)))
        return
    if options.research_slim and not pathlib.Path(options.research_slim, 'nets', 'nets_factory.py').exists():
        parser.error(f'--research_slim={options.research_slim}: there is no nets/nets_factory.py in it.')
    folders = {'slim_zoo': str(ROOT), 'tf_slim.nets': '', **(
        {'research/slim': options.research_slim} if options.research_slim else {})}
    print(f'{"network":22}{"":16}' + ''.join(f'{figure:>22}' for figure in FIGURES.values()))
    for network in options.networks:
        runs: dict[str, list] = {implementation: [] for implementation in folders}
        for _ in range(options.repeats):
            for implementation, folder in folders.items():
                runs[implementation].append(in_own_process(implementation, folder, options, network))
        ours = {}
        for implementation, figures in runs.items():
            if errors := [run for run in figures if isinstance(run, str)]:
                print(f'{network:22}{implementation:16}  not measured: {errors[0]}')
                continue
            medians = {name: statistics.median(run[name] for run in figures) for name in FIGURES}
            ours = ours or medians
            cells = (f'{medians[name]:.{0 if name == "peak" else 2}f} ({medians[name] / ours[name]:.2f})'
                     for name in FIGURES)
            print(f'{network:22}{implementation:16}' + ''.join(f'{cell:>22}' for cell in cells), flush=True)


if __name__ == '__main__':
    main()
