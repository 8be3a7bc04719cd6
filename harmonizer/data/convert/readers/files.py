"""Open files of samples: regular ones of bearable size only."""

import math
import stat
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from harmonizer.data.image import MOST_PIXELS

MOST_BYTES = 8 * MOST_PIXELS  # of a file, and of its arrays: the largest map in float64
ZIP_STARTS = (b"PK\3\4", b"PK\5\6")  # as NumPy and PyTorch tell archives
NPY_START = b"\x93NUMPY"


def check_file(path: Path) -> None:
    """Check that a file can be read without surprise; nothing is opened.

    Raises:
        OSError: There is no such file.
        ValueError: It is a folder, a pipe or a device, or too large for one sample.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a folder, pipe or device; expected a file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, expected at most {MOST_BYTES}")


def check_arrays(path: Path) -> None:
    """Check what an NPY, NPZ or ``.pth`` file announces before any of it is loaded.

    Raises:
        OSError, zipfile.BadZipFile: It cannot be read.
        ValueError: As :func:`check_file`, or its arrays would be too large.
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
    """Return how many bytes an array has, by its header; 0 for another file."""
    if file.read(len(NPY_START)) != NPY_START:
        return 0
    major = file.read(2)[:1]
    read = {b"\1": np.lib.format.read_array_header_1_0, b"\2": np.lib.format.read_array_header_2_0}.get(major)
    if read is None:  # version 3 is of arrays with named fields
        raise ValueError("it is not an NPY file of version 1 or 2")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(
            "it holds pickled Python objects, which run code when they are loaded; expected plain "
            "arrays; try to export it, where you trust it, as docs/data.md says (Raw clicks)"
        )
    return math.prod(shape) * dtype.itemsize
