"""The command line: ``--flags`` become Hydra overrides, and a user's mistake becomes one clear line."""

import difflib
import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

from harmonizer.signals import end_with_parent, interruptible

P = ParamSpec("P")
R = TypeVar("R")

SWITCHES = frozenset({"harmonize", "overwrite", "pair", "pretrained"})  # need no value
TRACEBACK = "HARMONIZER_TRACEBACK"  # environment variable: show where a mistake was noticed
USER_ERRORS = (ValueError, TypeError, ArithmeticError, OSError)
WORDS = dict.fromkeys(("true", "yes", "on", "1"), "true") | dict.fromkeys(("false", "no", "off", "0"), "false")

# Warnings of Lightning that say nothing a user could act on here.
QUIET = (
    "Checkpoint directory .* exists and is not empty",  # it holds the run's settings
    ".*does not have many workers which may be a bottleneck",  # decoding the demo pictures is no bottleneck
    ".*isinstance.treespec, LeafSpec.. is deprecated",  # its own use of torch
    ".*recommended to use `self.log\\(.*sync_dist=True",  # the values are reduced before they are logged
)

# Options of Hydra itself, and whether each takes a value.
HYDRA_OPTIONS = {
    "--help": False,
    "-h": False,
    "--hydra-help": False,
    "--version": False,
    "--resolve": False,
    "--run": False,
    "-r": False,
    "--multirun": False,
    "-m": False,
    "--info": False,
    "-i": False,
    "--cfg": True,
    "-c": True,
    "--package": True,
    "-p": True,
    "--config-path": True,
    "-cp": True,
    "--config-name": True,
    "-cn": True,
    "--config-dir": True,
    "-cd": True,
    "--experimental-rerun": True,
}
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*=")
_STRUCTURED = re.compile(r"""^(['"\[{]|[a-z_]+\()|\$\{""")  # quoted, list, dictionary, sweep function, interpolation
_PLAIN = re.compile(r"[\w./\\:+@?|*$% -]*", re.ASCII)  # what Hydra's grammar takes as it is
_WORKER = re.compile(r"Caught (\w+) in \w+ worker process \d+\.\nOriginal Traceback.*\n[\w.]*\1: (.*)", re.DOTALL)
_UNKNOWN = re.compile(r"Could not override '([^']+)'")


def translate(arguments: Sequence[str]) -> list[str]:
    """Turn a command line into Hydra overrides.

    ``--key value`` and ``--key=value`` mean ``key=value``; a bare ``--switch`` means ``switch=true``. Hydra's own
    options and overrides pass through. Values that Hydra's grammar would trip over are quoted; a comma is one of them
    unless ``--multirun`` asks for several values. Translating twice changes nothing.

    Args:
        arguments: Without the program's name.

    Raises:
        ValueError: A ``--key`` other than a switch has no value, or a switch another than true or false.

    >>> translate(["--model", "resnet50", "--harmonize", "seed=1", "--ckpt=runs/epoch=3.ckpt"])
    ['model=resnet50', 'harmonize=true', 'seed=1', "ckpt='runs/epoch=3.ckpt'"]
    """
    overrides: list[str] = []
    waiting = list(arguments)
    several = any(word in ("--multirun", "-m") for word in waiting)
    while waiting:
        word = waiting.pop(0)
        if word.split("=")[0] in HYDRA_OPTIONS:
            overrides.append(word)
            if HYDRA_OPTIONS[word.split("=")[0]] and "=" not in word and waiting:
                overrides.append(waiting.pop(0))
        elif word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = key.replace("-", "_")
            if not equals:
                value = _value(key, waiting)
            overrides.append(f"{_spelled(key, value)}={_quoted(key, value, several)}")
        elif _OVERRIDE.match(word):
            key, _, value = word.partition("=")
            overrides.append(f"{_spelled(key, value)}={_quoted(key, value, several)}")
        else:
            overrides.append(word)
    return overrides


def _value(key: str, waiting: list[str]) -> str:
    """Take the value of ``--key`` from the words that follow it."""
    following = waiting[0] if waiting else None
    if key in SWITCHES:
        return waiting.pop(0) if following is not None and following.lower() in WORDS else "true"
    if following is None or following.startswith("--"):
        meant = difflib.get_close_matches(key, SWITCHES, n=1)
        hint = f"did you mean --{meant[0]}?" if meant else f"try --{key} VALUE or {key}=VALUE"
        raise ValueError(f"expected a value after --{key}; {hint}")
    return waiting.pop(0)


