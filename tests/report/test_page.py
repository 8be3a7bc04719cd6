"""The page in headless Chromium, opened from disk with 300 models: what it shows and how it responds.

Needs Chromium, its driver and selenium. Run with ``-m slow``.
"""

import csv
import itertools
import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonizer.report.__main__ import main

pytestmark = pytest.mark.slow
FIRST_PAINT = 2.0  # seconds
MINUS, NONE, RHO = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{GREEK SMALL LETTER RHO}"
CORRELATIONS = (
    "[...document.querySelectorAll('#correlations tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"
)
PAIRS = list(itertools.combinations(("accuracy", "tolerance", "alignment"), 2))


def test_the_page_opens_with_the_finding_and_the_whole_plot(tab, page):
    tab.size(1280, 720)
    tab.open(page)
    assert tab.run("document.querySelector('main').firstElementChild.id") == "finding"
    assert "Over 293 models of Table 2030, more accurate models are more tolerant" in tab.text("finding")
    assert tab.run("plot.getBoundingClientRect().bottom") <= 720
    assert tab.run("plot.getBoundingClientRect().height") >= 340
    text = tab.text("about")
    for part in ("share of the images", "L2 norm, in [0,1] pixel units", "attack ddn, L2 radius up to 10", "60 images"):
        assert part in text, part


def test_clicking_a_point_opens_its_images(tab):
    tab.click(*tab.place("maxvit_tiny_tf_224.in1k"))
    assert "Gradients look masked: 42 % of gradients are zero" in tab.text("panel")
    assert tab.run("document.querySelectorAll('#panel .small-plot').length") == 2  # histogram, survival curve
    wait(tab, "document.querySelectorAll('#panel canvas[data-painted]').length === 16")


