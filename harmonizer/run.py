"""Run folders: one folder a run, made from its settings; a different run does not get in."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = "config.json"
# Parts of the settings that decide the weights; not the devices, and not how the data are loaded.
DECISIVE = ("module", "data", "recipe", "seeding.seed", "ema", "trainer.precision", "trainer.accumulate_grad_batches")
INDIFFERENT = (
    *("data.num_workers", "data.start_method", "data.eval_batch_size"),
    *("data.cache", "data.cache_gb", "data.verify", "data.allow_pipe"),
)
RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")  # environment variables of launchers
LAST, PREVIOUS, BEST = "last.ckpt", "last-previous.ckpt", "best.ckpt"


def first_process() -> bool:
    """Tell whether this is the only process of a run, or the first: the one that writes and speaks for all."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def say(text: str) -> None:
    """Print a line, once for all processes."""
    if first_process():
        sys.stdout.write(f"{text}\n")


def claim(folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Take a run folder for a run with these settings.

    Args:
        folder: Made when it does not exist.
        settings: Of the whole run, plain JSON values; :data:`DECISIVE` parts make it another run.
        overwrite: Remove a run that is there, whatever its settings, and start again.

    Raises:
        FileExistsError: The folder holds a run with other settings that has got to a checkpoint, or something that is
            no run.
    """
    path = folder / SETTINGS
    if not first_process():
        return
    if overwrite and path.exists():
        shutil.rmtree(folder)
    if path.exists() and any((folder / name).exists() for name in (LAST, PREVIOUS)):
        kept = json.loads(path.read_text())
        different = [text for part in DECISIVE for text in _differences(_part(kept, part), _part(settings, part), part)]
        if different:
            raise FileExistsError(
                f"{folder} holds another run, with other {', '.join(different)}; "
                "add overwrite=true to replace it, or choose another place with folder=FOLDER"
            )
        return
    if folder.exists() and any(folder.iterdir()) and not path.exists():
        raise FileExistsError(f"{folder} holds files that are no run; choose another place with folder=FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{SETTINGS}.{os.getpid()}")
    temporary.write_text(json.dumps(settings, indent=1) + "\n")
    temporary.replace(path)


def _part(settings: Any, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the part of nested settings with a dotted name; None where it is missing."""
    for key in name.split("."):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def _differences(before: Any, after: Any, name: str) -> list[str]:  # noqa: ANN401 - any JSON values
    """Name the settings, dotted, that differ, with both values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted(before.keys() | after.keys())
        return [text for key in keys for text in _differences(before.get(key), after.get(key), f"{name}.{key}")]
    return [] if before == after or name in INDIFFERENT else [f"{name} ({before} -> {after})"]
