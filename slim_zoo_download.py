"""Files from the web, downloaded once into a cache that processes share: resumed when cut off, there when whole.

Archives among them are unpacked there, safely. Weights (`nets.weights`) and datasets (`datasets.conversion`) come so.
"""
import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import re
import shutil
import socket
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator

from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows: there, two processes at once should not ask for the same file
    fcntl = None  # type: ignore[assignment]

ARCHIVES = ('.tar.gz', '.tgz', '.tar')
LARGEST = 20 * 10**9  # bytes that an archive may unpack to; the largest that is published has 1.3e9
MOST = 5_000_000      # files in it; ImageNet has 1.3 million
TIMEOUT = 30.0  # seconds without a byte
RETRIES = 4     # without a byte more than before
PAUSE = 1.0     # seconds before the first retry; doubled for each that follows
_HEADER = 1 << 20   # bytes of a name, or of what else is told of a file in an archive
_LINES = 10.0   # seconds between the lines of progress where there is no terminal
_WEB_PAGE = 'it is a web page: the file has moved, or this network asks for a login first'
_HTML = re.compile(rb'\s*<(!doctype html|html)', re.IGNORECASE)


class DownloadError(ValueError):
    """A file cannot be had from the web, or is not what it should be; one sentence says why, and what to do."""


