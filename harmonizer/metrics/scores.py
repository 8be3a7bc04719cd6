"""The accumulator of all metrics here: numbers per image, exact under DDP."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from harmonizer.results import Row
from harmonizer.statistics import NOISE_CEILING

UNNAMED = -1  # hash of an image without a key


class Scores(Metric):
    """Collect a row of numbers per image over batches and processes; an image with a key counts once.

    The states are lists that always hold a tensor, at first an empty one, so that a process without images takes part
    in the reduction with the right type and shape.

    Args:
        columns: Numbers per image.
    """

    full_state_update = False

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.rows: list[Tensor] | Tensor  # torchmetrics concatenates the list when it reduces
        self.identities: list[Tensor] | Tensor
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("identities", [], dist_reduce_fx="cat")
        self._begin()

    def reset(self) -> None:
        """Remove all images."""
        super().reset()
        self._begin()

    def _begin(self) -> None:
        """Set the states to empty tensors."""
        self.rows = [torch.empty(0, self.columns, dtype=torch.float64, device=self.device)]
        self.identities = [torch.empty(0, dtype=torch.int64, device=self.device)]

    def _add(self, *columns: Tensor, keys: Sequence[str] | None) -> None:
        """Add a batch: a (B,) tensor per column, and B sample keys."""
        assert isinstance(self.rows, list)
        assert isinstance(self.identities, list)
        rows = torch.stack([column.to(self.rows[0]) for column in columns], 1)
        if keys is not None and len(keys) != len(rows):
            raise ValueError(f"expected one key per image, got {len(keys)} keys for {len(rows)} images")
        identities = [UNNAMED] * len(rows) if keys is None else [_identity(key) for key in keys]
        self.rows.append(rows)
        self.identities.append(torch.tensor(identities, dtype=torch.int64, device=rows.device))

    def _add_rows(
        self, counts: Sequence[bool], rows: Sequence[Row], names: Sequence[str], ceilings: Sequence[float] | None
    ) -> None:
        """Add the rows of an evaluation where ``counts``: the first column of ``names``, the ceiling, the others."""
        reached = [NOISE_CEILING] * len(rows) if ceilings is None else ceilings
        chosen = [(row, ceiling) for row, ceiling, counted in zip(rows, reached, counts, strict=True) if counted]
        values = [[getattr(row, name) for row, _ in chosen] for name in names]
        values.insert(1, [ceiling for _, ceiling in chosen])
        columns = (torch.tensor(column, dtype=torch.float64) for column in values)
        self._add(*columns, keys=[row.key for row, _ in chosen])
        self._update_count += 1  # as torchmetrics counts its own update
        self._computed = None

    def _columns(self) -> np.ndarray:
        """Return (columns,N) float64: each image once, in an order independent of the processes."""
        identities, rows = (dim_zero_cat(state).cpu().numpy() for state in (self.identities, self.rows))
        _, first = np.unique(identities, return_index=True)
        named = first[identities[first] != UNNAMED]
        table: np.ndarray = np.concatenate([rows[identities == UNNAMED], rows[named]])
        return table.T

    def _result(self, **numbers: float) -> dict[str, Tensor]:
        """Return numbers as scalars on the metric's device."""
        return {name: torch.tensor(value, dtype=torch.float64, device=self.device) for name, value in numbers.items()}


def _identity(key: str) -> int:
    """Hash a sample key to 63 bits."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1
