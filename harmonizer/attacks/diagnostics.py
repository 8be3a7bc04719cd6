"""The gradient-masking report: signs that a model hides its gradient, so that its radii cannot be trusted."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.attacks.engine import Engine, frozen
from harmonizer.attacks.finalize import fooled, scale, status_before
from harmonizer.attacks.l2 import is_usable, norms, per_row, unit
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import cross_entropy_of, margin_of
from harmonizer.attacks.pgd import pgd
from harmonizer.attacks.radius import minimal_radius
from harmonizer.attacks.result import AttackResult, Status

PASSES = 500  # most forward and backward passes per image, unless the model is masked
EFFORT: dict[str, Any] = {"steps": 28, "restarts": 3}  # four times pgd's steps
RANDOM_DIRECTIONS = 4
RANDOM_REACH = 32.0  # largest multiple of the radius tried along random directions; factors of two, from a half
# The report flags a model whose values pass these limits.
SILENT_SHARE = 0.1  # share of images with an unusable gradient
RANDOM_SHARE = 0.05  # share of images that noise fools within the attack's radius
MORE_EFFORT = 0.7  # median radius ratio with more steps and restarts, below
CE_RATIO = 1.5  # median radius ratio of margin to cross-entropy
BF16_COSINE = 0.5
REPEAT_DIFFERENCE = 1e-3  # in units of the largest centred logit
RESOLUTION = 1e-3  # step of the logits in units of the margin; the radius is as coarse as the margin
STAGES = 3  # of roughly equal work: the plain attack, the attack by cross-entropy, and the rest


@dataclass(frozen=True)
class GradientMaskingReport:
    """Signs of a masked gradient, over the correctly classified images examined.

    Attributes:
        n: Images examined.
        silent_margin: Share of images whose margin has a zero or non-finite gradient.
        silent_cross_entropy: The same for the cross-entropy; a high share is harmless in a confident model.
        cross_entropy_ratio: Median ratio of the ``pgd`` radius by cross-entropy to that by margin.
        random_within: Share of images that a random direction fools within the attack's radius.
        random_ratio: Median ratio of the radius along the best random direction to the attack's radius; infinite where
            no direction fooled within 32 radii.
        effort_ratio: Median ratio of the ``pgd`` radius with four times the steps and three restarts to that without.
        bf16_cosine: Median cosine between the margin's gradients in bfloat16 and in the images' precision.
        repeat_difference: Largest change of a logit between two passes of one input, over the largest centred logit.
        failed: Share of images whose ``pgd`` attack failed: no gradient was usable, or a logit was not finite.
        resolution: Median of one step of the largest logit, in the type that the model returns, over the margin.
        masked: Whether the radii of this model should be distrusted.
        reasons: One sentence per sign; empty without any.
    """

    n: int
    silent_margin: float
    silent_cross_entropy: float
    cross_entropy_ratio: float
    random_within: float
    random_ratio: float
    effort_ratio: float
    bf16_cosine: float
    repeat_difference: float
    failed: float
    resolution: float
    masked: bool
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain types, ready for JSON."""
        return asdict(self) | {"reasons": list(self.reasons)}


