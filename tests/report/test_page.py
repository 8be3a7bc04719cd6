"""The page in a headless browser, from disk, with 300 models: everything a reader can do with it.

Needs Chromium, its driver and selenium; skipped, with the reason, where they are not. Run with ``-m slow``.
"""

import json
import shutil
import time

import numpy as np
import pytest

from harmonizer.report.__main__ import main

pytestmark = pytest.mark.slow
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
PUBLISHED = 293  # with the seven measured ones: 300 models
FIRST_PAINT = 2.0  # seconds
ROWS = "[...document.querySelectorAll('#correlations tbody tr')]"
CORRELATIONS = f"{ROWS}.map((r) => [...r.cells].map((c) => c.textContent))"
MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


@pytest.fixture(scope="module")
def page(zoo, tmp_path_factory):
    """Write a report of seven measured and 293 published models."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    names = [f"{kind}_{i}" for i in range(98) for kind in ("resnet", "vit_base", "maxvit")][:PUBLISHED]
    lines = [
        f"{name},{1 + i / 100:.3f},{0.3 - i / 1000 + rng.normal() / 50:.4f},0.05,0.01,{60 + i / 12 + rng.normal():.2f}"
        for i, name in enumerate(names)
    ]
    (folder / "table.csv").write_text("model,pt,aa,pt_sem,aa_sem,top1\n" + "\n".join(lines) + "\n")
    arguments = [str(zoo), "--external", str(folder / "table.csv"), "--out", str(folder / "out")]
    assert main(arguments) == 0
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Start a browser with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in [*SWITCHES.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("perfLoggingPrefs", {"traceCategories": "loading,blink.user_timing"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def opened(browser, page):
    """Open the page afresh at desktop size; afterwards nothing may have been complained of or asked for."""
    resize(browser, 1280, 900)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "yes"
    yield browser
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} <= {page.as_uri()}


def resize(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def run(browser, script, *arguments):
    return browser.execute_script(f"return {script}", *arguments)


def pointer(browser, kind, x, y, **more):
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})


def click(browser, x, y):
    for kind in ("mousePressed", "mouseReleased"):
        pointer(browser, kind, x, y, button="left", clickCount=1)


def place(browser, name):
    """Return where on the screen a model's point is."""
    browser.execute_script("plot.scrollIntoView({block: 'center', behavior: 'instant'})")
    script = """(() => { const p = points.find((p) => p.model.name === arguments[0]), b = plot.getBoundingClientRect();
                return [b.left + p.x, b.top + p.y]; })()"""
    return run(browser, script.replace("arguments[0]", json.dumps(name)))


def type_into(browser, element, text):
    script = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))"
    )
    browser.execute_script(script, element, text)


def press(browser, key, code):
    for kind in ("keyDown", "keyUp"):
        event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", event | ({"text": key} if len(key) == 1 else {}))


def test_hovering_a_point_tells_its_scores_and_counts(opened):
    x, y = place(opened, "convnext_tiny harmonized")
    pointer(opened, "mouseMoved", x + 2, y)
    text = run(opened, "document.getElementById('tooltip').innerText")
    assert not run(opened, "document.getElementById('tooltip').hidden")
    for part in ("convnext_tiny harmonized", "±", "n = ", "found", "censored", "ddn"):
        assert part in text, part


def test_clicking_a_point_opens_its_images(opened):
    click(opened, *place(opened, "maxvit_tiny_tf_224.in1k"))
    text = run(opened, "document.getElementById('panel').innerText")
    assert "Gradients look masked: 42 % of gradients are zero" in text
    assert run(opened, "document.querySelectorAll('#panel .small-plot').length") == 2  # histogram, survival curve
    assert run(opened, "[...document.querySelectorAll('#panel img')].every((i) => i.complete && i.naturalWidth > 0)")
    assert run(opened, "document.querySelectorAll('#panel img').length") == 16


def test_search_keeps_the_matches_in_table_and_plot(opened):
    type_into(opened, "search", "VIT_base_1")
    shown = run(opened, "[...document.querySelectorAll('#table tbody .link')].map((e) => e.textContent)")
    assert shown and all(name.startswith("vit_base_1") for name in shown)
    assert f"{len(shown)} of 300 models shown" in run(opened, "document.getElementById('correlation').textContent")
    assert run(opened, "document.querySelectorAll('.point.faded').length") >= 300 - len(shown)


