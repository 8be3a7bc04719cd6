"""Records of failed models, next to the results."""

import traceback
from pathlib import Path

import torch

from harmonizer.files import atomic_write
from harmonizer.results import FAILURES, creation_time, folder_name, read_failure
from harmonizer.results.folder import strict_json

KINDS = (  # kinds of failures, with texts in their errors; the first match counts
    ("out of memory", ("out of memory", "not enough memory", "can't allocate memory")),
    ("no weights", ("not cached and cannot be downloaded", "no checkpoint at", "has no weights")),
    ("no derivative", ("derivative for", "is not differentiable", "does not require grad", "derivative of")),
    ("no such model", ("timm has no model",)),
)
LINES = 20  # last lines of the traceback to keep


class Failures:
    """The records in ``RESULTS/failed``, one file per model.

    Args:
        results: Folder of results folders.
    """

    def __init__(self, results: Path) -> None:
        self.folder = results / FAILURES
        self._before = {path.name: _identity(path) for path in self.folder.glob("*.json")}

    def record(self, model: str, error: BaseException) -> str:
        """Record the failure of a model; return the reason in one line."""
        reason = reason_of(error)
        lines = "".join(traceback.format_exception(error)).splitlines()[-LINES:]
        content = {"model": model, "reason": reason, "created": creation_time(), "traceback": lines}
        path = self._path(model)
        atomic_write(path, strict_json(content))
        return reason

    def failed_in_other_process(self, model: str) -> str | None:
        """Return why a model failed in another process during this sweep; None if it did not."""
        path = self._path(model)
        try:
            if _identity(path) == self._before.get(path.name):
                return None  # from an earlier sweep: the model is tried again
            return read_failure(path)[1]
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, model: str) -> None:
        """Remove the record of a model."""
        self._path(model).unlink(missing_ok=True)

    def _path(self, model: str) -> Path:
        return self.folder / f"{folder_name(model)}.json"


def reason_of(error: BaseException) -> str:
    """Return why a model failed in one line, beginning with the kind of failure if it is known.

    >>> reason_of(ValueError("timm has no model 'resnt50'; did you mean resnet50?"))
    "no such model: timm has no model 'resnt50'; did you mean resnet50?"
    """
    while type(error).__module__.startswith("hydra") and error.__cause__ is not None:
        error = error.__cause__  # Hydra wraps errors of constructors
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text}"
    for kind, signs in KINDS:
        if any(sign in text.lower() for sign in signs):
            return f"{kind}: {text}"
    return text if isinstance(error, ValueError | TypeError | OSError) else f"{type(error).__name__}: {text}"


def device_is_lost(error: BaseException) -> bool:
    """Return whether the error left the device unusable for every later model."""
    return "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError)


def _identity(path: Path) -> tuple[int, int]:
    """Return an identity that changes when the file is replaced, independent of clocks of other machines."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
