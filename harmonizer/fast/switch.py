"""The switch for the fast paths of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from harmonizer.fast.cpu.malloc import keep_freed_memory, release_freed_memory

CORE = "core"
PIECES = ("small_conv", "stem_gradient", "conv_relu", "blocks", "malloc")  # beyond the core


class Switch:
    """Which fast paths this process uses: ``auto``, ``core`` or ``off``.

    One setting per process, as torch's own flags: autograd runs backward passes on a GPU in a thread of its own.

    >>> fast.mode
    'auto'
    >>> with fast("off"):
    ...     fast.mode
    'off'
    """

    modes: Final = {"auto": frozenset({CORE, *PIECES}), CORE: frozenset({CORE}), "off": frozenset[str]()}

    def __init__(self) -> None:
        self._current = "auto", self.modes["auto"]
        self._keeps_memory = False  # changed by ``set`` only: attacks hold memory separately

    @property
    def mode(self) -> str:
        """The mode of this process."""
        return self._current[0]

    def set(self, mode: str) -> None:
        """Choose the fast paths from now on, and whether the process keeps freed memory.

        Args:
            mode: ``auto`` runs all of them, ``core`` only the closed forms of layers, ``off`` torch's own layers.

        Raises:
            ValueError: The mode is unknown.
        """
        self._choose(mode)
        if self.enables("malloc") != self._keeps_memory:
            self._keeps_memory = not self._keeps_memory
            (keep_freed_memory if self._keeps_memory else release_freed_memory)()

    @contextmanager
    def __call__(self, mode: str, *pieces: str) -> Iterator[None]:
        """Choose the fast paths within a block.

        Args:
            mode: Mode as in :meth:`set`.
            pieces: Names from :data:`PIECES` to run as well, to measure the gain of each.

        Raises:
            ValueError: The mode or a piece is unknown.

        >>> with fast("core", "malloc"):
        ...     fast.enables("malloc"), fast.enables("blocks")
        (True, False)
        """
        before = self._current
        self._choose(mode, *pieces)
        try:
            yield
        finally:
            self._current = before

    def enables(self, piece: str) -> bool:
        """Return whether a fast path is enabled."""
        return piece in self._current[1]

    def _choose(self, mode: str, *pieces: str) -> None:
        if mode not in self.modes:
            raise ValueError(f"expected fast to be one of {', '.join(self.modes)}, got {mode!r}")
        if unknown := set(pieces) - set(PIECES):
            raise ValueError(f"expected pieces from {', '.join(PIECES)}, got {', '.join(sorted(unknown))}")
        self._current = mode, self.modes[mode] | set(pieces)


fast = Switch()
