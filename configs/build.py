"""Instantiate configs; only configs and the command line name classes, never files or checkpoints."""

import functools
import inspect
import operator
import re
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.utils import instantiate
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from harmonizer.cli import settings_of
from harmonizer.run import model_label

OmegaConf.register_new_resolver("times", operator.mul, replace=True)  # for a recipe's learning rate
OmegaConf.register_new_resolver("label", model_label, replace=True)  # for the run folder

STARTS = "mse", "relative_mse"  # level metric from scratch, and its replacement from trained weights
FINE = 10  # divisor of the default learning rate if a training starts from trained weights


def start_metric(metric: str, *start: Any) -> str:  # noqa: ANN401 - see _trained
    """Return the level metric of a training, independent of the saliency's scale if it starts from trained weights.

    >>> starts = (False, None, "resnet50"), (True, None, "resnet50"), (False, None, "hf-hub:ORG/NAME")
    >>> [start_metric("mse", *start) for start in starts], start_metric("cosine", True, None, "resnet50")
    (['mse', 'relative_mse', 'relative_mse'], 'cosine')
    """
    return STARTS[1] if metric == STARTS[0] and _trained(*start) else metric


def start_rate(rate: float, *start: Any) -> float:  # noqa: ANN401 - see _trained
    """Return the default learning rate of a training, a tenth if it starts from trained weights.

    >>> start_rate(0.003, False, None, "resnet50"), start_rate(0.003, False, "FILE.pth", "resnet50")
    (0.003, 0.0003)
    """
    return float(f"{rate / FINE:.12g}") if _trained(*start) else rate


def _trained(pretrained: bool, weights: str | None, model: str | None) -> bool:
    """Return whether a training starts from trained weights, by its settings or its model's name."""
    if pretrained or weights or not model or not (":" in model or Path(model).is_dir()):
        return bool(pretrained or weights)
    from harmonizer.models.sources import brings_weights  # which loads torch

    return brings_weights(model)


for resolver in (start_metric, start_rate):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)

OWN = ("harmonizer.", "callbacks.")  # packages whose annotations are checked
SOURCE = re.compile(r"\$\{(?:oc\.select:|start_metric:\$\{)?([a-z_.]+)[,}]")  # a value that refers to another setting
NAMED = re.compile(r"expected (\w+)\b")  # a constructor's message that names one of its arguments
NUMBERS = {bool: "true or false", int: "a whole number", float: "a number"}


def build(config: DictConfig, **values: object) -> Any:  # noqa: ANN401 - whatever the config describes
    """Instantiate a config.

    ``instantiate(config, **values)`` would make the values part of the config: it would resolve ``${oc.env:NAME}`` and
    call a mapping with ``_target_``. Here the values reach the constructor unchanged.

    Args:
        config: Config with ``_target_``.
        values: Further arguments, which may come from files, checkpoints and manifests.

    Raises:
        MissingMandatoryValue: A required setting has no value.
        TypeError: A setting has the wrong type; the message names it.
        ValueError: A setting is out of range; the message names it as a user types it.
    """
    place = str(config._get_full_key(None))
    for key in sorted(OmegaConf.missing_keys(config)):  # a partial instantiation would ignore these
        raise MissingMandatoryValue(f"Missing mandatory value: {key}")
    make = instantiate(config, _partial_=True)
    _check_numbers(make, config)
    try:
        with settings_of(place):
            return make(**values)
    except ValueError as error:
        if (named := NAMED.match(str(error))) and (typed := _typed(config, named[1])) != f"{place}.{named[1]}":
            raise ValueError(f"expected {typed}{str(error)[named.end() :]}") from error
        raise


def build_all(config: DictConfig) -> dict[str, Any]:
    """Instantiate the parts of a config, by name."""
    return {str(name): build(part) for name, part in config.items()}


def _check_numbers(make: functools.partial[Any], config: DictConfig) -> None:
    """Check that settings are numbers if the constructor's annotations only allow numbers.

    Raises:
        TypeError: A setting has another type; the message names it.
    """
    if not make.func.__module__.startswith(OWN):
        return
    hints = get_type_hints(make.func.__init__ if inspect.isclass(make.func) else make.func)
    for part in inspect.get_annotations(make.func).values():  # the class that a function returns, or a class holds
        if inspect.isclass(part) and part.__module__.startswith(OWN):  # gets the further settings
            hints = get_type_hints(part.__init__) | hints
    for name, value in make.keywords.items():
        hint = hints.get(name)
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else {hint}
        numbers = kinds - {types.NoneType}
        if not numbers or not numbers <= NUMBERS.keys() or (value is None and types.NoneType in kinds):
            continue
        taken = numbers | ({int} if float in numbers else set())
        if type(value) not in taken:
            expected = [text for kind, text in NUMBERS.items() if kind in numbers]
            expected += ["null"] * (types.NoneType in kinds)
            raise TypeError(f"expected {_typed(config, name)} to be {' or '.join(expected)}, got {value!r}")


def _typed(config: DictConfig, name: str) -> str:
    """Return the name by which a user sets a value: that of the setting it refers to, if any."""
    key, parent = f"{config._get_full_key(None)}.{name}", config
    while parent is not None and (
        source := SOURCE.match(str(OmegaConf.to_container(parent).get(key.rpartition(".")[2])))
    ):
        key = source[1]
        place = key.rpartition(".")[0]
        parent = OmegaConf.select(config._get_root(), place) if place else config._get_root()
    return key
