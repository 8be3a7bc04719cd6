"""Run the converter; a module of its own, so that workers do not import what only the command needs."""

import sys

from harmonizer.data.convert.cli import main

if __name__ == "__main__":
    sys.exit(main())
