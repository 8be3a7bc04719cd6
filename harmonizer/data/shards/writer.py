"""Write folders of WebDataset shards: tar files of samples, and a manifest that counts them."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import webdataset

from harmonizer.data.shards.manifest import Manifest, Shard, write_manifest
from harmonizer.files import file_sha256, new_folder, replacing
from harmonizer.untrusted import is_name

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LABEL = "cls"  # text integer
HEATMAP = "heatmap.png"  # 8- or 16-bit grey
MAP_MODES = ("L", "I;16", "I;16B", "I")  # what Pillow calls such a map


def write_shards(
    samples: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    classes: tuple[str, ...],
    maps: str,
    samples_per_shard: int = 1000,
) -> Manifest:
    """Write samples to a new folder of shards, all or nothing.

    The same samples give the same bytes. The shards are written next to the folder and renamed at the end.

    Args:
        samples: Each ``{"__key__": str, "png" | "jpg" | "jpeg" | "webp": bytes, "cls": int}``, optionally with
            ``"heatmap.png": bytes``, the human map, and ``"json": bytes``.
        folder: Output folder; it must not exist.
        classes: Class names; label i is ``classes[i]``.
        maps: Description of how the human maps were prepared.
        samples_per_shard: Number of samples in each shard but the last, which may hold fewer.

    Returns:
        The manifest, as written to ``folder/manifest.json``.

    Raises:
        FileExistsError: ``folder`` exists.
        ValueError: A key occurs twice or cannot be read back.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it or name another folder")
    with new_folder(folder) as temporary:
        temporary.mkdir(parents=True)
        shards: list[Shard] = []
        keys: set[str] = set()
        remaining = iter(samples)
        while batch := list(islice(remaining, samples_per_shard)):
            shards.append(write_shard(temporary / shard_name(len(shards)), batch, keys))
        manifest = Manifest(classes=classes, maps=maps, shards=tuple(shards))
        write_manifest(temporary, manifest)
    return manifest


def write_shard(path: Path, samples: Iterable[Mapping[str, Any]], keys: set[str] | None = None) -> Shard:
    """Write one tar file, atomically, with fixed times and owners.

    Args:
        path: Output path.
        samples: As for ``write_shards``.
        keys: Keys of the folder's earlier samples; those of this shard are added.

    Returns:
        The shard's entry in the manifest.

    Raises:
        ValueError: A key occurs twice or cannot be read back.
    """
    count, with_maps = 0, 0
    keys = set() if keys is None else keys
    with (
        replacing(path, durable=True) as temporary,
        temporary.open("wb") as file,
        webdataset.TarWriter(file, mtime=0.0, user="harmonizer", group="harmonizer") as writer,
    ):
        for sample in samples:
            _check_key(sample["__key__"], keys)
            writer.write(dict(sample))
            count, with_maps = count + 1, with_maps + (HEATMAP in sample)
    return Shard(file=path.name, samples=count, maps=with_maps, sha256=file_sha256(path))


def _check_key(key: str, before: set[str]) -> None:
    """Check that a sample can be read back under its key, and add the key to those seen before."""
    if key in before:
        raise ValueError(f"expected every key once, got {key!r} again; give its sample another")
    if not is_name(key) or not key.rpartition("/")[2] or "." in key.rpartition("/")[2]:
        raise ValueError(f"expected a key without dots and control characters, got {key!r}; try letters and digits")
    before.add(key)


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"{index:06d}.tar"
