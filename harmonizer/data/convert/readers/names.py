"""Keys made from file names, and the natural order of names."""

import re
from hashlib import sha256
from pathlib import Path

KEY_LENGTH = 80  # characters; with a number and an extension it stays below the 100 of a tar header


def make_key(name: Path) -> str:
    """Make a key from a relative path, without its suffix.

    Only letters, digits, - and _ remain, because readers cut keys at the first dot and people use them as file names.

    >>> make_key(Path("n01440764/img.v2.JPEG"))
    'n01440764-img_v2'
    """
    parts = [part for part in name.with_suffix("").parts if part not in ("..", "/")]
    key = re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))
    return key if len(key) <= KEY_LENGTH else f"{key[: KEY_LENGTH - 9]}-{sha256(key.encode()).hexdigest()[:8]}"


def natural(name: str) -> tuple[list[int | str], str]:
    """Return a sort key that orders numbers in names by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
