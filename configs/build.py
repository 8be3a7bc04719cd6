"""Make what a config describes: configs and the command line name what is made, files and checkpoints never do."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from harmonizer.cli import settings_of


def build(config: DictConfig, **values: object) -> Any:  # noqa: ANN401 - whatever the config describes
    """Make what a config describes.

    ``instantiate(config, **values)`` would make the values part of the config: a text ``${oc.env:NAME}`` in them would
    be resolved, and a mapping with ``_target_`` called. Here they reach the constructor as they are.

    Args:
        config: With ``_target_``.
        values: Further arguments; they may come from files, checkpoints and manifests.

    Raises:
        MissingMandatoryValue: A setting that needs a value has none.
        TypeError: A setting has a value of the wrong kind; the message names it.
    """
    place = str(config._get_full_key(None))
    for key in sorted(OmegaConf.missing_keys(config)):  # which a partial instantiation would leave out
        raise MissingMandatoryValue(f"Missing mandatory value: {key}")
    make = instantiate(config, _partial_=True)
    with settings_of(place):
        return make(**values)


def build_all(config: DictConfig) -> dict[str, Any]:
    """Make the parts of a config, by name."""
    return {str(name): part for name, part in instantiate(config).items()}
