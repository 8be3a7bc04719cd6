"""Raw clicks of simulated people on demo images, in the format of ClickMe v2.

People click on the diagnostic parts of the object, each with an individual offset. To exercise the converter's filters,
two people fail their catch trials, one uses a mobile device, and some trials have a single click or are repeated.
``python -m harmonizer.data.demo.raw_clicks DIR`` writes them.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonizer.cli.arguments import parser_of
from harmonizer.data.demo.render import paint
from harmonizer.data.demo.shapes import SHAPES
from harmonizer.data.demo.textures import TEXTURES

SCALE = 4  # pixels of an image per pixel of a painting
CROPS = ((64, 64), (48, 64), (64, 56))  # rows and columns of a painting, for images of several shapes
INATTENTIVE = (3, 17)  # people who fail their catch trials
MOBILE = 8  # person on a mobile device
COLUMNS = ("image_path", "clicks", "user_id", "user_catch_trial", "is_mobile")


def write_raw_clicks(
    folder: Path,
    *,
    images: int = 30,
    people: int = 40,
    clicks: int = 12,
    crops: Sequence[tuple[int, int]] = CROPS,
    seed: int = 0,
) -> Path:
    """Draw images and simulate people who click on them.

    Args:
        folder: Output folder, with ``images/CLASS/FILE.png`` and ``clicks.csv``.
        images: Number of images.
        people: Number of people who click on each image.
        clicks: Mean number of clicks per trial.
        crops: Rows and columns of the paintings' crops, used in turn and enlarged four times.
        seed: Seed of all random choices.

    Returns:
        Path of ``clicks.csv``.
    """
    rng = np.random.default_rng(seed)
    shapes, textures = list(SHAPES), list(TEXTURES)
    trials: list[tuple[object, ...]] = []
    for number in range(images):
        shape = shapes[number % len(shapes)]
        painting = paint(shape, textures[number // len(shapes) % len(textures)], rng)
        rows, columns = crops[number % len(crops)]
        top, left = (64 - rows) // 2, (64 - columns) // 2
        image = Image.fromarray(painting.image[top : top + rows, left : left + columns])
        path = folder / "images" / shape / f"demo_{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize((columns * SCALE, rows * SCALE), Image.Resampling.BICUBIC).save(path)
        interest = painting.human[top : top + rows, left : left + columns].astype(np.float64) ** 2
        trials += _trials(f"demo/{shape}/{path.name}", interest, people, clicks, rng)
    table = folder / "clicks.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(trials[index] for index in rng.permutation(len(trials)))  # shuffled, as in real exports
    return table


def _trials(
    name: str, interest: NDArray[np.float64], people: int, clicks: int, rng: np.random.Generator
) -> Iterator[tuple[object, ...]]:
    """Yield the trials on one image."""
    cumulative = interest.ravel().cumsum()
    for person in range(people):
        catch = 0.8 if person in INATTENTIVE else 1.0
        count = 1 if rng.random() < 0.03 else 2 + int(rng.poisson(clicks - 2))
        for _ in range(1 + (rng.random() < 0.03)):  # some people repeat a trial
            hits = np.searchsorted(cumulative, rng.random(count) * cumulative[-1])
            y, x = np.divmod(hits, interest.shape[1])
            places = np.stack([x, y], 1) + rng.random((count, 2)) + rng.normal(0, 3, 2)
            pixels = np.floor(places * SCALE).astype(int).tolist()
            yield name, str([tuple(pixel) for pixel in pixels]), f"person-{person}", catch, person == MOBILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = parser_of("harmonizer.data.demo.raw_clicks", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder; must not exist")
    parser.add_argument("--images", type=int, default=30, metavar="N", help="default: %(default)s")
    parser.add_argument("--people", type=int, default=40, metavar="N", help="per image (default: %(default)s)")
    parser.add_argument("--clicks", type=int, default=12, metavar="N", help="per trial (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.folder.exists():
        sys.stderr.write(f"raw_clicks: {given.folder} exists already; remove it or name another folder\n")
        return 1
    table = write_raw_clicks(given.folder, images=given.images, people=given.people, clicks=given.clicks)
    sys.stdout.write(f"python -m harmonizer.data.convert {table} --images {given.folder / 'images'} --out OUT\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
