"""The command line: translation of ``--flags`` to Hydra overrides, and one-line messages for users' mistakes."""

from harmonizer.cli.errors import clear_errors, command_line, settings_of
from harmonizer.cli.translate import translate, unquoted

__all__ = ["clear_errors", "command_line", "settings_of", "translate", "unquoted"]
