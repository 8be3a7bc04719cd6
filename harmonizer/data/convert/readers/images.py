"""Encoded images: check, decode, resize and encode."""

import io
from typing import Literal, NamedTuple

from PIL import Image

from harmonizer.data.convert.readers.record import Item, Pixels
from harmonizer.data.image import ORIENTATION, SOURCE_FORMATS, decode_image

Encoding = Literal["keep", "jpeg", "png", "webp"]
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # in shards, by Pillow's name of the format
LOSSLESS = "PNG"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


class EncodedImage(NamedTuple):
    """An image as stored in a shard."""

    extension: str  # extension of its member in the shard
    content: bytes  # encoded image
    size: tuple[int, int]  # width and height, upright
    turned: bool  # whether an EXIF orientation was undone


def open_image(encoded: bytes, item: Item, name: str, *, header_only: bool = False) -> Image.Image:
    """Decode an image completely, to notice a truncated one, or read its header.

    Raises:
        RecordError: The image cannot be decoded.
    """
    try:
        return decode_image(encoded, formats=SOURCE_FORMATS, header_only=header_only)
    except ValueError as error:
        raise item.error(f"cannot decode {name} ({error})") from None


def encode_image(
    image: bytes | Pixels, item: Item, *, encoding: Encoding, quality: int, resize: int | None
) -> EncodedImage:
    """Check an image by decoding all of it, and encode it if that is asked for or needed.

    Args:
        image: Encoded image, or pixels (H,W,3).
        item: Sample that messages name.
        encoding: ``"keep"`` leaves JPEG, PNG and WebP unchanged, and makes PNG of anything else.
        quality: JPEG or WebP quality, 1 to 100.
        resize: Shorter side in pixels of larger images; smaller ones are not resized.

    Returns:
        The encoded image. An unchanged one keeps its EXIF orientation, which readers of shards apply.

    Raises:
        RecordError: The image cannot be decoded, or has 16 bits or floats per channel.
    """
    decoded = open_image(image, item, "the image") if isinstance(image, bytes) else Image.fromarray(image)
    if decoded.mode in ("I", "F") or decoded.mode.startswith("I;"):
        raise item.error(f"the image has mode {decoded.mode}, expected 8 bits per channel")
    turned = ORIENTATION in decoded.info
    old = decoded.format if decoded.format in EXTENSIONS else LOSSLESS
    kind = old if encoding == "keep" else encoding.upper()
    small = resize is None or min(decoded.size) <= resize
    if isinstance(image, bytes) and small and kind == decoded.format:
        return EncodedImage(EXTENSIONS[kind], image, decoded.size, turned)
    decoded = decoded if decoded.mode in ("RGB", "L") else decoded.convert("RGB")
    if resize is not None and not small:
        scale = resize / min(decoded.size)
        width, height = (max(resize, round(length * scale)) for length in decoded.size)
        decoded = decoded.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    decoded.save(buffer, kind, **({} if kind == LOSSLESS else {"quality": quality}))
    return EncodedImage(EXTENSIONS[kind], buffer.getvalue(), decoded.size, turned)
