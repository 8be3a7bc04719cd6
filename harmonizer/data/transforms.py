"""Joint transforms: an image and its human map go through the same geometry."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class JointTransform:
    """Rotate, crop, resize and flip an image and its map exactly alike.

    Args:
        size: Height and width of the result in pixels.
        scale: Smallest and largest area of a random crop, as a share of the image; None is the evaluation geometry:
            the shorter side is resized to ``size / crop_ratio`` and the central square taken.
        ratio: Smallest and largest aspect ratio (width over height) of a random crop.
        flip: Probability of a horizontal flip.
        rotation: Largest angle, in degrees, of a random rotation about the centre; what comes in from outside is black,
            and unimportant.
        crop_ratio: timm's ``crop_pct``.
        interpolation: Of the image, ``"bilinear"`` or ``"bicubic"``; the map's is always bilinear.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        size: int,
        *,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.0,
        rotation: float = 0.0,
        crop_ratio: float = 1.0,
        interpolation: str = "bilinear",
    ) -> None:
        if size < 1 or not 0 <= flip <= 1 or not 0 < crop_ratio <= 1:
            raise ValueError(
                f"expected size >= 1, flip in [0,1] and crop_ratio in (0,1], got {size}, {flip} and {crop_ratio}"
            )
        if not 0 <= rotation <= 180:
            raise ValueError(f"expected a rotation in [0,180] degrees, got {rotation}")
        if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"expected a crop scale with 0 < smallest <= largest <= 1, got {list(scale)}")
        if interpolation not in RESAMPLING:
            raise ValueError(f"expected interpolation {' or '.join(RESAMPLING)}, got {interpolation!r}")
        self.size = size
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.rotation = rotation
        self.crop_ratio = crop_ratio
        self.interpolation = interpolation
        self.resampling = RESAMPLING[interpolation]

    def __call__(self, image: Image.Image, human: Image.Image | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """Transform one sample.

        Args:
            image: RGB picture.
            human: Grey picture of the same aspect ratio, 8 or 16 bits; None gives a map of zeros.
            seed: Of the random choices; the global generator is left as it was.

        Returns:
            Image (3,size,size) and map (size,size), float32 in [0,1].
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            box = None if self.scale is None else self._random_box(image)
            flipped = self.flip > 0 and float(torch.rand(())) < self.flip
            angle = self.rotation * (2 * float(torch.rand(())) - 1) if self.rotation else 0.0
        turned = image.rotate(angle, self.resampling) if angle else image
        pixels = pil_to_tensor(self._place(turned, box, self.resampling)).float() / 255
        importance = pixels.new_zeros(pixels.shape[1:])
        if human is not None:
            grey = self._resize(Image.fromarray(map_values(human)), *image.size, Image.Resampling.BILINEAR)
            grey = grey.rotate(angle, Image.Resampling.BILINEAR) if angle else grey
            importance = torch.from_numpy(np.array(self._place(grey, box, Image.Resampling.BILINEAR)))
        return (pixels.flip(2), importance.flip(1)) if flipped else (pixels, importance)

    def _random_box(self, image: Image.Image) -> tuple[int, int, int, int]:
        """Choose a random crop (left, top, right, bottom)."""
        assert self.scale is not None
        top, left, height, width = RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        return left, top, left + width, top + height

    def _place(
        self, picture: Image.Image, box: tuple[int, int, int, int] | None, resampling: Image.Resampling
    ) -> Image.Image:
        """Bring a picture to (size,size): by the box, or by the evaluation geometry as timm has it."""
        if box is not None:
            return self._resize(picture.crop(box), self.size, self.size, resampling)
        shorter = math.floor(self.size / self.crop_ratio)
        width, height = (int(shorter * length / min(picture.size)) for length in picture.size)
        picture = self._resize(picture, width, height, resampling)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return picture.crop((left, top, left + self.size, top + self.size))

    @staticmethod
    def _resize(picture: Image.Image, width: int, height: int, resampling: Image.Resampling) -> Image.Image:
        """Resize, or return the picture itself when it has that size: resampling it would cost and change nothing."""
        return picture if picture.size == (width, height) else picture.resize((width, height), resampling)


def map_values(picture: Image.Image) -> np.ndarray:
    """Return a grey picture's values (H,W) float32 in [0,1], from 8 or 16 bits."""
    values = np.asarray(picture if picture.mode.startswith("I") else picture.convert("L"))
    largest = 255 if values.dtype == np.uint8 else 65535
    return (values / largest).astype(np.float32)
