"""Images per second in training, in inference and of the input, beside every peer that is installed.

    python benchmarks/throughput.py --mode=train --models=inception_v1,inception_v3 --precisions=float32,bfloat16

The candidates of a table take turns on the machine, each in a process of its own that sleeps until then. The figures
are medians over the turns, with the lowest and the highest. `ratio` is to slim_zoo; `CPU ms` is processor time per
image; `MiB` the most memory that the process held; `of product` the rate of the network's multiply-adds (in training
three times those of the forward pass) as a share of that of a large matrix product in the same precision, which takes
its turns too. All train by momentum, without auxiliary logits, on one batch that lies in memory. ONNX Runtime and
OpenVINO run our network, exported.

The peers belong in the same environment as this project: torch, torchvision (beside a CPU build of PyTorch `pip install
--no-deps torchvision` will do), timm, onnxruntime and tf2onnx, openvino. What is not there is said.
"""
import argparse
import contextlib
import csv
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))
from worker import Cell, Worker

from nets import registry

# Name in the table: function in a worker, and its further arguments. The first one is what the others are compared to.
_PYTORCH = {f'{library}{"/" if variant else ""}{variant}': ('peers:pytorch', library, variant)
            for library in ('torchvision', 'timm') for variant in ('', 'compile')}
_KERAS = {'keras': ('peers:keras',), 'keras/no XLA': ('peers:keras', 'no XLA')}
CANDIDATES: dict[str, dict[str, tuple]] = {
    'train': {'slim_zoo': ('ours:train',), 'tf_slim': ('peers:tf_slim',), **_KERAS, **_PYTORCH},
    'infer': {
        'slim_zoo': ('ours:infer',), 'slim_zoo/folded': ('ours:infer_folded',), 'tf_slim': ('peers:tf_slim',),
        **_KERAS, **_PYTORCH,
        'torchvision/weights': ('peers:pytorch', 'torchvision', 'weights'),
        'timm/weights': ('peers:pytorch', 'timm', 'weights'),
        'onnxruntime': ('peers:onnxruntime',),
        'openvino': ('peers:openvino',), 'openvino/async': ('peers:openvino', 'async')},
    'input': {
        'slim_zoo': ('ours:input_batches',), 'slim_zoo/uint8': ('ours:input_batches', 'host'),
        'tf_slim': ('ours:input_of_tf_slim',), 'decoding': ('ours:input_decoding',),
        'pytorch': ('peers:input_of_pytorch',), 'pytorch/colours': ('peers:input_of_pytorch', 'colours'),
        'keras': ('peers:input_of_keras',)},
}
PARTS = {'slim_zoo: input': ('ours:input_batches',), 'slim_zoo: forward': ('ours:train', 'forward'),
         'slim_zoo: gradients': ('ours:train', 'gradients')}
PRODUCTS = {'product by TensorFlow': ('ours:product', 2048), 'product by PyTorch': ('peers:product', 2048)}
COLUMNS = {'candidate': '{}', 'images_per_second': '{:.1f}', 'min': '{:.1f}', 'max': '{:.1f}', 'ratio': '{:.2f}',
           'cpu_ms_per_image': '{:.1f}', 'peak_mib': '{:.0f}', 'of_product': '{:.0%}', 'version': '{}'}
HEADINGS = {'images_per_second': 'images/s', 'cpu_ms_per_image': 'CPU ms', 'peak_mib': 'MiB',
            'of_product': 'of product'}


def measure(cell: Cell, candidates: dict[str, tuple], repeats: int, seconds: float) -> list[dict]:
    """Lets the candidates take turns.

    Returns:
      A dictionary for each: its name as `candidate`, and either `fault` or `version`, `peak_mib`, and a list of the
      turns' `batches_per_second` and `cpu` seconds per batch.
    """
    rows = []
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (make, *arguments) in candidates.items():
            say(f'{cell.mode} {cell.model} {cell.precision}: preparing {name}')
            workers[name] = stack.enter_context(contextlib.closing(Worker(make, cell, arguments)))
        turns: dict[str, list] = {name: [] for name in workers}
        for repeat in range(repeats):
            say(f'{cell.mode} {cell.model} {cell.precision}: turn {repeat + 1} of {repeats}')
            for name, worker in workers.items():
                turns[name].append(worker.turn(seconds))
        for name, worker in workers.items():
            if worker.fault:
                rows.append({'candidate': name, 'fault': worker.fault})
                continue
            if worker.waiting_cpu > 0.05:
                say(f'{name} used {worker.waiting_cpu:.0%} of a core while the others had their turns')
            rows.append({
                'candidate': name, 'version': worker.version, 'peak_mib': worker.peak,
                'batches_per_second': [turn['batches'] / turn['seconds'] for turn in turns[name]],
                'cpu': statistics.median(turn['cpu'] / turn['batches'] for turn in turns[name])})
    say('')
    return rows


