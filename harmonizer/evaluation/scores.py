"""The scores of an evaluation."""

from collections.abc import Mapping, Sequence

from harmonizer.metrics import AdversarialAlignment, FeatureAlignment, PerturbationTolerance
from harmonizer.results import Row
from harmonizer.statistics import STATUSES


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
