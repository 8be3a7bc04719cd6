"""Files at an address, kept in a cache of bounded size that several processes may share."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import fsspec
from filelock import FileLock

from harmonizer.data.shards.download import fetch, is_url
from harmonizer.files import cache_folder, file_sha256
from harmonizer.untrusted import inside, safe_name, shortened

GIGABYTE = 10**9
KEPT = 150  # characters of a name that its name in the cache ends with
PIPE = "pipe:"
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+=@-]*")  # names that no shell, not even a distant one, takes apart


def is_remote(location: str | Path) -> bool:
    """Tell an address from a path.

    >>> is_remote("s3://bucket/train"), is_remote("data/train")
    (True, False)
    """
    return "://" in str(location) or str(location).startswith(PIPE)


def subfolder(location: str | Path, name: str) -> str | Path:
    """Return the address or path of a folder within a folder."""
    if not is_remote(location):
        return Path(location) / name
    return (
        str(location).replace("{}", f"{name}/{{}}")
        if str(location).startswith(PIPE)
        else f"{str(location).rstrip('/')}/{name}"
    )


@dataclass(frozen=True)
class RemoteCache:
    """Fetch files over http(s), by any protocol of fsspec, or, where that is allowed, through a command.

    A file appears under its name when it is whole and has the expected checksum. Before one is put in place the least
    recently used others make room. Processes share the cache: each file is fetched by one of them, and one that is
    removed while another process reads it stays readable there.

    Args:
        folder: Of the cache; None is the user's.
        max_bytes: That the files in place may have together; the newest is kept in any case.
        allow_pipe: Take addresses ``pipe:COMMAND``, whose COMMAND is run, by no shell.
    """

    folder: Path | None = None
    max_bytes: int = 100 * GIGABYTE
    allow_pipe: bool = False

    def fetch(self, location: str, name: str, sha256: str) -> Path:
        """Return a file of a remote folder, in the cache.

        Args:
            location: ``http(s)://...``, an fsspec address such as ``s3://...``, or ``pipe:COMMAND`` with ``{}`` where
                the name goes.
            name: Of the file.
            sha256: That it must have.

        Raises:
            ValueError: Its checksum is another, its name is not safe, or the address is not allowed.
            OSError: It cannot be had.
        """
        address = self._address(location, name)
        root = self.folder or cache_folder("shards")
        digest = hashlib.sha256(f"{address} {sha256}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        path = inside(root, f"{digest}-{name[-KEPT:]}")
        if _touch(path):
            return path
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{path.name}.lock"):
            if _touch(path):  # another process has fetched it
                return path
            incoming = root / f".{path.name}.incoming"
            shutil.rmtree(incoming, ignore_errors=True)  # of a process that was killed
            incoming.mkdir()
            try:
                received = _receive(address, incoming)
                found = file_sha256(received)
                if found != sha256:
                    raise ValueError(
                        f"{address}: sha256 is {found}, the manifest says {sha256}; upload the shard again"
                    )
                self._make_room(root, received.stat().st_size)
                received.replace(path)
            finally:
                shutil.rmtree(incoming)
        return path

    def read(self, location: str, name: str) -> bytes:
        """Return the content of a small file of a remote folder, which may change there; it is not kept."""
        with TemporaryDirectory() as folder:
            return _receive(self._address(location, name), Path(folder)).read_bytes()

    def _address(self, location: str, name: str) -> str:
        """Return a file's address; refuse those that run commands, unless they are asked for."""
        try:
            safe_name(name)
        except ValueError as error:
            raise ValueError(f"{location}: {error}") from None
        if not location.startswith(PIPE):
            if "::" in name:  # fsspec would take what follows for another address
                raise ValueError(f"{location}: expected the name of a file without '::', got {shortened(name)}")
            return f"{location.rstrip('/')}/{quote(name, errors='surrogateescape') if is_url(location) else name}"
        if not self.allow_pipe:
            raise ValueError(f"{location} would run a command; set data.allow_pipe=true if that is what you want")
        if "{}" not in location:
            raise ValueError(f"{location} does not say where the file's name goes; put {{}} there")
        if not PLAIN.fullmatch(name):
            raise ValueError(f"{location}: expected a name of letters, digits and .,_+=@- only, got {shortened(name)}")
        return location.replace("{}", name)

    def _make_room(self, root: Path, size: int) -> None:
        """Remove the least recently used files until ``size`` more bytes fit."""
        with FileLock(root / ".room.lock"):
            files = [path for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]
            states = sorted(((path.stat(), path) for path in files), key=lambda pair: pair[0].st_mtime_ns)
            excess = size + sum(state.st_size for state, _ in states) - self.max_bytes
            for state, path in states:
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= state.st_size


def _receive(address: str, folder: Path) -> Path:
    """Fetch a file into an empty folder."""
    if is_url(address):
        return fetch(address, folder)
    path = folder / "received"
    if address.startswith(PIPE):
        with path.open("wb") as file:
            try:
                done = subprocess.run(_words(address), stdin=subprocess.DEVNULL, stdout=file, check=False)
            except OSError as error:
                raise OSError(f"{address}: the command cannot be run ({error.strerror})") from None
        if done.returncode:
            raise OSError(f"{address}: the command ended with status {done.returncode}")
        return path
    try:
        with fsspec.open(address, "rb") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (
        ImportError,
        ValueError,
        TypeError,
    ) as error:  # a protocol unknown, not installed, or with settings
        raise ValueError(f"{address}: {error}") from None
    except OSError as error:
        raise OSError(f"{address}: {error}") from None
    return path


def _words(address: str) -> list[str]:
    """Split the command of a ``pipe:`` address into arguments, by the rules of quoting of POSIX.

    Raises:
        ValueError: A quote is not closed, or it needs a shell.
    """
    lexer = shlex.shlex(address.removeprefix(PIPE), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from None
    if not words or any(set(word) <= set("|&;<>()") for word in words):
        raise ValueError(f"{address}: no shell runs the command; for a pipeline try pipe:sh -c 'A \"$1\" | B' - {{}}")
    return [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]


def _touch(path: Path) -> bool:
    """Mark a file as used; tell whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
