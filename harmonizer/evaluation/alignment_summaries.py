"""Alignment scores over images, as shares of a ceiling."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmonizer.data.ceilings.file import Agreement, read_agreements
from harmonizer.data.datamodule import ShardData
from harmonizer.data.shards.manifest import Ceilings
from harmonizer.evaluation.alignments import COLUMNS_OF, OF_ATTACK
from harmonizer.results import Row
from harmonizer.statistics import CLICKME_V2, NOISE_CEILING, alignment_summary, mean_summary

V2 = ("clickme_v2", "spearman")  # kind and score of onevision's ceilings


def ceiling_source(ceilings: Ceilings | None) -> str:
    """Return the source of the noise ceiling, in words."""
    if ceilings is None:
        return f"{NOISE_CEILING}, as published (Linsley et al. 2023)"
    own = sum(value is not None for value in ceilings.per_image.values())
    return f"split-half reliability of these data ({own} images with their own, others {ceilings.overall})"


def alignment_of(rows: Sequence[Row], column: str, ceilings: Ceilings | None) -> dict[str, Any]:
    """Summarise a column of rank correlations over rows, with the noise ceiling and its source."""
    reached = None if ceilings is None else [ceilings.of(row.key) for row in rows]
    summary = alignment_summary([getattr(row, column) for row in rows], ceilings=reached)
    return summary | {"ceiling_source": ceiling_source(ceilings)}


def agreement_of(data: ShardData) -> Agreement | None:
    """Return ClickMe v2's ceilings of the validation shards; None unless ``harmonizer.data.ceilings`` measured them."""
    if not isinstance(data.val, Path):
        return None
    return next((one for one in read_agreements(data.val) if (one.kind, one.score) == V2), None)


def scores_by_name(
    rows: Sequence[Row], names: Sequence[str], ceilings: Ceilings | None, agreement: Agreement | None
) -> dict[str, Any]:
    """Summarise scores by name; the share of the ceiling is the ratio of the means.

    ``mean_of_ratios`` is onevision's own share, the mean of score / ceiling over images with their own
    positive ceiling.
    """
    found = {}
    for name in names:
        counted = [row for row in rows if (row.aligned if name in OF_ATTACK else row.has_map)]
        column = COLUMNS_OF[name]
        if not name.startswith("onevision"):
            found[name] = alignment_of(counted, column, None if name == "feng2025" else ceilings)
            continue
        own = agreement.ceilings if agreement else ceilings.per_image if ceilings else {}
        values = [getattr(row, column) for row in counted]
        reached = [math.nan if (top := own.get(row.key)) is None else top for row in counted]
        shares = [value / top if top > 0 else math.nan for value, top in zip(values, reached, strict=True)]
        found[name] = alignment_summary(values, ceilings=reached if own else None) | {
            "ceiling_source": CLICKME_V2 if agreement else ceiling_source(ceilings),
            "mean_of_ratios": mean_summary(shares),
        }
    return found