def say(text: str) -> None:
    """Tells on stderr, where it is a terminal in one line, what is under way."""
    print(f'\r\033[K{text}' if sys.stderr.isatty() else text, end='' if sys.stderr.isatty() else '\n', file=sys.stderr,
          flush=True)


def in_process_of_its_own(script: str, *arguments: str) -> None:
    """Runs a script of this folder; its last words where it fails."""
    done = subprocess.run([sys.executable, pathlib.Path(__file__).with_name(script), *arguments], capture_output=True,
                          text=True, env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL='2'))
    if done.returncode:
        sys.exit(done.stderr)


def multiply_adds(cell: Cell) -> int:
    """Of the forward pass of an image."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'count')
        in_process_of_its_own('ours.py', 'multiply_adds', json.dumps(vars(cell)), str(path))
        return int(path.read_text())


def table(cell: Cell, measured: list[dict]) -> list[dict]:
    """The rows of a cell's table: figures, or why there are none."""
    products = {row['candidate']: row for row in measured if row['candidate'] in PRODUCTS and 'fault' not in row}
    rates = {name: statistics.median(row['batches_per_second']) * 2 * PRODUCTS[name][1] ** 3
             for name, row in products.items()}
    flop = 2 * multiply_adds(cell) * (3 if cell.mode == 'train' else 1) if rates else 0
    rows = []
    for row in measured:
        shown = {**vars(cell), 'candidate': row['candidate']}
        shown.pop('images')
        if row['candidate'] in PRODUCTS:
            continue
        if 'fault' in row:
            shown['fault'] = row['fault']
        else:
            rate = [cell.batch_size * value for value in row['batches_per_second']]
            shown.update(images_per_second=statistics.median(rate), min=min(rate), max=max(rate),
                         cpu_ms_per_image=1000 * row['cpu'] / cell.batch_size, peak_mib=row['peak_mib'],
                         version=row['version'])
            if rates and ':' not in row['candidate']:
                shown['of_product'] = shown['images_per_second'] * flop / max(rates.values())
        if row['candidate'].startswith('pytorch') and 'fault' not in row:
            del shown['cpu_ms_per_image']      # its worker processes are not counted
        rows.append(shown)
    for row in rows:
        if 'fault' not in row:
            row['ratio'] = row['images_per_second'] / rows[0]['images_per_second']
    if rates:
        best = max(rates, key=rates.__getitem__)
        rows[0].update(product_teraflops=rates[best] / 1e12, product_by=best)
    return rows


def show(cell: Cell, rows: list[dict]) -> None:
    """Prints a table."""
    precision = '' if cell.mode == 'input' else f', {cell.precision}'
    print(f'\n{cell.mode}: {cell.model} at {cell.image_size}x{cell.image_size}{precision}, {cell.batch_size} images a '
          'batch')
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    lines = [[HEADINGS.get(name, name) for name in columns]]
    measured = [row for row in rows if 'fault' not in row]
    lines += [[COLUMNS[name].format(row[name]) if name in row else '' for name in columns] for row in measured]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others, last in lines:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)),
              f' {last}', sep='  ')
    for fault in dict.fromkeys(row['fault'] for row in rows if 'fault' in row):
        print('not measured:', ', '.join(row['candidate'] for row in rows if row.get('fault') == fault), f'({fault})')
    if 'product_teraflops' in rows[0]:
        print(f'{rows[0]["product_by"]}: {rows[0]["product_teraflops"]:.3f} TFLOP/s, the fastest')
    times = {row['candidate']: 1000 * cell.batch_size / row['images_per_second'] for row in measured}
    if all(part in times for part in ('slim_zoo', *PARTS)):
        forward, gradients = times['slim_zoo: forward'], times['slim_zoo: gradients']
        print(f'slim_zoo, ms a step: input {times["slim_zoo: input"]:.0f}, forward {forward:.0f}, backward '
              f'{gradients - forward:.0f}, update {times["slim_zoo"] - gradients:.0f}')
    ours = [row for row in measured if _belongs(row['candidate'], 'slim_zoo')]
    peers = [row for row in measured if not row['candidate'].startswith(('slim_zoo', 'decoding'))]
    if peers:
        mine, best = (max(group, key=lambda row: row['images_per_second']) for group in (ours, peers))
        print(f'{mine["candidate"]} has {mine["images_per_second"] / best["images_per_second"]:.2f} times the rate of '
              f'{best["candidate"]}, the fastest peer')
    sys.stdout.flush()


def write(folder: str, mode: str, rows: list[dict]) -> None:
    """Writes `throughput_MODE.csv` and `.json`."""
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path / f'throughput_{mode}.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    machine = {'processor': processor(), 'cores': os.cpu_count(), 'python': platform.python_version()}
    (path / f'throughput_{mode}.json').write_text(
        json.dumps({'machine': machine, 'options': sys.argv[1:], 'rows': rows}, indent=2) + '\n', encoding='utf-8')


