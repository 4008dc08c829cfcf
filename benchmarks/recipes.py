"""Training from scratch for the same time: TF-Slim's defaults, the modern recipe, and Keras's InceptionV3 as usual.

    python benchmarks/recipes.py --images=FOLDER --seconds=240 --seeds=3 --image_size=96 --output_dir=runs/recipes
    python benchmarks/recipes.py --images=digits --seconds=60 --seeds=3

`--images` is a tree of class folders, of which a tenth is held out, or `digits`. Every way sees the same images, and
has so many seconds of steps: the rates are measured first, in runs of their own, so that schedules end with the time.
What is not counted is what comes before the first step, and evaluation. The ways take turns; figures are the accuracy
on the held-out images, mean and standard deviation over the seeds. Keras's way is `image_dataset_from_directory`,
random flips, `keras.applications.InceptionV3(weights=None)`, Adam at its defaults, `fit`, in its faster precision.
"""
import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BATCH = 32
RATE_STEPS = 40     # of the run that measures the rate
WAYS = ('slim', 'modern', 'keras')


def main() -> None:
    """Trains all ways with all seeds, and prints a line for each and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', required=True, help='a tree of class folders, or `digits`')
    parser.add_argument('--seconds', type=float, default=240, help='of training, for each run')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--ways', nargs='+', default=WAYS, choices=WAYS)
    parser.add_argument('--model_name', default='inception_v1', help='of the first two ways')
    parser.add_argument('--image_size', type=int, default=96)
    parser.add_argument('--keras_image_size', type=int, help='the same if not given; InceptionV3 takes 75 and more')
    parser.add_argument('--set', nargs='*', default=[], help='flags of the first two ways: --set precision=auto')
    parser.add_argument('--output_dir', help='keep the runs, and results.json')
    parser.add_argument('--keras', help=argparse.SUPPRESS)      # this program as the worker of Keras's way
    args = parser.parse_args()
    args.rates = {}
    if args.keras:
        print(json.dumps(keras_way(**json.loads(args.keras))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(args.output_dir or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        images = divided(args.images, pathlib.Path(scratch) / 'images')
        results: dict[str, list[dict]] = {way: [] for way in args.ways}
        for seed in range(args.seeds):
            for way in args.ways:
                train = keras_run if way == 'keras' else ours
                result = train(args, images, way, seed, folder / f'{way}-{seed}')
                results[way].append(result)
                print(f'{way:8} seed {seed}  accuracy {result["accuracy"]:7.2%}  {result["steps"]:6} steps  '
                      f'{result["seconds"]:6.1f} s', flush=True)
        (folder / 'results.json').write_text(json.dumps(results, indent=2))
    print(f'\n{args.seconds:g} s, {args.images}, {args.seeds} seeds')
    for way, runs in results.items():
        accuracies = [run['accuracy'] for run in runs]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(f'{way:8} {statistics.mean(accuracies):7.2%} +- {spread:.2%}')


def divided(images, folder):
    """A folder with `train` and `validation`, in each a folder for every class, with links to the images or digits."""
    sys.path.append(str(ROOT))
    import tensorflow as tf

    from datasets import dataset_factory
    name, held_out = ('digits', 'test') if images == 'digits' else ('image_folder', 'validation')
    for split, own in (('train', 'train'), ('validation', held_out)):
        dataset = dataset_factory.get_dataset(name, own, None if images == 'digits' else images)
        for number, element in enumerate(dataset.as_tf_data().as_numpy_iterator()):
            label = folder / split / dataset.labels_to_names[int(element['label'])]
            label.mkdir(parents=True, exist_ok=True)
            kind = 'png' if element['image'].startswith(b'\x89PNG') else 'jpg'
            (label / f'{number}.{kind}').write_bytes(element['image'])
    del tf
    return folder


def ours(args, images, way, seed, folder):
    """A run of the project's own programs; returns accuracy, steps and seconds of training."""
    flags = [f'--recipe={way}', f'--model_name={args.model_name}', f'--train_image_size={args.image_size}',
             f'--batch_size={BATCH}', f'--seed={seed}', *(f'--{flag}' for flag in args.set)]
    if args.images == 'digits':     # which have no mirror images
        flags += ['--dataset_name=digits', '--preprocessing_name=lenet']
    else:
        flags += ['--dataset_name=image_folder', f'--dataset_dir={images}']
    if way not in args.rates:
        with tempfile.TemporaryDirectory() as rated:
            train(flags, rated, RATE_STEPS)
            args.rates[way] = statistics.median([float(row['images_per_second']) for row in rows(rated)][1:])
    steps = max(1, round(args.seconds * args.rates[way] / BATCH))
    train(flags, folder, steps)
    done = program('eval_image_classifier.py', f'--checkpoint_path={folder}')
    accuracy = float(next(line for line in done.stdout.splitlines() if line.startswith('eval/Accuracy'))[14:-1])
    logged = [(int(row['step']), float(row['images_per_second'])) for row in rows(folder) if row['images_per_second']]
    # In the first interval the step was traced: it counts at the rate of the second.
    pace = [logged[1][1], *(rate for _, rate in logged[1:])]
    spent = sum(BATCH * (step - before) / rate
                for before, (step, _), rate in zip([0, *(step for step, _ in logged)], logged, pace, strict=False))
    return {'accuracy': accuracy, 'steps': steps, 'seconds': spent}


