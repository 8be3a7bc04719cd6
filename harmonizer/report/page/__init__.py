"""The web page: one file that needs no network, made of a template, a style, scripts and the data."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from harmonizer.report.data import Model, Source
from harmonizer.report.page.payload import payload
from harmonizer.report.paired import Comparison

SCRIPTS = ("core.js", "plot.js", "panel.js", "sections.js", "main.js")  # in this order


def page_html(
    models: Sequence[Model],
    sources: Sequence[Source],
    correlations: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    *,
    title: str,
    notes: Sequence[str],
    titles: Mapping[str, str],
    grid: tuple[Sequence[Model], Sequence[str]],
) -> str:
    """Write the page.

    Names cannot become markup: the data are JSON without ``<``, the script only ever makes text of them, and the page's
    own policy lets no other script run and nothing be fetched.

    Args:
        models: All of them.
        sources: Of the models' scores.
        correlations: As ``statistics.json`` holds them.
        comparisons: Of pairs of models.
        title: Of the page.
        notes: Shown on top.
        titles: Of axes, in place of those of ``AXES``.
        grid: Models and images of the grid of examples; no images for the first ones that the models share.

    Returns:
        HTML.
    """
    content = payload(models, sources, correlations, comparisons, notes=notes, titles=titles, grid=grid)
    script = "\n".join(_part(name) for name in SCRIPTS)
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    names = ", ".join(source.name for source in sources)
    return Template(_part("template.html")).substitute(
        title=html.escape(title),
        lead=html.escape(f"{len(models)} model{'' if len(models) == 1 else 's'}. Measured with: {names}."),
        style=_part("style.css"),
        data=text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _part(name: str) -> str:
    """Read one of the files that the page is made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
