"""The switch for the fast paths of this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from harmonizer.fast.cpu.malloc import keep_freed_memory, release_freed_memory

CORE = "core"
PIECES = ("small_conv", "stem_gradient", "conv_relu", "blocks", "malloc")  # beyond the core
MODES = {"auto": frozenset({CORE, *PIECES}), CORE: frozenset({CORE}), "off": frozenset[str]()}

# One setting per process, as torch's own flags: autograd runs backward passes on a GPU in a thread of its own.
_current = ("auto", MODES["auto"])
_keeps_memory = False  # set by set_fast; attacks hold memory separately


def set_fast(mode: str) -> None:
    """Choose the fast paths of this process, and whether it keeps freed memory.

    Args:
        mode: ``auto`` runs all of them, ``core`` only the closed forms of layers, ``off`` torch's own layers.

    Raises:
        ValueError: The mode is unknown.
    """
    global _current, _keeps_memory
    check_mode(mode)
    _current = (mode, MODES[mode])
    if enabled("malloc") != _keeps_memory:
        _keeps_memory = not _keeps_memory
        (keep_freed_memory if _keeps_memory else release_freed_memory)()


def check_mode(mode: str) -> None:
    """Raise a ValueError for an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"expected fast to be one of {', '.join(MODES)}, got {mode!r}")


def fast_mode() -> str:
    """Return the mode of this process: ``auto``, ``core`` or ``off``."""
    return _current[0]


@contextmanager
def fast(mode: str, *pieces: str) -> Iterator[None]:
    """Choose the fast paths within a block.

    Args:
        mode: Mode as in :func:`set_fast`.
        pieces: Names from :data:`PIECES` to run as well, to measure the gain of each.

    Raises:
        ValueError: The mode or a piece is unknown.

    >>> with fast("core", "malloc"):
    ...     enabled("malloc"), enabled("blocks")
    (True, False)
    """
    global _current
    before = _current
    if unknown := set(pieces) - set(PIECES):
        raise ValueError(f"expected pieces from {', '.join(PIECES)}, got {', '.join(sorted(unknown))}")
    check_mode(mode)
    _current = (mode, MODES[mode] | set(pieces))
    try:
        yield
    finally:
        _current = before


def enabled(piece: str) -> bool:
    """Return whether a fast path is enabled."""
    return piece in _current[1]
