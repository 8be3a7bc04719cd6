"""A contact sheet: pictures of a data set with their human maps overlaid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from harmonizer.data.picture import decode_picture
from harmonizer.data.shards.tar_index import Sample, parse_label
from harmonizer.data.shards.validate import image_extension, read_member
from harmonizer.data.shards.writer import HEATMAP, LABEL
from harmonizer.files import replacing

CELL = 192  # pixels a side of a picture
CAPTION = 16  # pixels below it
GAP = 8  # pixels between cells
FONT_SIZE = 11  # pixels
OPACITY = 0.75  # of a map where it is largest; none where it is zero
COLOURS = "inferno"


def draw_sheet(samples: Sequence[Sample], classes: Sequence[str], path: Path, *, columns: int = 6) -> None:
    """Draw samples, each as picture with its map overlaid, and write a PNG.

    Args:
        samples: What to draw; what cannot be decoded becomes an empty cell.
        classes: Class names.
        path: Of the PNG, written atomically.
        columns: Cells a row.
    """
    columns = max(min(columns, len(samples)), 1)
    rows = -(-len(samples) // columns)
    size = (columns * (CELL + GAP) + GAP, rows * (CELL + CAPTION + GAP) + GAP)
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(FONT_SIZE)
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left = GAP + number % columns * (CELL + GAP)
        top = GAP + number // columns * (CELL + CAPTION + GAP)
        picture, caption = _cell(sample, classes)
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
        while draw.textlength(caption, font) > CELL:
            caption = caption[:-2] + "…"
        draw.text((left, top + CELL + 1), caption, "black", font)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _cell(sample: Sample, classes: Sequence[str]) -> tuple[Image.Image, str]:
    """Return a sample's picture and caption."""
    extension, caption = image_extension(sample), sample.key
    with sample.shard.open("rb") as file:
        if LABEL in sample.members:
            caption = _name_label(read_member(sample, LABEL, file), classes)
        try:
            picture = decode_picture(b"" if extension is None else read_member(sample, extension, file)).convert("RGB")
            picture.thumbnail((CELL, CELL))
            if HEATMAP in sample.members:
                picture = overlay(picture, decode_picture(read_member(sample, HEATMAP, file)))
        except ValueError:
            return Image.new("RGB", (CELL, CELL), "lightgrey"), f"{caption} (damaged)"
    return picture, caption


def _name_label(text: bytes, classes: Sequence[str]) -> str:
    """Return the class that a label names, or the label itself."""
    try:
        label = parse_label(text)
    except ValueError as error:
        return f"label {error}"
    return classes[label] if 0 <= label < len(classes) else f"label {label}"


def overlay(picture: Image.Image, human: Image.Image) -> Image.Image:
    """Colour a picture by its map; the larger the map, the more of its colour."""
    human = human if human.mode.startswith("I") else human.convert("L")
    grey = Image.fromarray(np.asarray(human).astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    values = np.asarray(grey)
    values = values / values.max() if values.max() > 0 else values
    colours = colormaps[COLOURS](values)[..., :3] * 255
    weights = OPACITY * values[..., None]
    mixed = np.asarray(picture) * (1 - weights) + colours * weights
    return Image.fromarray(mixed.round().astype(np.uint8))
