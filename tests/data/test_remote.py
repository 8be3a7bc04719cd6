"""Remote shards: fetched once, verified, and kept in a bounded cache that several processes share."""

import functools
import hashlib
import http.server
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
import torch.multiprocessing as mp
from shard_data import write_folder

from harmonizer.data.datamodule import ShardData
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.loader import BatchLoader
from harmonizer.data.sampling import EvaluationBatches
from harmonizer.data.shards import download
from harmonizer.data.shards.manifest import read_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.remote import RemoteCache, subfolder
from harmonizer.data.transforms import JointTransform
from harmonizer.files import file_sha256

SETTINGS = {"model": "test_resnet", "image_size": 32, "crop_ratio": 1.0, "batch_size": 4}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards", train=20, val=10, samples_per_shard=4)


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        time.sleep(self.server.delay)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests, server.delay = [], 0.0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def read_all(place, cache, workers=0):
    dataset = ShardDataset([ShardFolder(place, cache=cache)], JointTransform(32))
    loader = BatchLoader(dataset, EvaluationBatches(len(dataset), 3), num_workers=workers)
    return [(key, float(image.sum())) for batch in loader for key, image in zip(batch.keys, batch.images, strict=True)]


def shards(cache):
    return sorted(path for path in cache.folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("workers", [0, 2])
def test_http_shards_equal_local_ones_and_are_fetched_once(folder, server, workers, tmp_path):
    cache = RemoteCache(tmp_path / "cache")
    expected = read_all(folder / "val", cache)
    assert read_all(f"{server.url}/val", cache, workers) == expected
    assert read_all(f"{server.url}/val/", cache, workers) == expected
    fetched = [path for path in server.requests if path.endswith(".tar")]
    assert sorted(fetched) == [f"/val/00000{number}.tar" for number in range(3)]
    assert len(shards(cache)) == 3


def test_fsspec_protocols_are_read_and_others_refused(folder, tmp_path):
    cache = RemoteCache(tmp_path / "cache")
    expected = read_all(folder / "val", cache)
    assert read_all(f"file://{folder}/val", cache) == expected
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/val", "/shards/val", recursive=True)
    try:
        assert read_all("memory://shards/val", cache) == expected
        with pytest.raises(OSError, match="memory://shards/train"):
            ShardFolder("memory://shards/train", cache=cache)
    finally:
        memory.rm("/shards", recursive=True)
    with pytest.raises(ValueError, match=r"nothing://x/y/val/manifest\.json: Protocol not known"):
        ShardFolder("nothing://x/y/val", cache=cache)
    with pytest.raises(ValueError, match=r"reference://x/manifest\.json: .*required"):
        ShardFolder("reference://x", cache=cache)


def test_a_data_module_reads_addresses_like_local_folders(folder, server, tmp_path):
    settings = SETTINGS | {"cache": tmp_path / "cache", "shuffle_window_shards": 2, "seed": 4}
    data = ShardData(server.url, **settings)
    local = ShardData(folder, **settings)
    for a, b in ((data.train_dataloader(), local.train_dataloader()), (data.val_dataloader(), local.val_dataloader())):
        for one, two in zip(a, b, strict=True):
            assert one.keys == two.keys
            assert one.images.equal(two.images)
    weights = [{"folder": server.url, "weight": 0.5}, {"folder": folder, "weight": 0.5}]
    mixed = ShardData(sources=weights, **SETTINGS, cache=tmp_path / "cache")
    assert sum(len(batch.keys) for batch in mixed.train_dataloader()) == 40
    assert len(mixed.val_dataloader().dataset) == 10


def test_the_cache_is_bounded_and_keeps_the_last_used(folder, server, tmp_path):
    manifest = read_manifest(folder / "train")
    sizes = [(folder / "train" / shard.file).stat().st_size for shard in manifest.shards]
    cache = RemoteCache(tmp_path / "cache", max_bytes=sum(sorted(sizes)[-3:]))

    def fetch(number):
        shard = manifest.shards[number]
        time.sleep(0.01)  # so that the file times differ
        return cache.fetch(f"{server.url}/train", shard.file, shard.sha256)

    kept = [fetch(0), fetch(1), fetch(2)]
    assert fetch(0) == kept[0]
    fetch(3)  # shard 1 is the least recently used
    assert [path.exists() for path in kept] == [True, False, True]
    assert sum(path.stat().st_size for path in shards(cache)) <= cache.max_bytes
    with kept[2].open("rb") as file:
        fetch(0), fetch(4), fetch(1)
        assert not kept[2].exists()
        assert len(file.read()) == sizes[2]  # an open file can still be read
    tiny = RemoteCache(tmp_path / "tiny", max_bytes=1)
    assert read_all(f"{server.url}/train", tiny) == read_all(folder / "train", tiny)
    assert len(shards(tiny)) == 1


def test_a_shard_with_a_wrong_checksum_is_not_kept(folder, server, tmp_path):
    cache = RemoteCache(tmp_path / "cache")
    shard = folder / "val/000001.tar"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"val/000001\.tar: sha256 is \w+, the manifest says"):
        read_all(f"{server.url}/val", cache)
    assert len(shards(cache)) == 1
    shard.unlink()
    with pytest.raises(OSError, match=r"val/000001\.tar: the server answered 404"):
        read_all(f"{server.url}/val", cache)
    with pytest.raises(OSError, match=r"nowhere/val/manifest\.json: the server answered 404"):
        ShardFolder(f"{server.url}/nowhere/val", cache=cache)
    assert not list(cache.folder.glob("*/*"))  # no partial download remains


