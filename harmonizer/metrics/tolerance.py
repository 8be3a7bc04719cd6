"""Perturbation tolerance: the smallest perturbation of an image that flips a correct decision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harmonizer.metrics.scores import Scores
from harmonizer.results import Row
from harmonizer.statistics import tolerance_summary


class PerturbationTolerance(Scores):
    """Accumulate the outcome of an attack on each image.

    Args:
        eps_max: Largest radius of the attack's search, in [0,1] pixel units.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), section 3.

    >>> metric = PerturbationTolerance()
    >>> metric.update(torch.tensor([0, 1, 2, 2]), torch.tensor([torch.nan, torch.nan, 1.0, 2.0]))
    >>> {name: float(value) for name, value in metric.compute().items() if "median" in name or name == "n_found"}
    {'median': 2.0, 'n_found': 2.0}
    """

    def __init__(self, eps_max: float = 10.0) -> None:
        super().__init__(columns=2)
        self.eps_max = eps_max

    def update(self, status: Tensor, radius: Tensor, keys: Sequence[str] | None = None) -> None:
        """Add a batch.

        Args:
            status: (B,) int64, values of :class:`harmonizer.attacks.Status`.
            radius: (B,) L2 radii; read where the status is found.
            keys: B sample keys; an image seen twice counts once.
        """
        self._add(status, radius, keys=keys)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of an evaluation."""
        status, radius = ([getattr(row, name) for row in rows] for name in ("status", "l2"))
        numbers = torch.tensor(status, dtype=torch.int64), torch.tensor(radius, dtype=torch.float64)
        self.update(*numbers, keys=[row.key for row in rows])

    def compute(self) -> dict[str, Tensor]:
        """Return scalars: the median (censored = inf), restricted mean with its standard error, and the counts.

        ``median`` and ``restricted_mean`` run over found and censored images, ``paper_mean`` over found ones.
        """
        status, radius = self._columns()
        summary = tolerance_summary(status, radius, eps_max=self.eps_max, resamples=0)
        restricted = summary["restricted_mean"]
        return self._result(
            median=summary["median"]["value"],
            restricted_mean=restricted["mean"],
            restricted_mean_se=restricted["se"],
            paper_mean=summary["paper_mean"]["mean"],
            **{name: summary[name] for name in ("n", "n_wrong", "n_censored", "n_found", "n_failed")},
        )
