"""The results table as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harmonizer.report.data import AXES, Axis, Model, Score, comparable
from harmonizer.report.further import further_axes
from harmonizer.report.paired import Comparison
from harmonizer.report.sources import source_key
from harmonizer.results import text_cell
from harmonizer.statistics import BOUND, BUDGETS, FEWEST_RANKED, STATUSES
from harmonizer.statistics.bootstrap import Summary

RHO = "\N{GREEK SMALL LETTER RHO}"
NONE = "\N{EN DASH}"  # unknown
BEGIN, END = "<!-- results -->", "<!-- /results -->"
MARKS = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
MASKED = "gradients look masked"
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    RHO: r"$\rho$",
    "∞": r"$\infty$",
    "\N{MINUS SIGN}": "$-$",
}


def header(axes: Mapping[str, Axis]) -> list[str]:
    """Return the columns of the table of models."""
    scores = [axis.short for axis in axes.values()]
    return ["Model", "Family", "Source", scores[0], scores[1], "Median (L2)", *scores[2:], "Images", "Health"]


def line(model: Model, axes: Mapping[str, Axis]) -> list[str]:
    """Return a model's row: scores with standard errors, and a dash for unknown values."""
    scores = [show(model.scores.get(key), axis.digits) for key, axis in axes.items()]
    scores[0] += f" ({own_accuracy(model)})" if model.own_accuracy else ""
    images = str(model.scores["tolerance"].n or NONE) if "tolerance" in model.scores else NONE
    health = MASKED if model.masked else "ok" if model.summary.get("health") else NONE
    return [model.name, model.family, model.source, scores[0], scores[1], median(model), *scores[2:], images, health]


def show(score: Score | None, digits: int) -> str:
    """Format a score with its standard error.

    >>> show(Score(2.3456, 0.012), 3), show(Score(float("inf")), 1)
    ('2.346 ± 0.012', '∞')
    """
    if score is None or np.isnan(score.value):
        return NONE
    value = "∞" if np.isinf(score.value) else f"{score.value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return value if np.isnan(score.se) else f"{value} ± {score.se:.{digits}f}"


def own_accuracy(model: Model) -> str:
    """Return the origin of an accuracy that the given table lacks; empty otherwise."""
    return "" if not model.own_accuracy else "measured" if model.results is not None else "from another table"


def estimate(value: float, low: float, high: float, digits: int = 3, sign: str = "-") -> str:
    """Format a number with its interval, if known; ``sign`` is "+" for differences.

    >>> estimate(0.8245, 0.786, 0.855), estimate(0.5, np.nan, np.nan, sign="+"), estimate(np.nan, 0, 0) == NONE
    ('0.825 [0.786, 0.855]', '+0.500', True)
    """
    if np.isnan(value):
        return NONE
    shown = f"{value:{sign}.{digits}f}"
    if not np.isnan(low):
        shown += f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
    return shown.replace("-", "\N{MINUS SIGN}")


def correlation_text(correlation: Mapping[str, Any]) -> str:
    """Return a rank correlation as one line, or the reason why there is none.

    >>> correlation_text({"rho": 0.8245, "low": 0.786, "high": 0.855, "p": 6.5e-77, "n": 305})[11:]
    '= 0.825 [0.786, 0.855], p < 0.001, n = 305'
    """
    n = correlation["n"]
    if np.isnan(correlation["rho"]):
        reason = f"it takes {FEWEST_RANKED}" if n < FEWEST_RANKED else "a score is the same for all"
        return f"No rank correlation of {n} model{'' if n == 1 else 's'}: {reason}"
    p = f"p = {correlation['p']:.3f}" if correlation["p"] >= 0.001 else "p < 0.001"
    rho = estimate(correlation["rho"], correlation["low"], correlation["high"])
    return f"Spearman {RHO} = {rho}, {p}, n = {n}"


def median(model: Model) -> str:
    """Format the median radius of a measured model, infinite if most images were never fooled."""
    if model.results is None:
        return NONE
    return show(Score(float(model.summary["tolerance"]["median"]["value"])), AXES["tolerance"].digits)


def markdown(models: Sequence[Model]) -> str:
    """Return the table of models as Markdown."""
    first, *rows = model_table(models)
    kinds = ["---", "---", "---", *["---:"] * (len(first) - 4), "---"]
    return markdown_table([first, kinds, *([*map(escaped, row)] for row in rows)])


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table of rows: header, alignment of the columns, cells."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def latex(models: Sequence[Model]) -> str:
    """Return the table of models as LaTeX, for the ``booktabs`` package."""
    table = model_table(models)
    lines = [" & ".join(map(latex_text, cells)) for cells in table]
    columns = "lll" + "r" * (len(table[0]) - 4) + "l"
    rule, body = "\\midrule\n", "".join(f"{text} \\\\\n" for text in lines[1:])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]} \\\\\n{rule}{body}\\bottomrule\n\\end{{tabular}}\n"


def model_table(models: Sequence[Model], axes: Mapping[str, Axis] | None = None) -> list[list[str]]:
    """Return the table of models, header first; ``axes`` are its scores, None for all scores of any model."""
    axes = AXES | further_axes(models) if axes is None else axes
    return [header(axes), *(line(model, axes) for model in models)]


