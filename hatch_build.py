"""Put the programs into the wheel, below the one package that it installs."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = ("train.py", "evaluate.py", "callbacks", "configs")


class ProgramsHook(BuildHookInterface):
    """Add the programs as ``harmonizer/_programs``, from where ``harmonizer/__main__.py`` starts them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to a wheel; an editable installation runs those of the checkout."""
        if version != "editable":
            build_data["force_include"] |= {name: f"harmonizer/_programs/{name}" for name in PROGRAMS}
