"""Files: atomic writes, temporary names, digests, caches and locks."""

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

HELD = (errno.EACCES, errno.EAGAIN)  # another process holds the lock; POSIX allows either
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # the file system has no locks
HOLDER_BYTES = 1000  # most bytes read from a lock file


def temporary_name(path: Path) -> Path:
    """Return a hidden path next to ``path`` that no other process uses, on this machine or another."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a hidden path next to ``path``, whose file replaces ``path`` when the block succeeds.

    If the block fails, ``path`` is unchanged.

    Args:
        path: File to replace; its folder is created if missing.
        durable: Whether to flush the file to the disk before it replaces ``path``.
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
    """Yield a hidden path next to ``path``, whose folder is renamed to ``path`` when the block succeeds.

    If the block fails, nothing remains. The files get the permissions of the folder, because safetensors makes its
    files readable by their owner only.
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
    """Write a file atomically; text is encoded as UTF-8 without changes to line ends."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def cache_folder(name: str) -> Path:
    """Return a folder in the user's cache, by the XDG convention; it may not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "harmonizer" / name


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporaries(path: Path) -> None:
    """Remove temporary files of killed processes; only the owner of the folder may call this."""
    for left in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            left.unlink()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        NotADirectoryError: The folder or a parent is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise NotADirectoryError(f"expected a folder at {file}, got a file; choose another folder") from None


@contextmanager
def locked(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock inside a ``with`` block.

    It is a POSIX record lock, which NFS, Lustre and GPFS share between machines; the kernel releases it when the
    process ends for any reason. The lock file, which names the last holder, is never removed: two processes could
    otherwise lock two files of the same name.

    Args:
        path: Lock file; its folder is created if missing.
        what: The locked resource, as the subject of the message.
        advice: What to do if another process holds the lock.

    Raises:
        BlockingIOError: Another process holds the lock; the message names its host and process.
    """
    make_folder(path.parent)
    # Links are not followed, because the content of the file is replaced.
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
            sys.stderr.write(f"warning: {path.parent} is on a file system without locks; run one process only\n")
        holder = {"host": _host(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Return the process that a lock file names; the content is not trusted."""
    with suppress(ValueError, KeyError, TypeError):
        found = parse_json(os.pread(descriptor, HOLDER_BYTES, 0))
        host, since = (str(found[name])[:80] for name in ("host", "since"))
        if host.isprintable() and since.isprintable():
            return f"process {int(found['process'])} on {host} since {since}"
    return "another process"


def _host() -> str:
    """Return this machine's name, reduced to characters that are safe in a file name."""
    return "".join(c for c in socket.gethostname().split(".")[0] if c.isalnum() or c in "-_")[:40] or "host"
