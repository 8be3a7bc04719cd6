"""Where train.py and evaluate.py are, and what a user types to start them."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "_programs"  # a wheel carries the programs there, a checkout beside the package
FOLDER = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent  # of train.py, evaluate.py, callbacks/ and configs/
TYPED = "HARMONIZER_{}"  # environment variable of a program's name: what was typed in place of ``python NAME.py``


def program(name: str) -> list[str]:
    """Return the words that start a program: ``python NAME.py``, or ``harmonizer NAME`` for a user who typed that."""
    return os.environ.get(TYPED.format(name.upper()), f"python {name}.py").split()
