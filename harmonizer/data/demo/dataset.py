"""The embedded demo data: drawn objects on textured backgrounds, with simulated clicks; nothing is downloaded.

Only the object defines the class. The texture of the background is correlated with the class in training (a shortcut)
and not in validation: a network that uses the regions that people use generalises, one that uses the shortcut fails.
"""

import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonizer.data.demo.render import paint
from harmonizer.data.demo.shapes import SHAPES
from harmonizer.data.demo.textures import TEXTURES
from harmonizer.data.shards.manifest import read_manifest
from harmonizer.data.shards.writer import write_shards
from harmonizer.files import file_sha256

VERSION = 2  # version of the images, part of the folder's name
SIZES = {"train": 4000, "val": 500}
SHORTCUT = 0.8  # share of the training images with the texture of their class; the others have a random one
UNMAPPED = 0.2  # share of the training images without a human map
CLASSES, BACKGROUNDS = tuple(SHAPES), tuple(TEXTURES)
CACHE = "HARMONIZER_CACHE"  # environment variable: folder of generated data

log = logging.getLogger(__name__)


def ensure_demo(root: Path | None = None) -> Path:
    """Return the folder of the demo data (``train`` and ``val``), after drawing them on first use.

    Every run draws the same bytes. Existing data are checked against their manifests, and drawn again with a warning if
    they are damaged. Several processes may draw at the same time.

    Args:
        root: Parent of the folder; None is ``$HARMONIZER_CACHE``, or ``~/.cache/harmonizer``.
    """
    root = root or Path(os.environ.get(CACHE) or Path.home() / ".cache" / "harmonizer")
    folder = root / f"demo-{VERSION}"
    damage = _damage(folder, SIZES)
    if damage is None:
        return folder
    if folder.exists():
        log.warning("the demo data are damaged (%s); drawing them again", damage)
    else:
        log.warning("drawing the demo images into %s, once; this takes some seconds", folder)
    return draw(folder, SIZES)


def draw(folder: Path, sizes: Mapping[str, int]) -> Path:
    """Draw demo data and put them in place in one step, replacing damaged ones.

    Args:
        folder: Output folder.
        sizes: Number of images in ``train`` and ``val``.

    Returns:
        ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary, "fresh")
        for split, size in sizes.items():
            write_shards(
                _samples(split, size),
                fresh / split,
                classes=CLASSES,
                maps="simulated clicks on the object, blurred with a Gaussian",
            )
        try:
            if _damage(folder, sizes) is not None:
                if folder.exists():
                    folder.rename(Path(temporary, "damaged"))
                fresh.rename(folder)
        except OSError:
            if _damage(folder, sizes) is not None:  # otherwise another process has just drawn the same data
                raise
    return folder


def _damage(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """Describe the damage of demo data; None if they are complete."""
    for split, size in sizes.items():
        try:
            manifest = read_manifest(folder / split)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        if manifest.classes != CLASSES or manifest.samples != size:
            return f"{folder / split} holds other images"
        for shard in manifest.shards:
            path = folder / split / shard.file
            if not path.is_file() or file_sha256(path) != shard.sha256:
                return f"{path} is missing or changed"
    return None


def _samples(split: str, size: int) -> Iterator[dict[str, Any]]:
    """Draw the samples of one split in order on all cores, whose number does not affect the result."""
    context = get_context("fork" if sys.platform == "linux" else "spawn")  # fork needs no importable main program
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8), mp_context=context) as pool:
        yield from pool.map(partial(_sample, split), range(size), chunksize=25)


def _sample(split: str, index: int) -> dict[str, Any]:
    """Draw one sample, as a function of split and index only."""
    rng = np.random.default_rng([list(SIZES).index(split), index])
    label = index % len(CLASSES)
    if split == "train":
        texture = label if rng.random() < SHORTCUT else int(rng.integers(len(BACKGROUNDS)))
        has_map = rng.random() >= UNMAPPED
    else:
        texture = index // len(CLASSES) % len(BACKGROUNDS)  # every class on every texture equally often
        has_map = True
    painting = paint(CLASSES[label], BACKGROUNDS[texture], rng)
    sample = {"__key__": f"demo-{split}-{index:05d}", "png": _png(painting.image), "cls": label}
    sample["json"] = f'{{"texture": "{BACKGROUNDS[texture]}"}}'.encode()
    return sample | ({"heatmap.png": _png(painting.human)} if has_map else {})


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)  # still small, and twice as fast
    return buffer.getvalue()
