"""Draw a contact sheet of images with their human maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont, ImageOps

from harmonizer.data.image import decode_image
from harmonizer.data.shards.tar_index import Sample, image_extension, parse_label
from harmonizer.data.shards.validate import read_member
from harmonizer.data.shards.writer import HEATMAP, LABEL
from harmonizer.files import replacing

CELL = 144  # pixels per side of an image, and of its map next to it
CAPTION = 18  # height in pixels of the caption below them
GAP = 8  # pixels between samples
FONT_SIZE = 12  # pixels
BAR = (120, 10)  # size in pixels of the colour bar
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
OPACITY = 0.75  # of a map at its largest value; 0 where the map is zero
COLOURS = "inferno"
COLUMNS = 4  # samples next to each other


def draw_sheet(samples: Sequence[Sample], classes: Sequence[str], path: Path) -> None:
    """Draw samples as a PNG: each image and, next to it, the image with its map; damaged images are grey."""
    columns = min(COLUMNS, len(samples))
    rows, wide, tall = -(-len(samples) // columns), 2 * CELL + GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (columns * wide + GAP, rows * tall + GAP + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, sample in enumerate(samples):
        left, top = GAP + number % columns * wide, GAP + number // columns * tall
        image, mapped, caption = _cell(sample, classes)
        for at, part in ((left, image), (left + CELL, mapped)):
            if part is None:
                draw.text((at + CELL / 2, top + CELL / 2), "no map", "grey", font, "mm")
            else:
                sheet.paste(part, (at + (CELL - part.width) // 2, top + (CELL - part.height) // 2))
        while draw.textlength(caption, font) > 2 * CELL:
            caption = caption[:-2] + "…"
        draw.text((left, top + CELL + 1), caption, "black", font)
    _legend(sheet, draw, font, GAP + rows * tall)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Font, top: int) -> None:
    """Draw the colour bar in the last line of a sheet."""
    scale = np.broadcast_to(np.linspace(0, 255, BAR[0], dtype=np.uint8), (BAR[1], BAR[0]))
    sheet.paste(overlay(Image.new("RGB", BAR, "grey"), Image.fromarray(np.ascontiguousarray(scale))), (GAP, top))
    draw.text((GAP + BAR[0] + 6, top - 3), "human map: 0 to its largest value", "black", font)


def _cell(sample: Sample, classes: Sequence[str]) -> tuple[Image.Image, Image.Image | None, str]:
    """Return a sample's image, the image with its map if there is one, and its caption."""
    extension, caption = image_extension(sample.members), sample.key
    with sample.shard.open("rb") as file:
        if LABEL in sample.members:
            caption = _name_label(read_member(sample, LABEL, file), classes)
        try:
            image = decode_image(b"" if extension is None else read_member(sample, extension, file)).convert("RGB")
            image = ImageOps.contain(image, (CELL, CELL))  # enlarges small images, too
            mapped = None
            if HEATMAP in sample.members:
                mapped = overlay(image, decode_image(read_member(sample, HEATMAP, file)))
        except ValueError:
            return Image.new("RGB", (CELL, CELL), "lightgrey"), None, f"{caption} (damaged)"
    return image, mapped, caption


def _name_label(text: bytes, classes: Sequence[str]) -> str:
    """Return the class name of a label, or the label itself."""
    try:
        label = parse_label(text)
    except ValueError as error:
        return f"label {error}"
    return classes[label] if 0 <= label < len(classes) else f"label {label}"


def overlay(image: Image.Image, human: Image.Image) -> Image.Image:
    """Overlay an image with its map, in colours whose opacity increases with the map's values."""
    human = human if human.mode.startswith("I") else human.convert("L")
    grey = Image.fromarray(np.asarray(human).astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    values = np.asarray(grey)
    values = values / values.max() if values.max() > 0 else values
    colours = colormaps[COLOURS](values)[..., :3] * 255
    weights = OPACITY * values[..., None]
    mixed = np.asarray(image) * (1 - weights) + colours * weights
    return Image.fromarray(mixed.round().astype(np.uint8))
