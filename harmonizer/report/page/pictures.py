"""Pictures inside the page, as data addresses."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from harmonizer.report.examples import HEAT, Pictures

SIDE = 128  # pixels that a picture has at most
SMALL = 64  # up to this side, pixels are kept exactly and shown as squares


class PictureBook:
    """Pictures of a page, each kept once.

    Attributes:
        pages: (address, whether its pixels are to be shown as squares), by number.
    """

    def __init__(self) -> None:
        self.pages: list[tuple[str, bool]] = []
        self._known: dict[str, int] = {}

    def add(self, picture: Pictures) -> int:
        """Add an image (H,W,3), or a map (H,W) in colours, both in [0,1]; return its number."""
        if picture.ndim == 2:
            picture = matplotlib.colormaps[HEAT](picture)[..., :3]
        pixels = Image.fromarray(np.uint8(np.round(np.clip(picture, 0, 1) * 255)))
        small = max(pixels.size) <= SMALL
        pixels.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        pixels.save(stream, "PNG" if small else "JPEG", **({"optimize": True} if small else {"quality": 82}))
        kind = "png" if small else "jpeg"
        address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
        if address not in self._known:
            self._known[address] = len(self.pages)
            self.pages.append((address, small))
        return self._known[address]
