"""Find the samples in tar shards without decoding them, for random access."""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.manifest import Shard

BLOCK = 512  # bytes: everything in a tar file starts at a multiple
ZEROS = bytes(BLOCK)
REGULAR = (b"0", b"\0", b"7")
LONG_NAME, EXTENDED = b"L", b"x"  # GNU's and POSIX's ways to say more of the next member than its header holds


class Member(NamedTuple):
    """Where one file of a sample lies: byte offset and size within the shard."""

    offset: int
    size: int


@dataclass(frozen=True)
class Sample:
    """One sample of a shard.

    Attributes:
        shard: Path of the tar file.
        key: Name of its members up to the first dot.
        members: By extension, for example ``"heatmap.png"``.
    """

    shard: Path
    key: str
    members: dict[str, Member]


def index_shard(path: Path, expected: Shard | None = None) -> list[Sample]:
    """List a shard's samples, in order.

    Args:
        path: A tar file.
        expected: What the manifest says of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a tar file, a header in it is damaged, it is cut short, or it holds another number of
            samples than the manifest says (a tar file cut at a block boundary reads without an error, with fewer).
    """
    if not path.is_file():
        raise FileNotFoundError(f"shard {path} is missing; the manifest of its folder lists it")
    members: dict[str, dict[str, Member]] = defaultdict(dict)
    try:
        for name, member in scan_tar(path):
            folder, _, file = name.rpartition("/")
            stem, _, extension = file.partition(".")
            members[f"{folder}/{stem}" if folder else stem][extension.lower()] = member
    except ValueError as error:
        raise ValueError(f"shard {path} {error}; copy or write it again") from None
    if expected is not None and len(members) != expected.samples:
        raise ValueError(
            f"shard {path} holds {len(members)} samples, the manifest says {expected.samples}: "
            "it is cut short or was changed; copy or write it again"
        )
    return [Sample(path, key, found) for key, found in members.items()]


def scan_tar(path: Path) -> Iterator[tuple[str, Member]]:
    """Yield name and place of each regular file in a tar file, reading the headers only.

    Several times as fast as ``tarfile``, and stricter: that takes a damaged header behind the first for the end.

    Raises:
        ValueError: The file is not a tar file, is cut in a member, or has a damaged header.
    """
    if path.stat().st_size < BLOCK:
        raise ValueError("is not a readable tar file (it is shorter than one header)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end, offset = len(data), 0
        more: dict[str, str] = {}
        while offset < end:
            header = data[offset : offset + BLOCK]
            if header == ZEROS:
                return
            size = _check_header(header, offset)
            kind, start = header[156:157], offset + BLOCK
            if kind in REGULAR:
                size = int(more.get("size", size))
            if start + size > end:
                raise ValueError(f"is cut short in {more.get('path') or _text(header[:100])!r}")
            offset = start + -(-size // BLOCK) * BLOCK
            if kind == LONG_NAME:
                more = {"path": _text(data[start : start + size])}
            elif kind == EXTENDED:
                more = _records(data[start : start + size])
            else:
                if kind in REGULAR:
                    yield more.get("path") or _name(header), Member(start, size)
                more = {}


def _check_header(header: bytes, offset: int) -> int:
    """Return the size of the member that a header announces.

    Raises:
        ValueError: It is no header.
    """
    try:
        if sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) == int(header[148:156].strip(b"\0 "), 8):
            size = header[124:136]
            return int.from_bytes(size[1:], "big") if size[0] & 0x80 else int(size.strip(b"\0 ") or b"0", 8)
    except ValueError:
        pass
    what = "is not a readable tar file" if offset == 0 else "is damaged"
    raise ValueError(f"{what} (no header at byte {offset})")


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
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content):
            raise ValueError("is damaged (an extended header)")
        name, _, value = rest[: int(length) - len(length) - 1].rstrip(b"\n").partition(b"=")
        if name in (b"path", b"size") and not (name == b"size" and not value.isdigit()):
            found[name.decode()] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return found
