"""Encoded images: check, decode, resize and encode."""

import io
from typing import Literal, NamedTuple

from PIL import Image

from harmonizer.data.convert.readers.record import Item, Pixels
from harmonizer.data.image import ORIENTATION, SOURCE_FORMATS, decode_image

Encoding = Literal["keep", "jpeg", "png", "webp"]
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # images that shards hold, by Pillow's name
LOSSLESS = "PNG"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")  # of files to read


class EncodedImage(NamedTuple):
    """An image as a shard has it."""

    extension: str  # extension of its member in the shard
    content: bytes  # the encoded image
    size: tuple[int, int]  # width and height as viewers show it
    turned: bool  # whether it was shown upright by its EXIF orientation


def open_image(encoded: bytes, item: Item, name: str, *, header_only: bool = False) -> Image.Image:
    """Decode an image completely, so that a cut one is noticed; or read its header.

    Raises:
        RecordError: It cannot be decoded.
    """
    try:
        return decode_image(encoded, formats=SOURCE_FORMATS, header_only=header_only)
    except ValueError as error:
        raise item.error(f"cannot decode {name} ({error})") from None


def encode_image(
    image: bytes | Pixels, item: Item, *, encoding: Encoding, quality: int, resize: int | None
) -> EncodedImage:
    """Check an image by decoding all of it, and encode it where that is asked for or needed.

    Args:
        image: Encoded image, or pixels (H,W,3).
        item: Named in messages.
        encoding: ``"keep"`` leaves JPEG, PNG and WebP as they are, and makes PNG of anything else.
        quality: Of JPEG and WebP, 1 to 100.
        resize: Shorter side in pixels of larger images; smaller ones are left alone.

    Returns:
        The encoded image. One that is left as it is keeps its EXIF orientation, which readers of shards apply.

    Raises:
        RecordError: The image cannot be decoded, or has 16 bits or floats a channel.
    """
    picture = open_image(image, item, "the image") if isinstance(image, bytes) else Image.fromarray(image)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise item.error(f"the image has mode {picture.mode}, expected 8 bits a channel")
    turned = ORIENTATION in picture.info
    old = picture.format if picture.format in EXTENSIONS else LOSSLESS
    kind = old if encoding == "keep" else encoding.upper()
    small = resize is None or min(picture.size) <= resize
    if isinstance(image, bytes) and small and kind == picture.format:
        return EncodedImage(EXTENSIONS[kind], image, picture.size, turned)
    picture = picture if picture.mode in ("RGB", "L") else picture.convert("RGB")
    if resize is not None and not small:
        scale = resize / min(picture.size)
        width, height = (max(resize, round(length * scale)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if kind == LOSSLESS:
        picture.save(buffer, kind)
    else:
        picture.save(buffer, kind, quality=quality)
    return EncodedImage(EXTENSIONS[kind], buffer.getvalue(), picture.size, turned)
