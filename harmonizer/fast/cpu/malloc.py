"""Keep freed memory on a CPU.

By default glibc returns the freed activations of a pass to the system, which maps and clears every page again in the
next pass; benchmarks/README.md shows the cost. Only blocks of up to 32 MiB are kept. With another C library, or with
settings for glibc's in the environment, nothing happens.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE = 2**25  # bytes; larger blocks are mapped one by one, as by default: kept, they would fragment the memory
KEPT = ((M_TRIM_THRESHOLD, -1), (M_MMAP_THRESHOLD, LARGE))  # -1: never
# The values to which glibc's own rule leads in a process that frees large blocks; the current ones cannot be read.
USUAL = ((M_TRIM_THRESHOLD, 2 * LARGE), (M_MMAP_THRESHOLD, LARGE))
GIVEN = ("MALLOC_", "GLIBC_TUNABLES")  # prefixes of environment variables with the user's settings

_lock = threading.Lock()
_holders = 0


def keep_freed_memory() -> None:
    """Keep freed memory for further passes, until as many calls of :func:`release_freed_memory`."""
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _set(KEPT)


def release_freed_memory() -> None:
    """Undo one call of :func:`keep_freed_memory`; the last one returns free memory to the system."""
    global _holders
    with _lock:
        _holders -= 1
        if _holders == 0 and _set(USUAL):
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory within a block."""
    keep_freed_memory()
    try:
        yield
    finally:
        release_freed_memory()


def _set(options: tuple[tuple[int, int], ...]) -> bool:
    """Set options of glibc; return False with another C library or with the user's own settings."""
    if any(name.startswith(GIVEN) for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - raises with another C library
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows
        return False
    for option, value in options:
        mallopt(option, value)
    return True
