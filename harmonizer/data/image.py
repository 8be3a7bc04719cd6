"""Decode images that may be damaged, rotated, too large, or not of the format of their name."""

import io
import struct
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

SHARD_FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow's names; no others are tried, because some readers start programs
SOURCE_FORMATS = (*SHARD_FORMATS, "BMP", "GIF", "TIFF", "PPM")  # formats that the converter accepts
MOST_PIXELS = (1 << 30) // 12  # of an image or map; Pillow warns of a decompression bomb above this size
PNG_END = b"IEND\xaeB`\x82"  # Pillow does not notice if it is missing, nor check the checksum before it
ORIENTATION = "undone_orientation"  # key in the info of an image that was turned upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # transposition that turns an image upright, by EXIF orientation

# Markers of JPEG. After any other marker, libjpeg may find the next one elsewhere than _is_plain_jpeg does.
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
SCAN = 0xDA
APP1 = 0xE1  # EXIF or XMP
SKIPPED = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # tables, comment, application data

Pixels = NDArray[np.uint8]


def decode_rgb(encoded: bytes) -> Pixels:
    """Decode an image of 8 bits per channel to upright RGB, (H,W,3).

    JPEG is decoded by simplejpeg, which is faster than Pillow and gives the same pixels (both use libjpeg-turbo's
    accurate DCT).

    Raises:
        ValueError: As for :func:`decode_image`, or the image has more bits.
    """
    if _is_plain_jpeg(encoded):
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(encoded)
            return pixels
        except ValueError:
            pass  # Pillow's message says what is wrong
    image = decode_image(encoded)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"it has mode {image.mode}, expected 8 bits per channel")
    return np.asarray(image.convert("RGB"))


def same_shape(image: tuple[int, int], human: tuple[int, int]) -> bool:
    """Return whether an image and its human map have the same aspect ratio, up to rounding to whole pixels.

    Args:
        image: Width and height in pixels.
        human: Width and height in pixels.

    >>> same_shape((500, 375), (224, 168)), same_shape((500, 375), (224, 224))
    (True, False)
    """
    return abs(image[0] * human[1] - image[1] * human[0]) <= max(*image, *human)


def _is_plain_jpeg(encoded: bytes) -> bool:
    """Return whether the headers are those of an upright JPEG of three 8-bit channels and of limited size."""
    plain, noted = False, False
    position = 2 if encoded[:3] == b"\xff\xd8\xff" else len(encoded)
    while position + 10 <= len(encoded) and encoded[position] == 0xFF:
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4], "big")
        if marker == SCAN:
            return plain and not (noted and _orientation(decode_image(encoded, header_only=True)) in TURNS)
        if marker in FRAMES:
            precision, height, width, channels = struct.unpack(">BHHB", encoded[position + 4 : position + 10])
            plain = precision == 8 and channels == 3 and 0 < height * width <= MOST_PIXELS
        elif marker not in SKIPPED:
            return False
        noted = noted or marker == APP1
        position += 2 + length
    return False


def decode_image(encoded: bytes, *, formats: tuple[str, ...] = SHARD_FORMATS, header_only: bool = False) -> Image.Image:
    """Decode an image or map completely, to notice a truncated one, or read its header.

    All images and maps are opened here. A decoded image is upright, as in viewers: its EXIF orientation is undone and
    recorded in ``info[ORIENTATION]``. The size in a header is that before the rotation.

    Args:
        encoded: Content of the file.
        formats: Pillow's names of the formats to try, whatever the file name.
        header_only: Do not decode the pixels.

    Raises:
        ValueError: The image cannot be decoded, has another format, or more than :data:`MOST_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, whatever Pillow's bound
            warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
            image = Image.open(io.BytesIO(encoded), formats=formats)
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width}x{image.height} pixels, expected at most {MOST_PIXELS}")
            if header_only:
                return image
            announced = _orientation(image) if image.format == "TIFF" else 1  # Pillow undoes it for TIFF
            image.load()
    except UnidentifiedImageError:
        raise ValueError(f"it is not an image in one of the formats {', '.join(formats)}") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise ValueError(str(error) or repr(error)) from None
    if image.format == "PNG" and PNG_END not in encoded:
        raise ValueError("image file is truncated")
    return _upright(image, announced)


def _upright(image: Image.Image, announced: int) -> Image.Image:
    """Undo the orientation of a decoded image."""
    orientation, kind = _orientation(image), image.format
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
        image.format = kind
        for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):  # they would turn it again
            image.info.pop(name, None)
    image.info.pop(ORIENTATION, None)  # the file may hold a text of that name
    if max(orientation, announced) > 1:
        image.info[ORIENTATION] = max(orientation, announced)
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, upright, if there is none or the EXIF data are damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged bytes make Pillow raise almost anything; viewers do not rotate such an image
        return 1
    return value if isinstance(value, int) and value in TURNS else 1
