"""Compare two models on the same images."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from harmonizer.cli.console import print_results_next, show_table
from harmonizer.report.data import AXES, load_models
from harmonizer.report.paired import compare as compare_models
from harmonizer.report.tables import NONE, estimate, show
from harmonizer.results import Results, load_results
from harmonizer.run import is_rank_zero
from harmonizer.statistics import pair_keys, paired_difference, paired_tolerance


def compare(control: Results, harmonized: Results) -> dict[str, dict[str, Any]]:
    """Return the paired differences, harmonized minus control, with interval and test.

    Args:
        control: Results of the first model.
        harmonized: Results of the second model, under the same protocol.

    Returns:
        The result of :func:`harmonizer.statistics.paired_difference` by score: tolerance (min(r, eps_max), over images
        that both classify correctly), adversarial alignment (over images found in both), feature alignment.

    Raises:
        ValueError: The protocols differ.
    """
    if control.summary["protocol"]["hash"] != harmonized.summary["protocol"]["hash"]:
        raise ValueError(f"{control.folder} and {harmonized.folder} were measured under different protocols")
    eps_max = control.summary["protocol"]["eps_max"]
    a, b = control.columns, harmonized.columns
    first, second = pair_keys(a["key"], b["key"])
    radii = [paired_tolerance(table["status"], table["l2"], eps_max=eps_max) for table in (a, b)]
    pairs = {
        "tolerance": (radii[0][first], radii[1][second]),
        "adversarial_alignment": (a["alignment"][first], b["alignment"][second]),
        "feature_alignment": (a["feature_alignment"][first], b["feature_alignment"][second]),
    }
    return {score: paired_difference(np.asarray(x), np.asarray(y)) for score, (x, y) in pairs.items()}


def show_comparison(control: Path, harmonized: Path) -> None:
    """Print both models' scores and their paired differences, as in the report's comparison.

    Raises:
        ValueError: The two were measured under different protocols.
    """
    pair = compare_models(*load_models([control, harmonized])[0])
    table = Table("score", "control", "harmonized", "paired difference, 95 %", "p", "images")
    for key, axis in AXES.items():
        cells = [
            axis.short[0].lower() + axis.short[1:],
            *(show(model.scores.get(key), axis.digits) for model in (pair.a, pair.b)),
        ]
        if difference := pair.differences.get(key):
            cells.append(estimate(difference["mean"], difference["low"], difference["high"], axis.digits, sign="+"))
            cells += [NONE if np.isnan(difference["p"]) else f"{difference['p']:.2g}", str(difference["n"])]
        elif key == "accuracy":
            cells.append(estimate(pair.b.value(key) - pair.a.value(key), np.nan, np.nan, axis.digits, sign="+"))
        table.add_row(*cells)
    if not is_rank_zero():
        return
    protocol = load_results(control).summary["protocol"]
    show_table(
        table,
        f"attack {protocol['attack']}, {protocol['images']} images",
        "tolerance: mean of min(L2, maximum), paired over images that both classify correctly",
        "alignments: shares of the noise ceiling",
    )
    print_results_next(control.parent, control, harmonized)