def cache_folder() -> str:
    """Where downloads are kept: `SLIM_ZOO_CACHE`, or `slim-zoo` in `XDG_CACHE_HOME` or `~/.cache`."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
    return os.path.abspath(os.path.expanduser(os.environ.get('SLIM_ZOO_CACHE') or os.path.join(home, 'slim-zoo')))


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds a folder of the cache for one process at a time, while the others wait; the lock dies with its holder.

    Args:
      folder: is made if it is not there.

    Raises:
      DownloadError: the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(folder, exist_ok=True)
            file = stack.enter_context(open(os.path.join(folder, '.lock'), 'w'))
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    _say(f'Waiting for another process, which is at work in {folder}.')
                    fcntl.flock(file, fcntl.LOCK_EX)
                # Closing is not enough: a process that was forked meanwhile has the file open too.
                stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
        except OSError as error:
            raise unwritable(folder, error) from None
        yield


def unwritable(path: str, error: OSError) -> DownloadError:
    """The error for a file or folder of the cache that cannot be written."""
    return DownloadError(f'{path} cannot be written: {error.strerror or error}. Make room or give permission there, '
                           'or set the environment variable SLIM_ZOO_CACHE to another folder.')


def fetch(source: str, *, size: int | None = None, sha256: str | None = None, md5: str | None = None,
          timeout: float | None = None, advice: str = 'give its path',
          look_through: Callable[[str], object] | None = None) -> str:
    """The local path of a file on the web, or of what an archive, on the web or not, unpacks to: had once.

    Once it is in the cache (`cache_folder`), no network is needed. Processes that ask for the same file at once
    download it once.

    Args:
      source: the URL (http or https) of an archive (`ARCHIVES`) or of any other file; or the path of an archive.
      size: of the file in bytes; None if it is not known.
      sha256, md5: of the file, in hexadecimal; None if they are not known.
      timeout: seconds without a byte after which a connection is given up and tried again; 30 if None.
      advice: what to do with a file that was downloaded by hand.
      look_through: called with the folder that an archive was unpacked to, before it is used; raises a ValueError where
        it will not do.

    Returns:
      The path of the folder that the archive was unpacked to, or of the file.

    Raises:
      DownloadError: it cannot be downloaded, read, or written to the cache; an archive is damaged or unsafe.
    """
    remote = source.startswith(('http://', 'https://'))
    name, version = _identify(source, remote)
    packed = name.endswith(ARCHIVES)
    # A hash that is asked for is part of the key: what is found under it has been checked.
    key = hashlib.sha256(f'{version} {sha256}{"" if md5 is None else f" {md5}"}'.encode()).hexdigest()[:8]
    folder = os.path.join(os.path.realpath(cache_folder()), f'{name}-{key}')
    file, unpacked = os.path.join(folder, name), os.path.join(folder, 'unpacked')
    ready = unpacked if packed else file
    if not os.path.exists(ready):
        with locked(folder):
            if not os.path.exists(ready):  # another process may have been at work
                if not remote:
                    check(source, source, size, sha256, md5)
                elif not os.path.exists(file):
                    download(source, file, size=size, sha256=sha256, md5=md5, timeout=timeout, advice=advice)
                if packed:
                    _unpack(source, file if remote else source, unpacked, look_through, remove=remote)
    return ready


def download(url: str, path: str, *, size: int | None = None, sha256: str | None = None, md5: str | None = None,
             timeout: float | None = None, advice: str = 'give its path') -> None:
    """Downloads a file, going on where an earlier call was cut off.

    Dropped connections, stalls and a server's own errors (5xx) are tried again, later and later. What has come so far
    is in `PATH.part`; the server is asked to go on from there only if the file has not changed since.

    Args:
      url: http or https.
      path: what the file is called when it is whole. Its folder is there, and is this process's alone; see `locked`.
      size, sha256, md5: of the file, see `fetch`; without them its length is checked alone, if the server gives it.
      timeout: seconds without a byte after which the connection is given up; `TIMEOUT` if None.
      advice: what to do with a file that was downloaded by hand.

    Raises:
      DownloadError: it cannot be had or written, is a web page, or has another hash; says why, and what to do.
    """
    url = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    part = _Part(path + '.part')
    advice = f'You can download it by hand, and {advice} or put it there: {path}'
    _say(f'Downloading {url} to {os.path.dirname(path)}')
    failures = 0
    started = furthest = part.size()
    while True:
        try:
            _attempt(url, part, TIMEOUT if timeout is None else timeout)
            break
        except (OSError, http.client.HTTPException, UnicodeError, _Final) as error:
            why, passing = _explain(error, received=part.size() > started)
        if part.size() > furthest:
            failures, furthest = 0, part.size()
        else:
            failures += 1
        if not passing or failures > RETRIES:
            kept = 'What has come is kept, and the next call goes on from there. ' if part.validator() else ''
            raise DownloadError(f'{url} could not be downloaded: {why}. {kept}{advice}')
        pause = PAUSE * 2 ** max(failures - 1, 0)
        _say(f'{why}; trying again in {pause:.3g} s')
        time.sleep(pause)
    try:
        check(part.path, url, size, sha256, md5)
    except DownloadError:
        part.remove()
        raise
    os.replace(part.path, path)
    part.remove()


def check(path: str, name: str, size: int | None = None, sha256: str | None = None, md5: str | None = None) -> None:
    """Raises DownloadError where a file has not the size or hash that it should; `name` is what the message says."""
    if size is not None and os.path.getsize(path) != size:
        raise DownloadError(f'{name} is not the file that was expected: it has {os.path.getsize(path)} bytes, and '
                            f'should have {size}.')
    for kind, wanted, digest in (('SHA-256', sha256, hashlib.sha256()),
                                 ('MD5', md5, hashlib.md5(usedforsecurity=False))):
        if wanted is None:
            continue
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != wanted.lower():
            raise DownloadError(f'{name} is not the file that was expected: its {kind} is {digest.hexdigest()}, and '
                                f'should be {wanted.lower()}.')


class _Part:
    """What has come of a file, and by what the server knows which version of the file that is of."""

    def __init__(self, path):
        self.path, self._validator = path, path + '.version'

    def size(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def validator(self):
        """The server's name for the version; empty where there is nothing to go on from."""
        if not self.size() or not os.path.exists(self._validator):
            return ''
        with open(self._validator, encoding='latin-1') as file:
            return file.read()

    def begin(self, headers):
        """Forgets what has come; `headers` are those of the answer that it will come from."""
        self.remove()
        with open(self._validator, 'w', encoding='latin-1') as file:
            file.write(_version(headers))

    def remove(self):
        for path in (self.path, self._validator):  # in this order: bytes never stand beside another version's name
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def _version(headers):
    """What a server can be asked to go on by; a weak ETag will not do, its file may differ in bytes."""
    etag = headers.get('ETag', '')
    return headers.get('Last-Modified', '') if etag.startswith('W/') or not etag else etag


