"""Images inside the page, as data addresses."""

import base64
import io

import numpy as np
from PIL import Image

from harmonizer.report.examples import Pictures

SIDE = 112  # pixels that an image has at most
SMALL = 64  # up to this side, pixels are kept exactly and shown as squares
QUALITY = 78  # of JPEG, for larger ones


class PictureBook:
    """Images of a page, each kept once."""

    def __init__(self) -> None:
        # number of an image, by its address and whether its pixels are shown as squares
        self.pages: dict[tuple[str, bool], int] = {}

    def add(self, picture: Pictures) -> int:
        """Add an image (H,W,3) or a map (H,W), both in [0,1]; return its number."""
        pixels = Image.fromarray(np.uint8(np.round(np.clip(picture, 0, 1) * 255)))
        small = max(pixels.size) <= SMALL
        pixels.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        stream = io.BytesIO()
        if small:
            pixels.save(stream, "PNG", optimize=True)
        else:
            pixels.save(stream, "JPEG", quality=QUALITY, **({} if pixels.mode == "L" else {"subsampling": 0}))
        kind = "png" if small else "jpeg"
        address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
        return self.pages.setdefault((address, small), len(self.pages))

    def add_change(self, change: Pictures) -> tuple[int, float]:
        """Add a perturbation (H,W,3) of any sign; return its number and what a step of 127 grey levels from 128 is."""
        amount = float(np.abs(change).max()) or 1.0
        return self.add(np.asarray((128 + 127 * change / amount) / 255, np.float32)), amount
