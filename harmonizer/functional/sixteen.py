"""Decisions of an ImageNet classifier between sixteen entry-level categories."""

from collections.abc import Mapping

import torch
from torch import Tensor

# ImageNet's classes of each category in model-vs-human (helper/human_categories.py, 2021); ends included.
RANGES: Mapping[str, str] = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898-899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}
CATEGORIES = tuple(RANGES)
IMAGENET = 1000  # number of classes


def category_indices(category: str) -> list[int]:
    """Return ImageNet's classes of a category.

    >>> category_indices("bear"), len(category_indices("dog"))
    ([294, 295, 296, 297], 109)
    """
    spans = [part.partition("-") for part in RANGES[category].split()]
    return [i for first, _, last in spans for i in range(int(first), int(last or first) + 1)]


def sixteen_class_decision(logits: Tensor) -> Tensor:
    """Return the category with the largest mean probability of its classes.

    Args:
        logits: (B,1000) of ImageNet's classes in the usual order.

    Returns:
        (B,) int64, indices of ``CATEGORIES``.

    Raises:
        ValueError: There are not 1000 logits.

    Reference:
        Geirhos et al. 2021 (arXiv 2106.07411), model-vs-human; Geirhos et al. 2018 (arXiv 1808.08750), appendix.

    >>> sixteen_class_decision(torch.eye(1000)[[404, 386]] * 9).tolist()
    [0, 11]
    """
    if logits.ndim != 2 or logits.shape[1] != IMAGENET:
        raise ValueError(f"expected logits (B,{IMAGENET}) of ImageNet's classes, got {tuple(logits.shape)}")
    shares = logits.double().softmax(1)
    return torch.stack([shares[:, category_indices(name)].mean(1) for name in CATEGORIES], 1).argmax(1)
