"""Aggregates of per-image results with their uncertainty, shared by metrics, results and report (NumPy, SciPy).

Every summary is a dictionary of plain numbers, ready for JSON. An aggregate over no values is ``nan`` with ``n`` 0,
never an error or a warning. Intervals are percentile bootstraps (Efron 1979) with the caller's seed, ``nan`` for fewer
than ten values; the interval of a proportion is Wilson's, for any number of values.
"""

from harmonizer.statistics.as_published import AS_PUBLISHED, NAN_EPS, as_published_summary
from harmonizer.statistics.behaviour import consistency_of, error_consistency, shape_bias
from harmonizer.statistics.bootstrap import FEWEST, stated
from harmonizer.statistics.budgets import BOUND, BUDGETS, robust_accuracy
from harmonizer.statistics.comparison import (
    FEWEST_RANKED,
    pair_keys,
    paired_difference,
    paired_tolerance,
    rank_correlation,
)
from harmonizer.statistics.status import STATUSES, Status
from harmonizer.statistics.summaries import (
    CLICKME_V2,
    NOISE_CEILING,
    alignment_summary,
    mean_summary,
    proportion,
    survival,
    tolerance_summary,
)

__all__ = [
    "AS_PUBLISHED",
    "BOUND",
    "BUDGETS",
    "CLICKME_V2",
    "FEWEST",
    "FEWEST_RANKED",
    "NAN_EPS",
    "NOISE_CEILING",
    "STATUSES",
    "Status",
    "alignment_summary",
    "as_published_summary",
    "consistency_of",
    "error_consistency",
    "mean_summary",
    "pair_keys",
    "paired_difference",
    "paired_tolerance",
    "proportion",
    "rank_correlation",
    "robust_accuracy",
    "shape_bias",
    "stated",
    "survival",
    "tolerance_summary",
]
