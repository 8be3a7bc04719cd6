"""Small shard folders for tests: squares on noise, with the class as their colour and the map at their position."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from harmonizer.data.shards.writer import write_shards

CLASSES = ("red", "green", "blue")


def png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


def sample(index, size=32, classes=CLASSES, with_map=True):
    rng = np.random.default_rng(index)
    label = index % len(classes)
    picture = rng.integers(60, 120, (size, size, 3)).astype(np.uint8)
    top, left = rng.integers(2, size // 2, 2)
    square = slice(top, top + size // 3), slice(left, left + size // 3)
    picture[square] = 90
    picture[(*square, label)] = 200
    rows, columns = np.mgrid[:size, :size]
    centre = top + size // 6, left + size // 6
    bump = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * (size / 8) ** 2))
    found = {"__key__": f"s{index:05d}", "png": png(picture), "cls": label}
    return found | ({"heatmap.png": png((bump * 255).astype(np.uint8))} if with_map else {})


def write_folder(folder: Path, *, train=48, val=24, size=32, samples_per_shard=16, unmapped=5, first=0) -> Path:
    """Write train and val shards; every ``unmapped``-th training sample has no map; indices start at ``first``."""
    settings = {"classes": CLASSES, "maps": "a bump on the square", "samples_per_shard": samples_per_shard}
    training = (sample(i, size, with_map=i % unmapped != 0) for i in range(first, first + train))
    write_shards(training, folder / "train", **settings)
    write_shards((sample(10_000 + i, size) for i in range(val)), folder / "val", **settings)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder: relative name -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rewrite(shard: Path, key: str, **changes: bytes | None) -> None:
    """Rewrite a shard with changed or added members of one sample; None removes a member."""
    with tarfile.open(shard) as archive:
        members = {info.name: archive.extractfile(info).read() for info in archive}
    with tarfile.open(shard, "w") as archive:
        for name, content in (members | {f"{key}.{name}": content for name, content in changes.items()}).items():
            if content is not None:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
