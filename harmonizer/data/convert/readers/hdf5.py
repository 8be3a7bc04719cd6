"""ClickMe v2's maps in HDF5: ``/clickmaps/KEY/clickmap``, with the path of the image as an attribute."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonizer.data.convert.readers.files import MOST_BYTES
from harmonizer.untrusted import shortened

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5")
GROUP, DATASET, PATH = "clickmaps", "clickmap", "original_path"
LONGEST_PATH = 4096  # bytes


def list_maps(path: Path) -> Iterator[tuple[str, str]]:
    """List the maps of a file of ClickMe v2.

    Yields:
        Name of each map in the file and the path of its image, or the name again if there is no path.

    Raises:
        ImportError: h5py is not installed.
        OSError: The file does not exist.
        ValueError: It is not such a file.
    """
    with open_hdf5(path) as file:
        group = file.get(GROUP) if is_hard_link(file, GROUP) else None
        if group is None or not hasattr(group, "keys"):
            raise ValueError(f"{path}: expected maps in /{GROUP}, got {', '.join(list(file)[:5]) or 'nothing'}")
        for name in group:
            yield name, _original(group, name) or name


def read_dataset(path: Path, name: str) -> NDArray[Any]:
    """Read one map.

    Raises:
        ImportError: h5py is not installed.
        OSError: The file does not exist.
        ValueError: The map does not exist, or is a link, compressed, in another file, too large, or not numeric.
    """
    import h5py

    with open_hdf5(path) as file:
        place = file
        for part in (GROUP, name, DATASET):
            if not isinstance(place, h5py.Group) or not is_hard_link(place, part):
                raise ValueError(f"expected a dataset /{GROUP}/{shortened(name)}/{DATASET}, got none or a link")
            place = place[part]
        if not isinstance(place, h5py.Dataset) or place.dtype.kind not in "fiu":
            raise ValueError(f"{shortened(name)} has type {getattr(place, 'dtype', 'group')}, expected numbers")
        if place.is_virtual or place.external or place.id.get_create_plist().get_nfilters():
            raise ValueError(f"{shortened(name)} is in another file or compressed; expected a plain dataset")
        if place.nbytes > MOST_BYTES or place.id.get_storage_size() < place.nbytes:
            raise ValueError(
                f"{shortened(name)} announces {place.nbytes} bytes, expected the stored size, at most {MOST_BYTES}"
            )
        return np.asarray(place[()])


@contextmanager
def open_hdf5(
    path: Path, errors: tuple[type[Exception], ...] = (OSError, RuntimeError, KeyError)
) -> Iterator["h5py.File"]:
    """Open a file; ``errors``, which HDF5 raises on a damaged file, become a ValueError of one line."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f"h5py is needed to read {path.name}, got none; try: pip install h5py") from None
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except errors as error:
        raise ValueError(f"{path} is damaged or not an HDF5 file ({' '.join(str(error).split())[:200]})") from None


def is_hard_link(group: "h5py.Group", name: str) -> bool:
    """Return whether a group holds a member itself; links may lead out of the file."""
    import h5py

    encoded = name.encode("utf-8", "surrogateescape")
    return name in group and group.id.links.get_info(encoded).type == h5py.h5l.TYPE_HARD


def _original(group: "h5py.Group", name: str) -> str | None:
    """Return the path of a map's image, if the file gives it."""
    import h5py

    if not is_hard_link(group, name) or not isinstance(group[name], h5py.Group) or PATH not in group[name].attrs:
        return None
    kind = group[name].attrs.get_id(PATH)
    if kind.shape != () or kind.get_storage_size() > LONGEST_PATH:
        return None
    text = group[name].attrs[PATH]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
