"""The folder of a training: one training at a time in it, and what may change when it is taken up again."""
import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterator

from nets import checkpoints
from training.config import CONFIG_FILE, ConfigError, TrainConfig, load_train_config
from training.console import RunError

_LOCK_FILE = '.training.lock'


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keeps other trainings out of a folder, which is made if it is not there.

    The lock is the operating system's, and goes with the process, however that ends. Folders that are not local
    (gs://) have none. A folder that was made for a training that is refused goes again.

    Raises:
      RunError: a training is at work in it, or the folder cannot be written to.
    """
    if '://' in folder:
        yield
        return
    import fcntl
    path, made = os.path.join(folder, _LOCK_FILE), not os.path.exists(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(path, 'a+', encoding='utf-8')
    except OSError as error:
        raise RunError(f'--train_dir={folder} cannot be written to: {error.strerror}.') from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise RunError(f'--train_dir={folder}: a training is at work in it already ({holder}); wait for its end, '
                           'stop it, or use another folder.') from None
        except OSError:     # a file system without locks
            yield
            return
        # Read by a person alone: a disk that is too full for it does not matter.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
            file.flush()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                if made and os.listdir(folder) == [_LOCK_FILE]:
                    os.remove(path)
                    os.rmdir(folder)
            raise


def changes(config: TrainConfig) -> list[str]:
    """What is not as it was in the training that `train_dir` holds, a phrase for each setting.

    Raises:
      ConfigError: a setting has changed that must not, since the checkpoint holds what was made with it.
    """
    if checkpoints.latest(config.train_dir) is None:    # what was tried before made nothing that must fit
        return []
    before = load_train_config(config.train_dir)
    if before is None:
        return []
    changed: list[str] = []
    refused: list[str] = []
    for field in dataclasses.fields(config):
        old, new = getattr(before, field.name), getattr(config, field.name)
        if not field.metadata['saved'] or field.name in ('train_dir', 'dataset_dir', 'recipe') or old == new:
            continue
        averages = field.name == 'moving_average_decay' and (old is None) != (new is None)
        (refused if field.metadata['fixed'] or averages else changed).append(
            f'--{field.name} from {old} to {new}')
    if refused:
        raise ConfigError(
            f'{os.path.join(config.train_dir, CONFIG_FILE)} is of a training that cannot go on so: '
            f'{", ".join(refused)}. Give the old value{"s" if len(refused) > 1 else ""} to go on, or another '
            '--train_dir, with --checkpoint_path to start from these weights.')
    return changed
