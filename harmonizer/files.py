"""Files on a disk: written whole or not at all, under names of one's own, digests, and locks."""

import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harmonizer.untrusted import parse_json

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

HELD = (errno.EACCES, errno.EAGAIN)  # by another process; POSIX allows either
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of file systems that cannot lock
HOLDER_BYTES = 1000  # of a lock file that are read


def temporary_name(path: Path) -> Path:
    """Return a hidden name next to ``path`` that no other process uses, on this machine or on another one."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a hidden path next to ``path``, whose file takes the place of ``path`` when the block succeeds.

    A block that fails leaves ``path`` as it was.

    Args:
        path: Its folder is made when it does not exist.
        durable: Force the file to the disk before it takes its place.
    """
    temporary = temporary_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden path next to ``path`` for a folder that becomes ``path`` when the block succeeds.

    A block that fails leaves nothing. Whoever may read the folder may read its files: safetensors gives its own to
    their owner alone.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        for file in temporary.iterdir():
            if file.is_file():
                file.chmod(temporary.stat().st_mode & 0o666)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def atomic_write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all; text in UTF-8, with line ends as they are."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def cache_folder(name: str) -> Path:
    """Return a folder in the user's cache, by the XDG convention; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "harmonizer" / name


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporaries(path: Path) -> None:
    """Remove what killed processes left of :func:`temporary_name`; to be called by the one owner of the folder."""
    for left in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            left.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it.

    Raises:
        NotADirectoryError: It, or one above it, is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise NotADirectoryError(f"expected a folder at {file}, got a file; choose another place") from None


@contextmanager
def locked(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock inside a ``with`` block.

    The kernel holds it (POSIX record locks, which NFS, Lustre and GPFS carry between machines) and drops it when the
    process dies, however it dies. The lock file stays, because removing it would let two processes lock two files of
    the same name. It names the last holder.

    Args:
        path: Lock file. Its folder is made when it does not exist.
        what: What the lock is for, as the subject of the message.
        advice: What to do when another process holds it.

    Raises:
        BlockingIOError: Another process holds it; the message names its host and process.
    """
    make_folder(path.parent)
    # Never through a link: the file's content is replaced.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        try:
            if fcntl is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                raise BlockingIOError(f"{what} is in use by {_holder(descriptor)}; {advice}") from None
            if error.errno not in NO_LOCKS:
                raise
            sys.stderr.write(f"warning: {path.parent} lies where files cannot be locked; run one process only\n")
        holder = {"host": _host(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Name the process that a lock file names; its content is checked like that of any file."""
    with suppress(ValueError, KeyError, TypeError):
        found = parse_json(os.pread(descriptor, HOLDER_BYTES, 0))
        host, since = (str(found[name])[:80] for name in ("host", "since"))
        if host.isprintable() and since.isprintable():
            return f"process {int(found['process'])} on {host} since {since}"
    return "another process"


def _host() -> str:
    """Return this machine's name without what a file name cannot hold."""
    return "".join(c for c in socket.gethostname().split(".")[0] if c.isalnum() or c in "-_")[:40] or "host"
