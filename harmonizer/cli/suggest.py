"""Suggestions for a mistyped setting, choice or word: the nearest names in the configs."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harmonizer.cli.programs import FOLDER

CONFIGS = FOLDER / "configs"
PROGRAMS = ("train", "evaluate")
# Parts of a config that are derived from its settings, not set by users.
DERIVED = {"callbacks", "condition", "hydra", "module", "numerics", "resume", "seeding", "spec", "sweeper", "writer"}
# Groups by preference, where several have a setting of the same name.
FIRST = ("", "recipe", "data", "trainer", "attack", "sweep", "logger", "budget")
SYNONYMS = {
    "learning_rate": "lr",
    "bs": "batch_size",
    "opt": "optimizer",
    "scheduler": "schedule",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_epochs": "epochs",
    "workers": "num_workers",
    "window": "shuffle_window_shards",  # its name before version 0.2
    "gpus": "devices",
    "nodes": "num_nodes",
    "amp": "precision",
    "wd": "weight_decay",
    "warmup": "warmup_epochs",
    "clip_grad": "gradient_clip",
    "img_size": "image_size",
    "size": "image_size",
    "lambda": "harmonizer_weight",
    "eps": "eps_max",
    "checkpoint": "ckpt",
    "resume": "ckpt",
    "arch": "model",
    "dataset": "data",
    "data_dir": "folder",
    "output": "folder",
    "output_dir": "folder",
    "drop_path": "drop_path_rate",
    "dropout": "drop_rate",
}
SPECIAL = {
    "evaluate": {"batch_size": "data.eval_batch_size", "folder": "results", "devices": "trainer.devices"},
    "train": {"drop_path_rate": "model_args.drop_path_rate", "drop_rate": "model_args.drop_rate", "ckpt": "weights"},
}
MORE_CHOICES = {
    "attack": ["attack=foolbox:NAME", "attack=advlib:NAME"],
    "data": ["--data folder data.folder=FOLDER for data of your own"],
    "sweep": ["sweep=FILE.yaml"],
}


def unknown_setting(key: str, program: str, value: str = "VALUE") -> str:
    """Return a one-line message that a setting does not exist, with a suggestion.

    Args:
        key: Dotted name, as typed.
        program: ``"train"`` or ``"evaluate"``; other programs have no settings.
        value: Value, as typed.

    >>> unknown_setting("epochs", "train", "1")
    'there is no setting epochs; did you mean recipe.epochs=1?'
    >>> unknown_setting("experiment", "evaluate", "demo_par")
    'there is no setting experiment in evaluate.py; did you mean train.py experiment=demo_pair?'
    """
    nothing = f"there is no setting {key}"
    known = known_settings(program)
    if choices := known.get(key):
        return f"there is no setting {key} here; it needs {' or '.join(f'--{choice}' for choice in choices)}"
    if meant := SPECIAL.get(program, {}).get(key):
        return f"{nothing}; did you mean {meant}={value}?"
    for other in PROGRAMS if known else ():
        if key in known_settings(other):
            nearest = difflib.get_close_matches(value, groups(other).get(key, ()), n=1) or [value]
            return f"{nothing} in {program}.py; did you mean {other}.py {key}={nearest[0]}?"
    if found := nearest_settings(key, program):
        return f"{nothing}; did you mean {' or '.join(f'{name}={value}' for name in found)}?"
    return f"{nothing}; --cfg job shows all"


def unknown_choice(group: str, name: str, options: Sequence[str]) -> str:
    """Return a one-line message that a group has no such choice, with its choices.

    >>> unknown_choice("experiment", "demo_par", ["demo_pair"])
    "expected experiment to be one of demo_pair, got 'demo_par'; try experiment=demo_pair"
    """
    hints = [f"{group}={option}" for option in difflib.get_close_matches(name, options, n=2, cutoff=0.5)]
    hints += MORE_CHOICES.get(group, [])
    hint = f"; try {' or '.join(hints)}" if hints else ""
    return f"expected {group} to be one of {', '.join(options)}, got {name!r}{hint}"


def bare_word(word: str, program: str) -> str:
    """Return a one-line message for a word that is neither ``key=value`` nor ``--key value``, with a suggestion.

    >>> bare_word("resnet50", "train")
    "expected key=value or --key value, got 'resnet50'; try --model resnet50"
    """
    name = word.lstrip("-\N{EN DASH}\N{EM DASH}")
    choices = [f"{group}={name}" for group, found in groups(program).items() if name in found]
    if word != name and name:
        hint = f"--{name}"
    elif word.endswith(".ckpt"):
        hint = f"ckpt={word}" if program == "evaluate" else f"weights={word}"
    elif choices:
        hint = choices[0]
    elif name in known_settings(program):
        hint = f"--{name}"
    elif "/" in word:
        hint = f"--data folder data.folder={word}"
    else:
        hint = f"--model {word}"
    return f"expected key=value or --key value, got {word!r}; try {hint}"


def nearest_settings(key: str, program: str) -> list[str]:
    """Return up to two settings of a program that a dotted key probably means."""
    known = {name: choices for name, choices in known_settings(program).items() if name != key}
    last = key.lower().replace("-", "_").rpartition(".")[2]
    last = SYNONYMS.get(last, last)
    if special := SPECIAL.get(program, {}).get(last):
        return [special]
    by_name: dict[str, list[str]] = {}
    tops = {name: name.partition(".")[0] if "." in name else "" for name in known}
    for name in sorted(known, key=lambda name: (FIRST.index(tops[name]) if tops[name] in FIRST else len(FIRST), name)):
        by_name.setdefault(name.rpartition(".")[2], []).append(name)
    if last in by_name:
        return by_name[last][:1]
    if whole := difflib.get_close_matches(key, known, n=1, cutoff=0.8):
        return whole
    return [by_name[name][0] for name in difflib.get_close_matches(last, by_name, n=2, cutoff=0.7)]


@cache
def known_settings(program: str) -> Mapping[str, tuple[str, ...]]:
    """Return the settings that users may set, as dotted names, and for those of a group the choices that have them."""
    if program not in PROGRAMS:
        return {}
    known: dict[str, tuple[str, ...]] = dict.fromkeys(_settings(_read(CONFIGS / f"{program}.yaml"), ""), ())
    for group, choices in groups(program).items():
        known[group] = ()
        for choice, file in choices.items():
            everywhere = "@package _global_" in file.read_text(encoding="utf-8").split("\n", 1)[0]
            content = {} if group == "experiment" else _content(file)  # an experiment only sets existing settings
            for name in _settings(content, "" if everywhere else f"{group}."):
                known[name] = (*known.get(name, ()), f"{group} {choice}")
    return {name: choices for name, choices in known.items() if name.partition(".")[0] not in DERIVED}


@cache
def groups(program: str) -> Mapping[str, Mapping[str, Path]]:
    """Return the choices of each group of a program, with their files."""
    if program not in PROGRAMS:
        return {}
    defaults = [item for item in _read(CONFIGS / f"{program}.yaml")["defaults"] if isinstance(item, dict)]
    names = [str(name) for item in defaults for name in item if "override" not in str(name)]
    folders = {name: CONFIGS / name for name in names if name not in DERIVED}
    return {name: {file.stem: file for file in sorted(folder.glob("*.yaml"))} for name, folder in folders.items()}


def _content(file: Path) -> Mapping[str, Any]:
    """Read a choice, merged with the choices of its group that it inherits from."""
    content = _read(file)
    content = {str(name): value for name, value in content.items()}
    for base in content.get("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            content = {**_content(file.parent / f"{base}.yaml"), **content}
    return content


def _read(file: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] | None = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content or {}


def _settings(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in content.items():
        if name in ("defaults", "_target_"):
            continue
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
