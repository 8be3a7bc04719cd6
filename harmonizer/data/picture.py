"""Decode pictures that may be damaged."""

import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

PNG_END = b"IEND\xaeB`\x82"  # Pillow does not miss it, nor the checksum before it


MOST_PIXELS = 1 << 26  # of a picture; Pillow refuses not much larger ones

Pixels = NDArray[np.uint8]


def decode_rgb(encoded: bytes) -> Pixels:
    """Decode an image of 8 bits a channel to RGB, (H,W,3).

    JPEG goes through simplejpeg where that is installed: it gives Pillow's pixels (both take libjpeg-turbo's accurate
    DCT), faster.

    Raises:
        ValueError: As :func:`decode_picture`, or the image has more bits.
    """
    if simplejpeg is not None and _is_plain_jpeg(encoded):
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(encoded)
            return pixels
        except ValueError:
            pass  # Pillow says what is wrong with it
    picture = decode_picture(encoded)
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"it has mode {picture.mode}, expected 8 bits a channel")
    return np.asarray(picture.convert("RGB"))


def _is_plain_jpeg(encoded: bytes) -> bool:
    """Tell from its headers whether this is a JPEG of three channels of 8 bits, and not too large to decode."""
    position = 2 if encoded[:3] == b"\xff\xd8\xff" else len(encoded)
    while position + 10 <= len(encoded) and encoded[position] == 0xFF:
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xC2:  # the frame: baseline, extended or progressive
            precision, height, width, channels = struct.unpack(">BHHB", encoded[position + 4 : position + 10])
            return bool(precision == 8 and channels == 3 and 0 < height * width <= MOST_PIXELS)
        position += 2 + length
    return False


def decode_picture(encoded: bytes, *, header_only: bool = False) -> Image.Image:
    """Decode a picture completely, so that a cut one is noticed; or read its header.

    Raises:
        ValueError: It cannot be decoded, or is so large that decoding it might fill the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(encoded))
            if not header_only:
                picture.load()
    except UnidentifiedImageError:
        raise ValueError("it is no picture") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise ValueError(str(error) or repr(error)) from None
    if picture.format == "PNG" and PNG_END not in encoded:
        raise ValueError("image file is truncated")
    return picture
