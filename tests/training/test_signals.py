"""How programs handle signals, and that no child rank outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harmonizer.run import RANKS
from harmonizer.signals import PARENT, SAME_PRESS, Signals, Stopped, interruptible

ROOT = Path(__file__).parents[2]

CHILD = """
import os, signal, sys, time
from harmonizer import signals
if sys.argv[1] == "thread":
    # As where there is no prctl.
    class Elsewhere: platform = "elsewhere"
    signals.sys = Elsewhere
print(os.getpid(), flush=True)
time.sleep(float(sys.argv[2]))  # its imports
signals.end_with_parent()
print("watching", flush=True)
time.sleep(600)
"""
PARENT_PROGRAM = """
import os, subprocess, sys, time
from harmonizer.signals import end_with_parent
end_with_parent()
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=os.environ | {"LOCAL_RANK": "1"})
time.sleep(600)
"""


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for name in (*RANKS, PARENT):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc for the child")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("way", "late"), [("kernel", 0), ("thread", 0), ("kernel", 1)])
def test_a_child_rank_ends_with_its_parent_at_any_time(number, way, late):
    command = [sys.executable, "-c", PARENT_PROGRAM, CHILD, way, str(late)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    if not late:
        assert parent.stdout.readline() == "watching\n"
    assert alive(child)
    parent.send_signal(number)
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline, "the child process is still running"
        time.sleep(0.02)
    parent.stdout.close()


def test_the_first_signal_counts_and_handlers_are_restored(capfd):
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals()
    signals.stop("")  # no signal yet
    signals.take()
    signals.take()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.number == signal.SIGTERM
        with pytest.raises(Stopped) as stopped:
            signals.stop(" at step 3")
    finally:
        signals.give_back()
    assert stopped.value.code == 143
    assert capfd.readouterr().err == "stopped by SIGTERM at step 3\n"
    assert signal.getsignal(signal.SIGTERM) == before


PROGRAM = """
import signal, sys, time
from harmonizer.signals import Signals, interruptible
signal.signal(signal.SIGINT, signal.default_int_handler)
signals = Signals()
with interruptible():
    if sys.argv[1] == "run":
        signals.take()
    print("ready", flush=True)
    for _ in range(6000):
        time.sleep(0.1)
"""


def program(kind):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_interrupt_ends_a_run_at_once():
    process = program("run")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # same key press: a launcher forwards a signal that the terminal sent to all
    time.sleep(2 * SAME_PRESS)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "stopping at the next safe point; Ctrl-C again ends at once\nended at once\n"


def test_interrupt_outside_a_run_prints_a_line_and_exits_130():
    process = program("idle")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "interrupted; rerun the same command to start again\n"


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        signals = Signals()
        signals.take()
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signals.give_back()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
