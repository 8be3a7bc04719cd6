"""The files of a folder: links are followed once and inside it only; pipes and devices are never opened."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.convert.readers.names import natural

SPECIAL = "is a pipe, socket or device, not a file"


class Entry(NamedTuple):
    """Something in a folder."""

    path: Path  # where it is
    problem: str | None = None  # why it is not taken; None for a file that is
    is_file: bool = True  # whether it is a file, or leads to one; False of folders and of what leads nowhere
    hidden: bool = False  # whether it is passed over for its name


def walk(folder: Path) -> Iterator[Entry]:
    """Yield all files below a folder, train-2 before train-10, and what is not taken.

    Hidden files and folders are passed over. A symbolic link is followed once, and only to what lies inside the folder
    and is not listed there already, such as a file in a hidden folder.
    """
    root, seen = Path(os.path.realpath(folder)), set[str]()
    waiting = [(folder, False)]
    while waiting:
        parent, linked = waiting.pop()
        try:
            with os.scandir(parent) as scanned:
                entries = sorted(scanned, key=lambda entry: natural(entry.name))
        except OSError as error:
            yield Entry(parent, f"cannot be read ({error.strerror})", is_file=False)
            continue
        folders = []
        for entry in entries:
            path, below = Path(entry.path), linked or entry.is_symlink()
            if entry.name.startswith("."):
                yield Entry(path, hidden=True)
                continue
            problem = _follow(path, root, seen) if below else None
            if problem is not None:
                yield Entry(path, problem, is_file=path.is_file())
            elif entry.is_dir():
                folders.append((path, below))
            else:
                yield Entry(path, None if entry.is_file() else SPECIAL)
        waiting += reversed(folders)


def _follow(path: Path, root: Path, seen: set[str]) -> str | None:
    """Return why what a link leads to is not taken; note it as seen where it is."""
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        return f"is a symbolic link that leads nowhere ({error.strerror})"
    if not target.is_relative_to(root):
        return f"is a symbolic link to {target}, outside of {root}; copy it (cp -rL), or name that place as source"
    if Path(os.path.realpath(path.parent)).is_relative_to(target):
        return f"is a symbolic link to {target}, a folder that it is in: a loop; remove the link"
    listed = not any(part.startswith(".") for part in target.relative_to(root).parts)
    if listed or str(target) in seen:
        return f"leads to {target}, which is taken already; remove the symbolic link"
    seen.add(str(target))
    return None
