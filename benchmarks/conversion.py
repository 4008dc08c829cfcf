"""Images converted into TFRecord shards in a second: ours, TF-Slim's converter's way, and TensorFlow Datasets'.

    python benchmarks/photos.py /tmp/photos
    python benchmarks/conversion.py /tmp/photos

The ways take turns; the figures are medians. `ours` checks that each image can be read to its end, looks for copies,
and writes with as many workers as there are processors, or with one. `tf_slim` decodes each image in a session, for
its size, and writes one after another. `tfds` is a GeneratorBasedBuilder of TensorFlow Datasets, if that is installed:
it writes the bytes as they come, without a look at the image, and then shuffles them. CPU is seconds of all threads.
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARDS = 5


def ours(files, folder, workers):
    """Converts as download_and_convert_data.py does."""
    from datasets.conversion.collection import Collection, Item
    from datasets.conversion.convert import Conversion, convert
    items = [Item(f'{number}.jpg', file, number % 2) for number, file in enumerate(files)]
    convert(Conversion(Collection('photos', {'train': items}, {0: 'a', 1: 'b'}, {'train': SHARDS}), folder), workers)


def tf_slim(files, folder):
    """Decodes one image at a time in a TF1 session, and writes one shard after another."""
    import tensorflow as tf

    from datasets import dataset_utils
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        encoded = tf.compat.v1.placeholder(tf.string)
        decoded = tf.io.decode_jpeg(encoded, channels=3)
        for shard in range(SHARDS):
            with tf.io.TFRecordWriter(os.path.join(folder, f'{shard}.tfrecord')) as writer:
                for number in range(len(files) * shard // SHARDS, len(files) * (shard + 1) // SHARDS):
                    with tf.io.gfile.GFile(files[number], 'rb') as file:
                        content = file.read()
                    height, width, _ = session.run(decoded, {encoded: content}).shape
                    writer.write(dataset_utils.image_to_tfexample(content, b'jpg', height, width, number % 2)
                                 .SerializeToString())


def tfds(files):
    """A function that builds a dataset of TensorFlow Datasets from the files; the class can be made once only."""
    import tensorflow_datasets

    class Photos(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version('1.0.0')

        def _info(self):
            features = tensorflow_datasets.features.FeaturesDict({
                'image': tensorflow_datasets.features.Image(encoding_format='jpeg'),
                'label': tensorflow_datasets.features.ClassLabel(num_classes=2)})
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {'train': self._generate_examples()}

        def _generate_examples(self):
            for number, file in enumerate(files):
                yield number, {'image': file, 'label': number % 2}

    tensorflow_datasets.disable_progress_bar()
    return lambda folder: Photos(data_dir=folder).download_and_prepare()


def main() -> None:
    """Measures, and prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='with JPEG files in it')
    parser.add_argument('--images', type=int, default=1280, help='taken from the folder over and over')
    parser.add_argument('--repeats', type=int, default=5)
    args = parser.parse_args()
    sys.path.append(str(ROOT))
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    import tensorflow as tf
    found = sorted(map(str, pathlib.Path(args.folder).rglob('*.jpg')))
    if not found:
        sys.exit(f'{args.folder} holds no .jpg')
    files = [found[number % len(found)] for number in range(args.images)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    ways = {'tf_slim': lambda folder: tf_slim(files, folder), 'ours, 1 worker': lambda folder: ours(files, folder, 1),
            f'ours, {cores} workers': lambda folder: ours(files, folder, cores)}
    try:
        ways['tfds'] = tfds(files)
    except ImportError as error:
        print(f'tfds is not measured: {error}')
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for repeat in range(-1, args.repeats):      # the first round warms up
        for way, run in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, cpu = time.perf_counter(), time.process_time()
                run(folder)
                if repeat >= 0:
                    times[way].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(f'TensorFlow {tf.__version__}, {cores} processors, {args.images} images of {len(found)} files, '
          f'{sum(map(os.path.getsize, files)) / len(files) / 1000:.0f} kB each, {args.repeats} repeats')
    print(f'{"":16}{"images/s":>10}{"ratio":>8}{"images/CPU s":>14}{"ratio":>8}')
    speeds = {way: [args.images / statistics.median(part) for part in zip(*values, strict=True)]
              for way, values in times.items()}
    for way, values in speeds.items():
        print(f'{way:16}' + ''.join(f'{value:{size}.0f}{value / base:8.2f}' for value, base, size in zip(
            values, speeds['tf_slim'], (10, 14), strict=True)))


if __name__ == '__main__':
    main()
