"""Read the headers of tar files: what lies where, and an error for all that is not plain files and folders."""

import mmap
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = 512  # bytes: everything in a tar file starts at a multiple
ZEROS = bytes(BLOCK)
STEP = 1 << 20  # bytes that are looked at together
REGULAR = (b"0", b"\0", b"7")
LONG_NAME, EXTENDED = b"L", b"x"  # GNU's and POSIX's ways to say more of the next member than its header holds
PASSED_OVER = (b"g", b"K", b"V")  # records for all members, a link's long target, the archive's own name
OTHERS = {
    **{b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder"},
    **{b"6": "a FIFO", b"S": "a sparse file", b"M": "a part of a file"},
}
LONGEST_HEADER = 1 << 20  # bytes that may say more of a member
LONGEST_NAME = 1000  # bytes; names are kept in memory, where one may then not take more than its headers in the file


class Member(NamedTuple):
    """Where one file lies: byte offset and size within the shard."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One entry of a tar file: its name, its place, and what it is if not a plain file."""

    name: str
    member: Member
    other: str


def check_regular(path: Path) -> None:
    """Refuse what is not a file: opening a FIFO waits, and a device may never end.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It is something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"shard {path} is missing; the manifest of its folder lists it") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise OSError(f"shard {path} is {kinds.get(stat.S_IFMT(mode), 'a device')}; expected a regular file")


def scan_tar(path: Path) -> Iterator[Entry]:
    """Yield the entries of a tar file, reading the headers only.

    Several times as fast as ``tarfile``, and stricter: that takes a damaged header behind the first for the end.

    Raises:
        FileNotFoundError, OSError: There is no such file, or it is not a regular one.
        ValueError: The file is not a tar file, is cut in a member, has a damaged header or too long a name, or goes on
            after its end.
    """
    check_regular(path)
    if path.stat().st_size < BLOCK:
        raise ValueError("is not a readable tar file (it is shorter than one header)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end, offset = len(data), 0
        more: dict[str, str] = {}
        while offset < end:
            header = data[offset : offset + BLOCK]
            if header == ZEROS:
                if any(data[at : at + STEP].strip(b"\0") for at in range(offset, end, STEP)):
                    raise ValueError(
                        f"has more after its end at byte {offset}, as tar files put together with cat have"
                    )
                return
            size = _check_header(header, offset)
            kind, start = header[156:157], offset + BLOCK
            name = more.get("path") or _name(header)
            if kind in REGULAR:
                size = int(more.get("size", size))
            if start + size > end:
                raise ValueError(f"is cut short in {name!r}: {size} bytes are announced, {end - start} are there")
            offset = start + -(-size // BLOCK) * BLOCK
            if kind in (LONG_NAME, EXTENDED):
                if size > LONGEST_HEADER:
                    raise ValueError(f"is damaged (an extended header of {size} bytes before byte {offset})")
                content = data[start : start + size]
                more |= {"path": _text(content)} if kind == LONG_NAME else _records(content)
            elif kind not in PASSED_OVER:
                if len(name) > LONGEST_NAME:
                    raise ValueError(f"holds a name of {len(name)} characters, expected {LONGEST_NAME} at most")
                other = "" if kind in REGULAR else OTHERS.get(kind, f"of unknown kind {kind!r}")
                yield Entry(name, Member(start, size), more.get("sparse", other))
                more = {}


def _check_header(header: bytes, offset: int) -> int:
    """Return the size of the member that a header announces.

    Raises:
        ValueError: It is no header.
    """
    try:
        if sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) == int(header[148:156].strip(b"\0 "), 8):
            return _size(header[124:136])
    except ValueError:
        pass
    what = "is not a readable tar file" if offset == 0 else "is damaged"
    raise ValueError(f"{what} (no header at byte {offset})")


def _size(field: bytes) -> int:
    """Read a size: octal digits, or, after a byte of 128, a binary number."""
    if field[0] & 0x80:
        if field[0] != 0x80:  # of negative numbers all bits are set
            raise ValueError
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ") or b"0"
    if not digits.isdigit():  # int() takes signs and underscores, too
        raise ValueError
    return int(digits, 8)


def _name(header: bytes) -> str:
    """Return the name in a header, with POSIX's prefix."""
    prefix = _text(header[345:500]) if header[257:262] == b"ustar" and header[262:263] == b"\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    """Return the text of a field that zero bytes fill up."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(content: bytes) -> dict[str, str]:
    """Read the ``LENGTH NAME=VALUE`` lines of an extended header."""
    found: dict[str, str] = {}
    while content:
        digits, _, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0
        if not len(digits) + 2 < length <= len(content) or content[length - 1 : length] != b"\n":
            raise ValueError("is damaged (an extended header)")
        name, _, value = content[len(digits) + 1 : length - 1].partition(b"=")
        if name == b"path":
            found["path"] = value.decode("utf-8", "surrogateescape")
        elif name == b"size":
            if not value.isdigit() or len(value) > 20:
                raise ValueError(f"is damaged (an extended header announces a size of {value[:24]!r})")
            found["size"] = value.decode()
        elif name.startswith(b"GNU.sparse."):
            found["sparse"] = OTHERS[b"S"]
        content = content[length:]
    return found
