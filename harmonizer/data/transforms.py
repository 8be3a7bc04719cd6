"""Joint transforms, which apply the same geometry to an image and its human map."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harmonizer.data.augment import jitter, random_box, rotate
from harmonizer.data.image import MOST_PIXELS, Pixels

CROP_MODES = ("center", "squash", "border")  # timm's
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "hamming", "box")  # timm's except nearest
RESAMPLING = {name: Image.Resampling[name.upper()] for name in INTERPOLATIONS}
TORCH = ("bilinear", "bicubic")  # those available in PyTorch
Box = tuple[int, int, int, int]


@dataclass(eq=False)
class JointTransform:
    """Crop, resize, flip and rotate an image and its map in the same way; change the image's colours.

    Args:
        size: Height and width of the result in pixels.
        scale: Smallest and largest area of a random crop, as a share of the image; None is the evaluation geometry.
        ratio: Smallest and largest aspect ratio (width over height) of a random crop.
        flip: Probability of a horizontal flip.
        rotation: Largest angle in degrees of a random rotation about the centre, in either direction. Padding is black
            in the image and zero in the map.
        jitter: Largest relative change of brightness, contrast and saturation.
        crop_ratio: timm's ``crop_pct``.
        interpolation: Interpolation of the image, one of ``INTERPOLATIONS``; that of the map is always bilinear.
        crop_mode: timm's crop mode in the evaluation geometry: ``"center"`` resizes the shorter side to
            ``size / crop_ratio``, ``"squash"`` both sides, ``"border"`` the longer side. The central square is taken.
            Padding is zero in the map and black in the image, or ``fill`` with ``"border"``.
        fill: Border colour per channel, in [0,1].
        stretch: Stretch the colours of the result; see :func:`stretched`.

    Raises:
        ValueError: An argument is out of range.
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotation: float = 0.0
    jitter: float = 0.0
    crop_ratio: float = 1.0
    interpolation: str = "bilinear"
    crop_mode: str = "center"
    fill: Sequence[float] = (0.0, 0.0, 0.0)
    stretch: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.flip <= 1 or not 0 < self.crop_ratio <= 2:
            got = f"{self.size}, {self.flip} and {self.crop_ratio}"
            raise ValueError(f"expected size >= 1, flip in [0,1] and crop_ratio in (0,2], got {got}")
        if not 0 <= self.rotation <= 180 or not 0 <= self.jitter <= 1:
            raise ValueError(f"expected rotation in [0,180] and jitter in [0,1], got {self.rotation} and {self.jitter}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"expected a crop scale with 0 < smallest <= largest <= 1, got {list(self.scale)}")
        if self.interpolation not in RESAMPLING:
            raise ValueError(f"expected interpolation {' or '.join(RESAMPLING)}, got {self.interpolation!r}")
        if self.crop_mode not in CROP_MODES:
            raise ValueError(f"expected crop_mode {' or '.join(CROP_MODES)}, got {self.crop_mode!r}")
        low, high = torch.tensor(self.ratio).log().tolist()
        self.log_ratio = (low, high)
        self.border = tuple(round(255 * value) for value in self.fill) if self.crop_mode == "border" else (0, 0, 0)

    def geometry(self) -> dict[str, Any]:
        """Return the evaluation geometry for summaries; like version 0.1, without the mode ``"center"``."""
        mode = {} if self.crop_mode == "center" else {"crop_mode": self.crop_mode}
        return {"crop_ratio": self.crop_ratio, "interpolation": self.interpolation, **mode}

    def __call__(self, image: Image.Image | Pixels, human: Image.Image | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """Transform one sample.

        Args:
            image: RGB image, or its pixels (H,W,3).
            human: Grey image of the same aspect ratio, 8 or 16 bits; None gives a map of zeros.
            seed: Seed of the random choices; the global generator is not used.

        Returns:
            Image (3,size,size) and map (size,size), float32 in [0,1].
        """
        pixels, importance = torch.empty(3, self.size, self.size), torch.zeros(self.size, self.size)
        self.write(image, human, seed=seed, pixels=pixels, importance=importance)
        return pixels, importance

    def write(
        self,
        image: Image.Image | Pixels,
        human: Image.Image | None,
        *,
        seed: int,
        pixels: Tensor,
        importance: Tensor,
    ) -> None:
        """Transform one sample directly into a batch, which saves a copy.

        Args:
            image: As for a call.
            human: As for a call; None does not write to ``importance``.
            seed: As for a call.
            pixels: (3,size,size) float32, written.
            importance: (size,size) float32 zeros, written.

        Raises:
            ValueError: The image is so narrow that the evaluation geometry would enlarge it too much.
        """
        generator = torch.Generator().manual_seed(seed)
        array = np.asarray(image)
        size = array.shape[1], array.shape[0]
        box = None if self.scale is None else random_box(*size, self.scale, self.log_ratio, generator)
        flipped = self.flip > 0 and float(torch.rand((), generator=generator)) < self.flip
        colours = self._image(array, box)
        pixels.copy_(colours.flip(2) if flipped else colours).div_(255)
        if human is not None:
            grey = torch.from_numpy(self._map(map_values(human), size, box))
            importance.copy_(grey.flip(1) if flipped else grey)
        if self.rotation:
            degrees = self.rotation * (2 * float(torch.rand((), generator=generator)) - 1)
            turned = rotate(pixels, importance, degrees)
            pixels.copy_(turned[0])
            importance.copy_(turned[1])
        if self.jitter:
            pixels.copy_(jitter(pixels, self.jitter, generator))
        if self.stretch:
            pixels.copy_(stretched(pixels))

    def _image(self, array: Pixels, box: Box | None) -> Tensor:
        """Return the transformed pixels (3,size,size) uint8 of an image (H,W,3)."""
        if box is None:
            array = np.array(self._evaluated(Image.fromarray(array), RESAMPLING[self.interpolation], self.border))
            return torch.from_numpy(array).permute(2, 0, 1)
        if self.interpolation not in TORCH:
            square = (self.size, self.size)
            array = np.array(Image.fromarray(array).resize(square, RESAMPLING[self.interpolation], box=box))
            return torch.from_numpy(array).permute(2, 0, 1)
        left, top, right, bottom = box
        pixels = torch.from_numpy(array[top:bottom, left:right].copy())
        height, width, channels = pixels.shape
        if height == width == self.size:
            return pixels.permute(2, 0, 1)
        # Faster than Pillow and equal to it up to rounding: one grey level (bicubic: three, more in noise). It is
        # fastest if the strides of the batch of one are channels-last, which permute and None do not give.
        strides = (pixels.numel(), 1, channels * width, channels)
        batch = pixels.as_strided((1, channels, height, width), strides)
        return F.interpolate(batch, (self.size, self.size), mode=self.interpolation, antialias=True)[0]

    def _map(self, values: NDArray[np.float32], size: tuple[int, int], box: Box | None) -> NDArray[np.float32]:
        """Return the transformed map (size,size); ``size`` is the image's."""
        grey, bilinear = Image.fromarray(values), Image.Resampling.BILINEAR
        if box is None:
            return np.array(self._evaluated(_resize(grey, *size, bilinear), bilinear, 0))
        if grey.size == size:
            return np.array(_resize(grey.crop(box), self.size, self.size, bilinear))
        x, y = grey.width / size[0], grey.height / size[1]
        place = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
        return np.array(grey.resize((self.size, self.size), bilinear, box=place))

    def _evaluated(self, image: Image.Image, resampling: Image.Resampling, fill: Any) -> Image.Image:  # noqa: ANN401 - a colour
        """Resize and crop an image to (size,size) by the evaluation geometry, as in timm."""
        side = math.floor(self.size / self.crop_ratio)
        width, height = self._resized(*image.size, side)
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"an image of {image.width}x{image.height} pixels is too narrow: "
                f"with {side} pixels for its shorter side it has more than {MOST_PIXELS}"
            )
        image = _resize(image, width, height, resampling)
        left, top = (_margin(length, self.size) for length in (width, height))
        square = Image.new(image.mode, (self.size, self.size), fill)
        square.paste(image, (-left, -top))  # crops or pads
        return square

    def _resized(self, width: int, height: int, side: int) -> tuple[int, int]:
        """Return the width and height to which the evaluation geometry resizes an image."""
        if self.crop_mode == "squash":
            return side, side
        if self.crop_mode == "border":
            ratio = max(width, height) / side
            return max(round(width / ratio), 1), max(round(height / ratio), 1)
        shorter = min(width, height)
        return int(side * width / shorter), int(side * height / shorter)


def stretched(images: Tensor) -> Tensor:
    """Stretch each image (...,3,H,W) from its own least and largest value, over all channels, to [0,1].

    A constant image is not changed.

    Reference:
        Feng, Linsley et al. 2025, code: scripts/dataset.py, where a constant image becomes NaN.

    >>> stretched(torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)).flatten().round(decimals=4).tolist()
    [0.0, 0.5, 1.0]
    """
    low, high = images.amin((-3, -2, -1), keepdim=True), images.amax((-3, -2, -1), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images)


def _margin(length: int, size: int) -> int:
    """Return the start of the central ``size`` of ``length`` pixels; it is negative if there are fewer."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def map_values(image: Image.Image) -> NDArray[np.float32]:
    """Return the values (H,W) float32 in [0,1] of a grey image of 8 or 16 bits."""
    values = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    largest = 255 if values.dtype == np.uint8 else 65535
    scaled: NDArray[np.float32] = np.divide(values, np.float32(largest), dtype=np.float32)
    return scaled


def _resize(image: Image.Image, width: int, height: int, resampling: Image.Resampling) -> Image.Image:
    """Resize an image unless it already has that size: resampling would take time and change nothing."""
    return image if image.size == (width, height) else image.resize((width, height), resampling)
