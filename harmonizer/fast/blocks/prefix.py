"""Which samples of a batch have an image gradient that is differentiated again: all, or the first ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor

_COUNT: ContextVar[int | None] = ContextVar("samples that are differentiated twice", default=None)


@contextmanager
def batch_prefix(count: int | None) -> Iterator[None]:
    """Declare that gradients under ``create_graph`` will be zero for all samples but the first ``count``.

    Layers that support it then compute those gradients, and their derivatives, for the first samples only. All tensors
    of the network must have the samples along the first dimension. None declares nothing.
    """
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


class BatchPrefix(NamedTuple):
    """The first ``few`` of a batch of ``samples``."""

    few: int
    samples: int

    def first(self, values: Tensor, dim: int = 0) -> Tensor:
        """Return the part of the first samples, of values whose dimension ``dim`` runs over the samples first."""
        return values if self.few == self.samples else values.narrow(dim, 0, self._of(values.shape[dim]))

    def padded(self, values: Tensor) -> Tensor:
        """Return values of the first samples with zeros for the others."""
        if self.few == self.samples:
            return values
        whole = values.new_zeros(len(values) // self.few * self.samples, *values.shape[1:])
        self.first(whole).copy_(values)
        return whole

    def _of(self, size: int) -> int:
        return size // self.samples * self.few


def prefix_of(inputs: Tensor) -> BatchPrefix:
    """Return the current prefix for a layer's inputs (B,...)."""
    count = _COUNT.get()
    return BatchPrefix(len(inputs) if count is None else count, len(inputs))
