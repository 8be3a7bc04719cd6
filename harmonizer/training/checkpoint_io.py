"""Checkpoint files: written whole or not at all, read without unpickling objects, and the newest valid one found."""

import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from harmonizer.files import replacing
from harmonizer.run import LAST, PREVIOUS
from harmonizer.untrusted import check_zip

ADVICE = "it is not loaded, take an earlier checkpoint"


def write_checkpoint(content: Mapping[str, Any], path: Path, *, previous: Path | None = None) -> None:
    """Write a checkpoint, so that at every instant a whole one lies on the disk.

    It is written beside its place, on the same file system, forced to the disk and renamed: neither a kill nor a power
    failure leaves half a file under its name.

    Args:
        content: Tensors and plain values.
        path: Replaced when it exists.
        previous: Where to keep the file that is replaced; None keeps none.

    Raises:
        OSError: It cannot be written, for example because the disk is full. The files that were there still are.
    """
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                torch.save(dict(content), file)
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                path.replace(previous)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError for what the file refused
        kept = "the checkpoint before it is intact" if path.exists() else "there was none before"
        raise OSError(f"cannot write the checkpoint {path}: {_reason(error)}; {kept}") from error


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU after checking its sums; nothing in it is unpickled or run.

    ``mmap`` leaves the tensors on the disk until they are used.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train.py writes best.ckpt and last.ckpt into the run folder")
    if path.suffix == ".safetensors":
        raise ValueError(_no_checkpoint(path))
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the sums
            broken = archive.testzip()
        content = None if broken else torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        raise ValueError(f"{path} holds more than tensors and plain values; it is not loaded") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged byte surfaces anywhere in the two readers, as any kind of error
        raise ValueError(f"{path} is truncated or damaged ({_reason(error)}); {ADVICE}") from None
    if broken is not None:
        raise ValueError(f"{path} is truncated or damaged (the sum of {broken} is wrong); {ADVICE}")
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise ValueError(f"{path} is not a checkpoint of train.py; expected its weights and hyper-parameters")
    return content


def _no_checkpoint(path: Path) -> str:
    """Return what a ``.safetensors`` file is, which holds no model's name and no classes, and what to type."""
    try:
        with safe_open(path, framework="pt") as file:
            count = len(file.keys())
    except (SafetensorError, OSError) as error:
        return f"{path} is truncated or damaged ({_reason(error)})"
    return (
        f"{path} holds weights alone (safetensors, {count} tensors); ckpt=FILE takes a checkpoint of train.py; "
        f"try train.py --model NAME weights={path} to start from them"
    )


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Return the checkpoint that a run goes on from: the newest valid one.

    A damaged one is named on standard error and put aside, so that no later save takes it for the one before.

    Returns:
        None where there is no checkpoint.

    Raises:
        ValueError: There are checkpoints and none is usable: to start again unasked would lose them.
    """
    folder, skipped = Path(folder), dict[Path, str]()
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            step = read_checkpoint(path, mmap=True).get("global_step")
        except ValueError as error:
            skipped[path] = str(error)
            continue
        for damaged, message in skipped.items():
            sys.stderr.write(f"warning: {message}: going on from {path}, step {step}\n")
            with suppress(FileNotFoundError):  # another process has done it
                damaged.replace(damaged.with_name(f"{damaged.name}.damaged"))
        return path
    if skipped:
        raise ValueError(f"no usable checkpoint: {'; '.join(skipped.values())}; overwrite=true starts the run again")
    return None


def _sync_folder(folder: Path) -> None:
    """Force renames to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    """Return an error's first line, or that of the system's error behind it."""
    while not isinstance(error, OSError) and isinstance(error.__context__, OSError):
        error = error.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
