"""Kills a training at random moments, again and again, and compares what it ends with to the one that was not killed.

    python benchmarks/kill_harness.py --kills=50 --seed=0
    python benchmarks/kill_harness.py --kills=50 --seed=0 -- --model_name=lenet --dataset_name=digits ...

A training is started, its whole process group is killed (SIGKILL) at a moment drawn uniformly over the time that it
should still take, and it is started again with the same command; after `--kills_per_training` kills it may end. Then
all of the last and of the best checkpoints is compared to the bit (weights, moving statistics and averages, slots of
the optimizer, global_step), as are best.json and summary.csv, but for its times. The next training begins anew, with
other moments, until there were so many kills. Half of the kills then wait for the next file that is being written, and
up to 30 ms more: chance alone would seldom hit that. Exits with 1 where anything differs.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Everything that is random, or kept, and small: moving statistics and averages, slots, dropout, every augmentation.
DEFAULT = ('--dataset_name=digits --model_name=mobilenet_v1_025 --preprocessing_name=lenet --train_image_size=32 '
           '--batch_size=16 --max_number_of_steps=40 --optimizer=adam --opt_epsilon=1e-7 --learning_rate=0.001 '
           '--learning_rate_decay_type=cosine --moving_average_decay=0.99 --mixup_alpha=0.2 --cutmix_alpha=1 '
           '--random_erasing=0.25 --auto_augment=randaugment --label_smoothing=0.1 --precision=auto --eval_every=10 '
           '--keep_best=2 --keep_checkpoints=2 --save_interval_steps=3').split()
OF_TIME = ('images_per_second', 'data_wait')
PART = '.writing-'      # what the names of files begin with that are not whole yet


class Training:
    """A training in a folder, started by the program's command line."""

    def __init__(self, folder: pathlib.Path, flags: list[str]):
        self.folder, self._log = folder, folder.with_suffix('.log')
        self._eval_every = next((int(flag.partition('=')[2]) for flag in flags if flag.startswith('--eval_every=')), 0)
        # After a kill the lines of log from before it are compared too: one for each step.
        self._command = [sys.executable, str(ROOT / 'train_image_classifier.py'), *flags, '--log_every_n_steps=1',
                         f'--train_dir={folder}']

    def start(self) -> subprocess.Popen:
        """Starts it, or goes on."""
        with open(self._log, 'w', encoding='utf-8') as log:
            return subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                                    start_new_session=True)

    def log(self) -> str:
        """What the last start has said so far."""
        return self._log.read_text()

    def step(self) -> int:
        """The step of the last checkpoint."""
        state = self.folder / 'checkpoint'
        found = re.search(r'model_checkpoint_path: ".*-(\d+)"', state.read_text()) if state.exists() else None
        return int(found[1]) if found else 0

    def parts(self, where: str = f'**/{PART}*') -> set[tuple[pathlib.Path, int]]:
        """The files that are not whole, each with the time of its last change."""
        found = set()
        for path in self.folder.glob(where):
            with contextlib.suppress(FileNotFoundError):    # it is whole by now
                found.add((path, path.stat().st_mtime_ns))
        return found

    def phase(self, left: set) -> str:
        """What the training was at when it was killed; `left` are the parts that earlier kills left."""
        if parts := self.parts() - left:
            return f'writing {re.split("[.-]", min(parts)[0].name.removeprefix(PART))[0]}'
        lines = self.log().splitlines()
        if any(line.startswith('Trained') for line in lines):
            return 'the end'
        if not any(line.startswith('Training ') for line in lines):
            return 'starting'
        if lines[-1].startswith(('Training ', 'Going on')):
            return 'building'
        last = re.match(r'step (\d+)(/| {2}|: held-out)', lines[-1])
        if last is None:
            return 'the end'
        evaluates = self._eval_every and int(last[1]) % self._eval_every == 0
        return 'evaluating' if evaluates and last[2] != ': held-out' and self.step() == int(last[1]) else 'steps'


def undisturbed(training: Training) -> list[float]:
    """Runs it to its end; returns the seconds until the first step, and from there to the end."""
    began, first = time.monotonic(), None
    process = training.start()
    while process.poll() is None:
        time.sleep(0.02)
        if first is None and '\nstep 1' in training.log():
            first = time.monotonic()
    if process.returncode:
        sys.exit(training.log())
    first = first or time.monotonic()
    return [first - began, time.monotonic() - first]


