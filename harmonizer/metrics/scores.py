"""The accumulator behind every metric here: numbers an image, exact under DDP."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

UNNAMED = -1  # identity of an image without a key


class Scores(Metric):
    """Collect a row of numbers an image over batches and processes; an image with a key counts once.

    The states are tensors, not lists, so that a process that saw no image still takes part in the reduction.

    Args:
        columns: Numbers an image.
    """

    full_state_update = False

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.identities: Tensor
        self.add_state("rows", torch.empty(0, columns, dtype=torch.float64), dist_reduce_fx="cat")
        self.add_state("identities", torch.empty(0, dtype=torch.int64), dist_reduce_fx="cat")

    def _add(self, *columns: Tensor, keys: Sequence[str] | None) -> None:
        """Add a batch: a (B,) tensor a column, and B sample keys."""
        rows = torch.stack([column.to(self.rows) for column in columns], 1)
        if keys is not None and len(keys) != len(rows):
            raise ValueError(f"expected a key an image, got {len(keys)} keys for {len(rows)} images")
        identities = [UNNAMED] * len(rows) if keys is None else [_identity(key) for key in keys]
        self.rows = torch.cat([self.rows, rows])
        self.identities = torch.cat([self.identities, torch.tensor(identities, device=self.rows.device)])

    def _columns(self) -> np.ndarray:
        """Return (columns,N) float64: each image once, in an order that does not depend on the processes."""
        identities, rows = self.identities.cpu().numpy(), self.rows.cpu().numpy()
        _, first = np.unique(identities, return_index=True)
        named = first[identities[first] != UNNAMED]
        table: np.ndarray = np.concatenate([rows[identities == UNNAMED], rows[named]])
        return table.T

    def _result(self, **numbers: float) -> dict[str, Tensor]:
        """Return numbers as scalars on the metric's device."""
        return {name: torch.tensor(value, dtype=torch.float64).to(self.rows.device) for name, value in numbers.items()}


def _identity(key: str) -> int:
    """Hash a sample key to 63 bits."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1
