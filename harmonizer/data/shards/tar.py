"""List the members of tar files with ``tarfile``, where damage is an error and not the end of the file."""

import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from harmonizer.untrusted import shortened

STEP = 1 << 20  # bytes that are read at a time behind the last member
EXTENDED = (b"L", b"K", b"x", b"X")  # headers of GNU and POSIX whose content describes the next member
LABEL = b"V"  # the archive's own name; tarfile does not read its content
NOT_PLAIN = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
LONGEST_HEADER = 1 << 16  # bytes of an extended header
LONGEST_NAME = 1000  # characters, because the names of all members are kept in memory


class Member(NamedTuple):
    """Position of a file in the shard: byte offset and size."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One entry of a tar file."""

    name: str
    member: Member
    other: str  # what it is if not a plain file


class StrictHeader(tarfile.TarInfo):
    """A header with a valid size; old versions of ``tarfile`` loop forever on a negative one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse one header block."""
        info = super().frombuf(buf, encoding, errors)
        if info.type == tarfile.XGLTYPE:  # tarfile would apply the records of all such headers to each later member
            info.type = LABEL
        if info.size < 0 or b"_" in buf[124:136]:  # int() accepts underscores
            raise tarfile.InvalidHeaderError("invalid size")  # type: ignore[attr-defined]
        if info.type in EXTENDED and info.size > LONGEST_HEADER:
            raise tarfile.InvalidHeaderError(f"an extended header of {info.size} bytes")  # type: ignore[attr-defined]
        return info


def check_regular(path: Path) -> None:
    """Check that a shard is a regular file: opening a FIFO blocks, and a device may never end.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: It is not a regular file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"shard {path} is missing; the manifest of its folder lists it") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise OSError(f"shard {path} is {kinds.get(stat.S_IFMT(mode), 'a device')}; expected a regular file")


def scan_tar(path: Path) -> Iterator[Entry]:
    """Yield the entries of a tar file, reading only the headers.

    Raises:
        FileNotFoundError, OSError: The file does not exist or is not a regular file.
        ValueError: The file is not a tar file, is cut short, has a damaged header, a name that is too long, a size
            in an extended header (8 GiB or more), or content after its end.
    """
    check_regular(path)
    end = path.stat().st_size
    with path.open("rb") as file:
        for info in _headers(file):
            if info.type == LABEL:
                continue
            name = f"{info.name}/" if info.isdir() else info.name
            if "size" in info.pax_headers:
                size = shortened(info.pax_headers["size"])
                raise ValueError(f"announces a size of {size} in an extended header; expected members below 8 GiB")
            if len(name) > LONGEST_NAME:
                raise ValueError(f"holds a name of {len(name)} characters, expected at most {LONGEST_NAME}")
            is_sparse = info.issparse() or any(key.startswith("GNU.sparse.") for key in info.pax_headers)
            kind = tarfile.GNUTYPE_SPARSE if is_sparse else info.type
            other = "" if info.isfile() and not is_sparse else NOT_PLAIN.get(kind, f"an entry of type {kind!r}")
            if not other and info.offset_data + info.size > end:
                there = end - info.offset_data
                raise ValueError(f"is cut short in {name!r}: {info.size} bytes are announced, {there} are there")
            yield Entry(name, Member(info.offset_data, info.size), other)


def _headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar file; check that only zeros follow the last member."""
    what = "is not a readable tar file"
    try:
        with tarfile.open(
            fileobj=file, mode="r:", tarinfo=StrictHeader, encoding="utf-8", errors="surrogateescape"
        ) as archive:
            what = "is damaged"
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # a shard may have millions
                yield info
            end = archive.offset
    except Exception as error:  # damaged bytes make tarfile raise almost anything
        raise ValueError(f"{what} ({error or repr(error)})") from None
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise ValueError(f"is damaged (no header at byte {end})")
    while block := file.read(STEP):
        if block.strip(b"\0"):
            raise ValueError(f"has more after its end at byte {end}, as tar files joined with cat have")
