"""Run a training in a process of its own, kill it again and again, and compare what it leaves."""

import csv
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

from harmonizer.cli import command_line

ROOT = Path(__file__).parents[1]
VARYING = "speed/"  # values of the machine, not of the run


class Run:
    """A training in a process group of its own; its output goes to a file.

    Args:
        place: Folder to work in.
        words: Command line of train.py.
        fork: Fork this process, which has imported everything, instead of starting Python anew.
    """

    def __init__(self, place, words, *, fork):
        self.output = place / "output"
        if fork:
            self.process = multiprocessing.get_context("fork").Process(target=_train, args=(place, words, self.output))
            self.process.start()
        else:
            with self.output.open("w") as file:
                self.process = subprocess.Popen(
                    [sys.executable, str(ROOT / "train.py"), *words],
                    cwd=place,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

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
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (not log.exists() or log.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(moment)
        os.killpg(self.process.pid, number)
        return self.wait()


def _train(place, words, output):
    """Train, in a forked process."""
    os.setsid()
    with output.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
    os.chdir(place)
    sys.path.insert(0, str(ROOT))
    sys.argv = ["train.py", *words]
    warnings.simplefilter("ignore")
    from train import main

    command_line(main)


def rows(folder):
    """The log's rows, without what depends on the machine."""
    with (folder / "logs/csv/metrics.csv").open() as file:
        return [
            {name: value for name, value in row.items() if value and not name.startswith(VARYING)}
            for row in csv.DictReader(file)
        ]


def differences(a, b, path=""):
    """Name where two checkpoints differ, bit for bit."""
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
