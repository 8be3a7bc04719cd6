"""List the files of a folder. Links are followed once and only inside it; pipes and devices are never opened."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.convert.readers.names import natural

SPECIAL = "is a pipe, socket or device, not a file"


class Entry(NamedTuple):
    """An entry of a folder."""

    path: Path
    problem: str | None = None  # why it is not used; None for a usable file
    is_file: bool = True  # whether it is a file or a link to one; False for folders and broken links
    hidden: bool = False  # whether it is skipped because its name begins with a dot


def walk(folder: Path) -> Iterator[Entry]:
    """Yield all files below a folder, train-2 before train-10, and the entries that are not used.

    Hidden files and folders are skipped. A symbolic link is followed once, and only to a target inside the folder that
    is not listed already, such as a file in a hidden folder.
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
    """Return why a link's target is not used; None if it is, which marks the target as seen."""
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        return f"is a broken symbolic link ({error.strerror})"
    if not target.is_relative_to(root):
        return f"is a symbolic link to {target}, outside {root}; copy it (cp -rL), or give the target as a source"
    if Path(os.path.realpath(path.parent)).is_relative_to(target):
        return f"is a symbolic link to {target}, which contains it: a loop; remove the link"
    listed = not any(part.startswith(".") for part in target.relative_to(root).parts)
    if listed or str(target) in seen:
        return f"leads to {target}, which is used already; remove the symbolic link"
    seen.add(str(target))
    return None