def test_leftovers_of_a_killed_process_are_removed(folder, server, tmp_path):
    cache = RemoteCache(tmp_path / "cache")
    read_all(f"{server.url}/val", cache)
    first = shards(cache)[0]
    content = first.read_bytes()
    first.unlink()
    left = cache.folder / f".{first.name}.incoming"
    left.mkdir()
    (left / "received").write_bytes(content[:100])
    read_all(f"{server.url}/val", cache)
    assert first.read_bytes() == content
    assert not left.exists()


def fetch_all(rank, url, cache, expected):
    os.environ["no_proxy"] = "*"
    for _ in range(3):
        assert read_all(url, cache) == expected


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12 on fork; short-lived children
def test_processes_share_the_cache(folder, server, tmp_path):
    server.delay = 0.05
    roomy = RemoteCache(tmp_path / "cache")
    expected = read_all(folder / "train", roomy)
    mp.start_processes(fetch_all, (f"{server.url}/train", roomy, expected), nprocs=4, start_method="fork")
    assert sum(path.endswith(".tar") for path in server.requests) == 5  # each shard once
    tight = RemoteCache(tmp_path / "tight", max_bytes=20_000)  # each evicts what the others use
    server.delay = 0.0
    mp.start_processes(fetch_all, (f"{server.url}/train", tight, expected), nprocs=3, start_method="fork")
    assert sum(path.stat().st_size for path in shards(tight)) <= max(20_000, *(p.stat().st_size for p in shards(tight)))


def test_threads_share_the_cache(folder, server, tmp_path):
    cache, shard = RemoteCache(tmp_path / "cache"), read_manifest(folder / "val").shards[0]
    server.delay = 0.05
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: cache.fetch(f"{server.url}/val", shard.file, shard.sha256), range(4)))
    assert len(set(paths)) == len(server.requests) == 1
    assert file_sha256(paths[0]) == shard.sha256


def test_commands_run_only_with_allow_pipe(folder, tmp_path):
    place = f"pipe:cat {folder}/{{}}"
    assert subfolder(place, "val") == f"pipe:cat {folder}/val/{{}}"
    with pytest.raises(ValueError, match=r"would run a command; set data\.allow_pipe=true"):
        ShardData(place, **SETTINGS)
    with pytest.raises(ValueError, match="would run a command"):
        ShardData(f"pipe:touch {tmp_path}/mark", **SETTINGS)
    assert not (tmp_path / "mark").exists()
    data = ShardData(place, allow_pipe=True, cache=tmp_path / "cache", **SETTINGS)
    assert sum(len(batch.keys) for batch in data.val_dataloader()) == 10
    with pytest.raises(ValueError, match=r"expected \{\} in place of the file name"):
        ShardData("pipe:cat", allow_pipe=True, **SETTINGS)
    with pytest.raises(OSError, match="the command failed with status 3"):
        ShardData("pipe:sh -c 'exit 3' {}", allow_pipe=True, **SETTINGS)


