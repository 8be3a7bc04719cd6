"""Run a training in a separate process, kill it repeatedly, and compare the files that it leaves."""

import csv
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

from harmonizer.cli import command_line

ROOT = Path(__file__).parents[1]
VARYING = "speed/"  # values that depend on the machine, not on the run


class Run:
    """train.py or evaluate.py in a separate process group; its output goes to a file.

    Args:
        place: Working directory.
        words: Command-line arguments.
        fork: Fork this process, which has imported everything, instead of starting a new Python.
        program: ``"train"`` or ``"evaluate"``.
    """

    def __init__(self, place, words, *, fork, program="train"):
        self.output = place / "output"
        if fork:
            arguments = place, words, self.output, program
            self.process = multiprocessing.get_context("fork").Process(target=_run, args=arguments)
            self.process.start()
        else:
            with self.output.open("w") as file:
                self.process = subprocess.Popen(
                    [sys.executable, str(ROOT / f"{program}.py"), *words],
                    cwd=place,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def runs(self):
        """Return whether the program is still running."""
        is_child = isinstance(self.process, subprocess.Popen)
        return self.process.poll() is None if is_child else self.process.is_alive()

    def wait(self):
        """Return the exit code and the output."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.wait(timeout=600), self.output.read_text()
        self.process.join(timeout=600)
        return self.process.exitcode, self.output.read_text()

    def interrupt(self, number, moment, folder):
        """Send a signal to the process group, ``moment`` seconds after the log first changes."""
        log = folder / "logs/csv/metrics.csv"
        before = log.stat().st_mtime_ns if log.exists() else None
        self.until(lambda: log.exists() and log.stat().st_mtime_ns != before)
        time.sleep(moment)
        os.killpg(self.process.pid, number)
        return self.wait()

    def until(self, happened):
        """Wait until ``happened()`` is true, the program ends, or two minutes have passed."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.runs() and not happened():
            time.sleep(0.01)


def _run(place, words, output, program):
    """Run a program in a forked process."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    with output.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
    os.chdir(place)
    sys.path.insert(0, str(ROOT))
    sys.argv = [f"{program}.py", *words]
    warnings.simplefilter("ignore")
    command_line(importlib.import_module(program).main)


def rows(folder):
    """Return the rows of the log, without values that depend on the machine."""
    with (folder / "logs/csv/metrics.csv").open() as file:
        return [
            {name: value for name, value in row.items() if value and not name.startswith(VARYING)}
            for row in csv.DictReader(file)
        ]


def differences(a, b, path=""):
    """List the entries in which two checkpoints are not bitwise equal."""
    if type(a) is not type(b):
        return [f"{path}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: {a.keys() ^ b.keys()}"]
        return [found for key in a for found in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: {len(a)} and {len(b)} entries"]
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{path}/{i}")]
    return [] if a == b or a != a else [f"{path}: {a} and {b}"]
