"""Alignment with human maps: of adversarial perturbations, and of a model's saliency."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harmonizer.attacks import Status
from harmonizer.functional import attack_map, dice, iou, spearman
from harmonizer.metrics.scores import Scores
from harmonizer.results import Row
from harmonizer.statistics import NOISE_CEILING, alignment_summary, mean_summary

REPORTED = ("mean", "se", "ceiling", "share_of_ceiling", "n", "n_undefined")


class AdversarialAlignment(Scores):
    """Average the Spearman correlation of attack maps with human maps, over found images that have one.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), section 3.
    """

    def __init__(self) -> None:
        super().__init__(columns=2)

    def update(
        self,
        adversarial: Tensor,
        images: Tensor,
        human: Tensor,
        *,
        status: Tensor | None = None,
        has_map: Tensor | None = None,
        ceilings: Tensor | None = None,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            adversarial: (B,3,H,W) attacked images.
            images: (B,3,H,W) clean images.
            human: (B,H,W) human maps.
            status: (B,) values of :class:`harmonizer.attacks.Status`; None takes every image as found.
            has_map: (B,) bool; None takes every image as having a map.
            ceilings: (B,) noise ceiling of each image, NaN where unknown; None takes the published ceiling.
            keys: B sample keys; an image seen twice counts once.
        """
        counts = _everything(images) if status is None else status == Status.FOUND
        counts = counts if has_map is None else counts & has_map
        correlation = spearman(attack_map(adversarial[counts], images[counts]), human[counts])
        self._add(correlation, _ceilings(ceilings, counts), keys=_chosen(keys, counts))

    def add(self, rows: Sequence[Row], *, ceilings: Sequence[float] | None = None) -> None:
        """Add the rows of an evaluation, and their ceilings as in ``update``."""
        self._add_rows([row.aligned for row in rows], rows, ("alignment",), ceilings)

    def compute(self) -> dict[str, Tensor]:
        """Return scalars: mean, standard error, noise ceiling and share of it, n, n_undefined."""
        correlation, ceilings = self._columns()
        summary = alignment_summary(correlation, ceilings=ceilings, resamples=0)
        return self._result(**{name: summary[name] for name in REPORTED})


class FeatureAlignment(Scores):
    """Average the agreement of saliency and human maps, over images that have one.

    Args:
        percent: Percentage of top pixels that Dice and IoU compare.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), section 4.
    """

    def __init__(self, percent: float = 10) -> None:
        super().__init__(columns=4)
        self.percent = percent

    def update(
        self,
        saliency: Tensor,
        human: Tensor,
        *,
        has_map: Tensor | None = None,
        ceilings: Tensor | None = None,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            saliency: (B,H,W) from :func:`harmonizer.functional.input_saliency` with ``reduction="absmax"``.
            human: (B,H,W) human maps.
            has_map: (B,) bool; None takes every image as having a map.
            ceilings: (B,) noise ceiling of each image, NaN where unknown; None takes the published ceiling.
            keys: B sample keys; an image seen twice counts once.
        """
        counts = _everything(human) if has_map is None else has_map
        pair = saliency[counts], human[counts]
        overlap = dice(*pair, percent=self.percent), iou(*pair, percent=self.percent)
        self._add(spearman(*pair), _ceilings(ceilings, counts), *overlap, keys=_chosen(keys, counts))

    def add(self, rows: Sequence[Row], *, ceilings: Sequence[float] | None = None) -> None:
        """Add the rows of an evaluation, and their ceilings as in ``update``."""
        self._add_rows([row.has_map for row in rows], rows, ("feature_alignment", "dice", "iou"), ceilings)

    def compute(self) -> dict[str, Tensor]:
        """Return scalars: Spearman mean, its standard error, noise ceiling and share of it, Dice, IoU, counts.

        ``n_undefined_overlap`` counts the images with undefined Dice and IoU; see ``functional.dice``.
        """
        correlation, ceilings, dices, ious = self._columns()
        summary = alignment_summary(correlation, ceilings=ceilings, resamples=0)
        overlap = mean_summary(dices, resamples=0)
        return self._result(
            **{name: summary[name] for name in REPORTED},
            dice=overlap["mean"],
            iou=mean_summary(ious, resamples=0)["mean"],
            n_undefined_overlap=overlap["n_undefined"],
        )


def _everything(tensor: Tensor) -> Tensor:
    """Return a (B,) mask of True."""
    return torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)


def _ceilings(ceilings: Tensor | None, counts: Tensor) -> Tensor:
    """Return the ceilings of the images that count."""
    every = torch.full(counts.shape, NOISE_CEILING, dtype=torch.float64) if ceilings is None else ceilings
    return every.to(counts.device)[counts]


def _chosen(keys: Sequence[str] | None, counts: Tensor) -> list[str] | None:
    """Return the keys of the images that count."""
    return None if keys is None else [key for key, chosen in zip(keys, counts.tolist(), strict=True) if chosen]
