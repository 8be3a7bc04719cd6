"""Run the programs in processes that need not import torch again: a server imports everything once, and forks.

Tests of imports, start-up, signals and installed commands start a new Python instead.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = [
    *(f"callbacks.{path.stem}" for path in (ROOT / "callbacks").glob("[!_]*.py")),
    *("configs.build", "harmonizer.data.convert.cli", "harmonizer.data.datamodule", "harmonizer.evaluation.compare"),
    *("harmonizer.evaluation.sweep", "harmonizer.report.scatter", "harmonizer.training.module"),
    *("harmonizer.training.trainer", "torchvision.models"),
]
MOST_SECONDS = 600  # of one program; a rank stuck in a collective would wait 30 min
FORKED = multiprocessing.get_context("forkserver")


def serve():
    """Start the server, unless it runs; the workers of a conversion in this process come from it, too."""
    FORKED.set_forkserver_preload(IMPORTED)
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()


def run(words, place=".", **environment):
    """Run ``python WORDS`` in a folder; return the completed process, with its output as text."""
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as error:
        status = run_into(out.name, error.name, words, place, settings)
        return subprocess.CompletedProcess(words, status, out.read(), error.read())


def run_into(out, error, words, place, environment):
    """Run ``python WORDS`` in a folder and an environment; append its output to files, and return its exit status."""
    process = start(out, error, words, place, environment)
    process.join(MOST_SECONDS)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{words} runs for more than {MOST_SECONDS} s")
    return process.exitcode


def start(out, error, words, place=".", environment=os.environ):
    """Start what :func:`run_into` runs; return its process."""
    words, place = [str(word) for word in words], str(Path(place).absolute())
    serve()
    process = FORKED.Process(target=_python, args=(out, error, words, place, dict(environment)))
    process.start()
    return process


def _python(out, error, words, place, environment):
    for descriptor, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, error, os.O_WRONLY)):
        os.dup2(os.open(path, flags | os.O_APPEND), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if words[0] == "-m":
        sys.path[:0], sys.argv = [place, *paths], words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path[:0], sys.argv = [place, *paths], words[:1] + words[2:]
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.path[:0], sys.argv = [str(Path(words[0]).parent), *paths], words
        runpy.run_path(words[0], run_name="__main__")
