"""ClickMe v2's maps in HDF5: ``/clickmaps/KEY/clickmap``, with the image's path as attribute; read as data."""

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
        Each map's name in the file, and the path of its image; the name again where there is no path.

    Raises:
        ImportError: h5py is not installed.
        OSError: There is no such file.
        ValueError: It is no such file.
    """
    with _opened(path) as file:
        group = file.get(GROUP) if _is_hard(file, GROUP) else None
        if group is None or not hasattr(group, "keys"):
            raise ValueError(f"{path}: expected maps in /{GROUP}, got {', '.join(list(file)[:5]) or 'nothing'}")
        for name in group:
            yield name, _original(group, name) or name


def read_dataset(path: Path, name: str) -> NDArray[Any]:
    """Read one map.

    Raises:
        ImportError: h5py is not installed.
        OSError: There is no such file.
        ValueError: There is no such map, or it is a link, compressed, in another file, too large, or of no numbers.
    """
    import h5py

    with _opened(path) as file:
        place = file
        for part in (GROUP, name, DATASET):
            if not isinstance(place, h5py.Group) or not _is_hard(place, part):
                raise ValueError(f"it holds no /{GROUP}/{shortened(name)}/{DATASET}, or a link")
            place = place[part]
        if not isinstance(place, h5py.Dataset) or place.dtype.kind not in "fiu":
            raise ValueError(f"{shortened(name)} is of {getattr(place, 'dtype', 'another kind')}, expected numbers")
        if place.is_virtual or place.external or place.id.get_create_plist().get_nfilters():
            raise ValueError(f"{shortened(name)} lies in another file or is compressed; write it plainly")
        if place.nbytes > MOST_BYTES or place.id.get_storage_size() < place.nbytes:
            raise ValueError(
                f"{shortened(name)} announces {place.nbytes} bytes, expected what is there, at most {MOST_BYTES}"
            )
        return np.asarray(place[()])


@contextmanager
def _opened(path: Path) -> Iterator["h5py.File"]:
    """Open a file; errors of HDF5 become one line."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f"h5py is needed to read {path.name}, got none; try: pip install h5py") from None
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # of HDF5, on a damaged file
        raise ValueError(f"{path} is damaged or no HDF5 file ({' '.join(str(error).split())[:200]})") from None


def _is_hard(group: "h5py.Group", name: str) -> bool:
    """Return whether a group holds a member itself: links lead elsewhere, also out of the file."""
    import h5py

    encoded = name.encode("utf-8", "surrogateescape")
    return name in group and group.id.links.get_info(encoded).type == h5py.h5l.TYPE_HARD


def _original(group: "h5py.Group", name: str) -> str | None:
    """Return the path of a map's image, if the file names it."""
    import h5py

    if not _is_hard(group, name) or not isinstance(group[name], h5py.Group) or PATH not in group[name].attrs:
        return None
    kind = group[name].attrs.get_id(PATH)
    if kind.shape != () or kind.get_storage_size() > LONGEST_PATH:
        return None
    text = group[name].attrs[PATH]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
