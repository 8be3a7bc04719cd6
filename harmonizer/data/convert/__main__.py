"""Run the converter. Worker processes do not import this file, nor what only the command needs."""

import sys

from harmonizer.data.convert.cli import main

if __name__ == "__main__":
    sys.exit(main())
