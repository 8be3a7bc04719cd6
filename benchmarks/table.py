"""Update the tables of benchmarks/README.md: ``python -m benchmarks.table [NAME...] [--list]``.

Each table is between two marks, the first of which contains its command. NAME selects the commands that start with it,
for example ``step`` or ``"attacks --protocol"``; without one all are run, which takes most of an hour. The output of
each command is written to the page at once, with the machine, the versions and the date. When a command fails, its
table is kept.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "README.md"
TABLE = re.compile(r"(<!-- python -m benchmarks\.(?P<command>[^\n]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PACKAGES = ("torch", "timm", "torchvision", "scipy", "torchmetrics", "kornia", "pillow", "simplejpeg")
PEERS = ("foolbox", "adv-lib", "torchattacks")


def main() -> int:
    """Run the commands and write the page; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="start of a command, after benchmarks.")
    parser.add_argument("--list", action="store_true", help="only print the commands")
    options = parser.parse_args()
    commands = [match["command"] for match in TABLE.finditer(PAGE.read_text(encoding="utf-8"))]
    chosen = [command for command in commands if not options.names or command.startswith(tuple(options.names))]
    if not chosen:
        parser.error(f"no command starts with {' or '.join(options.names)}; there are: {'; '.join(commands)}")
    if options.list:
        print("\n".join(chosen))
        return 0
    failed = 0
    for command in chosen:
        print(f"python -m benchmarks.{command}", flush=True)
        module, *arguments = command.split()
        run = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        done = subprocess.run(run, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout)
        if done.returncode:
            failed = 1
            print(f"exit status {done.returncode}: the table stays as it was", file=sys.stderr)
            continue
        temporary = PAGE.with_suffix(".new")
        temporary.write_text(replaced(PAGE.read_text(encoding="utf-8"), command, done.stdout), encoding="utf-8")
        temporary.replace(PAGE)
    return failed


def replaced(page: str, command: str, output: str) -> str:
    """Return the page with the output of one command in its place.

    >>> page = "<!-- python -m benchmarks.step -->" + chr(10) + "old <!-- end --> text"
    >>> new = replaced(page, "step", "| 1 |")
    >>> "old" in new, "| 1 |" in new, "Measured on" in new, new.endswith("<!-- end --> text")
    (False, True, True, True)
    """

    def fill(match: re.Match[str]) -> str:
        if match["command"] != command:
            return match[0]
        return f"{match[1]}`python -m benchmarks.{command}`:\n\n{output.strip()}\n\n{stamp()}\n{match[4]}"

    return TABLE.sub(fill, page)


def stamp() -> str:
    """Return a line with the date, the machine and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in (*PACKAGES, *PEERS) if _installed(name))
    place = f"{os.cpu_count()} cores of {_processor()}"
    if torch.cuda.is_available():
        place += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return f"Measured on {today} on {place}; Python {platform.python_version()}, {versions}."


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _processor() -> str:
    """Return the processor's name if the system provides it, otherwise its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
