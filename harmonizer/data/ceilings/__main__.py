"""Run the command."""

import sys

from harmonizer.data.ceilings.cli import main

if __name__ == "__main__":
    sys.exit(main())
