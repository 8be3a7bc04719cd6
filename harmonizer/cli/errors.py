"""A program's Hydra main, with one-line messages for users' mistakes."""

import functools
import importlib.metadata
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from harmonizer import __version__
from harmonizer.cli.suggest import bare_word, groups, unknown_choice, unknown_setting
from harmonizer.cli.translate import HYDRA_OPTIONS, translate, unquoted
from harmonizer.signals import end_with_parent, interruptible

P = ParamSpec("P")
R = TypeVar("R")

TRACEBACK = "HARMONIZER_TRACEBACK"  # environment variable: show the traceback of a mistake too
USER_ERRORS = (ValueError, TypeError, ArithmeticError, OSError)
EXTRAS = {  # module -> package to install
    "adv_lib": "adv-lib (with setuptools below 81; see benchmarks/README.md)",
    "foolbox": "foolbox",
    "h5py": "h5py",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}

# Lightning's warnings that do not apply here.
QUIET = (
    "Checkpoint directory .* exists and is not empty",  # it contains the run's settings
    ".*does not have many workers which may be a bottleneck",  # decoding the demo images is fast
    "The number of training batches .* is smaller than the logging interval",  # epoch means are logged
    ".*isinstance.treespec, LeafSpec.. is deprecated",  # Lightning's own call of torch
    ".*recommended to use `self.log\\(.*sync_dist=True",  # the values are reduced before logging
)

_WORKER = re.compile(r"Caught (\w+) in \w+ worker process \d+\.\nOriginal Traceback.*\n[\w.]*\1: (.*)", re.DOTALL)
_MISSING = re.compile(r"Missing mandatory value: ([\w.]+)")
_LOST = re.compile(r"Interpolation key '([\w.]+)' not found")
_UNKNOWN = re.compile(r"Could not override '([^']+)'")


def command_line(main: Callable[[], None]) -> None:
    """Run a program's Hydra main on the translated command line, with the libraries' routine messages silenced."""
    end_with_parent()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    if "--version" in sys.argv[1:]:
        sys.stdout.write(f"{version()}\n")
        return
    try:
        sys.argv[1:] = translate(sys.argv[1:])
        _refuse_bare_words(sys.argv[1:])
    except ValueError as error:
        _leave(error)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises its errors instead of printing them
    try:
        with interruptible():
            main()
    except Exception as error:
        mistake = _of_settings(error)
        if mistake is None or os.environ.get(TRACEBACK):
            raise
        _leave(mistake)


def version() -> str:
    """Return the version, with those of the libraries that affect the numbers."""
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "lightning", "timm"))
    return f"harmonizer {__version__}, {found}"


def _refuse_bare_words(words: Sequence[str]) -> None:
    """Raise for a word that is not a setting; Hydra's grammar would report a syntax error."""
    follows_option = False
    for word in words:
        if (
            not follows_option
            and not re.match(r"[+~]{0,2}[\w./@-]+=|~", word)
            and word.split("=")[0] not in HYDRA_OPTIONS
        ):
            raise ValueError(bare_word(word, _program()))
        follows_option = "=" not in word and HYDRA_OPTIONS.get(word, ()) != ()


def _of_settings(error: BaseException) -> str | None:
    """Return a one-line message for Hydra's errors about settings; None for other errors."""
    kind = type(error)
    if kind.__module__.split(".")[0] not in ("hydra", "omegaconf") or kind.__name__ == "InstantiationException":
        return None
    details: Any = error
    if unknown := _UNKNOWN.search(str(error)):
        return unknown_setting(unknown[1], _program(), _given(unknown[1]))
    if kind.__name__ == "MissingConfigException":
        group, _, name = details.missing_cfg_file.rpartition("/")
        options = details.options or sorted(groups(_program()).get(group, ()))  # Hydra has none for a list of choices
        if options:
            return unknown_choice(group, name, options)
    if kind.__name__ == "InterpolationKeyError" and (lost := _LOST.search(str(error))):
        removed = [word for word in sys.argv[1:] if word.startswith("~")]
        hint = f"; try the command without {' '.join(removed)}" if removed else ""
        return f"expected a setting {lost[1]}, which other settings use, got none{hint}"
    if kind.__name__ == "MissingMandatoryValue" and (missing := _MISSING.search(str(error))):
        wanted = missing[1].rpartition(".")[2].upper()
        return f"expected {missing[1]}={wanted}, got none; add it"
    reason = " ".join(str(error).split("See https")[0].split())
    if kind.__name__ == "OverrideParseException":
        return f"expected a valid value, got {details.override} ({reason}); try quotes: \"KEY='VALUE'\""
    return reason


def _program() -> str:
    return Path(sys.argv[0]).stem


def _given(key: str) -> str:
    """Return the value of a setting on the command line."""
    found = [word.partition("=")[2] for word in sys.argv[1:] if word.partition("=")[0].lstrip("+~") == key]
    return unquoted(found[0]) if found else "VALUE"


def _missing_extra(error: BaseException) -> str | None:
    """Return how to install the optional package that an ImportError misses; None for other errors."""
    if not isinstance(error, ImportError):
        return None
    missing = [name for name in EXTRAS if re.search(rf"\b{name}\b", str(error))]
    if not missing or "try: pip install" in str(error):  # raised by this package, with the command
        return str(error) if missing else None
    package = EXTRAS[missing[0]]
    return f"expected {missing[0]} to be installed for this choice, got an import error; try: pip install {package}"


def clear_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a program's body: a user's mistake ends it with one line and exit code 2, a bug with a traceback.

    Mistakes are ValueError, TypeError, ArithmeticError and OSError, also as the cause of another error (Hydra wraps
    the errors of constructors), and Lightning's MisconfigurationException. With the environment variable
    HARMONIZER_TRACEBACK=1, they show a traceback too.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if (mistake := _of_settings(error)) and not os.environ.get(TRACEBACK):
                _leave(mistake)
            cause: BaseException | None = error
            while cause is not None and not _is_mistake(cause):
                cause = cause.__cause__
            if cause is None or os.environ.get(TRACEBACK):
                raise
            place = re.search(r"full_key: ([\w.]+)", str(error)) if isinstance(cause, TypeError) else None
            _leave(_missing_extra(cause) or (_of_the_wrong_kind(place[1], cause) if place else cause))

    return wrapped


@contextmanager
def settings_of(place: str) -> Iterator[None]:
    """Add to a TypeError raised in a ``with`` block the settings below ``place`` that the user gave."""
    try:
        yield
    except TypeError as error:
        raise TypeError(_of_the_wrong_kind(place, error)) from error


def _of_the_wrong_kind(place: str, cause: BaseException) -> str:
    """Return a message that a setting below ``place`` has a value of the wrong type, with the settings given."""
    given = [word.lstrip("+") for word in sys.argv[1:] if word.lstrip("+").startswith(f"{place}.")]
    return f"{' or '.join(given) or f'a setting of {place}'} has a value of the wrong type ({cause})"


def _is_mistake(error: BaseException) -> bool:
    return (
        isinstance(error, USER_ERRORS)
        or type(error).__name__ == "MisconfigurationException"
        or _missing_extra(error) is not None
    )


def _leave(error: BaseException | str) -> NoReturn:
    """Print a mistake, which may come from a data-loading process, as one line, and exit."""
    text = str(error)
    if in_worker := _WORKER.match(text):
        text = in_worker[2].strip()
    place = Path(sys.argv[0])
    sys.stderr.write(f"{place.parent.name if place.stem == '__main__' else place.name}: error: {text}\n")
    raise SystemExit(2) from None
