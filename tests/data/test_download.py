"""Downloads from a server that misbehaves."""

import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from harmonizer.data.shards import download
from harmonizer.data.shards.download import fetch

CONTENT = np.random.default_rng(0).bytes(300_000)


class Handler(BaseHTTPRequestHandler):
    """Serve the server's content, with the faults set in its attributes."""

    def do_GET(self):
        server, start = self.server, 0
        server.requests.append(dict(self.headers))
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        wanted = self.headers.get("Range")
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        stop = server.stops.pop(0) if server.stops else len(server.content)
        if start:
            honest = f"bytes {start}-{stop - 1}/{len(server.content)}"
            self.send_header("Content-Range", honest if server.sends is None else server.sends)
        self.send_header("Content-Length", str(stop - start))
        for name, value in (("ETag", server.tag), ("x-goog-hash", server.hash)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        end = server.breaks.pop(0) if server.breaks else len(server.content)
        self.wfile.write(server.content[start : min(stop, end)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.errors, server.breaks, server.stops, server.sends = [], [], [], [], None
        server.content, server.ranges, server.tag, server.hash = CONTENT, True, '"one"', None
        server.url = f"http://127.0.0.1:{server.server_port}/data/train-0.tfrecords"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ranges(server):
    return [request.get("Range") for request in server.requests]


def test_a_file_is_downloaded_once(server, tmp_path):
    received = []
    path = fetch(server.url, tmp_path, advance=received.append)
    assert (path.name, path.read_bytes(), sum(received)) == ("train-0.tfrecords", CONTENT, len(CONTENT))
    assert fetch(server.url, tmp_path) == path
    assert len(server.requests) == 1
    assert {file.name for file in path.parent.iterdir()} - {".lock"} == {"train-0.tfrecords"}


def test_a_broken_transfer_resumes_where_it_broke(server, tmp_path):
    server.breaks, server.errors = [100_000, 250_000], [503]
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, None, "bytes=100000-", "bytes=250000-"]


def test_a_later_run_resumes_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [100_000]
    with pytest.raises(OSError, match=r"broke off after 100000 of 300000 bytes; rerun the same command to resume"):
        fetch(server.url, tmp_path)
    assert not list(tmp_path.glob("*/train*"))
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]


def test_a_changed_file_is_downloaded_from_the_start(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [100_000]
    with pytest.raises(OSError, match="broke off"):
        fetch(server.url, tmp_path)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("lack", ["ranges", "tag"])
def test_without_resume_support_the_download_restarts(server, tmp_path, lack):
    setattr(server, lack, None)
    server.breaks = [100_000]
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT


def test_a_download_with_a_wrong_checksum_is_refused(server, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    server.hash = "crc32c=AAAAAA==, md5=" + base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    assert fetch(f"{server.url}#sha256={right}", tmp_path).read_bytes() == CONTENT
    with pytest.raises(ValueError, match=f"sha256 is {right}, expected {'0' * 64}"):
        fetch(f"{server.url}#sha256={'0' * 64}", tmp_path)
    server.hash = "md5=AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(ValueError, match="not what the server announced"):
        fetch(server.url, tmp_path)
    assert not [path for path in tmp_path.rglob("*train*") if path.stat().st_size]


def test_a_404_is_not_retried(server, tmp_path):
    server.errors = [404]
    with pytest.raises(OSError, match=r"train-0\.tfrecords: the server answered 404"):
        fetch(server.url, tmp_path)
    assert len(server.requests) == 1


def test_the_converter_accepts_addresses(server, convert, read_shards, golden_tfrecord, tmp_path):
    server.content, server.breaks = golden_tfrecord.read_bytes(), [50_000]
    assert convert(server.url, "--out", tmp_path / "remote", "--cache", tmp_path / "cache") == (0, "")
    assert list(read_shards(tmp_path / "remote")) == [f"train-0-{number:05d}" for number in range(5)]
    server.errors = [404]
    status, message = convert(f"{server.url}2", "--out", tmp_path / "x", "--cache", tmp_path / "cache")
    assert (status, "answered 404" in message) == (1, True)


@pytest.mark.parametrize(
    "sends", ["bytes 0-299999/300000", "bytes 100001-299999/300000", "bytes */300000", "100000", ""], ids=repr
)
def test_a_wrong_content_range_restarts_the_download(server, tmp_path, sends):
    server.breaks, server.sends = [100_000], sends
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", None]


def test_a_short_part_does_not_complete_the_file(server, tmp_path):
    server.breaks, server.stops = [100_000], [300_000, 150_000]
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-"]


KEPT = ["[]", "not JSON", "[" * 100_000, '{"etag": 3}', '{"etag": "a\\r\\nX: y"}']


@pytest.mark.parametrize("kept", KEPT, ids=range(5))
def test_damaged_download_state_restarts_the_download(server, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [100_000]
    with pytest.raises(OSError, match="broke off"):
        fetch(server.url, tmp_path)
    (state,) = tmp_path.rglob("*.headers")
    state.write_text(kept)
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, None]
