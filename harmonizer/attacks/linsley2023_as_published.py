"""The attack of the 2023 paper with the defects behind its published figures: for replays, not for measurements.

docs/methods.md explains the effect of each defect, and ``python -m harmonizer.report --replay`` shows it. To measure,
use ``linsley2023``, which its authors corrected on 28 June 2023, or ``ddn``.
"""

import torch
from torch import Tensor, nn

from harmonizer.attacks.engine import Engine, Objective
from harmonizer.attacks.l2 import is_usable, norms, per_row
from harmonizer.attacks.linsley2023 import bisect
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.result import Finding, Status
from harmonizer.models.logits import Caller

SCALINGS = ("minmax", "standardized")
NEVER_FOOLED = ("dropped", "counted")


def linsley2023_as_published(
    net: Engine,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    scaling: str = "minmax",
    never_fooled: str = "dropped",
) -> Finding:
    """Run the attack as it was before 28 June 2023: norms may reach 3 x (0.5 + eps), 31.5 for eps 10.

    Each of the three steps **adds** eps along the offset, where the correct step projects onto the sphere of radius
    eps. The images are rescaled as in the published pipelines, and the radius is the norm in those units;
    ``adversarial`` is the image plus that perturbation, and may leave [0,1] when the units are not pixels.

    With a zero gradient, the published attack made a NaN image, whose prediction, class 0, counted as fooled at the
    smallest eps. Such an image is ``failed`` here; :func:`harmonizer.statistics.as_published_summary` counts it the
    published way.

    Args:
        net: Frozen model. Where it has ``mean`` and ``std``, as :class:`harmonizer.models.PixelModel` has, its network
            gets the rescaled images without further normalisation.
        images: (B,3,H,W) in [0,1]: the mini-batch.
        labels: (B,) int64.
        noise: Unused.
        scaling: ``"minmax"``, scaled over the mini-batch to [0,1] and fed without mean and std (timm models): an
            image's result then depends on its mini-batch; ``"standardized"``, in units of mean and std (the harmonized
            TensorFlow models).
        never_fooled: How the summary's mean treats images that were never fooled: ``"dropped"`` (timm models) or
            ``"counted"`` at 10 (the harmonized TensorFlow models). Does not change the attack.

    Returns:
        The finding.

    Raises:
        ValueError: A setting is unknown.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), the notebook before its correction of 28 June 2023.
    """
    if scaling not in SCALINGS or never_fooled not in NEVER_FOOLED:
        raise ValueError(
            f"expected scaling of {', '.join(SCALINGS)} and never_fooled of {', '.join(NEVER_FOOLED)}, "
            f"got {scaling!r} and {never_fooled!r}"
        )
    mean, std = (getattr(net.model, name, images.new_tensor(plain)) for name, plain in (("mean", 0.0), ("std", 1.0)))
    if scaling == "standardized":
        rescaled = (images - mean) / std
    elif len(images):
        rescaled = (images - images.min()) / (images.max() - images.min()).clamp_min(torch.finfo(images.dtype).tiny)
    else:
        rescaled = images
    low, high = (0.0, 1.0) if scaling == "minmax" else (-mean / std, (1 - mean) / std)

    def add(original: Tensor, moved: Tensor, radius: Tensor) -> Tensor:
        offset = moved - original
        length = norms(offset)
        moved = moved + per_row(radius / torch.where(length > 0, length, 1.0)) * offset
        return torch.minimum(torch.maximum(moved, torch.as_tensor(low)), torch.as_tensor(high))

    published = _Published(net, _Fed(net.model, mean, std))
    finding = bisect(published, rescaled, labels, add)
    blank = published.blank & (finding.status != Status.WRONG)
    status = torch.where(blank, int(Status.FAILED), finding.status)
    adversarial = images + (finding.adversarial - rescaled)
    return Finding(status, finding.eps, finding.prediction, adversarial, finding.eps_max)


class _Fed(nn.Module):
    """A pixel-space model with its normalisation undone."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, fed: Tensor) -> Tensor:
        """Map inputs of the network itself (n,3,H,W) to logits (n,K)."""
        logits: Tensor = self.model(fed * self.std + self.mean)
        return logits


class _Published(Engine):
    """An engine that records which images had a zero gradient.

    Attributes:
        blank: (B,) bool.
    """

    def __init__(self, net: Engine, model: nn.Module) -> None:
        self.__dict__.update(net.__dict__)  # the same counters
        self.model = model
        self.call = Caller(model)
        self.blank = torch.zeros_like(net.forwards, dtype=torch.bool)

    def gradient(self, inputs: Tensor, rows: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return what :meth:`Engine.gradient` returns."""
        logits, gradient = super().gradient(inputs, rows, objective)
        self.blank[rows[~is_usable(gradient)]] = True
        return logits, gradient