def _attempt(url, part, timeout):
    """One request; raises OSError or HTTPException where the network or the server fails."""
    headers, validator = {'User-Agent': 'slim-zoo'}, part.validator()
    if validator:
        headers |= {'Range': f'bytes={part.size()}-', 'If-Range': validator}
    request = urllib.request.Request(url, headers=headers)
    with _answer(request, part, timeout) as response:
        resumed = response.status == 206
        if resumed and not (response.headers.get('Content-Range', '').startswith(f'bytes {part.size()}-')
                            and _version(response.headers) in ('', validator)):
            part.remove()
            raise ConnectionError('the server sent something else than the part of the file that is missing')
        if response.headers.get_content_type() == 'text/html':
            raise _Final(_WEB_PAGE)
        try:
            if not resumed:
                part.begin(response.headers)
            file = open(part.path, 'ab', buffering=0)
        except OSError as error:
            raise unwritable(part.path, error) from None
        with file:
            _receive(url, response, file)


def _answer(request, part, timeout):
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is no more of the file than has come, which was not found to be whole
            part.remove()
        raise


def _receive(url, response, file):
    done, length = file.tell(), response.headers.get('Content-Length', '')
    total = done + int(length) if length.isdigit() else None
    free = shutil.disk_usage(os.path.dirname(file.name)).free
    if total is not None and total - done > free:
        raise DownloadError(f'{url} needs {_megabytes(total - done)}, but {os.path.dirname(file.name)} has only '
                              f'{_megabytes(free)} left. Make room there, or set the environment variable '
                              'SLIM_ZOO_CACHE to another folder.')
    with _progress(os.path.basename(file.name).removesuffix('.part'), done, total) as progress:
        # No more than the length is asked for: there are servers that then keep the connection open.
        while total is None or done < total:
            block = response.read1(1 << 18 if total is None else min(1 << 18, total - done))
            if not block:
                break
            if not done and _HTML.match(block):
                raise _Final(_WEB_PAGE)
            view = memoryview(block)
            while view:
                try:
                    view = view[file.write(view):]
                except OSError as error:
                    raise unwritable(file.name, error) from None
            done += len(block)
            progress.update(len(block))
    if total is not None and done < total:
        raise ConnectionError(f'the connection was closed after {done} of {total} bytes')


class _Final(Exception):
    """What another try will not mend."""


def _explain(error, received):
    """What happened, in words; and whether it may pass."""
    if isinstance(error, urllib.error.HTTPError):
        passing = error.code in (408, 416, 429) or error.code >= 500
        return f'the server answered {error.code} {error.reason}'.rstrip(), passing
    if isinstance(error, urllib.error.URLError):
        error = error.reason
    if isinstance(error, socket.gaierror):  # no network, or a wrong name; or a network that was there a moment ago
        return f'no server of this name is found, is there a network? ({error.strerror})', received
    if isinstance(error, TimeoutError):
        return 'the server sent nothing for too long', True
    if isinstance(error, http.client.IncompleteRead):
        return 'the connection was closed too early', True
    if isinstance(error, OSError):
        return error.strerror or str(error), not isinstance(error, ssl.SSLCertVerificationError)
    if isinstance(error, UnicodeError):
        return 'no server can have this name', False
    return str(error) or type(error).__name__, not isinstance(error, (_Final, http.client.InvalidURL))


