"""Run folders: one folder per run, named by its settings; a different run is refused."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harmonizer.files import atomic_write, locked, remove_temporaries
from harmonizer.untrusted import parse_json

SETTINGS, LOCK, LOG = "config.json", ".lock", "logs/csv/metrics.csv"
MARK = "harmonizer_run"  # key of the settings file that marks a run folder
SETTINGS_BYTES = 10_000_000  # largest settings file that is read
# Parts of the settings that affect the weights; not the devices, and not how the data are loaded.
IDENTITY_KEYS = (
    "module",
    "data",
    "recipe",
    "seeding.seed",
    "ema",
    "trainer.precision",
    "trainer.accumulate_grad_batches",
)
IGNORED_KEYS = (
    "recipe.name",
    *("data.num_workers", "data.start_method", "data.eval_batch_size"),
    *("data.cache", "data.cache_gb", "data.verify", "data.allow_pipe"),
)
RENAMED = {"window": "shuffle_window_shards"}  # data settings by their names in version 0.1
ADDED = {  # module settings that earlier versions lack, with the values that they trained with
    "supervision": "harmonizer",
    "masked_share": 0.5,
    "harmonizer_start": 0.0,
    "adversarial": "none",
    "adversarial_eps": 0.5,
    "adversarial_steps": None,
    "adversarial_step_size": None,
    "adversarial_start": 0.0,
    "adversarial_warmup_epochs": 0,
    "adversarial_saliency": None,
    "trades_beta": 6.0,
    "restart": 1.0,
    "restart_rate": 0.5,
}
RANKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "SLURM_PROCID")  # environment variables of launchers
OLD_MODULE = "harmonizer.module.HarmonizerModule"  # of runs of version 0.1, which have no mark
LAST, PREVIOUS, BEST = "last.ckpt", "last-previous.ckpt", "best.ckpt"
WRITTEN = (  # patterns of a run's files; the settings, which mark the run folder, are removed last
    *(LAST, PREVIOUS, BEST, f"{LAST}.damaged", f"{PREVIOUS}.damaged", LOG),
    *("logs/tensorboard/events.out.tfevents.*", "logs/tensorboard/hparams.yaml", "examples/*.png"),
    SETTINGS,
)


def is_rank_zero() -> bool:
    """Return whether this is the first or only process of a run, the one that writes and prints."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_label(name: str) -> str:
    """Return a model's name in tables, figures and folders.

    >>> [model_label(name) for name in ("resnet50.a1_in1k", "nets/mine.py:make", "hf-hub:timm/vit", "runs/a/export")]
    ['resnet50.a1_in1k', 'mine.make', 'timm-vit', 'a-export']
    """
    if name.partition(":")[0] in ("hf-hub", "hf_hub", "local-dir"):
        name = name.partition(":")[2]
    place, colon, function = name.partition(":")
    if place.endswith(".py"):
        return f"{Path(place).stem}.{function}"
    return "-".join(Path(place).parts[-2:]).strip("/.-") + f"-{function}" * bool(colon)


@contextmanager
def create_run_dir(folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[None]:
    """Create or reopen the run folder of these settings, and lock it inside a ``with`` block.

    The first process of a run holds the lock for all of its processes.

    Args:
        folder: Run folder; created if missing.
        settings: Settings of the run, plain JSON values; runs that differ in :data:`IDENTITY_KEYS` are different.
        overwrite: Whether to remove the files of an existing run, whatever its settings.

    Raises:
        BlockingIOError: Another process trains in the folder.
        FileExistsError: The folder contains a run with other settings and a checkpoint, or something else than a run.
    """
    if not is_rank_zero():
        yield
        return
    _refuse_foreign(folder)
    with locked(folder / LOCK, f"the run folder {folder}", "wait until it has ended, or choose another folder=FOLDER"):
        _refuse_foreign(folder)
        for name in (SETTINGS, LAST, BEST, LOG):
            remove_temporaries(folder / name)
        _enter(folder, settings, overwrite=overwrite)
        yield


def _enter(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Resume the run in a folder or start a new one."""
    path = folder / SETTINGS
    if overwrite:
        _remove_run(folder)
    if path.exists() and any((folder / name).exists() for name in (LAST, PREVIOUS)):
        kept = parse_json(path.read_text())
        if isinstance(_part(kept, "data"), Mapping):
            kept["data"] = {RENAMED.get(name, name): value for name, value in kept["data"].items()}
        if isinstance(kept.get("module"), Mapping):
            kept["module"] = {name: ADDED[name] for name in ADDED if name in settings["module"]} | kept["module"]
        different = [
            text for part in IDENTITY_KEYS for text in _differences(_part(kept, part), _part(settings, part), part)
        ]
        if different:
            raise FileExistsError(
                f"{folder} holds another run, with other {', '.join(different)}; "
                "add overwrite=true to replace it, or choose another folder with folder=FOLDER"
            )
        return
    atomic_write(path, json.dumps({MARK: True} | dict(settings), indent=1) + "\n")


def _refuse_foreign(folder: Path) -> None:
    """Raise if a folder contains files and is not a run folder."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"expected a folder at {folder}, got a file; choose another with folder=FOLDER")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()) and not _is_run(folder):
        raise FileExistsError(f"{folder} holds files that are not a run; choose another folder with folder=FOLDER")


def _is_run(folder: Path) -> bool:
    """Return whether train.py wrote a folder's settings; other programs write a config.json too."""
    path = folder / SETTINGS
    if not path.is_file() or path.stat().st_size > SETTINGS_BYTES:
        return False
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return _part(content, MARK) is True or _part(content, "module._target_") == OLD_MODULE


def _remove_run(folder: Path) -> None:
    """Remove the files of a run; other files, and folders that are links, are kept."""
    for pattern in WRITTEN:
        parent = folder / Path(pattern).parent
        if parent != folder and any(part.is_symlink() for part in (parent, parent.parent)):
            continue
        for path in folder.glob(pattern):
            path.unlink()
    for name in ("logs/csv", "logs/tensorboard", "logs", "examples"):
        with suppress(OSError):  # missing or not empty
            (folder / name).rmdir()


def _part(settings: Any, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the part of nested settings with a dotted name; None if missing."""
    for key in name.split("."):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def _differences(before: Any, after: Any, name: str) -> list[str]:  # noqa: ANN401 - any JSON values
    """Return the settings that differ, as dotted names with both values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted(before.keys() | after.keys())
        return [text for key in keys for text in _differences(before.get(key), after.get(key), f"{name}.{key}")]
    same = before == after or name in IGNORED_KEYS or name.endswith("._target_")  # the code may move
    same = same or (before in (None, {}) and after in (None, {}))  # earlier versions lack some settings
    return [] if same else [f"{name} ({before} -> {after})"]
