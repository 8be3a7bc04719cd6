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
POLL = 0.5  # seconds between checks of the parent
SAME_PRESS = 0.5  # seconds in which a launcher may forward a Ctrl-C that the terminal has already sent to all


class Stopped(SystemExit):
    """A signal ended the program; the exit code is 128 + the signal's number, as in a shell."""


class Signals:
    """Records the first of :data:`SIGNALS`, so that the program can stop at a safe point.

    A second Ctrl-C ends the first process at once, and the others with it.

    Attributes:
        number: Number of the signal received, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._time = 0.0
        self._before: dict[int, Any] = {}

    def take(self) -> None:
        """Install the handlers, in the main thread only, as Python requires; ignored signals stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, self._note)
                self._before.setdefault(number, before)

    def give_back(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def stop(self, detail: str) -> None:
        """Raise if a signal was received; the first process writes a line to standard error.

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
    """Exit with 130 and one line on Ctrl-C, where :class:`Signals` is not in use; a second Ctrl-C ends at once."""

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
    """End this process when the process that started it as a further rank ends for any reason.

    Programs that start further ranks call this early, and so do these ranks. On Linux the kernel ends the process,
    elsewhere a thread does.
    """
    parent = os.environ.get(PARENT, "")
    if os.environ.get("LOCAL_RANK", "0") == "0" or not parent.isdigit():
        os.environ[PARENT] = str(os.getpid())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the first one handles it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(POLL)
        os._exit(1)

    if os.getppid() != int(parent):  # the parent has already ended
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _write(line: str) -> None:
    """Write a line to standard error without buffering, so that handlers may call it."""
    if is_rank_zero():
        os.write(2, f"{line}\n".encode())