def wait(tab, condition):
    deadline = time.monotonic() + 10
    while not tab.run(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_search_filters_the_table_and_highlights_in_the_plot(tab):
    tab.choose("search", "VIT_base_1", "input")
    shown = tab.run("listed().map((model) => model.name)")
    assert shown and all(name.startswith("vit_base_1") for name in shown)
    assert tab.text("correlation").startswith(f"{len(shown)} of 300 models")
    assert tab.text("count").startswith(f"{len(shown)} of 300 models")
    assert tab.run("document.querySelectorAll('use.point.faded').length") == 300 - len(shown)


def test_hiding_a_family_updates_the_correlation(tab):
    before = tab.text("correlation")
    tab.run("document.querySelector('[data-key=\"family CNN\"]').click()")
    after = tab.text("correlation")
    assert before.startswith("300 of 300") and not after.startswith("300")
    assert tab.run("points.every((p) => p.model.family !== 'CNN') && listed().every((m) => m.family !== 'CNN')")


def test_the_page_shows_the_correlations_of_the_statistics(tab, page):
    statistics = json.loads((page.parent / "statistics.json").read_text())
    found = {(i["x"], i["y"], i["source"]): i for i in statistics if i["group"] == "all"}
    for x, y in PAIRS:
        tab.choose("x", x)
        tab.choose("y", y)
        text = tab.text("correlation")  # never one number for both protocols
        for source in ("Table 2030", "ddn"):
            item = found[x, y, source]
            rho = f"{RHO} = {item['rho']:.3f}".replace("-", MINUS)
            assert any(rho in part and part.endswith(f"n = {item['n']} ({source})") for part in text.split("; ")), text
    rows = {(row[0], row[1]): row for row in tab.run(CORRELATIONS)}
    assert {group for _, group in rows} >= {"Table 2030, all", "Table 2030, CNN", "ddn, all", "masks, ddn"}
    assert not {"all", "CNN"} & {group for _, group in rows}


@pytest.fixture
def few(chromium, tmp_path):
    """Open a page of three models with all scores and one without accuracy; fail the test on console messages."""
    table = "model,pt,aa,pt_sem,aa_sem,top1\na,1,0.1,,,70\nb,2,0.2,,,80\nc,3,0.3,,,90\nlacking,9,-0.5,,,\n"
    (tmp_path / "table.csv").write_text(table)
    assert main(["--external", str(tmp_path / "table.csv"), "--out", str(tmp_path / "out")]) == 0
    chromium.size(1280, 900)
    chromium.complaints()
    chromium.open(tmp_path / "out" / "index.html")
    yield chromium
    assert chromium.complaints()[0] == []


def test_excluded_models_are_grey_and_three_do_not_correlate(few):
    assert few.text("correlation") == "3 of 4 models; no rank correlation of 3, it takes 4"
    few.choose("x", "tolerance")
    few.choose("y", "alignment")
    assert few.text("correlation").startswith("4 of 4 models; no rank correlation of 3, it takes 4; 1 grey: ")
    assert few.run("document.querySelectorAll('.point.uncounted').length") == 1
    assert "No rank correlation" in few.text("correlations") and few.run(CORRELATIONS) == []


@pytest.fixture(scope="module")
def published_page(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    arguments = ["--external", published / "feng2025_l2fmn.csv", "--accuracy", published / "timm_results_imagenet.csv"]
    assert main([*map(str, arguments), "--out", str(folder)]) == 0
    return folder / "index.html"


def test_every_published_correlation_is_shown_in_its_view(chromium, published_page):
    assert published_page.stat().st_size <= 300_000
    found = json.loads((published_page.parent / "statistics.json").read_text())
    chromium.size(1280, 720)
    chromium.open(published_page)
    assert chromium.text("finding").startswith(
        "Over 305 models, more accurate models are more tolerant (\N{GREEK SMALL LETTER RHO} 0.8"
    )
    families = chromium.run("data.families")
    for item in found:
        hidden = [f"family {family}" for family in families if item["group"] in families and family != item["group"]]
        state = "state.x = arguments[0]; state.y = arguments[1]; state.hidden = new Set(arguments[2]); changed()"
        chromium.driver.execute_script(state, item["x"], item["y"], hidden)
        rho, low, high = (f"{item[key]:.3f}".replace("-", MINUS) for key in ("rho", "low", "high"))
        assert f"{RHO} = {rho} [{low}, {high}], p" in chromium.text("correlation"), item
        assert f"n = {item['n']}" in chromium.text("correlation")


def test_axes_bars_and_scale_can_be_chosen(tab):
    bars = "[...document.querySelectorAll('#plot .bar.measured')].reduce((s, b) => s + b.getBBox().height, 0)"
    wide = tab.run(bars)
    for value, smaller in (("se", 0.8), ("", 0.01)):
        tab.choose("bars", value)
        assert tab.run(bars) < smaller * wide
    tab.choose("y", "feature_alignment")
    assert tab.text("correlation").startswith("7 of 300")
    tab.choose("y", "tolerance")
    linear = tab.run("points[0].y")
    tab.run("document.getElementById('log').click()")
    assert tab.run("points[0].y") != linear


def test_links_and_the_history_restore_the_view(tab, page):
    tab.choose("y", "alignment")
    tab.run("document.querySelector('[data-key=\"family CNN\"]').click()")
    tab.choose("search", "vit", "input")
    tab.run("select(models.find((m) => m.name === 'vit_base_7'))")
    tab.run("zoomTo([[61, 70], [0.1, 0.31]])")
    view = "[state.x, state.y, state.query, [...state.hidden], state.view, state.selected?.name, address()]"
    shown, address = tab.run(view), tab.run("location.hash")
    tab.driver.back()
    assert tab.run("state.view") is None and tab.run("state.selected.name") == "vit_base_7"
    tab.driver.back()
    assert tab.run("state.selected") is None and tab.run("document.getElementById('panel').hidden")
    tab.driver.forward()
    tab.driver.forward()
    assert tab.run(view) == shown
    tab.open(page, address)
    assert tab.run(view) == shown
    assert tab.run("document.getElementById('search').value") == "vit"
    assert "vit_base_7" in tab.text("panel")
    tab.open(page, "#x=constructor&y=../..&zoom=NaN,1,2,3&sort=-__proto__&model=nobody&bars=<b>&hide=")
    assert tab.run("[state.x, state.y, state.view, state.selected]") == ["accuracy", "tolerance", None, None]


def downloaded(tab, button, name):
    tab.run(f"document.getElementById('{button}').click()")
    deadline = time.monotonic() + 15
    while not (path := Path(tab.downloads) / name).is_file() or list(Path(tab.downloads).glob("*.crdownload")):
        assert time.monotonic() < deadline, name
        time.sleep(0.1)
    return path


def test_the_view_can_be_downloaded_and_copied(tab):
    tab.choose("search", "vit_base_1", "input")
    shown = tab.run("viewed().map((m) => m.name)")
    drawing = ET.parse(downloaded(tab, "save-svg", "tolerance-against-accuracy.svg")).getroot()
    texts = ["".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "Perturbation tolerance (L2 radius)" in texts
    assert drawing.find("{http://www.w3.org/2000/svg}desc").text == tab.run("captionText()")
    with Image.open(downloaded(tab, "save-png", "tolerance-against-accuracy.png")) as image:
        assert image.width > 2000 and len(np.unique(image.convert("L"))) > 20
    table = downloaded(tab, "save-csv", "tolerance-against-accuracy.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["model"] for row in rows] == shown
    assert float(rows[0]["tolerance"]) == tab.run("valueOf(viewed()[0], 'tolerance')")
    tab.driver.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    address = tab.run("location.href")
    assert address.endswith("#q=vit_base_1")
    buttons = {"#copy-link": address, "#copy-caption": tab.run("captionText()"), "#copy-citation": tab.text("citation")}
    for button, copied in buttons.items():
        tab.run(f"document.querySelector('{button}').click()")
        wait(tab, f"document.querySelector('{button}').textContent === 'Copied'")
        assert tab.run("copied").strip() == copied.strip()
    assert "Table 2030: as published" in tab.run("captionText()") and "95 % intervals" in tab.run("captionText()")


def test_the_leaderboard_sorts_with_missing_values_last(tab):
    head = "document.querySelector('#models th[data-name=\"{}\"] button')"
    for up in (False, True):
        tab.run(head.format("feature_alignment") + ".click()")
        values = tab.run("listed().map((m) => valueOf(m, 'feature_alignment'))")
        assert values[:7] == sorted(values[:7], reverse=not up) and values[7:] == [None] * 293
    tab.run(head.format("family") + ".click()")
    tab.run(head.format("tolerance") + ".dispatchEvent(new MouseEvent('click', {shiftKey: true}))")
    keys = tab.run("listed().map((m) => [m.family, -valueOf(m, 'tolerance')])")
    assert keys == sorted(keys)
    assert tab.run("location.hash") == "#sort=%2Bfamily%2C-tolerance"
    ranks = tab.run("all('#models tbody tr').map((r) => [models[r.dataset.model].source, +r.cells[0].textContent])")
    assert min(rank for _, rank in ranks) == 1 and max(rank for source, rank in ranks if source == "ddn") <= 7
    wide = tab.run("all('#models td.bars').map((c) => c.style.getPropertyValue('--b'))")
    assert len(wide) == 300 * 3 + 7


def test_own_models_are_ranked_and_highlighted(tab):
    assert tab.run("models.filter((m) => m.own).length") == 4  # those trained here
    text = tab.text("ranks")
    assert "convnext_tiny harmonized ranks, within Table 2030, " in text and " of 300 in tolerance with " in text
    assert tab.run("document.querySelectorAll('circle.halo').length") == 4
    assert tab.run("document.querySelectorAll('#models tr.mine').length") == 4


def test_a_name_that_looks_like_markup_is_text(tab):
    tab.run("select(models.find((m) => m.name.includes('script')))")
    assert "<script>alert(1)</script>" in tab.text("panel")
    assert tab.run("document.scripts.length") == 2


def test_pairs_are_compared_and_list_changed_images(tab):
    assert tab.run("document.querySelectorAll('#pairs article').length") == 2
    assert tab.run("document.querySelectorAll('#pairs article .pair tbody tr').length") == 16
    assert tab.run("all('#pairs .scroll').every((e) => e.scrollWidth <= e.clientWidth)")


def test_the_grid_shows_attack_and_map_at_any_magnification(tab):
    rows = tab.run("document.querySelectorAll('#cells tr').length")
    assert rows == 2 + 4
    wait(tab, "all('#cells canvas').every((c) => c.dataset.painted === c.dataset.asked)")
    ink = "all('#cells tr')[2].cells[1].firstElementChild.toDataURL()"
    seen = [tab.run(ink)]

    def settled():
        wait(tab, "all('#cells canvas').every((c) => c.dataset.painted === c.dataset.asked)")
        return tab.run(ink)

    tab.run("document.getElementById('shared').click()")
    seen.append(settled())
    for layer in ("attacked", "image"):
        tab.choose("layer", layer)
        seen.append(settled())
    tab.choose("layer", "attacked")
    tab.choose("magnification", "6", "input")
    seen.append(settled())
    assert tab.text("magnified") == "\N{MULTIPLICATION SIGN} 64"
    assert len(set(seen)) == 5
    assert "radius" in tab.text("cells") and RHO in tab.text("cells")


def test_the_settings_of_the_grid_are_kept_in_the_url(tab, page):
    switches = "[state.layer, state.shared, timesOf(state.magnification), address()]"
    opened = tab.run(switches)
    assert opened[-1] == "" and tab.text("magnified").startswith(f"\N{MULTIPLICATION SIGN} {opened[2]:g}")
    tab.run("document.getElementById('shared').click()")
    tab.choose("layer", "attacked")
    tab.choose("magnification", "6", "input")
    tab.choose("magnification", "6")
    shown, address = tab.run(switches), tab.run("location.hash")
    assert shown == ["attacked", "0", 64, "layer=attacked&shared=0&magnification=64"] and address == f"#{shown[-1]}"
    tab.driver.back()
    assert tab.run("[state.layer, document.getElementById('layer').value, drawn.split(',')[0]]") == ["map"] * 3
    tab.open(page, address)
    assert tab.run(switches) == shown and tab.text("magnified") == "\N{MULTIPLICATION SIGN} 64"
    wait(tab, "all('#cells canvas').every((c) => c.dataset.painted === c.dataset.asked)")
    assert tab.run("all('#cells tr')[2].cells[1].firstElementChild.dataset.painted") == "attacked 64 false"
    for wrong in ("0", "1000", "-1", "x", "1e9", "Infinity"):
        tab.open(page, f"#layer=__proto__&shared=2&magnification={wrong}")
        assert tab.run(switches) == opened


def test_the_first_paint_takes_less_than_two_seconds(tab):
    """Measured in the browser's own trace."""
    wait(tab, "performance.getEntriesByType('paint').length > 0")
    time.sleep(0.5)
    found = {}
    for entry in tab.driver.get_log("performance"):
        event = json.loads(entry["message"])["message"]["params"]
        if event.get("name") == "navigationStart" and "index.html" in json.dumps(event):
            found["start"] = event["ts"]
        elif event.get("name") == "firstContentfulPaint":
            found["paint"] = event["ts"]
    assert (found["paint"] - found["start"]) / 1e6 < FIRST_PAINT
