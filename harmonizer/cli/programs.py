"""The place of train.py and evaluate.py, and the command that starts them."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "_programs"  # where a wheel has the programs; a checkout has them next to the package
FOLDER = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent  # of train.py, evaluate.py, callbacks/ and configs/
TYPED = "HARMONIZER_{}"  # environment variable of a program: the command typed instead of ``python NAME.py``


def program(name: str) -> list[str]:
    """Return the command of a program: ``python NAME.py``, or ``harmonizer NAME`` if the user typed that."""
    return os.environ.get(TYPED.format(name.upper()), f"python {name}.py").split()
