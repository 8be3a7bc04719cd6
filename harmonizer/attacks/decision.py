"""Decisions between superclasses, computed from a model's logits."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from harmonizer.attacks.engine import Decide
from harmonizer.fast import FastPath
from harmonizer.models.logits import Caller


@dataclass(frozen=True)
class Decision:
    """A decision for the superclass that holds the largest logit.

    An attack must make the model decide for another superclass; a change of class within the superclass does not count.

    Args:
        name: Name of the decision in results.
        groups: Superclass of each of the K classes, counted from 0.

    Raises:
        ValueError: There are fewer than two superclasses, or a superclass has no class.

    Reference:
        Feng, Linsley et al. 2025 (ICLR Re-Align workshop), code: ``max`` over the logits of the animate and of the
        inanimate classes.

    >>> decision = Decision("animate", (0, 0, 1))
    >>> decision.labels(torch.tensor([2, 1]))
    tensor([1, 0])
    """

    name: str
    groups: tuple[int, ...]

    def __post_init__(self) -> None:
        count = max(self.groups, default=0) + 1
        if count < 2 or set(self.groups) != set(range(count)):
            raise ValueError(f"expected classes of two superclasses or more, got {count} in {self.name}")

    @cached_property
    def _groups(self) -> Tensor:
        return torch.tensor(self.groups)

    def of(self, model: nn.Module) -> nn.Module:
        """Return a model with one logit per superclass, (n,G)."""
        return _Deciding(model, self)

    def against(self, labels: Tensor) -> Decide:
        """Return a function that merges the superclass of each label (B,) into the label's logit.

        The label's logit becomes the largest of its superclass; the logits of the superclass's other classes fall below
        all others. The decision stays the same, and a targeted attack can aim at each class of the other superclasses.
        """
        numbers = self._groups.to(labels.device)
        own = numbers == self.labels(labels)[:, None]  # (B,K)

        def decide(logits: Tensor, rows: Tensor) -> Tensor:
            self.check(logits)
            mine = own[rows]
            best = logits.masked_fill(~mine, -torch.inf).max(1, keepdim=True).values
            low, high = logits.detach().aminmax(dim=1, keepdim=True)
            return torch.where(mine, 2 * low - high - 1, logits).scatter(1, labels[rows, None], best)

        return decide

    def check(self, logits: Tensor) -> None:
        """Raise a ValueError unless the logits are (n,K)."""
        if logits.ndim != 2 or logits.shape[1] != len(self.groups):
            raise ValueError(
                f"expected logits (n,{len(self.groups)}), one per class of the decision {self.name}, "
                f"got {tuple(logits.shape)}"
            )

    def labels(self, labels: Tensor) -> Tensor:
        """Return the superclasses (n,) of classes (n,).

        Raises:
            ValueError: A label is out of range.
        """
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.groups):
            raise ValueError(f"expected labels of {len(self.groups)} classes, got {int(labels.max())}")
        return self._groups.to(labels.device)[labels]

    def classes(self, logits: Tensor, decided: Tensor) -> Tensor:
        """Return the most probable class (n,) within the superclasses ``decided`` (n,), from logits (n,K)."""
        own = self._groups.to(logits.device) == decided[:, None]
        return logits.masked_fill(~own, -torch.inf).argmax(1)


class _Deciding(nn.Module):
    """A model with one logit per superclass."""

    def __init__(self, model: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.model = model
        self._call = Caller(model)
        self._check, count = decision.check, max(decision.groups) + 1
        own = getattr(model, "fast", None)
        self.fast = own if isinstance(own, FastPath) else FastPath(model)
        numbers = torch.tensor(decision.groups)
        self._members = [(numbers == group).nonzero()[:, 0] for group in range(count)]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n,3,H,W) in [0,1] to the superclasses' logits (n,G)."""
        logits = self._call(images, self.model)
        self._check(logits)
        best = [logits[:, members.to(logits.device)].max(1).values for members in self._members]
        finite = logits.isfinite().all(1, keepdim=True)  # non-finite logits make no decision
        return torch.where(finite, torch.stack(best, 1), torch.nan)