def gradient_masking_report(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    result: AttackResult | None = None,
    *,
    limit: int = 32,
    batch_size: int | None = None,
    seed: int = 0,
    eps_max: float = 10.0,
    progress: Callable[[int, int], None] | None = None,
) -> GradientMaskingReport:
    """Check a model for signs that it only seems robust.

    Args:
        model: Model as :func:`harmonizer.attacks.minimal_radius` takes it.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        result: Result of the attack to check, on these images; None runs ``pgd``.
        limit: Number of correctly classified images to examine, the first ones; each costs at most ``PASSES`` passes,
            and up to three times as many where the model is masked.
        batch_size: Most images in one pass.
        seed: Seed of the random directions and starts.
        eps_max: Largest radius.
        progress: Called with (work done, total work), in units of an attack on one image.

    Returns:
        The report. Without a correctly classified image all numbers are NaN and ``masked`` is False.

    Reference:
        Athalye et al. 2018 (arXiv 1802.00420), section 3.1; Carlini et al. 2019 (arXiv 1902.06705).
    """
    with frozen(model, images.device, seed):
        images = images.detach().clone()
        everything = torch.arange(len(images), device=images.device)
        clean = Engine(model, len(images), images.device, batch_size=batch_size).logits(images, everything)
    rows = (status_before(clean, labels) == Status.CENSORED).nonzero()[:limit, 0]
    x, y = images[rows], labels[rows]
    if not len(rows):
        nan = float("nan")
        return GradientMaskingReport(0, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, masked=False, reasons=())

    def told(stage: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(stage * total + done, STAGES * total) if progress is not None else None

    def attacked(stage: int, **settings: Any) -> AttackResult:  # noqa: ANN401 - of pgd
        settings |= {"seed": seed, "eps_max": eps_max, "progress": told(stage)}
        return minimal_radius(model, x, y, attack="pgd", batch_size=batch_size, **settings)

    told(0)(0, len(x))
    plain = attacked(0)
    base = plain.l2.nan_to_num(nan=torch.inf)
    radii = base if result is None else result.l2.to(x.device)[rows].nan_to_num(nan=torch.inf)
    by_cross_entropy = attacked(1, objective="cross_entropy").l2.nan_to_num(nan=torch.inf)
    told(2)(0, len(x))
    with frozen(model, images.device, seed):
        net = Engine(model, len(x), x.device, batch_size=batch_size, progress=told(2))
        low = Engine(model, len(x), x.device, batch_size=batch_size, amp=torch.bfloat16)
        places = torch.arange(len(x), device=x.device)
        harder = pgd(net, x, y, Noise(x, None, seed), base, eps_max=eps_max, **EFFORT)
        effort = torch.where(harder.status == Status.FOUND, norms((harder.adversarial - x).double()), torch.inf)
        logits, gradient = net.gradient(x, places, margin_of(y))
        again = net.logits(x, places)
        _, ce_gradient = net.gradient(x, places, cross_entropy_of(y))
        _, low_gradient = low.gradient(x, places, margin_of(y))
        at_random = _random_radius(net, x, y, radii.clamp(max=eps_max), Noise(x, None, seed))
    told(2)(len(x), len(x))
    steps = torch.finfo(again.dtype).eps * again.abs().amax(1)
    usable = is_usable(gradient)
    cosine = (unit(gradient)[0] * unit(low_gradient)[0]).flatten(1).sum(1)[usable]
    return _report(
        n=len(rows),
        silent_margin=_share(~usable),
        silent_cross_entropy=_share(~is_usable(ce_gradient)),
        cross_entropy_ratio=_median_ratio(by_cross_entropy, base),
        random_within=_share(at_random <= radii.clamp(max=eps_max)),
        random_ratio=_median_ratio(at_random, radii),
        effort_ratio=_median_ratio(torch.minimum(effort, base), base),
        bf16_cosine=float(cosine.median()) if len(cosine) else float("nan"),
        repeat_difference=float((again - logits).abs().max() / scale(logits).max().clamp_min(1e-30)),
        failed=_share(plain.status == Status.FAILED),
        resolution=float((steps / (-margin_of(y)(again, slice(None))).clamp_min(1e-30)).median()),
    )


def _random_radius(net: Engine, images: Tensor, labels: Tensor, radius: Tensor, noise: Noise) -> Tensor:
    """Return the smallest radius (n,) float64 on a grid of factors of two at which a random direction fools."""
    rows = torch.arange(len(images), device=images.device)
    smallest = torch.full_like(radius, torch.inf)
    for i in range(RANDOM_DIRECTIONS):
        direction, _ = unit(noise.normal(rows, f"health/{i}"))
        factor = 0.5
        while factor <= RANDOM_REACH:
            moved = (images + per_row((factor * radius).to(images.dtype)) * direction).clamp(0, 1)
            fools = fooled(net.logits(moved, rows), labels)
            reached = norms((moved - images).double())  # clipping may have shortened it
            smallest = torch.where(fools, torch.minimum(smallest, reached), smallest)
            factor *= 2
    return smallest


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _median_ratio(a: Tensor, b: Tensor) -> float:
    """Return the median of a / b; two infinite radii have ratio 1."""
    return float(torch.where(a == b, 1.0, a / b).median())


SIGNS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("silent_margin", lambda v: v > SILENT_SHARE, "{:.0%} of the images have a zero or non-finite gradient"),
    ("cross_entropy_ratio", lambda v: v < 1 / CE_RATIO, "the cross-entropy finds radii {:.2f} times the margin's"),
    ("random_within", lambda v: v > RANDOM_SHARE, "random directions fool {:.0%} of the images within the radius"),
    ("effort_ratio", lambda v: v < MORE_EFFORT, "more steps and restarts shrink the radius to {:.2f} times"),
    ("bf16_cosine", lambda v: v < BF16_COSINE, "bfloat16 gradients have a cosine of only {:.2f} with exact ones"),
    ("failed", lambda v: v > SILENT_SHARE, "the attack fails on {:.0%} of the images"),
    ("resolution", lambda v: v > RESOLUTION, "one step of the logits' float type is {:.1%} of the margin"),
    ("repeat_difference", lambda v: v > REPEAT_DIFFERENCE, "the same input twice moves the logits by {:.1%}"),
)


# Sentences for a ratio of 0: the plain attack finds no radius for most images.
UNFOUND = {
    "cross_entropy_ratio": "the cross-entropy finds perturbations where the margin finds none",
    "effort_ratio": "more steps and restarts find perturbations where fewer find none",
}


def _report(*, n: int, **values: float) -> GradientMaskingReport:
    flagged = {name: sentence.format(values[name]) for name, wrong, sentence in SIGNS if wrong(values[name])}
    reasons = tuple(UNFOUND[name] if values[name] == 0 and name in UNFOUND else flagged[name] for name in flagged)
    return GradientMaskingReport(n=n, **values, masked=bool(reasons), reasons=reasons)
