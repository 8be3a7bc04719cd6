"""Further scores on the page in headless Chromium: axes, leaderboard, downloads, print. Run with ``-m slow``."""

import csv
import io
import json
import time
from pathlib import Path

import pytest
from further_scores import add_behaviour, add_scores
from pypdf import PdfReader

from harmonizer.report.__main__ import main

pytestmark = pytest.mark.slow
NAMES = ("fel2022", "linsley2023", "feng2025", "onevision2026", "onevision2026_topk", "onevision2026_null")
NONE = "\N{EN DASH}"
HEADS = "all('#models thead th').map((head) => head.innerText)"


@pytest.fixture(scope="module")
def page(make, tmp_path_factory):
    """Write a report of six models: five have every named score, four have behaviour. Return its page."""
    folder = tmp_path_factory.mktemp("further")
    for i in range(6):
        at = make(folder / f"m{i}", f"resnet{18 + i}.a1_in1k", tolerance=1 + i, accuracy=0.6 + 0.05 * i, images=30)
        if i:
            add_scores(at, dict.fromkeys(NAMES, 0.1 + 0.04 * (3 * i % 5)))
        if i > 1:
            add_behaviour(at, 0.1 + 0.05 * i, 0.9 - 0.1 * i)
    assert main([str(folder), "--out", str(folder / "out")]) == 0
    return folder / "out" / "index.html"


def test_further_scores_are_sortable_columns(tab):
    heads = tab.run(HEADS)
    titles = ("fel2022", "onevision2026, mean of ratios", "onevision2026 top k", "onevision2026 null", "Shape bias")
    assert all(title in heads for title in titles)
    assert not any("other ceiling" in head for head in heads)
    tab.run("document.querySelector('#models th[data-name=shape_bias] button').click()")
    assert tab.run("listed().map((m) => m.name.slice(6, 8))") == ["20", "21", "22", "23", "18", "19"]
    assert tab.run("all('#models tbody tr').map((row) => row.cells[0].innerText)") == [*"1234", NONE, NONE]
    assert tab.run("document.querySelectorAll('#further dt').length") == 11
    assert "share of ClickMe v2's ceiling" in tab.text("further")
    assert "12800 answers of 10 people" in tab.run("document.querySelector('.note').innerText")


def test_a_further_score_is_an_axis_with_its_own_correlation(tab, page):
    found = {(r["x"], r["y"]): r for r in json.loads((page.parent / "statistics.json").read_text())}
    for x, y, n in (("accuracy", "onevision2026", 5), ("tolerance", "error_consistency", 4)):
        tab.choose("x", x)
        tab.choose("y", y)
        record, text = found[x, y], tab.text("correlation")
        assert record["n"] == n and text.startswith(f"{n} of 6 models; ")
        assert f"= {record['rho']:.3f}".replace("-", "\N{MINUS SIGN}") in text and f"n = {n}" in text
        p = "< 0.001" if record["p"] < 0.001 else f"= {record['p']:.3f}"
        assert f"p {p}" in text  # the report's own statistics
        assert tab.run("points.length") == n
    assert "Error consistency (Cohen's kappa)" in tab.run("plot.textContent")


def test_downloads_include_further_scores(tab):
    tab.run("document.getElementById('save-table').click()")
    path, deadline = Path(tab.downloads) / "models.csv", time.monotonic() + 15
    while not path.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {row["error_consistency_n"] for row in rows} == {"", "1280"}
    assert sum(row["onevision2026_mean_of_ratios"] != "" for row in rows) == 5


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_not_wider_than_the_window(tab, width):
    tab.size(width, 844)
    tab.driver.execute_script("select(models[5])")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelector('.tall').classList.contains('more')")
    assert "Error consistency (kappa)" in tab.text("panel")


def test_axe_finds_no_violation(tab, axe):
    tab.cdp("Runtime.evaluate", {"expression": axe})
    tab.driver.set_script_timeout(120)
    script = "axe.run(document, {resultTypes: ['violations']}).then((r) => arguments[0](r.violations))"
    assert [(found["id"], found["help"]) for found in tab.driver.execute_async_script(script)] == []


def test_the_printed_table_has_every_column(tab):
    sheets = PdfReader(io.BytesIO(tab.pdf())).pages
    (table,) = [sheet for sheet in sheets if "Leaderboard" in sheet.extract_text()]
    assert table.mediabox.width > table.mediabox.height  # a wide table on a landscape sheet
    text = "".join(table.extract_text().split())
    for part in ("fel2022", "linsley2023", "onevision2026topk", "onevision2026null,meanofratios", "Shapebias"):
        assert part in text, part
    assert {sheet.mediabox.width < sheet.mediabox.height for sheet in sheets} == {True, False}