def processor() -> str:
    """The processor's name, and what it has for bfloat16."""
    try:
        text = pathlib.Path('/proc/cpuinfo').read_text()
    except OSError:
        return platform.processor()
    name = text.partition('model name')[2].partition(':')[2].partition('\n')[0].strip()
    flags = [flag for flag in ('avx512_bf16', 'amx_bf16') if flag in text.split()]
    return f'{name or platform.machine()} ({", ".join(flags) or "no bfloat16"})'


def parse() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--mode', choices=list(CANDIDATES), default='train')
    parser.add_argument('--models', default='inception_v1', help='comma-separated (%(default)s)')
    parser.add_argument('--precisions', default='float32,bfloat16', help='comma-separated (%(default)s)')
    parser.add_argument('--batch_sizes', default='32', help='comma-separated (%(default)s)')
    parser.add_argument('--image_size', type=int, help="height and width; the network's default if not given")
    parser.add_argument('--repeats', type=int, default=5, help='turns of each candidate (%(default)s)')
    parser.add_argument('--seconds', type=float, default=3, help='of a turn, at least (%(default)s)')
    parser.add_argument('--peers', help='comma-separated names of the table, such as torchvision,openvino/async; '
                        'torchvision is torchvision/compile too; all if not given')
    parser.add_argument('--images', help='for input: a folder with a folder of JPEGs for each class; made photos if '
                        'not given')
    parser.add_argument('--parts', action='store_true', help='training: input, forward, backward and update of ours '
                        'apart')
    parser.add_argument('--output_dir', metavar='DIR', help='where to write throughput_MODE.csv and .json')
    options = parser.parse_args()
    for name in ('models', 'precisions', 'batch_sizes'):
        setattr(options, name, getattr(options, name).split(','))
    for model in options.models:
        try:
            if registry.get(model).frames:
                parser.error(f'--models={model}: it takes videos, which no peer here does.')
        except ValueError as error:
            parser.error(f'--models={model}: {error}')
    if wrong := [name for name in options.precisions if name not in ('float32', 'bfloat16')]:
        parser.error(f'--precisions={wrong[0]}: there is float32 and bfloat16.')
    if wrong := [size for size in options.batch_sizes if not size.isdecimal() or int(size) < 1]:
        parser.error(f'--batch_sizes={wrong[0]}: it must be a whole number above 0.')
    if options.repeats < 1 or options.seconds < 0:
        parser.error('--repeats must be at least 1 and --seconds at least 0.')
    candidates = CANDIDATES[options.mode]
    for name in filter(None, (options.peers or '').split(',')):
        if not any(_belongs(candidate, name) for candidate in candidates):
            parser.error(f'--peers={name}: of --mode={options.mode} there is {", ".join(candidates)}.')
    if options.images and not any(pathlib.Path(options.images).glob('*/*.jpg')):
        parser.error(f'--images={options.images}: there is no CLASS/NAME.jpg in it.')
    return options


def _belongs(candidate, name):
    return candidate == name or candidate.startswith(f'{name}/')


def chosen(options: argparse.Namespace, precision: str) -> dict[str, tuple]:
    """The candidates that the options ask for: ours, the peers, parts of ours, and the matrix products."""
    candidates = {candidate: make for candidate, make in CANDIDATES[options.mode].items()
                  if not candidate.endswith('/weights') or precision == 'bfloat16'}
    if options.peers is not None:
        names = options.peers.split(',')
        candidates = {candidate: make for candidate, make in candidates.items()
                      if _belongs(candidate, 'slim_zoo') or any(_belongs(candidate, name) for name in names)}
    if options.mode == 'input':
        return candidates
    parts = PARTS if options.parts and options.mode == 'train' else {}
    return {**candidates, **parts, **PRODUCTS}


def main() -> None:
    """Measures every combination of the models, precisions and batch sizes, and prints a table for each."""
    options = parse()
    print(f'{processor()}, {os.cpu_count()} cores; {options.repeats} turns of {options.seconds:g} s', flush=True)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        images = options.images
        if not images and (options.mode == 'input' or options.parts):
            say('making photos')
            in_process_of_its_own('photos.py', folder)
            images = folder
        precisions = ['float32'] if options.mode == 'input' else options.precisions
        for model in options.models:
            size = options.image_size or registry.get(model).default_image_size
            for precision in precisions:
                for batch_size in map(int, options.batch_sizes):
                    cell = Cell(options.mode, model, precision, batch_size, size, images)
                    measured = measure(cell, chosen(options, precision), options.repeats, options.seconds)
                    if 'fault' in measured[0]:
                        sys.exit(f'{measured[0]["candidate"]} with {model}: {measured[0]["fault"]}')
                    of_cell = table(cell, measured)
                    show(cell, of_cell)
                    rows += of_cell
                    if options.output_dir:
                        write(options.output_dir, options.mode, rows)


if __name__ == '__main__':
    main()
