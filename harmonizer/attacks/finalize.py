"""The final decision, common to all attacks: whether an image fools the model in full precision, in any batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.l2 import norms, per_row
from harmonizer.attacks.result import Finding, Status

ROUNDING = 64  # a wrong class must lead by this many float steps of the largest centred logit; kernels differ by fewer
RULED_OUT = 1e4  # a class this many times as far below the best class as the third best is ruled out
EXTENSIONS = (1.005, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0)  # factors for perturbations that fool in lower precision only
SEARCHES = 6  # forward passes on the line; 8 of bisection leave an error of 0.4 %


def scale(logits: Tensor) -> Tensor:
    """Return the largest centred logit (n,) of (n,K), the scale of rounding errors.

    The logits are centred because probabilities do not depend on a constant added to all of them. Classes ruled out by
    a huge negative constant do not count: their rounding does not affect the others.
    """
    best = logits.topk(min(3, logits.shape[1]), 1).values
    spread = best[:, :1] - best[:, -1:]
    ruled_out = (logits < best[:, :1] - RULED_OUT * spread) & (spread > 0)
    logits = torch.where(ruled_out, best[:, :1], logits)
    return (logits - logits.mean(1, keepdim=True)).abs().amax(1)


def misclassification_margin(logits: Tensor, labels: Tensor, clean_scale: Tensor) -> Tensor:
    """Return the lead (n,) of the best wrong class over the label, less the largest effect of rounding.

    Where it is positive, the model is fooled whatever the batch size. NaN for non-finite logits. A constant added to
    all logits changes nothing.

    Args:
        logits: (n,K).
        labels: (n,) int64.
        clean_scale: (n,), :func:`scale` of the clean images' logits; with two classes, the scale of a tie is 0.
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    largest = torch.maximum(scale(logits), clean_scale)
    return wrong - true - ROUNDING * torch.finfo(logits.dtype).eps * largest


def fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which logits (n,K) are finite and predict another class than the label, (n,) bool."""
    return logits.isfinite().all(1) & (logits.argmax(1) != labels)


def status_before(clean: Tensor, labels: Tensor) -> Tensor:
    """Return the status (n,) of images before the attack, from their logits (n,K); ``CENSORED`` where correct."""
    status = torch.where(clean.argmax(1) == labels, int(Status.CENSORED), int(Status.WRONG))
    return torch.where(clean.isfinite().all(1), status, int(Status.FAILED))


def fail_unanswered(net: Engine, status: Tensor) -> None:
    """Mark censored images as failed where a logit was ever non-finite, in place."""
    status[(status == Status.CENSORED) & (net.unanswered > 0)] = int(Status.FAILED)


class Best:
    """The shortest perturbation of each image that has fooled the model so far.

    Args:
        images: (B,3,H,W).
        labels: (B,) int64.
        clean: (B,K) logits of the images.
    """

    def __init__(self, images: Tensor, labels: Tensor, clean: Tensor) -> None:
        self.labels = labels
        self._clean_scale = scale(clean)
        self.offset = torch.zeros_like(images)
        self.radius = torch.full_like(labels, torch.inf, dtype=images.dtype)

    def offer(self, rows: Tensor, offset: Tensor, logits: Tensor) -> Tensor:
        """Keep each offset (n,3,H,W) of ``rows`` (n distinct) that fools and is the shortest; return which fool."""
        fools = misclassification_margin(logits, self.labels[rows], self._clean_scale[rows]) > 0
        radius = norms(offset)
        better = fools & (radius < self.radius[rows])
        self.offset[rows[better]] = offset[better]
        self.radius[rows[better]] = radius[better]
        return fools


def finalize(
    net: Engine,
    images: Tensor,
    labels: Tensor,
    clean: Tensor,
    bests: Sequence[Best],
    had_gradient: Tensor,
    eps_max: float,
) -> Finding:
    """Pull each perturbation back to the boundary along its line, decide in full precision, and assign the statuses.

    Args:
        net: Frozen model.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        clean: (B,K) logits of the images, in full precision.
        bests: Candidates of the attack, possibly found in lower precision. Each is pulled back separately: the longer
            of two may end nearer.
        had_gradient: (B,) bool, whether any gradient was finite and not zero.
        eps_max: Largest radius of a found image.

    Returns:
        The finding, whose ``eps`` is the radius.
    """
    attacked, prediction = images.clone(), clean.argmax(1)
    status = status_before(clean, labels)

    correct = status == Status.CENSORED
    radius = torch.full_like(labels, torch.inf, dtype=torch.float64)
    for best in bests:
        rows = (correct & best.radius.isfinite()).nonzero()[:, 0]
        adversarial, answer, fools = _shorten(net, images[rows], labels[rows], clean[rows], best.offset[rows], rows)
        length = norms((adversarial - images[rows]).double())
        fools &= (length <= eps_max) & (length < radius[rows])
        rows = rows[fools]
        status[rows] = int(Status.FOUND)
        attacked[rows], prediction[rows], radius[rows] = adversarial[fools], answer[fools], length[fools]

    silent = ((status == Status.CENSORED) & ~had_gradient).nonzero()[:, 0]
    if len(silent):
        constant = is_constant(net, images[silent], clean[silent], silent)
        status[silent] = torch.where(constant, int(Status.CENSORED), int(Status.FAILED))
    fail_unanswered(net, status)
    return Finding(status, norms((attacked - images).double()), prediction, attacked, eps_max)


def _shorten(
    net: Engine, images: Tensor, labels: Tensor, clean: Tensor, offset: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shortest fooling points on the lines of the perturbations, their predictions, and which fool.

    Regula falsi with the Illinois rule (an end that stays twice has its value halved): superlinear where the margin is
    smooth, and never outside the bracket.
    """

    def at(share: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        moved = (images[part] + per_row(share) * offset[part]).clamp(0, 1)
        logits = net.logits(moved, rows[part])
        return moved, misclassification_margin(logits, labels[part], clean_scale[part]), logits.argmax(1)

    clean_scale = scale(clean)
    everything = torch.arange(len(images), device=images.device)
    high = images.new_ones(len(images))
    adversarial, high_margin, answer = at(high, everything)
    for extension in EXTENSIONS:
        missed = (~(high_margin > 0)).nonzero()[:, 0]
        if not len(missed):
            break
        high[missed] = extension
        adversarial[missed], high_margin[missed], answer[missed] = at(high[missed], missed)
    fooled = high_margin > 0

    low, side = torch.zeros_like(high), torch.zeros_like(high)
    low_margin = misclassification_margin(clean, labels, clean_scale)
    for _ in range(SEARCHES):
        middle = high - high_margin / (high_margin - low_margin) * (high - low)
        middle = torch.where(middle.isfinite(), middle, (low + high) / 2)
        moved, value, said = at(middle, everything)
        hit = fooled & (value > 0)
        adversarial, answer = torch.where(per_row(hit), moved, adversarial), torch.where(hit, said, answer)
        low_margin = torch.where(hit, torch.where(side > 0, low_margin / 2, low_margin), value)
        high_margin = torch.where(hit, value, torch.where(side < 0, high_margin / 2, high_margin))
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        side = torch.where(hit, 1.0, -1.0)
    return adversarial, answer, fooled


def is_constant(net: Engine, images: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
    """Return whether the logits of black, white and noise equal those of the image, for each of ``rows`` (n,).

    A zero gradient has two causes. A model that ignores its input cannot be fooled: the radius is censored. A model
    that only hides its gradient can be fooled: the attack failed.

    Args:
        net: Frozen model.
        images: (n,3,H,W) clean images of ``rows``.
        logits: (n,K) logits of these images.
        rows: (n,) int64 indices of the images.

    Returns:
        (n,) bool.
    """
    noise = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(images)
    constant = torch.ones_like(rows, dtype=torch.bool)
    for probe in (torch.zeros_like(noise), torch.ones_like(noise), noise):
        constant &= (net.logits(probe.expand_as(images), rows) == logits).all(1)
    return constant
