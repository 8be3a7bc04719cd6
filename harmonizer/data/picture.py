"""Decode pictures that may be damaged."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

PNG_END = b"IEND\xaeB`\x82"  # Pillow does not miss it, nor the checksum before it


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
