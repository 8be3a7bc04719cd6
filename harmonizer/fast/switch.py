"""The switch: which fast paths run in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from harmonizer.fast.cpu.malloc import keep_freed_memory, release_freed_memory

CORE = "core"
PIECES = ("small_conv", "stem_gradient", "conv_relu", "blocks", "malloc")  # beyond the core
MODES = {"auto": frozenset({CORE, *PIECES}), CORE: frozenset({CORE}), "off": frozenset[str]()}

# One setting per process, as torch's own flags: backward passes on a GPU run in a thread of autograd's.
_current = ("auto", MODES["auto"])
_keeps_memory = False  # for the process, beyond what attacks ask for


def set_fast(mode: str) -> None:
    """Choose the fast paths of this process.

    The process then keeps freed memory for further passes, where ``mode`` has that.

    Args:
        mode: ``auto`` runs all of them, ``core`` only the closed forms of layers, ``off`` torch's own layers.

    Raises:
        ValueError: There is no such mode.
    """
    global _current, _keeps_memory
    check_mode(mode)
    _current = (mode, MODES[mode])
    if enabled("malloc") != _keeps_memory:
        _keeps_memory = not _keeps_memory
        (keep_freed_memory if _keeps_memory else release_freed_memory)()


def check_mode(mode: str) -> None:
    """Raise a ValueError when there is no such mode."""
    if mode not in MODES:
        raise ValueError(f"expected fast to be one of {', '.join(MODES)}, got {mode!r}")


def fast_mode() -> str:
    """Return the mode of this process: ``auto``, ``core`` or ``off``."""
    return _current[0]


@contextmanager
def fast(mode: str, *pieces: str) -> Iterator[None]:
    """Choose the fast paths within a block.

    Args:
        mode: As of :func:`set_fast`.
        pieces: Names out of :data:`PIECES` that run besides, to measure what each gains.

    Raises:
        ValueError: There is no such mode or piece.

    >>> with fast("core", "malloc"):
    ...     enabled("malloc"), enabled("blocks")
    (True, False)
    """
    global _current
    before = _current
    if unknown := set(pieces) - set(PIECES):
        raise ValueError(f"expected pieces out of {', '.join(PIECES)}, got {', '.join(sorted(unknown))}")
    check_mode(mode)
    _current = (mode, MODES[mode] | set(pieces))
    try:
        yield
    finally:
        _current = before


def enabled(piece: str) -> bool:
    """Return whether a fast path runs now."""
    return piece in _current[1]
