"""Decode images that may be damaged, turned, too large, or something else than their name says."""

import io
import struct
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

SHARD_FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow's names; nothing else is tried, for some readers start programs
SOURCE_FORMATS = (*SHARD_FORMATS, "BMP", "GIF", "TIFF", "PPM")  # what the converter takes
MOST_PIXELS = (1 << 30) // 12  # of an image or map; above this size Pillow speaks of a decompression bomb
PNG_END = b"IEND\xaeB`\x82"  # Pillow does not miss it, nor the checksum before it
ORIENTATION = "undone_orientation"  # in the info of an image that was turned
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation, what shows the image upright

# Markers of JPEG. Behind any other one libjpeg may look for the next at another place than _is_plain_jpeg does.
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
SCAN = 0xDA
APP1 = 0xE1  # EXIF or XMP
SKIPPED = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # tables, comment, applications' data

Pixels = NDArray[np.uint8]


def decode_rgb(encoded: bytes) -> Pixels:
    """Decode an image of 8 bits a channel to RGB, (H,W,3), upright.

    JPEG goes through simplejpeg: it gives Pillow's pixels (both take libjpeg-turbo's accurate DCT), faster.

    Raises:
        ValueError: As :func:`decode_image`, or the image has more bits.
    """
    if _is_plain_jpeg(encoded):
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(encoded)
            return pixels
        except ValueError:
            pass  # Pillow says what is wrong with it
    picture = decode_image(encoded)
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"it has mode {picture.mode}, expected 8 bits a channel")
    return np.asarray(picture.convert("RGB"))


def same_shape(image: tuple[int, int], human: tuple[int, int]) -> bool:
    """Return whether an image and its human map have one aspect ratio, up to rounding the smaller to whole pixels.

    Args:
        image: Width and height in pixels.
        human: Width and height in pixels.

    >>> same_shape((500, 375), (224, 168)), same_shape((500, 375), (224, 224))
    (True, False)
    """
    return abs(image[0] * human[1] - image[1] * human[0]) <= max(*image, *human)


def _is_plain_jpeg(encoded: bytes) -> bool:
    """Return whether the headers are those of an upright JPEG of three 8-bit channels, not too large to decode."""
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
    """Decode an image or map completely, so that a cut one is noticed; or read its header.

    Every image and map is opened here. A decoded one is upright, as viewers show it: its EXIF orientation is undone,
    and ``info[ORIENTATION]`` tells which it was. A header tells the size before that.

    Args:
        encoded: The file's bytes.
        formats: Pillow's names of the formats to try, whatever the file is called.
        header_only: Do not decode the pixels.

    Raises:
        ValueError: It cannot be decoded, has another format, or more than :data:`MOST_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, whatever Pillow's bound
            warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
            picture = Image.open(io.BytesIO(encoded), formats=formats)
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has {picture.width}x{picture.height} pixels, expected at most {MOST_PIXELS}")
            if header_only:
                return picture
            announced = _orientation(picture) if picture.format == "TIFF" else 1  # which Pillow undoes itself
            picture.load()
    except UnidentifiedImageError:
        raise ValueError(f"it is not an image in one of the formats {', '.join(formats)}") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise ValueError(str(error) or repr(error)) from None
    if picture.format == "PNG" and PNG_END not in encoded:
        raise ValueError("image file is truncated")
    return _upright(picture, announced)


def _upright(picture: Image.Image, announced: int) -> Image.Image:
    """Undo the orientation of a decoded image."""
    orientation, kind = _orientation(picture), picture.format
    if orientation in TURNS:
        picture = picture.transpose(TURNS[orientation])
        picture.format = kind
        for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):  # they would turn it again
            picture.info.pop(name, None)
    picture.info.pop(ORIENTATION, None)  # a text of that name in the file
    if max(orientation, announced) > 1:
        picture.info[ORIENTATION] = max(orientation, announced)
    return picture


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation; 1, upright, where there is none or the EXIF data are damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged bytes make Pillow raise almost anything; viewers show such an image as it is
        return 1
    return value if isinstance(value, int) and value in TURNS else 1
