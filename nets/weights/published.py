"""The published weights of TF-Slim, and other weights from the web: downloaded and unpacked once, into a cache."""
import os
import re
import urllib.parse

import slim_zoo_download
from nets import registry
from nets.checkpoints import CheckpointError, Reader
from slim_zoo_download import DownloadError


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

    Once they are in the cache (`slim_zoo_download.cache_folder`), no network is needed. Processes that ask for the
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
    if not source.startswith(('http://', 'https://')) and not source.endswith(slim_zoo_download.ARCHIVES):
        return source
    if re.search(r'\.(index|meta|data-\d+-of-\d+)$', source.split('?')[0]):
        raise CheckpointError(f'{source} is only one of the files of a checkpoint: give the URL of an archive with all '
                              'of them (.tar.gz), or download them and give the path of one.')
    try:
        path = slim_zoo_download.fetch(
            source, sha256=sha256, timeout=timeout, advice='give its path (pretrained=PATH)',
            look_through=lambda folder: _read_through(source, _checkpoint(source, folder)))
    except DownloadError as error:
        raise CheckpointError(str(error)) from None
    return _checkpoint(source, path) if os.path.isdir(path) else path


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