OUTSIDE = [
    *("..%2f..%2f..%2fescaped", "%2e%2e%2fescaped", "../escaped", "/tmp/escaped", "a/../../escaped", ".bash_login"),
    *("a\nb", "a\x00b", ""),
]


@pytest.mark.parametrize("kind", ["http", "file", "disk"])
def test_a_manifest_cannot_name_files_outside_its_folder(folder, server, tmp_path, kind):
    """A percent sign is taken literally: no such file exists, and nothing is written."""
    path = folder / "val/manifest.json"
    content = json.loads(path.read_text())
    cache = RemoteCache(tmp_path / "deep" / "er" / "cache")
    place = {"http": f"{server.url}/val", "file": f"file://{folder}/val", "disk": folder / "val"}[kind]
    before = set(tmp_path.rglob("*"))
    for name in OUTSIDE:
        content["shards"][0]["file"] = name
        path.write_text(json.dumps(content))
        with pytest.raises((ValueError, OSError), match=r"expected a file name|404|No such file|is missing"):
            read_all(place, cache)
    written = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert {path.parent for path in written} <= {cache.folder}


def test_names_are_decoded_before_they_are_checked(server, folder, tmp_path):
    """The name of the downloaded file comes from the decoded address."""
    with pytest.raises(ValueError, match=r"%2fescaped\.txt: expected a file name"):
        download.fetch(f"{server.url}/..%2f..%2f..%2fescaped.txt", tmp_path / "cache")
    assert not list(tmp_path.rglob("*escaped*"))
    (folder / "val/a b%.tar").write_bytes(b"abc")
    assert download.fetch(f"{server.url}/val/a%20b%25.tar", tmp_path / "cache").name == "a b%.tar"
    cache = RemoteCache(tmp_path / "shards")
    assert cache.fetch(f"{server.url}/val", "a b%.tar", hashlib.sha256(b"abc").hexdigest()).read_bytes() == b"abc"


def test_a_shard_name_cannot_add_a_second_address(tmp_path):
    with pytest.raises(ValueError, match="without '::'"):
        RemoteCache(tmp_path).fetch("memory://x", "a.tar::memory:", "0" * 64)


@pytest.mark.parametrize("command", ["cat {}", "sh -c 'cat {}' -", 'sh -c "cat {}"', "cat '{}'"])
def test_a_shard_name_is_never_run_as_a_command(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    cache = RemoteCache(tmp_path / "cache", allow_pipe=True)
    for name in ("x; touch INJECTED #", "$(touch INJECTED)", "`touch INJECTED`", "a b", "'", "-n", "a|b"):
        with pytest.raises(ValueError, match="expected a name of letters, digits and"):
            cache.fetch(f"pipe:{command}", name, "0" * 64)
    assert not (tmp_path / "INJECTED").exists()


def test_commands_run_without_a_shell(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = RemoteCache(tmp_path / "cache", allow_pipe=True)
    for command in ("cat {}; touch INJECTED", "cat {} | cat", "cat < {}", "cat {} && touch INJECTED", "cat '{}"):
        with pytest.raises(ValueError, match=r"the command is run without a shell|No closing quotation"):
            cache.read(f"pipe:{command}", "manifest.json")
    with pytest.raises(OSError, match="cannot run the command"):
        cache.read("pipe:nothing-of-this-name {}", "manifest.json")
    assert cache.read("pipe:echo $HOME * {}", "a.tar") == b"$HOME * a.tar\n"
    spaced = tmp_path / "two words"
    spaced.mkdir()
    (spaced / "a.tar").write_bytes(b"abc")
    for command in (f"cat '{spaced}/{{}}'", f"sh -c 'cat \"{spaced}/$1\" | cat' - {{}}"):
        assert cache.read(f"pipe:{command}", "a.tar") == b"abc"
    assert not (tmp_path / "INJECTED").exists()
