"""Compare two models on the same images, in the terminal."""

from pathlib import Path

import numpy as np
from rich.table import Table

from harmonizer.cli.console import print_results_next, show_table
from harmonizer.report.data import AXES, load_models
from harmonizer.report.paired import compare
from harmonizer.report.tables import NONE, estimate, show
from harmonizer.results import load_results
from harmonizer.run import is_rank_zero


def show_comparison(control: Path, harmonized: Path) -> None:
    """Print both models' scores and their paired differences: the numbers of the report's comparison.

    Raises:
        ValueError: The two were measured under different protocols.
    """
    pair = compare(*load_models([control, harmonized])[0])
    table = Table("score", "control", "harmonized", "paired difference, 95 %", "p", "images")
    for key, axis in AXES.items():
        cells = [
            axis.short[0].lower() + axis.short[1:],
            *(show(model.scores.get(key), axis.digits) for model in (pair.a, pair.b)),
        ]
        if difference := pair.differences.get(key):
            cells.append(estimate(difference["mean"], difference["low"], difference["high"], axis.digits, sign="+"))
            cells += [NONE if np.isnan(difference["p"]) else f"{difference['p']:.2g}", str(difference["n"])]
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
