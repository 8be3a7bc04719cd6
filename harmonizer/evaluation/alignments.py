r"""Alignment scores of single images, named by their papers; each has its own column, and scores are never mixed.

==================== ============================================================================================
name                 rank correlation of the human map with
==================== ============================================================================================
``fel2022``          max over channels of |d true logit / d image|: column ``feature_alignment``, always measured
``linsley2023``      \|mean over channels of the perturbation\|: column ``alignment``, always measured
``feng2025``         \|max over channels of the signed perturbation\|
``onevision2026``    the saliency of the predicted logit, at 224 pixels, averaged twice over a disk of 21 pixels
``..._topk``         the same, with only as many of the saliency's largest pixels as people marked
``..._null``         the same as ``onevision2026``, with the human map of an image of another class
==================== ============================================================================================
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.data.batch import Batch
from harmonizer.data.disk import DIAMETER, disk_blur
from harmonizer.functional import spearman

SIDE = 224  # pixels; onevision's engine_eval.py resizes the saliency to it
OF_ATTACK = ("linsley2023", "feng2025")  # scores of the perturbation, for images with status found
OF_PREDICTION = ("onevision2026", "onevision2026_topk", "onevision2026_null")
COLUMNS_OF: Mapping[str, str] = {
    "fel2022": "feature_alignment",
    "linsley2023": "alignment",
    **{name: name for name in ("feng2025", *OF_PREDICTION)},
}
NULL = "onevision2026_null"
POOL = 64  # number of human maps that a null is drawn from; our choice, onevision draws from all of its data


def check_scores(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of scores without duplicates.

    Raises:
        ValueError: The score is unknown.
    """
    found = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in found:
        if name not in COLUMNS_OF:
            raise ValueError(f"expected scores among {', '.join(COLUMNS_OF)}, got {name!r}")
    return found


@dataclass(frozen=True)
class OtherMaps:
    """Human maps of other images, for the chance level."""

    maps: Tensor  # (P,H,W)
    labels: Tensor  # (P,) int64

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Return the maps of the first ``POOL`` images with a map."""
        chosen = batch.has_map.nonzero()[:POOL, 0]
        return cls(batch.human_map[chosen].cpu(), batch.labels[chosen].cpu())

    def draw(self, keys: Sequence[str], labels: Tensor, like: Tensor) -> Tensor:
        """Return a map of another class for each image, drawn by its key: (B,H,W), NaN if there is none."""
        drawn = torch.full_like(like, torch.nan)
        for i, (key, label) in enumerate(zip(keys, labels.tolist(), strict=True)):
            others = (self.labels != label).nonzero()[:, 0]
            if len(others):
                drawn[i] = self.maps[others[crc32(key.encode()) % len(others)]].to(like)
        return drawn


def onevision2026(saliency: Tensor, human: Tensor, *, topk: bool = False) -> Tensor:
    """Correlate blurred saliency with human maps.

    Args:
        saliency: (B,H,W) max over channels of |d predicted logit / d image|.
        human: (B,H',W') blurred human maps.
        topk: Keep only the largest pixels of the saliency, as many as the human map has above 0.

    Returns:
        (B,) float64; NaN where a map is constant or not finite.

    Reference:
        serre-lab/onevision, src/engine_eval.py, eval_alignment.

    >>> onevision2026(torch.eye(30)[None], torch.eye(30)[None]).shape
    torch.Size([1])
    """
    shown, people = (_at_side(maps.double()) for maps in (saliency, human))
    if topk:
        count = (people > 0).flatten(1).sum(1)
        ranks = shown.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(shown)
        shown = torch.where(ranks < count[:, None, None], shown, 0.0)
    return spearman(disk_blur(shown, DIAMETER), people)


def predicted_scores(
    names: Sequence[str], saliency: Tensor, batch: Batch, others: OtherMaps | None
) -> dict[str, Tensor]:
    """Return scores of the predicted class's saliency (B,H,W) by name, (B,) float64; NaN without a human map."""
    found = {}
    for name in names:
        if name in OF_PREDICTION:
            human, has_map = batch.human_map, batch.has_map
            if name == NULL:
                if others is None:
                    raise ValueError("expected other human maps for onevision2026_null, got none")
                human = others.draw(batch.keys, batch.labels, human)
            values = onevision2026(saliency, human, topk=name.endswith("topk"))
            found[name] = torch.where(has_map.to(values.device), values, torch.nan)
    return found


def _at_side(maps: Tensor) -> Tensor:
    """Resize maps (B,H,W) to ``SIDE`` pixels, bilinearly."""
    if maps.shape[1:] == (SIDE, SIDE):
        return maps
    return F.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
