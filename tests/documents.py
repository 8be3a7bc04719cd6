"""Code blocks of the documents, and stand-ins for the programs that they call.

Bash runs a shell block. The ``python`` and ``harmonizer`` on its path record their arguments; then they do nothing, or
run with a tiny budget.
"""

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.connection import Listener
from pathlib import Path
from threading import Thread
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import hydra
import programs
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from configs.build import build_all
from harmonizer.__main__ import MODULES
from harmonizer.__main__ import PROGRAMS as OWN
from harmonizer.cli import translate
from harmonizer.export import __main__ as export

ROOT = Path(__file__).parents[1]
PROGRAMS = ("harmonizer", "pip", "python", "sbatch", "torchrun")
CALLED = "#!/bin/bash\n" + r"""printf '%s\0' "${0##*/}" "$@" >> "$CALLS"; printf '\n' >> "$CALLS" """ + "\n"
ASK = """import os, sys
from multiprocessing.connection import Client
connection = Client(os.environ["ASKED"])
connection.send((sys.argv[1:], os.getcwd(), dict(os.environ), os.getpid()))
sys.exit(connection.recv())
"""
RUN = f'{CALLED}exec {shlex.quote(sys.executable)} -c {shlex.quote(ASK)} "${{0##*/}}" "$@"\n'
LANGUAGE = "arguments"  # what Sybil calls the word after the backticks
TINY = {
    "train": {"recipe.epochs": 1, "budget.steps_per_epoch": 2, "images": 4, "budget.images": 4},
    "evaluate": {"images": 4},
}
MARK = re.compile(r"<!-- (not run|after|file): (.+) -->\n\Z")  # on the line before a block


def mark(example: Example, kind: str) -> str | None:
    """Return the text in ``<!-- not run: REASON -->``, ``<!-- after: COMMAND -->`` or ``<!-- file: NAME -->``."""
    found = MARK.search(example.document.text[: example.region.start])
    return found[2] if found and found[1] == kind else None


def python(example: Example) -> None:
    """Run a block in the namespace of its document; save it if the document marks it as a file."""
    if name := mark(example, "file"):
        Path(name).write_text(example.parsed)
    if mark(example, "not run"):
        compile(example.parsed, example.path, "exec")
    else:
        PythonEvaluator()(example)


def shell(example: Example) -> None:
    """Run a block that is not marked, with tiny budgets."""
    if not mark(example, "not run"):
        bash(f"{mark(example, 'after') or ''}\n{example.parsed}", Path.cwd(), RUN)


def text(example: Example) -> None:
    """Save a block that the document marks as a file."""
    if name := mark(example, "file"):
        Path(name).write_text(example.parsed)


def calls(example: Example, folder: Path) -> list[list[str]]:
    """Return the program and arguments of each command in a block, as bash passes them."""
    return [text.split("\0")[:-1] for text in bash(example.parsed, folder, CALLED).split("\n")[:-1]]


def bash(block: str, folder: Path, stand_in: str) -> str:
    """Run a block in a folder; return the calls that the stand-ins recorded."""
    path = folder / ".path"
    path.mkdir(exist_ok=True)
    for name in PROGRAMS:
        (path / name).write_text(CALLED if name == "pip" else stand_in)
        (path / name).chmod(0o755)
    record = folder / ".calls"
    record.write_text("")
    environment = os.environ | {"PATH": f"{path}:/usr/bin:/bin", "CALLS": str(record), "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", block]
    with Listener(family="AF_UNIX") as listener:
        environment["ASKED"] = listener.address
        Thread(target=answer, args=(listener,), daemon=True).start()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return record.read_text()


def answer(listener: Listener) -> None:
    """Run the commands of a block with tiny budgets, one after the other, until the listener is closed."""
    while True:
        try:
            connection = listener.accept()
        except OSError:  # closed
            return
        words, place, environment, caller = connection.recv()
        files = f"/proc/{caller}/fd/1", f"/proc/{caller}/fd/2"
        connection.send(programs.run_into(*files, tiny(words), place, environment))


