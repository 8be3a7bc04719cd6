"""Accuracy and error consistency as torchmetrics accumulators."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from harmonizer.statistics import consistency_of


class Accuracy(MulticlassAccuracy):
    """Share of the images classified correctly; an image with non-finite logits counts as wrong.

    argmax returns the class of the first NaN, mostly 0, and would count the images of that class as correct.

    Args:
        num_classes: Number of classes, K.

    >>> accuracy = Accuracy(3)
    >>> accuracy.update(torch.tensor([[torch.nan] * 3, [0.0, 0.0, 1.0]]), torch.tensor([0, 2]))
    >>> float(accuracy.compute())
    0.5
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, average="micro")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B,K) of images with labels (B,) int64."""
        wrong = (labels + 1) % logits.shape[1]
        super().update(torch.where(logits.isfinite().all(1), logits.argmax(1), wrong), labels)


class ErrorConsistency(Metric):
    """Agreement of two observers' errors beyond chance (Cohen's kappa), exact over processes.

    Reference:
        Geirhos, Meding and Wichmann 2020 (arXiv 2006.16736).

    >>> metric = ErrorConsistency()
    >>> metric.update(torch.tensor([True, False, False]), torch.tensor([True, False, True]))
    >>> round(float(metric.compute()), 3)
    0.4
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add whether each of two observers is right, (B,) bool each."""
        if first.shape != second.shape or first.dtype != torch.bool or second.dtype != torch.bool:
            raise ValueError(f"expected two bool vectors of one length, got {first.shape} and {second.shape}")
        right = [first.new_ones(first.shape), first, second, first == second]
        self.counts += torch.stack([each.sum() for each in right]).to(self.counts)

    def compute(self) -> Tensor:
        """Return kappa; NaN without images."""
        return torch.tensor(consistency_of(*self.counts.tolist())["kappa"], dtype=torch.float64)
