"""Augmentation of decoded samples: rotation and mixup of image and map together, colours of the image only."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from harmonizer.data.batch import Batch


def random_box(
    width: int, height: int, scale: tuple[float, float], log_ratio: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Choose a crop of random area and shape with the same draws as torchvision's ``RandomResizedCrop``.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        scale: Smallest and largest area, as a share of the image's.
        log_ratio: Smallest and largest logarithm of width over height.
        generator: Random generator; torchvision uses the global one, whose saving and restoring would take most of the
            time.

    Returns:
        Left, top, right, bottom.
    """
    for _ in range(10):
        area = width * height * float(torch.empty(1).uniform_(*scale, generator=generator))
        shape = float(torch.empty(1).uniform_(*log_ratio, generator=generator).exp())
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (1,), generator=generator))
            left = int(torch.randint(width - w + 1, (1,), generator=generator))
            return left, top, left + w, top + h
    low, high = (math.exp(value) for value in log_ratio)
    w, h = min(width, round(height * high)), min(height, round(width / low))  # the largest central crop
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def rotate(images: Tensor, maps: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """Rotate an image and its map about the centre, with bilinear resampling and zero padding.

    Args:
        images: (3,H,W) float.
        maps: (H,W) float.
        degrees: Angle, counter-clockwise.

    Returns:
        The rotated image and map.
    """
    both = functional.rotate(torch.cat([images, maps[None]]), degrees, InterpolationMode.BILINEAR)
    return both[:3], both[3]


def jitter(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation, each by a random factor in [1 - strength, 1 + strength].

    Args:
        image: (3,H,W) float in [0,1].
        strength: Largest relative change, in [0,1].
        generator: Random generator.

    Returns:
        (3,H,W) in [0,1].
    """
    factors = (1 + strength * (2 * torch.rand(3, generator=generator) - 1)).tolist()
    for adjust, factor in zip(
        (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation), factors, strict=True
    ):
        image = adjust(image, factor)
    return image


def mix_pairs(batch: Batch, alpha: float, seeds: Sequence[int]) -> Batch:
    """Mix the image and map of each sample with those of another, and keep both labels with their shares.

    Samples with a map are paired with each other, as are those without. A sample without a partner is not changed.

    Args:
        batch: Samples in random order.
        alpha: Parameter of the distribution of shares, Beta(alpha, alpha).
        seeds: Seed of each sample's share.

    Returns:
        The batch with ``mixup_labels`` and ``mixup_lam``.

    Reference:
        Zhang et al. 2018, "mixup: Beyond empirical risk minimization" (arXiv 1710.09412).
    """
    partner = torch.arange(len(seeds))
    for group in (batch.has_map.nonzero()[:, 0], (~batch.has_map).nonzero()[:, 0]):
        partner[group] = group.roll(-1)
    lam = torch.tensor([np.random.default_rng(seed).beta(alpha, alpha) for seed in seeds], dtype=torch.float32)
    image_lam, map_lam = lam[:, None, None, None], lam[:, None, None]
    return batch._replace(
        images=image_lam * batch.images + (1 - image_lam) * batch.images[partner],
        human_map=map_lam * batch.human_map + (1 - map_lam) * batch.human_map[partner],
        mixup_labels=batch.labels[partner],
        mixup_lam=lam,
    )
