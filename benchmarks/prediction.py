"""Images predicted in a second, from JPEG files on the disk to a CSV file: ours, timm's way and Keras's way.

    python benchmarks/photos.py PHOTOS FOLDER_OF_PHOTOS
    python benchmarks/prediction.py PHOTOS --model=inception_v3

Each way is a whole program in a process of its own, and they take turns. Each is run on a few and on many of the same
files: the difference gives the rate once all is under way, which has nothing of the start in it; `start` is what is
left of the run on a few. All have weights of no meaning, 1000 classes or 1001, batches of 32, and write the first five
classes of each image. Peers that are not installed are reported as such.

ours: `predict_image_classifier.py`. timm: `create_loader` with as many workers as processors, channels last, its own
crop. keras: `image_dataset_from_directory` and `predict`; its preprocessing only resizes.
"""
import argparse
import csv
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BATCH, FEW = 32, 64
# Our name: timm's, Keras's, and the size.
NETWORKS = {'inception_v3': ('inception_v3', 'InceptionV3', 299),
            'mobilenet_v2': ('mobilenetv2_100', 'MobileNetV2', 224),
            'mobilenet_v1': ('mobilenetv1_100', 'MobileNet', 224), 'resnet_v1_50': ('resnet50', 'ResNet50', 224)}
WAYS = ('ours', 'timm', 'keras')


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def write(path, names, probabilities):
    """The first five classes of each image, as CSV."""
    import numpy as np
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        for name, row in zip(names, probabilities, strict=True):
            best = np.argsort(-row)[:5]
            writer.writerow([name, *(cell for label in best for cell in (label, f'{row[label]:.6g}'))])


def timm_way(model, precision, folder, out):
    """As timm's own script for inference does."""
    from peers import import_torchvision
    import_torchvision()
    import timm
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config
    torch.set_num_threads(cores())
    network = timm.create_model(NETWORKS[model][0], pretrained=False, num_classes=1000).eval()
    network = network.to(memory_format=torch.channels_last)
    data = resolve_data_config({'input_size': (3, *[NETWORKS[model][2]] * 2), 'crop_pct': 0.875}, model=network)
    dataset = create_dataset('', root=folder)
    loader = create_loader(dataset, batch_size=BATCH, use_prefetcher=False, num_workers=cores(),
                           persistent_workers=False, input_size=data['input_size'], crop_pct=data['crop_pct'],
                           interpolation=data['interpolation'], mean=data['mean'], std=data['std'])
    found = []
    autocast = torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16')
    with torch.inference_mode(), autocast:
        for images, _ in loader:
            logits = network(images.contiguous(memory_format=torch.channels_last))
            found += list(logits.float().softmax(-1).numpy())
    write(out, dataset.filenames(), found)


def keras_way(model, precision, folder, out):
    """As Keras's guides do."""
    import keras
    if precision == 'bfloat16':
        keras.config.set_dtype_policy('mixed_bfloat16')
    name, size = NETWORKS[model][1:]
    network = getattr(keras.applications, name)(weights=None)
    module = {'InceptionV3': 'inception_v3', 'MobileNetV2': 'mobilenet_v2', 'MobileNet': 'mobilenet',
              'ResNet50': 'resnet'}[name]
    prepare = getattr(keras.applications, module).preprocess_input
    dataset = keras.utils.image_dataset_from_directory(folder, labels=None, image_size=(size, size), batch_size=BATCH,
                                                       shuffle=False, verbose=False)
    names = dataset.file_paths
    found = network.predict(dataset.map(prepare).prefetch(2), verbose=0)
    write(out, names, found.astype('float32'))


def ours(model, precision, folder, out, weights):
    """The command line of ours."""
    return [str(ROOT / 'predict_image_classifier.py'), folder, f'--model_name={model}', f'--checkpoint_path={weights}',
            f'--image_size={NETWORKS[model][2]}', f'--output={out}', '--overwrite', f'--precision={precision}',
            f'--batch_size={BATCH}']


def seconds(command):
    """How long a program takes; None, and what it said, where it fails."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True,
                          env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2', 'KERAS_BACKEND': 'tensorflow'})
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ['it failed'])[-1]
    return time.perf_counter() - began, ''


def main() -> None:
    """Measures, and prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='with JPEG files in it')
    parser.add_argument('--model', choices=NETWORKS, default='inception_v3')
    parser.add_argument('--precision', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument('--images', type=int, default=640, help='taken from the folder over and over')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--way', choices=WAYS[1:], help=argparse.SUPPRESS)   # what a process of a peer is told
    parser.add_argument('--out', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        {'timm': timm_way, 'keras': keras_way}[args.way](args.model, args.precision, args.folder, args.out)
        return
    found = sorted(pathlib.Path(args.folder).rglob('*.jpg'))
    if not found:
        sys.exit(f'{args.folder} holds no .jpg')
    sys.path.append(str(ROOT))
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    import nets
    with tempfile.TemporaryDirectory() as work:
        weights = nets.create_model(args.model, nets.registry.get(args.model).num_classes,
                                    image_size=NETWORKS[args.model][2]).save(os.path.join(work, 'weights'))
        folders = []
        for count in (FEW, args.images):
            folders.append(os.path.join(work, str(count)))
            inside = pathlib.Path(folders[-1], 'photos')
            inside.mkdir(parents=True)
            for number in range(count):
                shutil.copy(found[number % len(found)], inside / f'{number:06}.jpg')
        times: dict[str, list[tuple[float, float]]] = {}
        absent = set()
        for _ in range(args.repeats):
            for way in WAYS:
                spent = []
                for folder in folders if way not in absent else ():
                    out = os.path.join(work, f'{way}.csv')
                    command = ours(args.model, args.precision, folder, out, weights) if way == 'ours' else [
                        __file__, folder, f'--way={way}', f'--out={out}', f'--model={args.model}',
                        f'--precision={args.precision}']
                    time_taken, fault = seconds(command)
                    if time_taken is None:
                        print(f'{way} is not measured: {fault}')
                        absent.add(way)
                        break
                    with open(out, encoding='utf-8') as file:
                        assert len(file.readlines()) - (way == 'ours') == len(os.listdir(f'{folder}/photos'))
                    spent.append(time_taken)
                if len(spent) == len(folders):
                    times.setdefault(way, []).append((spent[0], spent[1]))
    print(f'{args.model}, {args.precision}, {args.images} images, {cores()} processors, {args.repeats} repeats')
    print(f'{"":8}{"images/s":>10}{"ratio":>8}{"start":>9}{"all":>9}')
    rates = {way: statistics.median((args.images - FEW) / (many - few) for few, many in spent)
             for way, spent in times.items()}
    for way, rate in rates.items():
        start = statistics.median(few for few, _ in times[way]) - FEW / rate
        whole = statistics.median(many for _, many in times[way])
        print(f'{way:8}{rate:10.1f}{rate / rates["ours"]:8.2f}{start:7.1f} s{whole:7.1f} s')


if __name__ == '__main__':
    main()
