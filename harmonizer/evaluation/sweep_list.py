"""The models of a sweep, from the command line or a YAML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harmonizer.models.factories import is_code
from harmonizer.models.folders import CONFIG, CONVERTED, read_config
from harmonizer.untrusted import LONGEST_TEXT, MOST_CLASSES, MOST_SIDE, plain_text, shortened

CHECKPOINT = ".ckpt"
TEXTS = ("prompts", "class_names")  # settings of zero-shot classifiers
SETTINGS = (
    *("model", "ckpt", "weights", "ema", "pretrained", "image_size", "mean", "std", "probe", *TEXTS),
    *("label", "family"),
)
OF_NAMES = (
    "image_size",
    "mean",
    "std",
    "model_args",
)  # settings that do not apply to checkpoints
SWITCHES = ("pretrained", "ema", "probe")
PATHS = ("ckpt", "weights")
MOST_MODELS = 10_000
LONGEST_PATH = 4096  # characters
MOST_BYTES = 10**7  # largest size of a YAML file


@dataclass(frozen=True)
class Entry:
    """One model of a sweep."""

    settings: Mapping[str, Any]  # `model` or `ckpt` and other settings of evaluate.py
    family: str | None = None  # family in figures; None derives it from the training settings or the name

    @property
    def name(self) -> str:
        """The name before the model is loaded."""
        return str(self.settings.get("label") or self.settings.get("model") or self.settings.get("ckpt"))

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings, which reset those of the whole sweep that this kind of model does not have."""
        absent: dict[str, Any] = (
            dict.fromkeys(OF_NAMES) | {"probe": False} if "ckpt" in self.settings else {"ema": False}
        )
        is_zero_shot = str(self.settings.get("model")).startswith("clip:")
        absent |= {"probe": False} if is_zero_shot else dict.fromkeys(TEXTS)
        return {**absent, **self.settings}


def read_models(
    listed: object,
    file: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    pretrained: bool = False,
    trust: bool = False,
) -> list[Entry]:
    """Read the models of a sweep.

    Args:
        listed: A list, or lists by family. Each item is a name (:mod:`harmonizer.models.sources`), the path of a
            checkpoint (it ends in ``.ckpt``), or a mapping with ``model`` or ``ckpt`` and optional ``weights`` (a
            file), ``ema``, ``pretrained``, ``image_size``, ``mean``, ``std``, ``probe``, ``prompts`` and
            ``class_names`` (lists of texts), ``label`` and ``family``.
        file: YAML file with more models: a list, or the keys ``models`` and ``pretrained``.
        folder: Folder of further model folders, for example of :mod:`harmonizer.models.convert_weights`.
        pretrained: Default of the items' ``pretrained``.
        trust: Run code that the file names; code in ``listed`` always runs.

    Raises:
        FileNotFoundError: The file does not exist, or the folder has no models.
        ValueError: There are no models or duplicates, or an item is malformed; the message names it.

    >>> [entry.name for entry in read_models({"CNN": ["resnet50"], "control": ["runs/a/last.ckpt"]})]
    ['resnet50', 'runs/a/last.ckpt']
    """
    entries = _entries(listed, None, pretrained, "sweep.models")
    if file is not None:
        content = _yaml(Path(file))
        if isinstance(content, Mapping) and "models" in content:
            pretrained = _checked("pretrained", content.get("pretrained", pretrained), str(file))
            content = content["models"]
        found = _entries(content, None, pretrained, str(file))
        code = [entry.name for entry in found if is_code(str(entry.settings.get("model", "")))]
        if code and not trust:
            raise ValueError(
                f"{file} names {code[0]}, which is code and is not run automatically; add trust=true to run it"
            )
        entries += found
    entries += [] if folder is None else _in_folder(Path(folder))
    if not entries:
        raise ValueError("expected models to sweep, got none; try sweep=timm, sweep=FILE.yaml or sweep.models=[a,b]")
    if len(entries) > MOST_MODELS:
        raise ValueError(f"expected {MOST_MODELS} models or fewer to sweep, got {len(entries)}")
    seen = set()
    for entry in entries:
        key = tuple(sorted((name, str(value)) for name, value in entry.settings.items()))
        if key in seen:
            raise ValueError(f"expected each model once, got {entry.name} again")
        seen.add(key)
    return entries


def _entries(listed: object, family: str | None, pretrained: bool, where: str) -> list[Entry]:
    """Read a list, or lists by family."""
    if family is None and isinstance(listed, Mapping) and not set(SETTINGS) & {str(key) for key in listed}:
        return [e for name, part in listed.items() for e in _entries(part, str(name), pretrained, f"{where}.{name}")]
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise ValueError(f"{where}: expected a list of models, or lists by family, got {shortened(listed)}")
    return [_entry(item, family, pretrained, where) for item in listed]


def _entry(item: object, family: str | None, pretrained: bool, where: str) -> Entry:
    """Read one item of a list."""
    if isinstance(item, str):
        item = {"ckpt" if item.endswith(CHECKPOINT) else "model": item}
    if not isinstance(item, Mapping):
        raise ValueError(f"{where}: expected a model's name, a checkpoint or a mapping, got {shortened(item)}")
    if unknown := {str(key) for key in item} - set(SETTINGS):
        raise ValueError(f"{where}: expected {', '.join(SETTINGS)} of a model, got {shortened(min(unknown))}")
    settings = {str(key): _checked(str(key), value, where) for key, value in item.items() if value is not None}
    if ("model" in settings) == ("ckpt" in settings):
        raise ValueError(f"{where}: expected either model or ckpt, got {shortened(settings)}")
    family = settings.pop("family", family)
    if "model" in settings:
        settings.setdefault("pretrained", pretrained)
    return Entry(settings, family)


def _in_folder(folder: Path) -> list[Entry]:
    """Return the models in the subfolders of a folder; those converted from Keras are harmonized."""
    found = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not found:
        raise FileNotFoundError(f"no models in {folder}; expected folders with a {CONFIG}, such as exported models")
    return [
        Entry(
            {"model": str(path), "label": path.name}, "harmonized" if CONVERTED in read_config(path / CONFIG) else None
        )
        for path in found
    ]


def _checked(name: str, value: object, where: str) -> Any:  # noqa: ANN401 - a text, a number or a switch
    """Check and return the value of a setting, which is data: nothing in it is resolved or instantiated."""
    where = f"{where}: {name}"
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise ValueError(f"{where}: expected true or false, got {shortened(value)}")
    elif name == "image_size":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_SIDE:
            raise ValueError(f"{where}: expected a whole number from 1 to {MOST_SIDE}, got {shortened(value)}")
    elif name in ("mean", "std"):
        if not isinstance(value, list) or not all(isinstance(part, int | float) for part in value):
            raise ValueError(f"{where}: expected three numbers, got {shortened(value)}")
    elif name in TEXTS:
        if not isinstance(value, list) or not 0 < len(value) <= MOST_CLASSES:
            raise ValueError(f"{where}: expected a list of texts, got {shortened(value)}")
        return [plain_text(text, where) for text in value]
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = str(value) if name == "label" and is_number else value
        return plain_text(text, where, most=LONGEST_PATH if name in PATHS else LONGEST_TEXT)
    return value


def _yaml(path: Path) -> object:
    """Read plain values from a YAML file."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of models at {path}; expected a YAML file, or sweep=NAME of configs/sweep/")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: expected {MOST_BYTES} bytes or fewer, got {path.stat().st_size}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: expected a list of models, got one nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: expected YAML ({' '.join(str(error).split())})") from None
