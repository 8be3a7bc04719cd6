"""A cache of remote files with bounded size, which several processes may share."""

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
KEPT = 150  # last characters of a file name that its name in the cache keeps
PIPE = "pipe:"
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+=@-]*")  # names that need no quoting in any shell, local or remote


def is_remote(location: str | Path) -> bool:
    """Return whether a location is an address and not a path.

    >>> is_remote("s3://bucket/train"), is_remote("data/train")
    (True, False)
    """
    return "://" in str(location) or str(location).startswith(PIPE)


def subfolder(location: str | Path, name: str) -> str | Path:
    """Return the address or path of a subfolder."""
    if not is_remote(location):
        return Path(location) / name
    return (
        str(location).replace("{}", f"{name}/{{}}")
        if str(location).startswith(PIPE)
        else f"{str(location).rstrip('/')}/{name}"
    )


@dataclass(frozen=True)
class RemoteCache:
    """Fetch files over http(s), by any protocol of fsspec, or through a command if that is allowed.

    A file gets its name once it is complete and has the expected checksum. The least recently used files are removed
    first to make room. Processes may share the cache: each file is fetched by one of them, and a file that is removed
    while another process reads it stays readable there.

    Args:
        folder: Cache folder; None is the user's cache.
        max_bytes: Bound on the total size of the complete files; the newest is always kept.
        allow_pipe: Accept addresses ``pipe:COMMAND``. COMMAND is run without a shell.
    """

    folder: Path | None = None
    max_bytes: int = 100 * GIGABYTE
    allow_pipe: bool = False

    def fetch(self, location: str, name: str, sha256: str) -> Path:
        """Return the cached copy of a file of a remote folder.

        Args:
            location: ``http(s)://...``, an fsspec address such as ``s3://...``, or ``pipe:COMMAND`` with ``{}`` in
                place of the file name.
            name: File name.
            sha256: Expected checksum.

        Raises:
            ValueError: The checksum is wrong, the name is not safe, or the address is not allowed.
            OSError: The file cannot be fetched.
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
            shutil.rmtree(incoming, ignore_errors=True)  # left by a process that was killed
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
        """Return the content of a small file of a remote folder; it is not cached because it may change."""
        with TemporaryDirectory() as folder:
            return _receive(self._address(location, name), Path(folder)).read_bytes()

    def _address(self, location: str, name: str) -> str:
        """Return the address of a file; refuse those that run a command unless they are allowed."""
        try:
            safe_name(name)
        except ValueError as error:
            raise ValueError(f"{location}: {error}") from None
        if not location.startswith(PIPE):
            if "::" in name:  # fsspec would take the rest for another address
                raise ValueError(f"{location}: expected a file name without '::', got {shortened(name)}")
            return f"{location.rstrip('/')}/{quote(name, errors='surrogateescape') if is_url(location) else name}"
        if not self.allow_pipe:
            raise ValueError(f"{location} would run a command; set data.allow_pipe=true to allow it")
        if "{}" not in location:
            raise ValueError(f"{location}: expected {{}} in place of the file name")
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
                raise OSError(f"{address}: cannot run the command ({error.strerror})") from None
        if done.returncode:
            raise OSError(f"{address}: the command failed with status {done.returncode}")
        return path
    try:
        with fsspec.open(address, "rb") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (ImportError, ValueError, TypeError) as error:  # an unknown protocol, one not installed, or bad settings
        raise ValueError(f"{address}: {error}") from None
    except OSError as error:
        raise OSError(f"{address}: {error}") from None
    return path


def _words(address: str) -> list[str]:
    """Split the command of a ``pipe:`` address into arguments by POSIX quoting rules.

    Raises:
        ValueError: A quote is not closed, or the command needs a shell.
    """
    lexer = shlex.shlex(address.removeprefix(PIPE), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from None
    if not words or any(set(word) <= set("|&;<>()") for word in words):
        raise ValueError(
            f"{address}: the command is run without a shell; for a pipeline try pipe:sh -c 'A \"$1\" | B' - {{}}"
        )
    return [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]


def _touch(path: Path) -> bool:
    """Mark a file as used; return whether it exists."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
