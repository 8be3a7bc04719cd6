"""The gradient-masking report of an evaluation: its images and its cost."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.attacks import Decision, gradient_masking_report
from harmonizer.attacks.diagnostics import PASSES
from harmonizer.attacks.engine import frozen
from harmonizer.data.batch import Batch
from harmonizer.models.logits import Caller
from harmonizer.results import Row
from harmonizer.statistics import Status

SHARE = 0.1  # largest cost of the report, as a share of the attacks' passes


class MaskingReport:
    """Collect the first correctly classified images, and examine the model's gradients on them afterwards.

    Args:
        limit: Largest number of images.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._images: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._count = 0
        self._decision: Decision | None = None

    def collect(self, batch: Batch, rows: list[Row], decision: Decision | None = None) -> None:
        """Keep correctly classified images of a batch, which was attacked on this decision."""
        self._decision = decision
        correct = [i for i, row in enumerate(rows) if row.status != Status.WRONG][: self.limit - self._count]
        if correct or not self._images:  # without a correct image the report has zero images
            self._images.append(batch.images[correct].clone())
            self._labels.append(batch.labels[correct].clone())
            self._count += len(correct)

    def make(self, model: nn.Module, rows: Iterable[Row], progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Examine the images, and print a warning if the gradients look masked.

        Takes at most ``SHARE`` of the passes of the attacks in ``rows``, but examines at least one image.

        Returns:
            The report as plain values, including ``flat_images``.
        """
        spent = sum(row.forwards + row.backwards for row in rows)
        images = min(max(int(SHARE * spent / PASSES), 1), self.limit)
        labels, attacked = torch.cat(self._labels), model
        if self._decision is not None:
            attacked, labels = self._decision.of(model), self._decision.labels(labels)
        report = gradient_masking_report(attacked, torch.cat(self._images), labels, limit=images, progress=progress)
        if report.masked:
            sys.stderr.write(
                f"warning: this model looks masked, its tolerance may be overestimated: {'; '.join(report.reasons)}\n"
            )
        return report.as_dict() | {"flat_images": flat_images(model, self._images[0])}


def flat_images(model: nn.Module, like: Tensor) -> dict[str, dict[str, float]]:
    """Return a model's prediction for a black and a grey image, which reveals a wrong normalisation: docs/models.md.

    Args:
        model: Maps images in [0,1] to logits.
        like: Images (n,3,H,W) of the same size, type and device.

    >>> flat_images(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(1, 3, 2, 2)).keys()
    dict_keys(['black', 'grey'])
    """
    found = {}
    for name, value in (("black", 0.0), ("grey", 0.5)):
        with frozen(model, like.device, 0), torch.no_grad():
            shares = Caller(model)(like.new_full((1, *like.shape[1:]), value)).double().softmax(1)[0]
        found[name] = {"prediction": int(shares.argmax()), "probability": float(shares.max())}
    return found
