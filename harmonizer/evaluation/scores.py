"""The scores of an evaluation over its images: for the log, and as blocks of ``summary.json``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonizer.data.ceilings.file import Agreement, read_agreements
from harmonizer.data.datamodule import ShardData
from harmonizer.data.shards.manifest import Ceilings
from harmonizer.evaluation.alignments import COLUMNS_OF, OF_ATTACK
from harmonizer.metrics import AdversarialAlignment, FeatureAlignment, PerturbationTolerance
from harmonizer.results import Row
from harmonizer.statistics import CLICKME_V2, NOISE_CEILING, STATUSES, alignment_summary, mean_summary

V2 = ("clickme_v2", "spearman")  # kind and score of onevision's ceilings


def scores_of(rows: Sequence[Row], *, eps_max: float, ceilings: Mapping[str, float] | None = None) -> dict[str, float]:
    """Compute the scores with the torchmetrics of :mod:`harmonizer.metrics`, by the names that training logs.

    Args:
        rows: Rows of all processes, one per image.
        eps_max: Largest radius that the attack searched.
        ceilings: Noise ceiling of each image, by key; None takes the published noise ceiling.

    >>> from harmonizer.statistics import Status
    >>> scores = scores_of([Row(key="a", label=0, prediction=1, status=Status.FOUND, l2=0.5)], eps_max=10)
    >>> scores["tolerance_median"], scores["attack_success_rate"]
    (0.5, 1.0)
    """
    reached = None if ceilings is None else [ceilings[row.key] for row in rows]
    metrics = PerturbationTolerance(eps_max), AdversarialAlignment(), FeatureAlignment()
    for metric in metrics:
        metric.sync_on_compute = False  # the rows already come from all processes
    metrics[0].add(rows)
    metrics[1].add(rows, ceilings=reached)
    metrics[2].add(rows, ceilings=reached)
    tolerance, attack, feature = (
        {name: float(value) for name, value in metric.compute().items()} for metric in metrics
    )
    images = max(tolerance["n"], 1)
    return {
        "tolerance_median": tolerance["median"],
        "tolerance_mean": tolerance["restricted_mean"],
        "tolerance_mean_se": tolerance["restricted_mean_se"],
        "adversarial_alignment": attack["mean"],
        "adversarial_alignment_se": attack["se"],
        "adversarial_alignment_of_ceiling": attack["share_of_ceiling"],
        "attack_success_rate": tolerance["n_found"] / max(tolerance["n"] - tolerance["n_wrong"], 1),
        **{f"share_{status}": tolerance[f"n_{status}"] / images for status in STATUSES if status != "found"},
        "feature_alignment": feature["mean"],
        "feature_alignment_se": feature["se"],
        "feature_alignment_ceiling": feature["ceiling"],
        "feature_alignment_of_ceiling": feature["share_of_ceiling"],
        "feature_alignment_dice": feature["dice"],
        "feature_alignment_iou": feature["iou"],
    }


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
