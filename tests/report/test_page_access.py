"""Access to the page with assistive technology, on phones, in print, and without JavaScript; checks of its code."""

import io
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from pypdf import PdfReader

from harmonizer.report.page import SCRIPTS

pytestmark = pytest.mark.slow
TYPESCRIPT, PRETTIER = "typescript@5", "prettier@3.10.1"
MODELS = ("maxvit_tiny_tf_224.in1k", None)  # shown in the panel, or none


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(tab, axe, scheme, width):
    tab.size(width, 844)
    tab.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    tab.cdp("Runtime.evaluate", {"expression": axe})
    for name in MODELS:
        tab.driver.execute_script("select(models.find((m) => m.name === arguments[0]) || null)", name)
        tab.driver.set_script_timeout(120)
        script = "axe.run(document, {resultTypes: ['violations']}).then((r) => arguments[0](r.violations))"
        violations = tab.driver.execute_async_script(script)
        told = [(v["id"], v["help"], [node["html"][:200] for node in v["nodes"][:3]]) for v in violations]
        assert told == []
    tab.cdp("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [390, 768, 1280, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_sideways_or_lacks_contrast(tab, width, scheme):
    tab.size(width, 844)
    tab.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    tab.driver.execute_script("select(models.find((m) => m.name.includes('harmonized')))")
    assert tab.run("document.documentElement.scrollWidth") <= width
    for element in ("body", "#panel"):
        assert contrast(tab, element) > 7  # WCAG 2, level AAA
    wide = tab.run("all('.scroll, .tall').filter((e) => e.scrollWidth > e.clientWidth + 2)")
    assert all(tab.run("arguments[0].classList.contains('more')", box) for box in wide)  # the hint that the box scrolls
    assert wide or width > 600
    tab.cdp("Emulation.setEmulatedMedia", {"features": []})


def contrast(tab, element):
    """Return the contrast of an element's text and background as WCAG 2 defines it."""
    style = f"getComputedStyle(document.querySelector('{element}'))"
    both = tab.run(f"['color', 'backgroundColor'].map((name) => {style}[name].match(/\\d+/g).map(Number))")
    channels = np.array([color[:3] for color in both]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def test_printed_tables_are_whole_and_repeat_their_heads(tab, page):
    tab.size(703, 900)  # A4 between margins of 12 mm
    tab.cdp("Emulation.setEmulatedMedia", {"media": "print"})
    tab.open(page)
    assert tab.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert tab.run("all('table').filter((t) => t.getBoundingClientRect().right > innerWidth).map((t) => t.id)") == []
    assert tab.run("getComputedStyle(document.querySelector('#models thead')).display") == "table-header-group"
    assert tab.run("getComputedStyle(document.querySelector('#models thead th')).position") == "static"
    tab.cdp("Emulation.setEmulatedMedia", {"media": ""})
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(tab.pdf())).pages]
    assert 8 <= len(pages) <= 40
    rows = [i for i, text in enumerate(pages) if text.count("Table 2030") > 10]
    assert len(rows) > 5
    assert all("Protocol" in pages[i] and "Tolerance" in pages[i] for i in rows)  # the repeated head
    assert sum(text.count("maxvit_") for text in pages) >= 97


def test_figures_and_tables_are_shown_without_javascript(tab, page):
    tab.cdp("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        tab.size(1280, 900)
        tab.driver.get("about:blank")
        tab.driver.get(page.as_uri())
        document = tab.cdp("DOM.getDocument", {"depth": 0})["root"]["nodeId"]

        def count(selector):
            found = tab.cdp("DOM.querySelectorAll", {"nodeId": document, "selector": selector})
            return len(found["nodeIds"])

        assert count("#plot use") == 300
        assert count("svg.static use") == 600
        assert count("#models tbody tr") == 300
        assert count("#correlations tbody tr") > 3
        assert count("#pairs tbody tr") == 6
        assert count("#finding") == 1
    finally:
        tab.cdp("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_scripts_pass_type_and_format_checks(npm):
    modules = npm(TYPESCRIPT, PRETTIER)
    folder = files("harmonizer.report.page")
    scripts = [str(folder / f"{name}.js") for name in SCRIPTS]
    flags = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--target", "es2022", "--lib", "esnext,dom,dom.iterable"]
    for command in (
        [modules / ".bin" / "tsc", *flags, *scripts],
        [modules / ".bin" / "prettier", "--check", "--print-width", "120", *scripts],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
