"""The page's tooltip, labels and keyboard control, checked by positions on the screen."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
REACH = 24  # pixels from the pointer to the nearest edge of the tooltip
EDGES = "(({left, top, right, bottom}) => [left, top, right, bottom])"
BOX = f"{EDGES}(document.getElementById('tooltip').getBoundingClientRect())"


def check_tooltip(tab, x, y, name):
    """Check that the tooltip names the model, is inside the window and near the pointer, and is not too narrow."""
    assert not tab.run("document.getElementById('tooltip').hidden")
    assert name in tab.text("tooltip")
    left, top, right, bottom = tab.run(BOX)
    width, height = tab.run("[document.documentElement.clientWidth, document.documentElement.clientHeight]")
    assert left >= 0 and top >= 0 and right <= width and bottom <= height
    assert right - left >= 120 and bottom - top <= 260
    away = np.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom))
    assert away <= REACH, (away, (x, y), (left, top, right, bottom))


@pytest.mark.parametrize(("width", "height", "zoom"), [(1440, 900, 1), (1280, 720, 1.5), (800, 600, 1)])
def test_the_tooltip_is_shown_next_to_the_mouse(tab, width, height, zoom):
    tab.size(round(width / zoom), round(height / zoom), zoom)
    for which in ("a.x - b.x", "b.x - a.x", "a.y - b.y", "b.y - a.y"):  # the extremes, near the window's edges
        name = tab.run(f"[...points].sort((a, b) => {which})[0].model.name")
        x, y = tab.place(name)
        tab.mouse("mouseMoved", x + 1, y + 1)
        check_tooltip(tab, x + 1, y + 1, tab.run("state.focused.name"))
    text = tab.text("tooltip")
    for part in ("\N{PLUS-MINUS SIGN}", "Tolerance (L2)", "Accuracy (%)"):
        assert part in text, part
    tab.click(*tab.place("convnext_tiny harmonized"))  # the panel opens, the plot narrows
    x, y = tab.place("convnext_tiny harmonized")
    tab.mouse("mouseMoved", x, y)
    check_tooltip(tab, x, y, "convnext_tiny harmonized")
    assert "n = " in tab.text("tooltip") and "censored" in tab.text("tooltip")


def test_a_tap_shows_the_tooltip_and_a_second_one_selects(tab, page):
    tab.size(390, 844)
    tab.cdp("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        tab.open(page)
        x, y = tab.place("maxvit_tiny_tf_224.in1k")
        tab.tap(x, y)
        check_tooltip(tab, x, y, "maxvit_tiny_tf_224.in1k")
        assert tab.run("state.selected") is None
        tab.tap(x, y)
        assert tab.run("state.selected.name") == "maxvit_tiny_tf_224.in1k"
    finally:
        tab.cdp("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_the_keyboard_moves_selects_zooms_and_closes(tab):
    tab.driver.execute_script("plot.focus()")
    tab.press("ArrowRight", 39)
    first = tab.run("state.focused.name")
    tab.press("ArrowRight", 39)
    second = tab.run("state.focused.name")
    assert second != first
    assert tab.text("announce").startswith(second)
    tab.press("Enter", 13)
    assert tab.run("state.selected === state.focused")
    script = "(({x, y}, {left, top}) => [left + x, top + y])"
    focused = "points.find((p) => p.model === state.focused)"
    check_tooltip(tab, *tab.run(f"{script}({focused}, plot.getBoundingClientRect())"), second)
    full = tab.run("domains")
    tab.press("+", 187)
    assert tab.run("domains") != full
    tab.press("0", 48)
    assert tab.run("domains") == full
    tab.press("Escape", 27)
    assert tab.run("state.selected") is None and tab.run("document.getElementById('panel').hidden")


def test_every_control_can_be_reached_by_keyboard(tab):
    seen = []
    for _ in range(60):
        tab.press("Tab", 9)
        seen.append(tab.run("document.activeElement.id || document.activeElement.className"))
    for control in ("y", "x", "bars", "search", "log", "names", "plot", "zoom-in", "copy-link", "save-csv"):
        assert control in seen, control
    tab.driver.execute_script("document.querySelector('#models th button').focus()")
    tab.press("Enter", 13)
    assert tab.run("state.sort") == [["rank", False]]
    tab.driver.execute_script("document.querySelector('#models td a').focus()")
    tab.press("Enter", 13)
    assert tab.run("document.activeElement.id") == "panel" and tab.run("state.selected !== null")


def test_dragging_zooms_and_a_double_click_resets(tab):
    tab.driver.execute_script("plot.scrollIntoView({block: 'center', behavior: 'instant'})")
    left, top, width, height = tab.run(
        "(({left, top, width, height}) => [left, top, width, height])(plot.getBoundingClientRect())"
    )
    full = tab.run("domains")
    start, end = (left + 0.4 * width, top + 0.3 * height), (left + 0.7 * width, top + 0.6 * height)
    tab.mouse("mousePressed", *start, button="left", clickCount=1)
    tab.mouse("mouseMoved", *end, button="left", buttons=1)
    tab.mouse("mouseReleased", *end, button="left", clickCount=1)
    for (low, high), (inner_low, inner_high) in zip(full, tab.run("domains"), strict=True):
        assert low < inner_low < inner_high < high
    tab.click(*start)
    tab.click(*start, count=2)
    assert tab.run("domains") == full


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
@pytest.mark.parametrize("axes", [("accuracy", "tolerance"), ("accuracy", "alignment"), ("tolerance", "alignment")])
def test_a_label_is_nearest_to_its_point_or_has_a_line_to_it(tab, size, axes):
    tab.size(*size)
    for control, axis in zip("xy", axes, strict=True):
        tab.choose(control, axis)
    points = np.array(tab.run("points.map(({x, y}) => [x, y])"))
    leaders = tab.run("all('#plot .leader').map((l) => ['x1', 'y1', 'x2', 'y2'].map((k) => +l.getAttribute(k)))")
    script = """all('#plot .name').map((t) => { const {x, y, width, height} = t.getBBox();
        return [points.findIndex((p) => p.model.index === +t.dataset.model), x, y, x + width, y + height]; })"""
    found = tab.run(script)
    assert len(found) >= 3
    boxes = np.array([box for _, *box in found])
    for own, left, top, right, bottom in found:
        across = np.maximum(np.maximum(left - points[:, 0], points[:, 0] - right), 0)
        up = np.maximum(np.maximum(top - points[:, 1], points[:, 1] - bottom), 0)
        distance = np.hypot(across, up)
        led = any(np.hypot(*(points[own] - line[:2])) < 1 for line in leaders)
        assert led or distance[own] == distance.min(), (own, distance[own], distance.min())
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] + 2 or b[3] <= a[1] + 2  # names do not overlap
