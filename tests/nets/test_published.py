"""Weights from the web, off a server on this machine that fails, stalls, cuts off and lies: what is read is right."""
import contextlib
import fcntl
import hashlib
import http.server
import io
import os
import pathlib
import pty
import resource
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

import slim_zoo_download as download
from nets import checkpoints, registry, weights
from nets.checkpoints import CheckpointError, Reader
from nets.weights import published

ROOT = pathlib.Path(__file__).parents[2]
VALUES = {'net/weights': np.random.RandomState(0).rand(300, 400).astype('f'), 'net/biases': np.arange(4, dtype='f')}


class Site(http.server.ThreadingHTTPServer):
    """Serves `files`; the first requests as `plan` says, one entry for each, and the others as `then` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.plan, self.then, self.etag, self.ranges = {}, [], {}, '"1"', []
        self.arrived, self.go = threading.Event(), threading.Event()
        self.url = f'http://127.0.0.1:{self.server_port}'
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are what is tested


class Handler(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server
        site.ranges.append(self.headers.get('Range'))
        self.answer(**(site.plan.pop(0) if site.plan else site.then))

    def answer(self, status=200, ranges=True, sent=None, hold=False, length=None, kind='application/octet-stream',
               if_range=True, shift=0):
        """`sent`: bytes until the connection is closed, or held; `length`: what is claimed; `shift`: of the range."""
        site, body = self.server, self.server.files.get(self.path)
        if body is None or status != 200:
            self.send_error(404 if body is None else status)
            return
        start = 0
        if ranges and 'Range' in self.headers and (not if_range or self.headers['If-Range'] in (None, site.etag)):
            start = int(self.headers['Range'].removeprefix('bytes=').removesuffix('-')) + shift
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        if site.etag:
            self.send_header('ETag', site.etag)
        self.send_header('Content-Type', kind)
        if length != 'none':
            self.send_header('Content-Length', str(length or len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][:sent])
        self.wfile.flush()
        if hold:
            site.arrived.set()
            site.go.wait(60)
            self.wfile.write(body[start + sent:])


@pytest.fixture
def site():
    with Site() as site:
        yield site
        site.go.set()
        site.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SLIM_ZOO_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(download, 'PAUSE', 0.01)
    return tmp_path / 'cache'


def v1(path):
    tf.raw_ops.Save(filename=str(path), tensor_names=list(VALUES), data=list(VALUES.values()))


def packed(files, mode='w:gz'):
    """An archive of name -> bytes, or -> a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, body in files.items():
            info = body if isinstance(body, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(body, bytes):
                info.size = len(body)
            tar.addfile(info, io.BytesIO(body) if isinstance(body, bytes) else None)
    return buffer.getvalue()


@pytest.fixture(scope='session')
def v1_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp('v1') / 'inception_v1.ckpt'
    v1(path)
    return path.read_bytes()


@pytest.fixture(scope='session')
def v2_files(tmp_path_factory):
    """Ending -> bytes."""
    prefix = checkpoints.save(str(tmp_path_factory.mktemp('v2')), 7, VALUES, 1)
    return {ending: pathlib.Path(prefix + ending).read_bytes() for ending in ('.index', '.data-00000-of-00001')}


@pytest.fixture(scope='session')
def archive(v1_bytes):
    return packed({'inception_v1.ckpt': v1_bytes})


@pytest.fixture
def served(site, archive):
    """A site with one archive, its URL."""
    site.files['/models/inception_v1.tar.gz'] = archive
    return site, site.url + '/models/inception_v1.tar.gz'


def check(opened):
    """A checkpoint, opened or not, has VALUES."""
    reader = Reader(opened) if isinstance(opened, str) else opened
    assert reader.shapes == {name: value.shape for name, value in VALUES.items()}
    for name, value in VALUES.items():
        np.testing.assert_array_equal(reader.value(name), value)


def left(cache):
    """What is in the cache: files and their folders, without the locks."""
    return sorted(path.name for path in cache.rglob('*') if path.is_file() and path.name != '.lock')


def refusal(source, **kwargs):
    with pytest.raises(CheckpointError) as caught:
        published.fetch(source, **kwargs)
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Whole files.

def test_an_archive_is_downloaded_once_and_found_without_a_network(served, cache):
    site, url = served
    path = published.fetch(url)
    check(path)
    assert path.endswith('inception_v1.ckpt') and left(cache) == ['inception_v1.ckpt']
    site.shutdown()
    site.server_close()
    assert published.fetch(url) == path
    assert site.ranges == [None]


def test_the_published_weights_of_a_network(served, monkeypatch):
    site, _ = served
    row = registry.get('inception_v1')
    site.files['/models/' + row.weights] = site.files['/models/inception_v1.tar.gz']
    monkeypatch.setattr(registry, 'WEIGHTS_URL', site.url + '/models/')
    check(weights.read(published.of(row), row))
    with pytest.raises(CheckpointError, match='no published weights of cifarnet, only of: vgg_16, '):
        published.of(registry.get('cifarnet'))


def test_every_published_url_is_one_of_an_archive():
    urls = [published.of(registry.get(name)) for name in registry.list_models(pretrained=True)]
    assert len(set(urls)) == len(urls) > 20
    assert all(url.startswith('http') and url.endswith(('.tar.gz', '.tgz')) for url in urls)


def test_a_plain_file_is_given_as_it_is(site, cache):
    site.files['/a/weights.h5?download=true'] = b'12345'
    path = published.fetch(site.url + '/a/weights.h5?download=true')
    assert path.endswith('weights.h5') and pathlib.Path(path).read_bytes() == b'12345'
    assert published.fetch(site.url + '/a/weights.h5?download=true') == path and len(site.ranges) == 1
    assert left(cache) == ['weights.h5']


def test_files_of_one_name_from_two_places_are_two(site):
    site.files |= {'/a/weights.h5': b'a', '/b/weights.h5': b'b'}
    paths = [published.fetch(f'{site.url}/{place}/weights.h5') for place in 'ab']
    assert [pathlib.Path(path).read_bytes() for path in paths] == [b'a', b'b']


@pytest.mark.parametrize('ending, mode', [('.tar.gz', 'w:gz'), ('.tgz', 'w:gz'), ('.tar', 'w')])
def test_local_archives(ending, mode, tmp_path, v2_files, cache):
    path = tmp_path / f'x{ending}'
    path.write_bytes(packed({f'./model.ckpt{end}': body for end, body in v2_files.items()}, mode))
    prefix = published.fetch(str(path))
    check(prefix)
    assert os.path.basename(prefix) == 'model.ckpt' and path.exists()
    path.write_bytes(packed({f'other.ckpt{end}': body for end, body in v2_files.items()}, mode))
    assert os.path.basename(published.fetch(str(path))) == 'other.ckpt'


def test_what_needs_no_fetching_is_left_alone():
    assert published.fetch('runs/flowers/model.ckpt-7') == 'runs/flowers/model.ckpt-7'


@pytest.mark.parametrize('names, found', [
    (['mobilenet_v1_1.0_224.ckpt'], 'mobilenet_v1_1.0_224.ckpt'),
    (['resnet_v2_50.ckpt', '._resnet_v2_50.ckpt'], 'resnet_v2_50.ckpt'),
    (['v3/ema/model-540000', 'v3/pristine/model.ckpt-540000'], 'v3/ema/model-540000'),
    (['model.ckpt-9', 'model.ckpt-10'], 'model.ckpt-10'),
])
def test_the_checkpoint_of_an_archive(names, found, tmp_path, v2_files):
    path = tmp_path / 'x.tar'
    files = {f'{name}{end}': body for name in names for end, body in v2_files.items()}
    path.write_bytes(packed({**files, 'README.txt': b'', 'v3/frozen.pb': b'', f'{names[0]}.meta': b''}, 'w'))
    prefix = published.fetch(str(path))
    check(prefix)
    assert prefix.endswith('unpacked/' + found)


def test_several_checkpoints_or_none_are_refused(tmp_path, v2_files, v1_bytes):
    path = tmp_path / 'x.tar'
    path.write_bytes(packed({'a.ckpt': v1_bytes, 'b.ckpt': v1_bytes}, 'w'))
    assert 'several checkpoints: a.ckpt, b.ckpt' in refusal(str(path))
    path.write_bytes(packed({'flowers/rose.jpg': b''}, 'w'))
    assert 'no checkpoint in it, only: flowers/rose.jpg' in refusal(str(path))
    assert path.exists()


# The way there.

def test_errors_of_the_server_are_tried_again(served):
    site, url = served
    site.plan = [{'status': 500}, {'status': 503}]
    check(published.fetch(url))
    assert site.ranges == [None] * 3


def test_errors_that_stay_are_told(served, cache):
    site, url = served
    site.then = {'status': 503}
    assert 'could not be downloaded: the server answered 503 Service Unavailable' in refusal(url)
    assert len(site.ranges) == 1 + download.RETRIES
    text = refusal(site.url + '/nothing.tar.gz')
    assert f'{site.url}/nothing.tar.gz could not be downloaded: the server answered 404 Not Found' in text
    assert 'pretrained=PATH' in text and str(cache) in text
    assert len(site.ranges) == 2 + download.RETRIES  # there is no use in trying this again


@pytest.mark.parametrize('fault', [{'sent': 200_000}, {'sent': 200_000, 'hold': True}], ids=['closed', 'stalled'])
def test_a_download_that_is_cut_off_goes_on(served, fault, archive):
    site, url = served
    site.plan = [fault]
    path = published.fetch(url, timeout=0.5, sha256=hashlib.sha256(archive).hexdigest())
    check(path)
    assert site.ranges == [None, 'bytes=200000-']


def test_a_server_without_ranges_begins_anew(served):
    site, url = served
    site.plan = [{'sent': 200_000}]
    site.then = {'ranges': False}
    check(published.fetch(url))
    assert len(site.ranges) == 2


def test_a_server_that_cuts_off_each_time_gets_there_in_the_end(served, archive):
    site, url = served
    site.then = {'sent': 50_000}
    check(published.fetch(url))
    assert len(site.ranges) > len(archive) / 50_000 > download.RETRIES + 1


def test_a_server_that_always_truncates_is_given_up(served, cache):
    site, url = served
    site.then = {'sent': 50_000, 'ranges': False}
    text = refusal(url)
    assert 'closed after 50000 of' in text and 'the next call goes on from there' in text
    assert len(site.ranges) == 2 + download.RETRIES
    site.then = {}
    check(published.fetch(url))
    assert site.ranges[-1] == 'bytes=50000-'
    assert left(cache) == ['inception_v1.ckpt']


@pytest.mark.parametrize('if_range', [True, False], ids=['', 'by a server that does not see it'])
def test_a_file_that_changed_between_two_tries_is_begun_anew(served, if_range):
    site, url = served
    whole = site.files['/models/inception_v1.tar.gz']
    site.files['/models/inception_v1.tar.gz'] = bytes(len(whole))
    site.then = {'sent': 50_000, 'ranges': False}
    refusal(url)
    site.files['/models/inception_v1.tar.gz'], site.etag, site.then = whole, '"2"', {}
    site.plan = [{'if_range': if_range}]
    check(published.fetch(url))
    assert site.ranges[-2 + if_range] == 'bytes=50000-'


def test_another_part_than_was_asked_for_is_not_used(served):
    site, url = served
    site.plan = [{'sent': 50_000}, {'shift': 1000}]
    check(published.fetch(url))
    assert site.ranges == [None, 'bytes=50000-', None]


@pytest.mark.parametrize('etag', ['', 'W/"1"'])
def test_nothing_is_resumed_of_a_file_whose_version_is_unknown(served, etag):
    site, url = served
    site.etag, site.plan = etag, [{'sent': 50_000}]
    check(published.fetch(url))
    assert site.ranges == [None, None]


def test_without_a_length(served, cache):
    site, url = served
    site.plan = [{'length': 'none', 'sent': 50_000}]
    assert 'is damaged' in refusal(url)  # that it was cut off shows only when it is read
    assert left(cache) == []
    site.then = {'length': 'none'}
    check(published.fetch(url))


def test_no_network():
    site = Site()
    site.shutdown()
    site.server_close()
    text = refusal(site.url + '/x.tar.gz')
    assert 'Connection refused' in text and 'pretrained=PATH' in text


def test_a_name_server_that_is_away(served, monkeypatch):
    site, url = served
    find, away = socket.getaddrinfo, [True, False, True, False]

    def getaddrinfo(*args, **kwargs):
        if away.pop(0):
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        return find(*args, **kwargs)

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    assert 'is there a network? (Name or service not known)' in refusal(url)  # at once
    site.plan = [{'sent': 50_000}]
    check(published.fetch(url))
    assert site.ranges == [None, 'bytes=50000-'] and not away


@pytest.mark.parametrize('url', ['http://', 'http://[::1/x.tar', 'http://host:port/x.tar.gz', 'https:///x.tgz'])
def test_what_is_no_url(url):
    assert f'{url} is not a URL' in refusal(url)


@pytest.mark.parametrize('url', ['http://a..b/x.tar.gz', f'http://{"a" * 64}.org/x.tar.gz'])
def test_an_impossible_server(url):
    assert 'no server can have this name' in refusal(url)


def test_one_of_several_files(site):
    assert 'only one of the files' in refusal(site.url + '/model.ckpt-7.data-00000-of-00001')


# Files that are not what they should be.

@pytest.mark.parametrize('page, kind', [(b'<p>Moved</p>', 'text/html; charset=utf-8'),
                                        (b'\n<!DOCTYPE html><html></html>', 'application/gzip')])
@pytest.mark.parametrize('name', ['x.tar.gz', 'weights.h5'])
def test_a_web_page_in_place_of_the_file(site, page, kind, name, cache):
    site.files[f'/{name}'], site.then = page, {'kind': kind}
    assert 'it is a web page' in refusal(f'{site.url}/{name}')
    assert len(site.ranges) == 1 and name not in left(cache)


def spoilt(body, at):
    return body[:at] + bytes([body[at] ^ 255]) + body[at + 1:]


@pytest.mark.parametrize('spoil', [
    lambda body: body[:len(body) // 2], lambda body: body[:-4], lambda body: b'Not found\n', lambda body: b'',
    lambda body: spoilt(body, len(body) // 2), lambda body: spoilt(body, len(body) - 6),
], ids=['half', 'no end', 'text', 'nothing', 'a byte', 'checksum'])
def test_a_damaged_archive_is_removed_and_refused(served, spoil, cache):
    site, url = served
    whole = site.files['/models/inception_v1.tar.gz']
    site.files['/models/inception_v1.tar.gz'] = spoil(whole)
    assert f'{url} is damaged, or no archive' in refusal(url)
    assert left(cache) == []
    site.files['/models/inception_v1.tar.gz'] = whole
    check(published.fetch(url))


def test_a_damaged_checkpoint_in_a_sound_archive(site, v2_files, cache):
    files = {'.index': v2_files['.index'], '.data-00000-of-00001': v2_files['.data-00000-of-00001'][:1000]}
    site.files['/x.tar'] = packed({f'model.ckpt{end}': body for end, body in files.items()}, 'w')
    assert 'has a checkpoint that cannot be read' in refusal(site.url + '/x.tar')
    assert left(cache) == []


def test_a_length_that_is_a_lie(served, archive, cache):
    site, url = served
    site.then = {'length': len(archive) - 1000}
    assert 'is damaged' in refusal(url) and left(cache) == []
    site.then = {'length': len(archive) + 1000, 'ranges': False}
    assert f'closed after {len(archive)} of {len(archive) + 1000} bytes' in refusal(url)
    site.then = {'length': 10**18}
    assert 'needs 1e+09 GB, but' in refusal(url)


def test_another_hash_is_refused(served, archive, cache, tmp_path):
    site, url = served
    published.fetch(url)
    right = hashlib.sha256(archive).hexdigest()
    assert f'its SHA-256 is {right}, and should be {"0" * 64}' in refusal(url, sha256='0' * 64)
    assert left(cache) == ['inception_v1.ckpt']
    check(published.fetch(url, sha256=right.upper()))
    (tmp_path / 'x.tar.gz').write_bytes(archive)
    assert 'is not the file that was expected' in refusal(str(tmp_path / 'x.tar.gz'), sha256='0' * 64)


def entry(kind, target=''):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def huge():
    info = tarfile.TarInfo()
    info.size = 30 * 10**9
    return info


@pytest.mark.parametrize('files, why', [
    (lambda out: {'../escaped.ckpt': b'1'}, '../escaped.ckpt would be written outside'),
    (lambda out: {'a/../../escaped.ckpt': b'1'}, 'would be written outside'),
    (lambda out: {f'{out}/escaped.ckpt': b'1'}, 'would be written outside'),
    (lambda out: {'a': entry(tarfile.SYMTYPE, str(out)), 'a/escaped.ckpt': b'1'}, 'a in it is a link'),
    (lambda out: {'a.ckpt': entry(tarfile.LNKTYPE, f'{out}/secret')}, 'is a link'),
    (lambda out: {'a.ckpt': entry(tarfile.FIFOTYPE)}, 'or a device'),
    (lambda out: {'a.ckpt': huge()}, 'more than 20 GB'),
], ids=['parent', 'parent within', 'absolute', 'symbolic link', 'hard link', 'fifo', 'bomb'])
def test_an_unsafe_archive_is_refused(files, why, tmp_path, cache):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'secret').write_text('secret')
    path = tmp_path / 'evil.tar'
    path.write_bytes(packed(files(tmp_path / 'out'), 'w'))
    assert why in refusal(str(path))
    assert left(tmp_path) == ['evil.tar', 'secret']


# The cache.

def test_a_full_disk(served, cache):
    site, url = served
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        text = refusal(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'cannot be written: File too large' in text and 'SLIM_ZOO_CACHE' in text
    check(published.fetch(url))
    assert site.ranges == [None, 'bytes=100000-']


def test_a_cache_that_cannot_be_made(served, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('SLIM_ZOO_CACHE', str(tmp_path / 'file' / 'cache'))
    assert 'cannot be written: Not a directory' in refusal(served[1])


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    monkeypatch.setenv('SLIM_ZOO_CACHE', '~/weights')
    assert download.cache_folder() == '/home/someone/weights'
    monkeypatch.delenv('SLIM_ZOO_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/var/caches')
    assert download.cache_folder() == '/var/caches/slim-zoo'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert download.cache_folder() == '/home/someone/.cache/slim-zoo'


def test_a_file_that_was_put_there_by_hand_is_used(served, archive, cache):
    site, url = served
    site.then = {'status': 404}
    there = pathlib.Path(refusal(url).split('put it there: ')[1])
    there.write_bytes(archive)
    check(published.fetch(url))
    assert len(site.ranges) == 1


def another_process(url):
    code = f'from nets.weights import published; print(published.fetch({url!r}))'
    return subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


class Watched(io.StringIO):
    """A standard error that sets an event once a text was written to it."""

    def __init__(self, text, event):
        super().__init__()
        self._text, self._event = text, event

    def write(self, text):
        if self._text in text:
            self._event.set()
        return super().write(text)


def test_two_processes_download_once(served, monkeypatch):
    site, url = served
    site.plan = [{'sent': 1000, 'hold': True}]
    monkeypatch.setattr(sys, 'stderr', Watched('Waiting for another process', site.go))
    with another_process(url) as other:
        assert site.arrived.wait(60)
        path = published.fetch(url)
        assert other.communicate(timeout=60)[0].strip() == path
    check(path)
    assert site.go.is_set() and site.ranges == [None]


def test_a_download_whose_process_was_killed_goes_on(served, cache):
    site, url = served
    site.plan = [{'sent': 200_000, 'hold': True}]
    with another_process(url) as other:
        assert site.arrived.wait(60)
        deadline = time.monotonic() + 30
        while sum(path.stat().st_size for path in cache.rglob('*.part')) < 200_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        other.send_signal(signal.SIGKILL)
    check(published.fetch(url))
    assert site.ranges == [None, 'bytes=200000-']
    assert left(cache) == ['inception_v1.ckpt']


# What is shown.

def test_lines_where_there_is_no_terminal(served, capsys, monkeypatch):
    site, url = served
    monkeypatch.setattr(download, '_LINES', 0)
    published.fetch(url)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f'Downloading {url} to ')
    size = len(site.files['/models/inception_v1.tar.gz']) / 1000
    assert lines[-1].startswith(f'inception_v1.tar.gz: {size:.0f}kB/{size:.0f}kB, ') and 'left' in lines[-1]
    assert not any('\r' in line for line in lines)


@pytest.mark.parametrize('columns', [100, 0])
def test_a_bar_on_a_terminal_that_has_a_size(columns, served, monkeypatch):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 40 if columns else 0, columns, 0, 0))
    with open(terminal, 'w') as stream:
        monkeypatch.setattr(sys, 'stderr', stream)
        published.fetch(served[1])
    shown = b''
    with contextlib.suppress(OSError):  # as Linux says the end
        while block := os.read(controller, 1 << 16):
            shown += block
    os.close(controller)
    shown = shown.decode()
    assert 'inception_v1.tar.gz: ' in shown and 'left' in shown
    assert ('\rinception_v1.tar.gz: ' in shown) == bool(columns)
