"""Checkpoints at a URL, from a real server."""

import functools
import hashlib
import http.server
import threading

import pytest

from ckd_mm.errors import SnapshotError
from ckd_mm.trajectory.download import local_file


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder, its URL, and the paths that were asked for; downloads go to a folder of this test."""
    asked, folder = [], tmp_path / 'served'
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):

        def log_message(self, *args) -> None:
            asked.append(self.path)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{found.server_port}', asked
        found.shutdown()


def test_a_path_stays(tmp_path):
    assert local_file(tmp_path / 'not_there.pth') == tmp_path / 'not_there.pth'


def test_a_url_is_downloaded_once(server, tmp_path):
    folder, url, asked = server
    (folder / 'net.pth').write_bytes(b'weights')
    for _ in range(2):
        file = local_file(f'{url}/net.pth')
        assert file == tmp_path / 'torch' / 'hub' / 'checkpoints' / 'net.pth'
        assert file.read_bytes() == b'weights'
    assert len(asked) == 1


@pytest.mark.parametrize('right', [True, False])
def test_the_hash_in_the_name_is_checked(server, right):
    folder, url, _ = server
    digest = hashlib.sha256(b'weights' if right else b'others').hexdigest()[:8]
    (folder / f'net_20210831-{digest}.pth').write_bytes(b'weights')
    if right:
        assert local_file(f'{url}/net_20210831-{digest}.pth').read_bytes() == b'weights'
    else:
        with pytest.raises(SnapshotError, match=rf'-{digest}.pth, downloaded from http.* is damaged or '
                                                rf'another file: its SHA-256 does not begin with {digest}'):
            local_file(f'{url}/net_20210831-{digest}.pth')


def test_a_date_is_no_hash(server):
    folder, url, _ = server
    (folder / 'net_20210831.pth').write_bytes(b'weights')
    assert local_file(f'{url}/net_20210831.pth').read_bytes() == b'weights'


@pytest.mark.parametrize('missing', ['{url}/gone.pth', 'http://127.0.0.1:9/net.pth', 'nowhere://net.pth'])
def test_what_cannot_be_downloaded_is_one_line(server, missing):
    source = missing.format(url=server[1])
    with pytest.raises(SnapshotError, match=f'^{source} cannot be downloaded .*; download') as told:
        local_file(source)
    assert '\n' not in str(told.value)


@pytest.mark.parametrize('end', ['/', '/..'])
def test_a_url_without_a_file(server, end):
    with pytest.raises(SnapshotError, match='should end in the name of a checkpoint file'):
        local_file(server[1] + end)