def _spelled(key: str, value: str) -> str:
    """Return the setting that is meant: ``sweep=FILE.yaml`` is a file of the user's, ``sweep=NAME`` one of ours."""
    return "sweep.file" if key == "sweep" and value.endswith((".yaml", ".yml")) else key


def unquoted(value: str) -> str:
    """Return a value of :func:`translate` as it was before it was quoted."""
    if len(value) < 2 or value[0] != "'" or value[-1] != "'":
        return value
    return re.sub(r"(\\+)(\'|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])


def _quoted(key: str, value: str, several: bool) -> str:
    """Quote a value that Hydra's grammar would trip over, and spell a switch's as Hydra does."""
    if several and "," in value:
        return value
    if key in SWITCHES:
        if value.lower() not in WORDS:
            raise ValueError(f"expected {key} true or false, got {value}")
        return WORDS[value.lower()]
    if _PLAIN.fullmatch(value) or _STRUCTURED.search(value):
        return value
    # The grammar unescapes backslashes only before a quote.
    escaped = re.sub(r"(\\*)(\'|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def command_line(main: Callable[[], None]) -> None:
    """Run a program's Hydra main on the translated command line, without the chatter of the libraries."""
    end_with_parent()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    try:
        sys.argv[1:] = translate(sys.argv[1:])
    except ValueError as error:
        _leave(error)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises its errors, and leaves their looks to us
    try:
        with interruptible():
            main()
    except Exception as error:
        mistake = _of_settings(error)
        if mistake is None or os.environ.get(TRACEBACK):
            raise
        _leave(mistake)


def _of_settings(error: BaseException) -> str | None:
    """Say in one line what is wrong with the settings, where that is what Hydra complains of."""
    kind = type(error)
    if kind.__module__.split(".")[0] not in ("hydra", "omegaconf") or kind.__name__ == "InstantiationException":
        return None
    if unknown := _UNKNOWN.search(str(error)):
        return f"there is no setting {unknown[1]}; --cfg job shows all"
    return " ".join(str(error).split("See https")[0].split())


def clear_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a program's body: a user's mistake ends it with one line and exit code 2, a bug with its traceback.

    Mistakes are what this project raises for them: ValueError, TypeError, ArithmeticError and OSError, also as the
    cause of another error (Hydra wraps what a constructor raises); and Lightning's MisconfigurationException. The
    environment variable HARMONIZER_TRACEBACK=1 shows their traceback too.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not _is_mistake(cause):
                cause = cause.__cause__
            if cause is None or os.environ.get(TRACEBACK):
                raise
            place = re.search(r"full_key: ([\w.]+)", str(error)) if isinstance(cause, TypeError) else None
            _leave(_of_the_wrong_kind(place[1], cause) if place else cause)

    return wrapped


@contextmanager
def settings_of(place: str) -> Iterator[None]:
    """Say of a TypeError in a ``with`` block which settings, below ``place``, it comes from."""
    try:
        yield
    except TypeError as error:
        raise TypeError(_of_the_wrong_kind(place, error)) from error


def _of_the_wrong_kind(place: str, cause: BaseException) -> str:
    """Say that a setting below ``place`` has a value that Python cannot work with, and name those that were given."""
    given = [word.lstrip("+") for word in sys.argv[1:] if word.lstrip("+").startswith(f"{place}.")]
    return f"{' or '.join(given) or f'a setting of {place}'} has a value of the wrong kind ({cause})"


def _is_mistake(error: BaseException) -> bool:
    return isinstance(error, USER_ERRORS) or type(error).__name__ == "MisconfigurationException"


def _leave(error: BaseException | str) -> NoReturn:
    """Print a mistake as one line, also one of a loading process, and exit."""
    text = str(error)
    if in_worker := _WORKER.match(text):
        text = in_worker[2].strip()
    sys.stderr.write(f"{Path(sys.argv[0]).name}: error: {text}\n")
    raise SystemExit(2) from None
