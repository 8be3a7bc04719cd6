"""A folder of shards, on disk or at an address, with random access to its samples."""

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harmonizer.data.adopt import load_manifest
from harmonizer.data.shards.manifest import NAME, Manifest, Shard, parse_manifest
from harmonizer.data.shards.remote import RemoteCache, is_remote
from harmonizer.data.shards.tar import check_regular
from harmonizer.data.shards.tar_index import ROLES, any_repeated, read_contents
from harmonizer.files import file_sha256

T = TypeVar("T")

KEPT_INDEXES = 10_000  # shard indexes kept by a process


class RawSample(NamedTuple):
    """One sample as stored in its shard."""

    key: str  # key in the shard
    name: str  # name in the folder: the key, or `SHARD/KEY` where keys are repeated
    shard: str  # path or address of the shard
    members: dict[str, bytes]  # content by extension, of `ROLES` only

    def __str__(self) -> str:
        return f"sample {self.key!r} of {self.shard}"


@dataclass(frozen=True)
class ShardIndex:
    """Positions of the samples of one shard, as arrays: a folder may have millions, and workers get a copy."""

    keys: NDArray[np.bytes_]  # (N,) bytes
    locations: NDArray[np.int64]  # (N,len(ROLES),2) int64 offset and size; size -1 for a missing member


class ShardFolder:
    """Read samples of a folder by their index.

    Shards on disk are indexed at once and their counts compared with the manifest's. Remote shards are fetched and
    indexed by each process when it reads the first of their samples.

    Args:
        location: Path, or address for :class:`harmonizer.data.shards.remote.RemoteCache`.
        manifest: The folder's manifest; None reads it.
        cache: Cache of remote shards.
        verify: Compare the checksums of shards on disk with the manifest's, which reads all of them. Those of remote
            shards are always compared.

    Raises:
        FileNotFoundError: The folder or a shard is missing.
        ValueError: The manifest or a shard is damaged, or there are no samples.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        manifest: Manifest | None = None,
        cache: RemoteCache | None = None,
        verify: bool = False,
    ) -> None:
        self.location = location
        self.cache = cache or RemoteCache()
        self.manifest = folder_manifest(location, cache=self.cache) if manifest is None else manifest
        if not self.manifest.samples:
            raise ValueError(f"{location} holds no samples")
        self._remote = is_remote(location)
        self._names = [f"{str(location).rstrip('/')}/{shard.file}" for shard in self.manifest.shards]
        self._ends = list(accumulate(shard.samples for shard in self.manifest.shards))
        self._indexes: dict[int, ShardIndex] = {}
        self.repeated_keys = has_repeated_keys(location, self.manifest)
        if not self._remote:
            for number, listed in enumerate(self.manifest.shards):
                self._index(number)
                if verify and file_sha256(Path(self._path(number))) != listed.sha256:
                    raise ValueError(f"shard {self._names[number]} has changed: its sha256 is not that of the manifest")

    def __len__(self) -> int:
        return self.manifest.samples

    def read(self, number: int) -> RawSample:
        """Read a sample.

        Raises:
            FileNotFoundError, ValueError, OSError: Its shard is missing, damaged or cannot be fetched.
        """
        shard = bisect_right(self._ends, number)
        position = number - self._ends[shard]  # negative: counted from the shard's end
        index = self._index(shard)
        locations = index.locations[position].tolist()
        members = self._use(shard, lambda path: _read(path, locations))
        key = index.keys[position].decode()
        name = f"{self.manifest.shards[shard].file}/{key}" if self.repeated_keys else key
        return RawSample(key, name, self._names[shard], members)

    def _path(self, shard: int) -> str:
        """Return the path of a shard, after fetching it if necessary."""
        if not self._remote:
            return self._names[shard]
        listed = self.manifest.shards[shard]
        return str(self.cache.fetch(str(self.location), listed.file, listed.sha256))

    def _use(self, shard: int, function: Callable[[str], T]) -> T:
        """Call a function with the path of a shard and return its result."""
        while True:
            path = self._path(shard)
            try:
                return function(path)
            except FileNotFoundError:
                if not self._remote:
                    raise
                # Another process has just removed it from the cache to make room.

    def _index(self, shard: int) -> ShardIndex:
        """Return the index of a shard."""
        if shard not in self._indexes:
            self._indexes[shard] = self._use(shard, lambda path: _read_index(path, self.manifest.shards[shard]))
        return self._indexes[shard]


def _read(path: str, locations: list[list[int]]) -> dict[str, bytes]:
    """Read members of a shard; locations are offset and size, -1 for a missing member."""
    file = os.open(path, os.O_RDONLY)
    try:
        return {
            role: os.pread(file, size, offset)
            for role, (offset, size) in zip(ROLES, locations, strict=True)
            if size >= 0
        }
    finally:
        os.close(file)


def folder_manifest(location: str | Path, *, cache: RemoteCache) -> Manifest:
    """Read a folder's manifest, or make one if a folder on disk has none.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The manifest, or a shard that has to be read, is damaged.
        OSError: The manifest of a remote folder cannot be fetched.
    """
    if not is_remote(location):
        return load_manifest(Path(location))
    return parse_manifest(cache.read(str(location), NAME), f"{location}/{NAME}")


def has_repeated_keys(location: str | Path, manifest: Manifest) -> bool:
    """Return whether a key occurs in more than one shard of a folder; for a remote one by its manifest alone.

    Raises:
        FileNotFoundError, ValueError, OSError: A shard on disk is missing or damaged.
    """
    if manifest.repeated_keys or is_remote(location):
        return manifest.repeated_keys
    return any_repeated(_read_index(f"{location}/{shard.file}", shard).keys.tolist() for shard in manifest.shards)


def _read_index(path: str, expected: Shard) -> ShardIndex:
    """Return the index of a shard; a file that has not changed is read once."""
    check_regular(Path(path))
    state = Path(path).stat()
    return _index_once(path, expected, (state.st_size, state.st_mtime_ns, state.st_ino))


@lru_cache(KEPT_INDEXES)
def _index_once(path: str, expected: Shard, state: tuple[int, ...]) -> ShardIndex:
    """Index a shard; ``state`` is its size, time and inode."""
    samples = read_contents(Path(path), expected).samples
    locations = np.full((len(samples), len(ROLES), 2), -1, np.int64)
    for row, sample in zip(locations, samples, strict=True):
        for column, role in enumerate(ROLES):
            if role in sample.members:
                row[column] = sample.members[role]
    keys = np.array([sample.key.encode() for sample in samples], dtype=np.bytes_)
    return ShardIndex(keys, locations)