def test_a_family_can_be_hidden_and_the_correlation_follows(opened):
    before = run(opened, "document.getElementById('correlation').textContent")
    run(
        opened, "[...document.querySelectorAll('#families .chip')].find((e) => e.textContent.startsWith('CNN')).click()"
    )
    after = run(opened, "document.getElementById('correlation').textContent")
    assert before.startswith("300 of 300") and not after.startswith("300")
    assert run(opened, "points.every((p) => p.model.family !== 'CNN')")


def test_the_correlation_in_the_page_is_that_of_the_statistics(opened, page):
    found = json.loads((page.parent / "statistics.json").read_text())
    overall = next(item for item in found if (item["x"], item["y"], item["group"]) == ("accuracy", "tolerance", "all"))
    text = run(opened, "document.getElementById('correlation').textContent")
    assert text.endswith("across 2 protocols")
    assert float(text.split("= ")[1].split(" ")[0].replace(MINUS, "-")) == pytest.approx(overall["rho"], abs=6e-4)


@pytest.fixture
def few(browser, tmp_path):
    """Open the page of three models with all scores and one that has no accuracy; nothing may be complained of."""
    table = "model,pt,aa,pt_sem,aa_sem,top1\na,1,0.1,,,70\nb,2,0.2,,,80\nc,3,0.3,,,90\nlacking,9,-0.5,,,\n"
    (tmp_path / "table.csv").write_text(table)
    assert main(["--external", str(tmp_path / "table.csv"), "--out", str(tmp_path / "out")]) == 0
    resize(browser, 1280, 900)
    browser.get_log("browser")
    browser.get((tmp_path / "out" / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def test_three_models_have_no_correlation_in_the_page_and_a_fourth_that_does_not_count_is_grey(few):
    def text():
        return run(few, "document.getElementById('correlation').textContent")

    assert text() == "3 of 4 models shown, no rank correlation of 3 (it takes 4)"
    script = (
        "for (const [id, value] of [['x', 'tolerance'], ['y', 'alignment']]) { const e = document.getElementById(id);"
    )
    few.execute_script(script + " e.value = value; e.dispatchEvent(new Event('change')); }")
    assert text().startswith("4 of 4 models shown, no rank correlation of 3 (it takes 4); 1 grey: ")
    assert run(few, "document.querySelectorAll('.point.uncounted').length") == 1
    for row in run(few, CORRELATIONS):
        assert row[2:4] == [NONE, NONE] and row[5] == NONE


def test_the_published_models_have_one_number_in_chart_table_and_statistics(browser, published, tmp_path):
    arguments = ["--external", published / "feng2025_l2fmn.csv", "--accuracy", published / "timm_results_imagenet.csv"]
    assert main([*map(str, arguments), "--out", str(tmp_path)]) == 0
    found = {
        (item["x"], item["y"], item["group"]): item for item in json.loads((tmp_path / "statistics.json").read_text())
    }
    resize(browser, 1280, 900)
    browser.get((tmp_path / "report.html").as_uri())
    for x, y in (("accuracy", "tolerance"), ("accuracy", "alignment"), ("tolerance", "alignment")):
        script = f"for (const [id, value] of [['x', '{x}'], ['y', '{y}']]) {{ const e = document.getElementById(id);"
        browser.execute_script(script + " e.value = value; e.dispatchEvent(new Event('change')); }")
        text = run(browser, "document.getElementById('correlation').textContent")
        rho = f"{found[x, y, 'all']['rho']:.3f}".replace("-", MINUS)
        assert f"Spearman \N{GREEK SMALL LETTER RHO} = {rho} over 305" in text
        (row,) = [row for row in run(browser, CORRELATIONS) if row[0] == f"{x} {NONE} {y}" and row[1] == "all"]
        assert (row[2], row[6]) == (rho, "305")


def test_axes_bars_and_scale_can_be_chosen(opened):
    def choose(element, value):
        script = "const e = document.getElementById(arguments[0]); e.value = arguments[1]"
        opened.execute_script(f"{script}; e.dispatchEvent(new Event('change'))", element, value)

    bars = "document.querySelectorAll('#plot .bar').length"
    width = "[...document.querySelectorAll('#plot .bar.measured')].reduce((s, b) => s + b.getBBox().height, 0)"
    wide = run(opened, width)
    for value, smaller in (("se", 0.8), ("", 0.01)):
        choose("bars", value)
        assert run(opened, width) < smaller * wide
    assert run(opened, bars) == 0
    choose("y", "feature_alignment")
    assert "7 of 300" in run(opened, "document.getElementById('correlation').textContent")
    choose("y", "tolerance")
    linear = run(opened, "points[0].y")
    opened.execute_script("document.getElementById('log').click()")
    assert run(opened, "points[0].y") != linear


def test_dragging_zooms_and_a_double_click_returns(opened):
    opened.execute_script("plot.scrollIntoView({block: 'center', behavior: 'instant'})")
    box = run(opened, "(({left, top, width, height}) => [left, top, width, height])(plot.getBoundingClientRect())")
    full = run(opened, "domains")
    start, end = (box[0] + 0.4 * box[2], box[1] + 0.3 * box[3]), (box[0] + 0.7 * box[2], box[1] + 0.6 * box[3])
    pointer(opened, "mousePressed", *start, button="left", clickCount=1)
    pointer(opened, "mouseMoved", *end, button="left", buttons=1)
    pointer(opened, "mouseReleased", *end, button="left", clickCount=1)
    zoomed = run(opened, "domains")
    for (low, high), (inner_low, inner_high) in zip(full, zoomed, strict=True):
        assert low < inner_low < inner_high < high
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            pointer(opened, kind, *start, button="left", clickCount=count)
    assert run(opened, "domains") == full


def test_the_keyboard_moves_opens_zooms_and_closes(opened):
    opened.execute_script("plot.focus()")
    press(opened, "ArrowRight", 39)
    first = run(opened, "state.focused.name")
    press(opened, "ArrowRight", 39)
    assert run(opened, "state.focused.name") != first
    assert run(opened, "document.getElementById('announce').textContent").startswith(run(opened, "state.focused.name"))
    press(opened, "Enter", 13)
    assert run(opened, "state.selected === state.focused")
    full = run(opened, "domains")
    press(opened, "+", 187)
    assert run(opened, "domains") != full
    press(opened, "0", 48)
    assert run(opened, "domains") == full
    press(opened, "Escape", 27)
    assert run(opened, "state.selected") is None
    assert run(opened, "document.getElementById('panel').children.length") == 0


def test_the_table_sorts_both_ways_with_the_unknown_last(opened):
    header = "[...document.querySelectorAll('#table th button')].find((e) => e.textContent === 'Feature alignment')"
    cells = "[...document.querySelectorAll('#table tbody tr')].map((r) => r.cells[6].textContent)"
    for sign in (-1, 1):
        opened.execute_script(f"{header}.click()")
        values = [float(cell.split(" ")[0].replace(MINUS, "-")) for cell in run(opened, cells)[:7]]
        assert values == sorted(values, key=lambda value, sign=sign: sign * value)
        assert run(opened, cells)[7:] == [NONE] * PUBLISHED


def test_a_name_that_looks_like_markup_is_text(opened):
    opened.execute_script("select(models.find((m) => m.name.includes('script')))")
    assert "<script>alert(1)</script>" in run(opened, "document.getElementById('panel').innerText")
    assert run(opened, "document.scripts.length") == 2


def test_pairs_are_compared_and_list_what_changed(opened):
    assert run(opened, "document.querySelectorAll('#pairs article').length") == 2
    assert run(opened, "document.querySelectorAll('#pairs article .pair tbody tr').length") == 16
    assert run(opened, "document.querySelectorAll('#grid tr').length") == 10


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_sideways_and_text_can_be_read(opened, width, scheme):
    resize(opened, width, 844)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    opened.execute_script("select(models.find((m) => m.name.includes('harmonized')))")
    assert run(opened, "document.documentElement.scrollWidth") <= width
    for element in ("body", "#panel"):
        assert contrast(opened, element) > 7  # WCAG 2, level AAA
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(browser, element):
    """Return the contrast of an element's text and background as WCAG 2 defines it."""
    style = f"getComputedStyle(document.querySelector('{element}'))"
    both = run(browser, f"['color', 'backgroundColor'].map((name) => {style}[name].match(/\\d+/g).map(Number))")
    channels = np.array([color[:3] for color in both]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def test_print_drops_the_controls(opened):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert run(opened, "getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert run(opened, "getComputedStyle(document.querySelector('#table table')).display") != "none"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_first_paint_is_quick(opened):
    """Measured in the browser's own trace."""
    deadline = time.monotonic() + 10
    while not run(opened, "performance.getEntriesByType('paint').length") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    found = {}
    for entry in opened.get_log("performance"):
        event = json.loads(entry["message"])["message"]["params"]
        if event.get("name") == "navigationStart" and "report.html" in json.dumps(event):
            found["start"] = event["ts"]
        elif event.get("name") == "firstContentfulPaint":
            found["paint"] = event["ts"]
    assert (found["paint"] - found["start"]) / 1e6 < FIRST_PAINT
