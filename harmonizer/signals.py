"""Signals that stop a program, and processes that end with the one that started them."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from harmonizer.run import is_rank_zero

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # schedulers send the first two, Ctrl-C the last
PARENT = "HARMONIZER_PARENT"  # environment variable: the process that starts further ranks
PR_SET_PDEATHSIG = 1  # Linux, sys/prctl.h
POLL = 0.5  # seconds between looks at the parent
SAME_PRESS = 0.5  # seconds in which a launcher passes on the Ctrl-C that the terminal has sent to all already


class Stopped(SystemExit):
    """A signal ended the program; the exit code is 128 + the signal's number, as a shell has it."""


class Signals:
    """Notes the first of :data:`SIGNALS` instead of dying, so that the program can stop where it is safe.

    A second Ctrl-C ends the program at once, in the first process; the others follow it.

    Attributes:
        number: Number of the signal received; 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._time = 0.0
        self._before: dict[int, Any] = {}

    def take(self) -> None:
        """Install the handlers; in the main thread only, as Python demands. An ignored signal stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, self._note)
                self._before.setdefault(number, before)

    def give_back(self) -> None:
        """Install the handlers from before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def stop(self, detail: str) -> None:
        """Raise when a signal was received, after a line on standard error by the first process.

        Raises:
            Stopped: A signal was received.
        """
        if self.number:
            _write(f"stopped by {signal.Signals(self.number).name}{detail}")
            raise Stopped(128 + self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self._time = number, now
            if number == signal.SIGINT:
                _write("stopping at the next safe point; Ctrl-C again ends at once")
        elif number == signal.SIGINT and now - self._time > SAME_PRESS and is_rank_zero():
            _write("ended at once")
            os._exit(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Exit with 130 and one line at Ctrl-C, wherever nothing has :class:`Signals`; a second one ends at once."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        _write("interrupted; rerun the same command to start again")
        raise Stopped(128 + number)

    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_parent() -> None:
    """End this process when the one that started it as a further rank ends, however that ends.

    To be called early by every program that starts further ranks, and so by these ranks. The kernel sees to it on
    Linux, a thread elsewhere.
    """
    parent = os.environ.get(PARENT, "")
    if os.environ.get("LOCAL_RANK", "0") == "0" or not parent.isdigit():
        os.environ[PARENT] = str(os.getpid())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the first one decides
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(POLL)
        os._exit(1)

    if os.getppid() != int(parent):  # it died before this line
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _write(line: str) -> None:
    """Write a line to standard error, also inside a handler, where a buffered stream may be in use."""
    if is_rank_zero():
        os.write(2, f"{line}\n".encode())
