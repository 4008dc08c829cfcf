"""The published weights of TF-Slim, and other weights from the web: downloaded and unpacked once, into a cache."""
import gzip
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import urllib.parse
import zlib

from nets import registry
from nets.checkpoints import CheckpointError, Reader
from nets.weights import ARCHIVES, download

LARGEST = 20 * 10**9  # bytes that an archive may unpack to; the largest that is published has 1.3e9


def of(network: registry.Network) -> str:
    """The URL of a network's published weights.

    Args:
      network: a row of the registry.

    Raises:
      CheckpointError: it has none.
    """
    if network.weights is None:
        raise CheckpointError(f'There are no published weights of {network.name}, only of: '
                              f'{", ".join(registry.list_models(pretrained=True))}.')
    return urllib.parse.urljoin(registry.WEIGHTS_URL, network.weights)


def fetch(source: str, *, sha256: str | None = None, timeout: float | None = None) -> str:
    """The local path of weights that are on the web or packed: downloads and unpacks them, once.

    Once they are in the cache (`nets.weights.download.cache_folder`), no network is needed. Processes that ask for the
    same weights at once download them once.

    Args:
      source: the URL (http or https) of an archive with a checkpoint (`.tar.gz`, `.tgz`, `.tar`) or of any other file;
        or the path of an archive.
      sha256: of the file, in hexadecimal; None if it is not known.
      timeout: seconds without a byte after which a connection is given up and tried again; 30 if None.

    Returns:
      The prefix of the archive's checkpoint, or the path of the file.

    Raises:
      CheckpointError: it cannot be downloaded, read, or written to the cache; an archive is damaged or unsafe, or has
        no checkpoint, or several.
    """
    remote = source.startswith(('http://', 'https://'))
    if not remote and not source.endswith(ARCHIVES):
        return source
    name, version = _identify(source, remote)
    packed = name.endswith(ARCHIVES)
    # A hash that is asked for is part of the key: what is found under it has been checked.
    key = hashlib.sha256(f'{version} {sha256}'.encode()).hexdigest()[:8]
    folder = os.path.join(os.path.realpath(download.cache_folder()), f'{name}-{key}')
    file, unpacked = os.path.join(folder, name), os.path.join(folder, 'unpacked')
    ready = unpacked if packed else file
    if not os.path.exists(ready):
        with download.locked(folder):
            if not os.path.exists(ready):  # another process may have been at work
                if not remote:
                    download.check_hash(source, sha256, source)
                elif not os.path.exists(file):
                    download.download(source, file, sha256=sha256, timeout=timeout)
                if packed:
                    _unpack(source, file if remote else source, unpacked, remove=remote)
    return _checkpoint(source, unpacked) if packed else file


def _identify(source, remote):
    """The name of a file, fit for any file system; and what is another for another file."""
    if not remote:
        path = os.path.realpath(source)
        if not os.path.isfile(path):
            raise CheckpointError(f'There is no file {source}.')
        if not os.access(path, os.R_OK):
            raise CheckpointError(f'{source} cannot be read: permission denied.')
        state = os.stat(path)
        return os.path.basename(path), f'{path} {state.st_size} {state.st_mtime_ns}'
    try:
        url = urllib.parse.urlsplit(source)
        whole = bool(url.hostname) and url.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise CheckpointError(f'{source} is not a URL: it should be of the form https://server/folder/weights.tar.gz.')
    name = re.sub(r'[^\w.+-]', '_', url.path.rsplit('/', 1)[-1])[-100:].lstrip('.') or 'weights'
    if re.search(r'\.(index|meta|data-\d+-of-\d+)$', name):
        raise CheckpointError(f'{source} is only one of the files of a checkpoint: give the URL of an archive with all '
                              'of them (.tar.gz), or download them and give the path of one.')
    return name, source


def _unpack(source, archive, unpacked, remove):
    """Makes the folder `unpacked`, once the archive and its checkpoint have been read through.

    With `remove`, the archive goes then, and also where it is refused.
    """
    part = f'{unpacked}.part'
    try:
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        _extract(source, archive, part)
        _read_through(source, _checkpoint(source, part))
        os.rename(part, unpacked)
    except CheckpointError:
        if remove:
            os.remove(archive)
        raise
    except OSError as error:
        raise download.unwritable(unpacked, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if remove:
        os.remove(archive)


def _extract(source, archive, folder):
    """Writes the files of an archive into a folder. Links, owners and permissions in it are of no use here."""
    size = 0
    try:
        with tarfile.open(archive, 'r:*') as tar:
            for member in tar:
                if member.isdir():
                    continue
                path = os.path.realpath(os.path.join(folder, member.name))
                if not path.startswith(folder + os.sep):
                    raise CheckpointError(f'{source} is refused: {member.name} would be written outside its folder.')
                if not member.isfile():
                    raise CheckpointError(f'{source} is refused: {member.name} in it is a link or a device, no file.')
                size += member.size
                if size > LARGEST:
                    raise CheckpointError(f'{source} is refused: it has more than {LARGEST / 1e9:.3g} GB in it.')
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with tar.extractfile(member) as packed, open(path, 'wb') as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
            while tar.fileobj.read(1 << 20):  # gzip's checksum comes after the last file
                pass
    except CheckpointError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise CheckpointError(f'{source} is damaged, or no archive: {str(error).splitlines()[0]}.') from None


def _read_through(source, checkpoint):
    try:
        reader = Reader(checkpoint)
        for name in reader.shapes:
            reader.value(name)
    except CheckpointError as error:
        raise CheckpointError(f'{source} has a checkpoint that cannot be read: {error}') from None


def _checkpoint(source, folder):
    """The prefix of the checkpoint in an unpacked archive.

    Of several, those in a folder `ema` come first: there MobileNet V3's archives have the moving averages, which are
    what is evaluated, beside the values themselves. Of one training's, it is that of the last step.
    """
    files = {os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
             if not name.startswith('.')}
    found = {file.removesuffix('.index') for file in files if file.endswith('.index')}
    found |= {file for file in files if re.search(r'\.ckpt(-\d+)?$', file)}
    found = {prefix for prefix in found if os.path.basename(os.path.dirname(prefix)) == 'ema'} or found
    newest = {}
    for prefix in sorted(found, key=_step):
        newest[re.sub(r'-\d+$', '', prefix)] = prefix
    if len(newest) == 1:
        return os.path.join(folder, *newest.values())
    if newest:
        raise CheckpointError(f'{source} has several checkpoints: {", ".join(sorted(found))}. Unpack it by hand and '
                              'give the path of one of them.')
    raise CheckpointError(f'{source} has no checkpoint in it, only: {", ".join(sorted(files)[:10]) or "nothing"}.')


def _step(prefix):
    return int('0' + re.search(r'-?(\d*)$', prefix)[1])