def killed(training: Training, moments: random.Random, kills: int, seconds: list[float], steps: int) -> list[str]:
    """Kills it up to so many times, and lets it end; returns what it was at, a word for each kill.

    `seconds`, until the first step and from there to the end, follow the machine's pace, which others share.
    """
    phases: list[str] = []
    while True:
        expected, began = seconds[0] + seconds[1] * (1 - training.step() / steps), time.monotonic()
        left, process = training.parts(), training.start()
        if len(phases) < kills:
            wait(process, moments.uniform(0, expected))
            aim = moments.choice(['', '', '', f'{PART}*', f'{PART}*', f'best/{PART}*'])
            delay = moments.uniform(0, 0.03)
            if aim:
                while process.poll() is None and training.parts(aim) <= left:
                    time.sleep(0.002)
                time.sleep(delay)
        else:
            process.wait()
        if process.poll() is not None:
            if process.returncode:
                sys.exit(f'The training failed after {len(phases)} kills ({", ".join(phases)}):\n{training.log()}')
            seconds[:] = [part * (time.monotonic() - began) / expected for part in seconds]
            return phases
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        phases.append(training.phase(left))
        if pathlib.Path(training.folder, 'checkpoint').exists() and training.step() == 0:
            sys.exit('A kill left a state file that names no checkpoint.')


def wait(process: subprocess.Popen, seconds: float) -> None:
    """Waits so long, or for the process's end."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def differences(expected: pathlib.Path, found: pathlib.Path) -> list[str]:
    """What differs between two folders of trainings that should be the same."""
    from nets import checkpoints  # with TensorFlow, which the kills need not wait for
    wrong = []
    for part in ('', 'best'):
        named = [sorted(path.name for path in (folder / part).glob('*.index')) for folder in (expected, found)]
        if named[0] != named[1]:
            wrong.append(f'checkpoints in {part or "the folder"}: {named[1]}, not {named[0]}')
            continue
        for name in named[0]:
            one, other = (checkpoints.Reader(str(folder / part / name)) for folder in (expected, found))
            if one.shapes != other.shapes:
                wrong.append(f'{part}/{name}: other variables')
            wrong += [f'{part}/{name}: {variable}' for variable in sorted(one.shapes.keys() & other.shapes.keys())
                      if one.value(variable).tobytes() != other.value(variable).tobytes()]
    for name in ('best/best.json', 'summary.csv'):
        texts = [untimed((folder / name).read_text()) if (folder / name).exists() else None
                 for folder in (expected, found)]
        if texts[0] != texts[1]:
            wrong.append(f'{name}: {texts[1]}, not {texts[0]}')
    return wrong + [f'{path} was left behind' for path, _ in Training(found, []).parts()]


def untimed(text: str) -> list[list[str]]:
    """The cells of a table, without those that measure time."""
    rows = [line.split(',') for line in text.splitlines()]
    kept = [column for column, name in enumerate(rows[0]) if name not in OF_TIME]
    return [[row[column] for column in kept if column < len(row)] for row in rows]


def main() -> int:
    """Prints what was killed when, and how many ended as they should; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--kills_per_training', type=int, default=5)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--json', metavar='FILE', help='where the result is written too')
    parser.add_argument('flags', nargs='*', help='of the training, after --')
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    moments, phases, endings, began = random.Random(options.seed), collections.Counter(), [], time.monotonic()
    flags = options.flags or DEFAULT
    with tempfile.TemporaryDirectory(prefix='kills-') as name:
        reference = Training(pathlib.Path(name, 'undisturbed'), flags)
        seconds = undisturbed(reference)
        steps = reference.step()
        print(f'Undisturbed: {seconds[0]:.1f} s to the first step, {seconds[1]:.1f} s for {steps} steps.', flush=True)
        while phases.total() < options.kills:
            training = Training(pathlib.Path(name, f'training{len(endings)}'), flags)
            own = killed(training, moments, min(options.kills_per_training, options.kills - phases.total()), seconds,
                         steps)
            phases.update(own)
            endings.append({'kills': own, 'differences': differences(reference.folder, training.folder)})
            wrong = endings[-1]['differences']
            print(f'{phases.total()} kills: training {len(endings)}, killed {len(own)} times ({", ".join(own)}): '
                  + ('; '.join(wrong) if wrong else 'agrees.'), flush=True)
            shutil.rmtree(training.folder)
    agree = sum(not ending['differences'] for ending in endings)
    print(f'{phases.total()} kills while ' + ', '.join(f'{what}: {count}' for what, count in phases.most_common())
          + f'.\n{agree} of {len(endings)} trainings ended to the bit as the one that was not killed, in '
          f'{time.monotonic() - began:.0f} s.')
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({
            'kills': phases.total(), 'seed': options.seed, 'flags': flags, 'phases': phases,
            'trainings': len(endings), 'agree': agree, 'endings': endings}, indent=2) + '\n')
    return int(agree < len(endings))


if __name__ == '__main__':
    sys.exit(main())