def comma_separated(models: Sequence[Model]) -> str:
    """Return all numbers of the table, unrounded, as CSV; an empty cell is an unknown number.

    ``head`` is own, zero-shot or probe, and empty for published scores. ``own_accuracy`` is the origin of an accuracy
    that the table of accuracies lacks; ``counted`` is 1 for the models in the correlations. A name that a spreadsheet
    would run as a formula is prefixed with ``'``.
    """
    ends = ("value", "se", "low", "high", "n")
    counts = [f"n_{status}" for status in STATUSES]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ["model", "architecture", "family", "source", "control", "masked", "head", "own_accuracy", "counted"]
    counted = set(map(id, comparable(models)))
    axes = AXES | further_axes(models)
    scores = [f"{axis}{'' if end == 'value' else '_' + end}" for axis in axes for end in ends]
    robust = [f"robust_accuracy_{eps:g}" for eps in BUDGETS]  # upper bounds, by our own attack
    writer.writerow([*names, *scores, "tolerance_median", *robust, *counts])
    for model in models:
        texts = (model.name, model.architecture, model.family, model.source, model.control or "")
        head = "" if model.results is None else text_cell(source_key(model.results.summary)[1])
        cells = [*map(text_cell, texts), int(model.masked), head, own_accuracy(model), int(id(model) in counted)]
        known = [getattr(model.scores[axis], end) if axis in model.scores else np.nan for axis in axes for end in ends]
        tolerance = model.summary.get("tolerance", {})
        middle = tolerance.get("median", {}).get("value", np.nan)
        shares = {share["eps"]: share["value"] for share in robust_of(model)}
        budgets = [shares.get(eps, np.nan) for eps in BUDGETS]
        writer.writerow(
            [*cells, *map(_plain, [*known, middle, *budgets]), *(tolerance.get(count, "") for count in counts)]
        )
    return buffer.getvalue()


def robust_markdown(models: Sequence[Model]) -> str:
    """Return the share of images still correct at fixed budgets as Markdown, for the measured models."""
    if all(model.results is None for model in models):
        return "No model was measured here, and published scores do not include robust accuracy.\n"
    head = ["Model", "Attack", *(f"L2 {eps:g}" for eps in BUDGETS), "Images", "Failed"]
    rows = [head, ["---", "---", *["---:"] * (len(BUDGETS) + 2)]]
    for model in models:
        if shares := robust_of(model):
            known = {share["eps"]: show(Score(100 * share["value"], 100 * share["se"]), 1) for share in shares}
            cells = [known.get(eps, NONE) for eps in BUDGETS]
            counts = [str(shares[0]["n"]), str(shares[0]["n_failed"])]
            rows.append([escaped(model.name), escaped(model.source), *cells, *counts])
    return f"Correct (%) at an L2 budget. {BOUND[0].upper()}{BOUND[1:]}.\n\n{markdown_table(rows)}"


def robust_of(model: Model) -> list[Summary]:
    """Return a measured model's robust accuracy at the budgets; empty for published scores."""
    return [] if model.results is None else model.results.robust_accuracy


def escaped(text: str) -> str:
    """Escape text for a cell of a Markdown table, as one line."""
    return re.sub(r"([|\\`*_<>\[\]])", r"\\\1", one_line(text))


def latex_text(text: str) -> str:
    """Escape text for LaTeX, as one line."""
    return "".join(LATEX.get(letter, letter) for letter in one_line(text))


def one_line(text: str) -> str:
    """Replace line breaks and other nonprintable characters by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _plain(value: float) -> str:
    """Format a number so that it round-trips exactly; NaN is empty."""
    return "" if value != value else repr(value) if isinstance(value, int) else repr(float(value))


def pairs_markdown(comparisons: list[Comparison]) -> str:
    """Return pairs as a Markdown table: each score of both models, and the paired difference of tolerance."""
    if not comparisons:
        return "No pairs: no control has a harmonized model; name two models with --compare A B.\n"
    axes = {key: axis for key, axis in AXES.items() if any(key in pair.b.scores for pair in comparisons)}
    titles = ["Pair", *(axis.short for axis in axes.values())]
    titles.insert(3, "Paired difference, 95 %")
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for pair in comparisons:
        cells = [
            f"{show(pair.a.scores.get(key), axis.digits)} → {show(pair.b.scores.get(key), axis.digits)}"
            for key, axis in axes.items()
        ]
        difference = pair.differences.get("tolerance")
        change = NONE
        if difference:
            interval = estimate(difference["mean"], difference["low"], difference["high"], sign="+")
            change = f"{interval}, n = {difference['n']}"
        cells.insert(2, change)
        lines.append([f"{escaped(pair.a.name)} → {escaped(pair.b.name)}", *cells])
    return markdown_table(lines)


def inserted(path: Path, table: str) -> str:
    """Return the text of a Markdown file with a table inserted between its marks.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file does not contain each of the two marks once.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a Markdown file at {path}, got none")
    text = path.read_text(encoding="utf-8")
    if len(MARKS.findall(text)) != 1:
        raise ValueError(f"{path}: expected {BEGIN} and {END} once each, for the table between them")
    return MARKS.sub(lambda _: f"{BEGIN}\n\n{table}\n{END}", text)
