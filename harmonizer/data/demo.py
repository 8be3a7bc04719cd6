"""The embedded demo data: drawn objects on textured backgrounds, with simulated clicks; nothing is downloaded.

The object alone defines the class. In training the background's texture goes with the class (a shortcut), in validation
it does not: a network that looks where people look generalises, one that takes the shortcut fails.
"""

import io
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonizer.data.demo_pictures import paint
from harmonizer.data.demo_shapes import SHAPES
from harmonizer.data.demo_textures import TEXTURES
from harmonizer.data.manifest import file_sha256, read_manifest
from harmonizer.data.shards import write_shards

VERSION = 1  # of the pictures: another one gets another folder
SIZES = {"train": 4000, "val": 1000}
SHORTCUT = 0.85  # share of the training pictures whose texture is the one of their class; the others' is random
UNMAPPED = 0.2  # share of the training pictures without a human map
CLASSES, BACKGROUNDS = tuple(SHAPES), tuple(TEXTURES)
CACHE = "HARMONIZER_CACHE"  # environment variable: where generated data are kept

log = logging.getLogger(__name__)


def ensure_demo(root: Path | None = None) -> Path:
    """Return the folder of the demo data (``train`` and ``val``), drawing it on first use.

    The same bytes on every machine with the same image library, whatever the number of processes. What is there is
    checked against its manifest, and drawn again when it is damaged.

    Args:
        root: Where to keep it; None is ``$HARMONIZER_CACHE``, or ``~/.cache/harmonizer``.
    """
    root = root or Path(os.environ.get(CACHE) or Path.home() / ".cache" / "harmonizer")
    folder = root / f"demo-{VERSION}"
    damage = _damage(folder)
    if damage is None:
        return folder
    if folder.exists():
        log.warning("the demo data are damaged (%s); drawing them again", damage)
    else:
        log.warning("drawing the demo pictures into %s; this happens once", folder)
    return draw(folder, SIZES)


def draw(folder: Path, sizes: dict[str, int]) -> Path:
    """Draw demo data and put them in place in one step, replacing what is there.

    Args:
        folder: To make.
        sizes: Pictures of ``train`` and ``val``.

    Returns:
        ``folder``; another process that was faster may have made it.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for split, size in sizes.items():
            write_shards(
                (_sample(split, index) for index in range(size)),
                temporary / split,
                classes=CLASSES,
                maps="simulated clicks on the object, Gaussian-blurred",
                samples_per_shard=500,
            )
        if _damage(folder) is not None:
            if folder.exists():
                folder.rename(temporary / "damaged")
            temporary.rename(folder)
            shutil.rmtree(folder / "damaged", ignore_errors=True)
    except OSError:
        if _damage(folder) is not None:  # otherwise another process put the same data in place meanwhile
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _damage(folder: Path) -> str | None:
    """Say what is wrong with demo data; None when they are whole."""
    for split in SIZES:
        try:
            manifest = read_manifest(folder / split)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        for shard in manifest.shards:
            path = folder / split / shard.file
            if not path.is_file() or file_sha256(path) != shard.sha256:
                return f"{path} is missing or changed"
    return None


def _sample(split: str, index: int) -> dict[str, Any]:
    """Draw one sample; a function of its arguments alone."""
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


def _png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=1)  # the files stay small, and are made twice as fast
    return buffer.getvalue()
