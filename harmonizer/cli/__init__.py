"""The command line: ``--flags`` become Hydra overrides, and a user's mistake becomes one clear line."""

from harmonizer.cli.errors import clear_errors, command_line, settings_of
from harmonizer.cli.translate import translate, unquoted

__all__ = ["clear_errors", "command_line", "settings_of", "translate", "unquoted"]
