"""Check the files of samples before they are opened: only regular files of limited size are read."""

import math
import stat
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from harmonizer.data.image import MOST_PIXELS

MOST_BYTES = 8 * MOST_PIXELS  # of a file, and of its arrays: the largest map in float64
ZIP_STARTS = (b"PK\3\4", b"PK\5\6")  # by which NumPy and PyTorch detect archives
NPY_START = b"\x93NUMPY"


def check_file(path: Path) -> None:
    """Check that a path is a regular file of limited size, without opening it.

    Raises:
        OSError: The file does not exist.
        ValueError: It is a folder, a pipe or a device, or too large for one sample.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a folder, pipe or device; expected a file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, expected at most {MOST_BYTES}")


def check_arrays(path: Path) -> None:
    """Check the headers of an NPY, NPZ or ``.pth`` file before any of its arrays is loaded.

    Raises:
        OSError, zipfile.BadZipFile: The file cannot be read.
        ValueError: As for :func:`check_file`, or its arrays would be too large.
    """
    check_file(path)
    with path.open("rb") as file:
        start = file.read(len(ZIP_STARTS[0]))
        file.seek(0)
        if start not in ZIP_STARTS:
            size = _announced(file)
        else:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
                for member in archive.infolist() if size <= MOST_BYTES else ():
                    with archive.open(member) as inner:
                        size += max(_announced(inner) - member.file_size, 0)
    if size > MOST_BYTES:
        raise ValueError(f"its arrays have {size} bytes, expected at most {MOST_BYTES}")


def _announced(file: IO[bytes]) -> int:
    """Return the size in bytes of an array, from its header; 0 for another file."""
    if file.read(len(NPY_START)) != NPY_START:
        return 0
    major = file.read(2)[:1]
    read = {b"\1": np.lib.format.read_array_header_1_0, b"\2": np.lib.format.read_array_header_2_0}.get(major)
    if read is None:  # version 3 is for arrays with named fields
        raise ValueError("it is not an NPY file of version 1 or 2")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(
            "it holds pickled Python objects, which can run code when loaded; expected plain arrays; "
            "if you trust the file, export it as docs/data.md says (Raw clicks)"
        )
    return math.prod(shape) * dtype.itemsize
