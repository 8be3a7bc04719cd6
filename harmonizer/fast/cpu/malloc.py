"""Keeping freed memory on a CPU.

By default glibc gives the activations of a pass back to the system once it has freed enough of them, and the next pass
has every page of them mapped and cleared again; benchmarks/README.md says what that costs. Only blocks of up to 32 MiB
are kept. Nothing happens where the C library is another one, or where its settings are given in the environment.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE = 2**25  # bytes; blocks above are mapped one by one as always: among others they would tear holes
KEPT = ((M_TRIM_THRESHOLD, -1), (M_MMAP_THRESHOLD, LARGE))  # -1: never
# Where glibc's own rule for both ends up in a process that frees large blocks; the settings cannot be read.
USUAL = ((M_TRIM_THRESHOLD, 2 * LARGE), (M_MMAP_THRESHOLD, LARGE))
GIVEN = ("MALLOC_", "GLIBC_TUNABLES")  # environment variables of the user's own settings

_lock = threading.Lock()
_holders = 0


def keep_freed_memory() -> None:
    """Let the process keep what it frees, for further passes, until as many calls of :func:`release_freed_memory`."""
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _set(KEPT)


def release_freed_memory() -> None:
    """Take one call of :func:`keep_freed_memory` back; with the last, hand over to the system what is free."""
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
    """Pass options to glibc; False where there is none, or where the user has set it up."""
    if any(name.startswith(GIVEN) for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - raises where the C library is another one
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows
        return False
    for option, value in options:
        mallopt(option, value)
    return True