class _Lines:
    """In place of a terminal: a line for each state of the bar."""

    def write(self, text):
        if text.strip():
            _say(text.strip())

    def flush(self):
        pass


def _progress(name, done, total):
    size = '{n_fmt}B/{total_fmt}B, {rate_fmt}, {remaining} left' if total else '{n_fmt}B, {rate_fmt}'
    # A terminal without a size, as some containers have, could show no bar.
    terminal = sys.stderr.isatty() and all(os.get_terminal_size(sys.stderr.fileno()))
    look = {'file': sys.stderr, 'dynamic_ncols': True} if terminal else {'file': _Lines(), 'mininterval': _LINES}
    return tqdm(desc=name, total=total, initial=done, unit='B', unit_scale=True, miniters=1,
                bar_format='{desc}: ' + size + (' {bar}' if terminal and total else ''), **look)


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _megabytes(size):
    return f'{size / 1e6:.3g} MB' if size < 1e9 else f'{size / 1e9:.3g} GB'


def _identify(source, remote):
    """The name of a file, fit for any file system; and what is another for another file."""
    if not remote:
        path = os.path.realpath(source)
        if not os.path.isfile(path):
            raise DownloadError(f'There is no file {source}.')
        if not os.access(path, os.R_OK):
            raise DownloadError(f'{source} cannot be read: permission denied.')
        state = os.stat(path)
        return os.path.basename(path), f'{path} {state.st_size} {state.st_mtime_ns}'
    try:
        url = urllib.parse.urlsplit(source)
        whole = bool(url.hostname) and url.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise DownloadError(f'{source} is not a URL: it should be of the form https://server/folder/file.tar.gz.')
    return re.sub(r'[^\w.+-]', '_', url.path.rsplit('/', 1)[-1])[-100:].lstrip('.') or 'file', source


def _unpack(source, archive, unpacked, look_through, remove):
    """Makes the folder `unpacked`, once the archive has been read, and what is in it looked through.

    With `remove`, the archive goes then, and also where it is refused.
    """
    part = f'{unpacked}.part'
    try:
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        _extract(source, archive, part)
        if look_through:
            look_through(part)
        os.rename(part, unpacked)
    except ValueError:
        if remove:
            os.remove(archive)
        raise
    except OSError as error:
        raise unwritable(unpacked, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if remove:
        os.remove(archive)


def _extract(source, archive, folder):
    """Writes the files of an archive into a folder. Links, owners and permissions in it are of no use here."""
    size = 0

    class Member(tarfile.TarInfo):

        @classmethod
        def frombuf(cls, *args):
            found = super().frombuf(*args)
            if not found.isfile() and found.size > _HEADER:     # tarfile would read all of it into memory
                raise DownloadError(f'{source} is refused: a name in it is longer than any.')
            return found

    try:
        with tarfile.open(archive, 'r:*', tarinfo=Member) as tar:
            for number, member in enumerate(tar):
                tar.members = []    # which would be kept
                if number == MOST:
                    raise DownloadError(f'{source} is refused: it has more than {MOST:,} files in it.')
                if member.isdir():
                    continue
                path = os.path.realpath(os.path.join(folder, member.name))
                if not path.startswith(folder + os.sep):
                    raise DownloadError(f'{source} is refused: {member.name} would be written outside its folder.')
                if not member.isfile():
                    raise DownloadError(f'{source} is refused: {member.name} in it is a link or a device, no file.')
                size += member.size
                if size > LARGEST:
                    raise DownloadError(f'{source} is refused: it has more than {LARGEST / 1e9:.3g} GB in it.')
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with tar.extractfile(member) as packed, open(path, 'wb') as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
            while tar.fileobj.read(1 << 20):  # gzip's checksum comes after the last file
                pass
    except DownloadError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise DownloadError(f'{source} is damaged, or no archive: {str(error).splitlines()[0]}.') from None
