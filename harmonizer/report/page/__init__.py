"""The web page: one file, made of a template, a style sheet, scripts and the data, that needs no network."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from harmonizer.report.data import Model
from harmonizer.report.finding import finding
from harmonizer.report.page import static
from harmonizer.report.page.payload import payload
from harmonizer.report.paired import TEST, Comparison
from harmonizer.report.ranks import own_models, ranks
from harmonizer.report.sources import Source
from harmonizer.report.style import PlotOptions
from harmonizer.report.templates import templates
from harmonizer.results.citations import citations
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import FEWEST_RANKED

SCRIPTS = ("core", "state", "caption", "labels", "plot", "pointer", "save", "cells", "panel", "tables", "main")


def page_html(
    models: Sequence[Model],
    sources: Sequence[Source],
    correlations: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    *,
    options: PlotOptions,
    notes: Sequence[str],
    titles: Mapping[str, str],
    grid: Sequence[Model],
    grid_note: str,
    categories: Mapping[str, str],
) -> str:
    """Return the page.

    Names cannot become markup: the template escapes values, the data are JSON without ``<``, the script inserts them as
    text only, and the content security policy allows no other script and no network access.

    Args:
        models: All models.
        sources: Sources of the models' scores.
        correlations: Correlations as ``statistics.json`` holds them.
        comparisons: Comparisons of pairs of models.
        options: Title, address, models to highlight and to name, and images of the grid.
        notes: Notes shown below the first plot.
        titles: Titles of axes, in place of those of ``AXES``.
        grid: Models of the grid of examples.
        grid_note: Caption of that grid.
        categories: Category of each class, "animate" or "inanimate".

    Returns:
        HTML.

    Raises:
        ValueError: No model has a name of ``options.own``.
    """
    mine = own_models(models, options.own)
    shown = (grid, options.images)
    content = payload(models, sources, correlations, comparisons, titles=titles, grid=shown, categories=categories)
    for model, described in zip(models, content["models"], strict=True):
        described |= {"own": True} if any(model is other for other in mine) else {}
        described |= {"named": True} if model.name in options.labels else {}
    table = static.model_table(models)
    content["order"] = table.order
    script = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    number = {id(model): i for i, model in enumerate(models)}
    return (
        templates()
        .get_template("page/template.html")
        .render(
            title=options.title,
            finding=finding(models, correlations, comparisons),
            address=options.address and options.address.rstrip("/") + "/",
            style=Markup(_part("style.css")),
            families=FAMILIES,
            sources=sources,
            definitions=static.definitions(models),
            further=static.further_definitions(models),
            charts=static.charts(models, titles),
            notes=notes,
            ranks=[(number[id(model)], found) for model in mine if (found := list(ranks(models, sources, [model])))],
            table=table,
            grid_note=grid_note,
            has_grid=content["grid"] is not None,
            pairs=[(pair.a.name, pair.b.name, static.pair_rows(pair)) for pair in comparisons],
            test=TEST,
            fewest=FEWEST_RANKED,
            correlations=static.correlation_rows(correlations, sources),
            correlated=any(item["rho"] == item["rho"] for item in correlations),
            facts=static.facts(models, sources),
            citation=citations({source.name: source.citation for source in sources if source.citation}),
            # safe as markup: JSON without "<", and the package's own files
            data=Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")),
            script=Markup(script),
            script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _part(name: str) -> str:
    """Read a file of the page."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
