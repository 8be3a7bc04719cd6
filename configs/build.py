"""Make what a config describes: configs and the command line name what is made, files and checkpoints never do."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from harmonizer.cli import settings_of


def build(config: DictConfig, **values: object) -> Any:  # noqa: ANN401 - whatever the config describes
    """Make what a config describes.

    ``instantiate(config, **values)`` would make the values part of the config: a text ``${oc.env:NAME}`` in them would
    be resolved, and a mapping with ``_target_`` called. Here they reach the constructor as they are.

    Args:
        config: With ``_target_``.
        values: Further arguments; they may come from files, checkpoints and manifests.

    Raises:
        TypeError: A setting has a value of the wrong kind; the message names it.
    """
    make = instantiate(config, _partial_=True)
    with settings_of(str(config._get_full_key(None))):
        return make(**values)


def build_all(config: DictConfig) -> list[Any]:
    """Make the parts of a config, in their order."""
    return list(instantiate(config).values())
