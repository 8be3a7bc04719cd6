"""Where the user's caches are."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return a folder in the user's cache, by the XDG convention; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "harmonizer" / name
