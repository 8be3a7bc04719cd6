"""Gather a batch over all processes, with its gradient."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows of all processes, in the order of their ranks; the gradient flows back to every process.

    Args:
        rows: (B,...), of the same shape in every process, all of which must call this together.

    Returns:
        (processes x B,...); ``rows`` itself where there is one process.

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
        dist.all_reduce(total)  # a sum: each process's loss depends on everyone's rows
        return total.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
