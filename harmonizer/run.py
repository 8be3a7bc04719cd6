"""Run folders: one folder a run, made from its settings; a different run does not get in."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = "config.json"
DECISIVE = ("module", "data", "recipe", "seeding")  # parts of the settings that decide the weights; not the devices
RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")  # environment variables of launchers
LAST, BEST = "last.ckpt", "best.ckpt"


def claim(folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Path | None:
    """Take a run folder for a run with these settings.

    Args:
        folder: Made when it does not exist.
        settings: Of the whole run, plain JSON values; :data:`DECISIVE` parts make it another run.
        overwrite: Remove a run that is there, whatever its settings, and start again.

    Returns:
        The checkpoint to go on from; None at the start of a run.

    Raises:
        FileExistsError: The folder holds a run with other settings that has got to a checkpoint, or something that is
            no run.
    """
    path, last = folder / SETTINGS, folder / LAST
    if any(os.environ.get(name, "0") != "0" for name in RANKS):  # the first process alone changes the folder
        return last if last.exists() and not overwrite else None
    if overwrite and path.exists():
        shutil.rmtree(folder)
    if last.exists() and path.exists():
        old, new = ({part: kept.get(part) for part in DECISIVE} for kept in (json.loads(path.read_text()), settings))
        different = _differences(old, new)
        if different:
            raise FileExistsError(
                f"{folder} holds another run, with other {', '.join(different)}; "
                "add overwrite=true to replace it, or choose another place with folder=FOLDER"
            )
        return last
    if folder.exists() and any(folder.iterdir()) and not path.exists():
        raise FileExistsError(f"{folder} holds files that are no run; choose another place with folder=FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{SETTINGS}.{os.getpid()}")
    temporary.write_text(json.dumps(settings, indent=1) + "\n")
    temporary.replace(path)
    return None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name the settings, dotted, that differ, with both values."""
    found: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} ({before} -> {after})")
    return found
