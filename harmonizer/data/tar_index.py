"""Find the samples in tar shards without decoding them, for random access."""

import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.manifest import Shard


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
        ValueError: It is not a tar file, is cut short, or holds another number of samples than the manifest says (a
            tar file cut at a block boundary reads without an error, with fewer samples).
    """
    if not path.is_file():
        raise FileNotFoundError(f"shard {path} is missing; the manifest of its folder lists it")
    members: dict[str, dict[str, Member]] = defaultdict(dict)
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.isfile():
                    folder, _, name = info.name.rpartition("/")
                    stem, _, extension = name.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    members[key][extension.lower()] = Member(info.offset_data, info.size)
                    if info.offset_data + info.size > size:
                        raise ValueError(f"shard {path} is cut short in sample {key!r}; copy or write it again")
    except tarfile.TarError as error:
        raise ValueError(f"shard {path} is not a readable tar file ({error}); copy or write it again") from None
    if expected is not None and len(members) != expected.samples:
        raise ValueError(
            f"shard {path} holds {len(members)} samples, the manifest says {expected.samples}: "
            "it is cut short or was changed; copy or write it again"
        )
    return [Sample(path, key, found) for key, found in members.items()]