def train(flags, folder, steps):
    """Trains for so many steps."""
    program('train_image_classifier.py', *flags, f'--train_dir={folder}', f'--max_number_of_steps={steps}')


def rows(folder):
    """The rows of a run's summary.csv."""
    with open(os.path.join(folder, 'summary.csv'), encoding='utf-8') as file:
        return list(csv.DictReader(file))


def program(*arguments):
    """Runs one of the project's programs; its errors end this one."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done


def keras_run(args, images, way, seed, folder):
    """Keras's way, in a process of its own."""
    settings = dict(images=str(images), seconds=args.seconds, seed=seed, size=args.keras_image_size or args.image_size)
    done = program(__file__, '--images=', f'--keras={json.dumps(settings)}')
    return json.loads(done.stdout.splitlines()[-1])


def keras_way(images, seconds, seed, size):
    """Trains keras.applications.InceptionV3 for so many seconds; returns accuracy, steps and seconds."""
    import keras
    keras.utils.set_random_seed(seed)
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        keras.mixed_precision.set_global_policy('mixed_bfloat16' if 'bf16' in file.read() else 'float32')
    read = keras.utils.image_dataset_from_directory
    training, held_out = (read(os.path.join(images, split), image_size=(size, size), batch_size=BATCH,
                               shuffle=split == 'train', seed=seed, verbose=False) for split in ('train', 'validation'))
    layers = keras.layers
    inputs = keras.Input([size, size, 3])
    net = inputs if 'digits' in images else layers.RandomFlip('horizontal', seed=seed)(inputs)
    network = keras.applications.InceptionV3(weights=None, classes=len(training.class_names),
                                             input_shape=[size, size, 3], classifier_activation=None)
    logits = network(layers.Rescaling(1 / 127.5, -1)(net))
    model = keras.Model(inputs, layers.Activation('linear', dtype='float32')(logits))
    model.compile('adam', keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy'])

    class Clock(keras.callbacks.Callback):
        """Stops in time; the clock starts when the step is traced."""

        began, steps = None, 0

        def on_train_batch_end(self, batch, logs=None):
            if self.began is None:
                self.began = time.monotonic()
            self.steps += 1
            self.spent = time.monotonic() - self.began
            if self.spent >= seconds:
                self.model.stop_training = True
                raise StopIteration

    clock = Clock()
    try:
        model.fit(training.prefetch(4), epochs=10**6, verbose=0, callbacks=[clock])
    except StopIteration:       # in the middle of an epoch
        pass
    _, accuracy = model.evaluate(held_out, verbose=0)
    return {'accuracy': float(accuracy), 'steps': clock.steps, 'seconds': clock.spent}


if __name__ == '__main__':
    main()