def understand(words: list[str]) -> None:
    """Check the arguments of a command against the settings or options of its program, without running it.

    Raises:
        Exception: The program would refuse the arguments.
    """
    match words:
        case ["harmonizer", ("train" | "evaluate") as name, *rest]:
            compose(name, rest)
        case ["python", ("train.py" | "evaluate.py") as file, *rest]:
            compose(file.removesuffix(".py"), rest)
        case ["torchrun", *rest] if "train.py" in rest:
            compose("train", rest[rest.index("train.py") + 1 :])
        case ["sbatch", *rest]:
            file = next(word for word in rest if not word.startswith("--"))
            program = re.search(r"(\w+)\.py \"\$@\"(.*)", (ROOT / file).read_text())
            compose(program[1], [*rest[rest.index(file) + 1 :], *program[2].split()])
        case ["harmonizer", name, *rest] if name in MODULES:
            parse(MODULES[name][0], rest)
        case ["python", "-m", "pytest", *_] | ["harmonizer", "--help"] | ["pip", "wheel", ".", "--no-deps"]:
            pass
        case ["python", "-m", module, *rest]:
            parse(module, rest)
        case ["python", "-c", code]:
            compile(code, "python -c", "exec")
        case ["pip", "install", *rest]:
            for word in rest:
                if word != "-e":
                    require(word)
        case _:
            raise AssertionError(f"no test knows the command {shlex.join(words)}")


def compose(program: str, words: list[str]) -> None:
    """Compose the settings of train.py or evaluate.py, and build the callbacks, which check the attack."""
    if {"-sc", "--help", "--version"} & set(words):
        return
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = hydra.compose(program, translate(words))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    build_all(config.callbacks)


class ParsedError(Exception):
    """The options were accepted."""


def parse(module: str, words: list[str]) -> None:
    """Parse the options of a module that is a command, and stop before its work."""
    assert find_spec(module), module
    read = argparse.ArgumentParser.parse_args

    def stop(*_: object) -> None:
        raise ParsedError

    def parse_args(self: argparse.ArgumentParser, *arguments: object) -> None:
        read(self, *arguments)
        stop()

    with patch("argparse.ArgumentParser.parse_args", parse_args), patch("sys.argv", [module, *words]), catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # runpy warns about modules that are imported already
        try:
            if module == "harmonizer.export":
                with patch.object(export, "_of_checkpoint", stop), patch.object(export, "_of_name", stop):
                    export.main()
            else:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        except ParsedError:
            return
    raise AssertionError(f"{module} parses no options")


def require(word: str) -> None:
    """Check an argument of pip install: a package, or this project with existing extras."""
    if word.startswith("."):
        extras = Requirement(f"harmonizer{word[1:]}").extras
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extras <= project["optional-dependencies"].keys(), word
    else:
        Requirement(word)


def tiny(words: list[str]) -> list[str]:
    """Return the arguments that run a command with a tiny budget."""
    match words:
        case ["harmonizer", name, *rest] if name in OWN:
            file = f"{name}.py"
        case ["python", ("train.py" | "evaluate.py") as file, *rest]:
            name = file.removesuffix(".py")
        case ["harmonizer", *rest]:
            return ["-m", "harmonizer", *(word for word in rest if word != "--serve")]
        case _:
            return [word for word in words[1:] if word != "--serve"]
    kept = [word for word in translate(rest) if word.partition("=")[0] not in TINY[name]]
    return [str(ROOT / file), *kept, *(f"{key}={value}" for key, value in TINY[name].items())]


def blocks(path: Path) -> Iterator[Example]:
    """Return the blocks of a document, in order."""
    kinds = {"python": python, "bash": shell, "text": text}
    return Sybil([CodeBlockParser(language, run) for language, run in kinds.items()]).parse(path).examples()
