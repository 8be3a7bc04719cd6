"""Checkpoint files: atomic writing, reading without unpickling objects, and the search for the newest valid one."""

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
    """Write a checkpoint such that a complete one is on the disk at any time.

    The file is written under a temporary name next to ``path``, forced to the disk and renamed, so that neither a kill
    nor a power failure leaves a partial file under its name.

    Args:
        content: Tensors and plain values.
        path: File to write; replaced when it exists.
        previous: Where to keep the replaced file; None deletes it.

    Raises:
        OSError: The file cannot be written, for example because the disk is full. Existing files are kept.
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
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when a write fails
        kept = "the previous checkpoint is intact" if path.exists() else "there is no previous checkpoint"
        raise OSError(f"cannot write the checkpoint {path}: {_reason(error)}; {kept}") from error


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU after verifying its checksums, without unpickling or running anything.

    ``mmap`` leaves the tensors on the disk until they are used.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train.py writes best.ckpt and last.ckpt into the run folder")
    if path.suffix == ".safetensors":
        raise ValueError(_no_checkpoint(path))
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums
            broken = archive.testzip()
        content = None if broken else torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        raise ValueError(f"{path} holds more than tensors and plain values; it is not loaded") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged byte can raise any kind of error in the two readers
        raise ValueError(f"{path} is truncated or damaged ({_reason(error)}); {ADVICE}") from None
    if broken is not None:
        raise ValueError(f"{path} is truncated or damaged (the checksum of {broken} is wrong); {ADVICE}")
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise ValueError(f"{path} is not a checkpoint of train.py; expected its weights and hyper-parameters")
    return content


def _no_checkpoint(path: Path) -> str:
    """Return the error message for a ``.safetensors`` file, which holds neither a model's name nor classes."""
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
    """Return the checkpoint to resume a run from: the newest valid one.

    A damaged one is reported on standard error and renamed, so that no later save keeps it as the previous one.

    Returns:
        The path, or None without a checkpoint.

    Raises:
        ValueError: There are checkpoints, but none is usable; starting again without being asked would lose them.
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
            sys.stderr.write(f"warning: {message}: resuming from {path}, step {step}\n")
            with suppress(FileNotFoundError):  # another process has renamed it
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
    """Return the first line of an error, or of the OSError that caused it."""
    while not isinstance(error, OSError) and isinstance(error.__context__, OSError):
        error = error.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
