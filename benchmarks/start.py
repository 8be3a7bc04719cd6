"""Time imports, help texts and the start of a training up to its first step: ``python -m benchmarks.start``.

Each command runs in its own process. The commands alternate, and times are the best of ``--repeats``.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
FIRST_STEP = (
    "--model test_resnet --harmonize budget.epochs=1 budget.steps_per_epoch=1 --batch_size 8 --every_n_epochs 0 "
    "overwrite=true --folder"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "import torch": ["-c", "import torch"],
            "import torch, harmonizer": ["-c", "import torch, harmonizer"],
            "import torch, harmonizer.functional": ["-c", "import torch, harmonizer.functional"],
            "import torch, harmonizer.attacks": ["-c", "import torch, harmonizer.attacks"],
            "train.py --help": ["train.py", "--help"],
            "evaluate.py --help": ["evaluate.py", "--help"],
            "report --help": ["-m", "harmonizer.report", "--help"],
            "train.py, one step and one validation": ["train.py", *FIRST_STEP.split(), folder],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.repeats + 1):  # the first round fills the file system's caches and draws the demo data
            for name, command in commands.items():
                seconds[name].append(_seconds(command))
    print(f"Python {platform.python_version()}, torch {torch.__version__}, best of {options.repeats}\n")
    print("| command | s | less import torch | ratio to import torch |\n|---|---|---|---|")
    base = min(seconds["import torch"][1:])
    for name, measured in seconds.items():
        best = min(measured[1:])
        print(f"| {name} | {best:.2f} | {best - base:.2f} | {best / base:.2f} |")


def _seconds(command: Sequence[str]) -> float:
    """Run Python with these arguments and return the seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
