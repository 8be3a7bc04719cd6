"""Images inside the page, as data URLs."""

import base64
import io

import numpy as np
from PIL import Image

from harmonizer.report.examples import Pictures

SIDE = 112  # largest side of an image in pixels
SMALL = 64  # largest side of images that are lossless and shown as square pixels
QUALITY = 78  # JPEG quality of larger images


class PictureBook:
    """Images of a page, without duplicates."""

    def __init__(self) -> None:
        # number of an image, by its data URL and whether its pixels are shown as squares
        self.images: dict[tuple[str, bool], int] = {}

    def add(self, image: Pictures) -> int:
        """Add an image (H,W,3) or a map (H,W), both in [0,1]; return its number."""
        pixels = Image.fromarray(np.uint8(np.round(np.clip(image, 0, 1) * 255)))
        small = max(pixels.size) <= SMALL
        pixels.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        stream = io.BytesIO()
        if small:
            pixels.save(stream, "PNG", optimize=True)
        else:
            pixels.save(stream, "JPEG", quality=QUALITY, **({} if pixels.mode == "L" else {"subsampling": 0}))
        kind = "png" if small else "jpeg"
        address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
        return self.images.setdefault((address, small), len(self.images))

    def add_change(self, change: Pictures) -> tuple[int, float]:
        """Add a perturbation (H,W,3); return its number and the change that 127 grey levels from 128 stand for."""
        amount = float(np.abs(change).max()) or 1.0
        return self.add(np.asarray((128 + 127 * change / amount) / 255, np.float32)), amount
