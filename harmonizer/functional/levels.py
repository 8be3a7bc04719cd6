"""Level metrics: the error of one pyramid level of the saliency against that of the human map.

A level metric takes two levels (B,h,w) >= 0, the saliency's and the target's, and returns errors (B,...) whose mean is
the level's loss. A sample without a map has a target of zeros; :func:`harmonizer.functional.harmonizer_loss` drops its
errors. Gradients and second derivatives are finite for zero levels, too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

LevelMetric = Callable[[Tensor, Tensor], Tensor]
"""Maps the saliency's level and the target's, both (B,h,w), to errors (B,...)."""

PROBABILITY_MARGIN = 1e-3  # distance of probabilities from 0 and 1, so that no pixel's gradient exceeds 1000
TEMPERATURE = 0.07  # of the contrastive logits; initial value in Radford et al. 2021 (arXiv 2103.00020)


def squared_error(level: Tensor, target: Tensor) -> Tensor:
    """Return the elementwise squared error, (B,h,w); the published level metric.

    >>> squared_error(torch.tensor([[[3.0]]]), torch.tensor([[[1.0]]]))
    tensor([[[4.]]])
    """
    return (level - target).square()


def relative_squared_error(level: Tensor, target: Tensor) -> Tensor:
    """Return the squared error divided by the target's mean square, (B,h,w).

    Its mean is the share of the human map that the saliency misses: 0 where they agree, 1 where the saliency is zero.
    The squared error grows with the square of the saliency's largest standardised value, about 5 for a smooth map and
    50 for a pretrained network. No gradient flows through the target's mean square.

    >>> relative_squared_error(torch.tensor([[[0.0, 30.0]]]), torch.tensor([[[0.0, 60.0]]]))
    tensor([[[0.0000, 0.5000]]])
    """
    largest = target.detach().amax((1, 2), keepdim=True)  # scale first: squares of small values underflow
    largest = torch.where(largest > 0, largest, 1.0)
    energy = (target.detach() / largest).square().mean((1, 2), keepdim=True)  # 0 for a target of zeros
    return ((level - target) / largest).square() / torch.where(energy > 0, energy, 1.0)


def cosine_distance(level: Tensor, target: Tensor) -> Tensor:
    """Return 1 - cosine of the two levels, (B,); 1, without a gradient, where one is all zeros.

    >>> cosine_distance(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[0.0, 5.0]]]))
    tensor([0.])
    """
    return 1 - (_direction(level) * _direction(target)).sum(1)


def cross_entropy(level: Tensor, target: Tensor) -> Tensor:
    """Return the elementwise binary cross-entropy (B,h,w) of the levels, each divided by its maximum.

    The saliency's level is treated as a probability, at least ``PROBABILITY_MARGIN`` away from 0 and 1.

    >>> half = torch.tensor([[[1.0, 0.5]]])
    >>> cross_entropy(half, half)[0, 0, 1]
    tensor(0.6931)
    """
    share = PROBABILITY_MARGIN + (1 - 2 * PROBABILITY_MARGIN) * _to_unit_maximum(level)
    return F.binary_cross_entropy(share, _to_unit_maximum(target), reduction="none")


def masked_cross_entropy(level: Tensor, target: Tensor) -> Tensor:
    """Return the mean of :func:`cross_entropy` over the pixels that people marked (target above 0), (B,).

    >>> zero, human = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> masked_cross_entropy(zero, human)
    tensor([0.0010])
    """
    marked = target > 0
    errors = torch.where(marked, cross_entropy(level, target), 0.0).sum((1, 2))
    return errors / marked.sum((1, 2)).clamp_min(1)


def contrastive(level: Tensor, target: Tensor) -> Tensor:
    """Return CLIP's symmetric cross-entropy between saliencies and human maps, (B,).

    The logits are cosines divided by ``TEMPERATURE``, over the batches of all processes: the mean over the processes,
    and its gradient, equal those of one process with the whole batch. Samples without a map are excluded as
    alternatives. All processes must call it together, with batches of equal size.

    Reference:
        Radford et al. 2021 (arXiv 2103.00020), figure 3.

    >>> maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> contrastive(maps, maps.flip(0))  # log(1 + exp(1 / 0.07))
    tensor([14.2857, 14.2857])
    """
    saliency, human = _direction(level), _direction(target)
    mapped = gather_rows((target.flatten(1) > 0).any(1))
    positive = (saliency * human).sum(1)
    errors = []
    for own, everyone in ((saliency, gather_rows(human)), (human, gather_rows(saliency))):
        # Finite: -inf would give NaN in a batch without any map.
        alternatives = torch.where(mapped, own @ everyone.T / TEMPERATURE, -1 / torch.finfo(own.dtype).eps)
        errors.append(alternatives.logsumexp(1) - positive / TEMPERATURE)
    return (errors[0] + errors[1]) / 2


LEVEL_METRICS: Mapping[str, LevelMetric] = {
    "mse": squared_error,
    "relative_mse": relative_squared_error,
    "cosine": cosine_distance,
    "bce": cross_entropy,
    "masked_bce": masked_cross_entropy,
    "contrastive": contrastive,
}


def _direction(levels: Tensor) -> Tensor:
    """Flatten levels and scale them to norm 1, (B,h*w); zeros stay zeros, with a zero gradient."""
    flat = _to_unit_maximum(levels).flatten(1)  # scale first: squares of small values underflow
    squares = flat.square().sum(1, keepdim=True)
    return flat / torch.where(squares > 0, squares, 1.0).sqrt()


def _to_unit_maximum(levels: Tensor) -> Tensor:
    """Divide levels >= 0 by their maxima; zeros stay zeros, with a zero gradient."""
    largest = levels.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, levels, 0.0) / torch.where(largest > 0, largest, 1.0)


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all processes in the order of their ranks; the gradient flows back to every process.

    Args:
        rows: (B,...), of the same shape in every process; all processes must call this together.

    Returns:
        (processes x B,...); ``rows`` itself with a single process.

    >>> gather_rows(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    joined: Tensor = _Gather.apply(rows.contiguous())
    return joined


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's own interface
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401 - torch's own interface
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # a sum: each process's loss depends on the rows of all
        return total.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
