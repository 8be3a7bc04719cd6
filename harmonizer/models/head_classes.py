"""The class names that are stored with a file of weights."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from harmonizer.cli.console import print_rank_zero
from harmonizer.models.weights import HEAD_NEEDED, weights_file
from harmonizer.untrusted import check_zip, parse_json, shortened


def check_head_classes(weights: str | Path, classes: Sequence[str]) -> None:
    """Compare the classes of a head that is about to be loaded with those of the data.

    A head for another number of classes is not loaded. Training starts from a head for other classes, with a note.

    Raises:
        ValueError: The classes are the same in another order, or differ and the head is not trained.
    """
    names = head_classes(weights)
    if names is None or len(names) != len(classes) or names == list(classes):
        return
    first = next(i for i, (theirs, ours) in enumerate(zip(names, classes, strict=True)) if theirs != ours)
    there, here = shortened(names[first]), shortened(classes[first])
    if sorted(names) == sorted(classes):
        raise ValueError(
            f"expected the data's classes in the order of the head in {weights}, got {here} for its class {first}, "
            f"{there}; try data whose manifest lists the classes in that order"
        )
    difference = f"the head in {weights} is for other classes than the data's: its class {first} is {there}, not {here}"
    if HEAD_NEEDED.get():
        raise ValueError(f"{difference}; try data with its classes, or train with weights={weights}")
    print_rank_zero(f"note: {difference}; training starts from it")


def head_classes(weights: str | Path) -> list[str] | None:
    """Return the class names in a checkpoint of train.py, or next to the weights of an exported folder.

    None if there are none, or if the file is unreadable, which is reported when its weights are read.
    """
    path = weights_file(weights)
    try:
        if path.suffix == ".safetensors":
            found, key = parse_json(path.with_name("config.json").read_text()), "label_names"
        else:
            check_zip(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            found, key = content.get("hyper_parameters") if isinstance(content, dict) else None, "classes"
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
        return None
    names = found.get(key) if isinstance(found, dict) else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
