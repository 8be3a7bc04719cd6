"""Names in scatter plots: which are shown, and that each is nearest to its own point in the saved file."""

import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from harmonizer.report.data import Model, Score
from harmonizer.report.model_labels import check_labels
from harmonizer.report.scatter import scatter
from harmonizer.report.style import PlotOptions, save, styled


def cloud(count):
    """Make models whose scores lie in a dense cloud with a tail."""
    rng = np.random.default_rng(0)
    x, y = 80 + 4 * rng.normal(size=count), 2 + 0.3 * rng.normal(size=count) + rng.exponential(0.3, count)
    return [
        Model(
            f"some_model_{i:03d}_patch16_224.in1k",
            f"some_model_{i:03d}_patch16_224.in1k",
            ("CNN", "transformer")[i % 2],
            "a",
            {"accuracy": Score(x[i], 1, x[i] - 1, x[i] + 1), "tolerance": Score(y[i], 0.1, y[i] - 0.1, y[i] + 0.1)},
        )
        for i in range(count)
    ]


def geometry(figure):
    """Return the points (N,2) and the (name, box, text) of each label of a saved figure, in pixels."""
    axes = figure.axes[0]
    points = np.concatenate(
        [
            axes.transData.transform(group.get_offsets())
            for group in axes.collections
            if isinstance(group, PathCollection) and group.get_facecolor().size and len(group.get_offsets())
        ]
    )
    renderer, labels = figure.canvas.get_renderer(), []
    for text in axes.texts:
        text.update_positions(renderer)
        labels.append((text.get_text(), np.array(Text.get_window_extent(text, renderer).extents), text))
    return points, labels


@pytest.mark.parametrize("count", [9, 60, 300])
@pytest.mark.parametrize("width", [3.25, 7.2])
def test_a_saved_label_is_nearest_its_point_or_has_a_line(tmp_path, count, width):
    models = cloud(count)
    with styled():
        figure = scatter(models, "accuracy", "tolerance", options=PlotOptions(width=width))
        save(figure, tmp_path / "it")
    points, labels = geometry(figure)
    values = {model.name: [model.value("accuracy"), model.value("tolerance")] for model in models}
    assert len(labels) >= 3
    for name, box, text in labels:
        own = figure.axes[0].transData.transform(values[name])
        gap = np.linalg.norm(points - np.clip(points, box[:2], box[2:]), axis=1)
        mine = np.linalg.norm(own - np.clip(own, box[:2], box[2:]))
        nearest = gap.min() >= mine - 1e-6
        assert nearest or isinstance(text.arrow_patch, FancyArrowPatch), name
    for (_, a, _), (_, b, _) in combinations(labels, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    svg = (tmp_path / "it.svg").read_text()
    for name, box, _ in labels:  # the file has the name as text, at the measured position
        at = re.search(rf"translate\(([\d.]+) ([\d.]+)\)[^>]*>{re.escape(name)}</text>", svg)
        if at is None:
            at = re.search(rf'x="([\d.]+)" y="([\d.]+)"[^>]*>{re.escape(name)}</text>', svg)
        assert float(at[1]) * figure.dpi / 72 == pytest.approx(box[0], abs=4)


def test_a_dense_plot_names_extremes_and_requested_models():
    models = cloud(300)
    with styled():
        texts = {text.get_text() for text in scatter(models, "accuracy", "tolerance").axes[0].texts}
    top = max(models, key=lambda model: model.value("tolerance")).name
    assert top in texts and len(texts) < 30
    hidden = min(models, key=lambda m: abs(m.value("accuracy") - 80) + abs(m.value("tolerance") - 2.2)).name
    assert hidden not in texts
    with styled():
        options = PlotOptions(labels=[hidden])
        texts = {text.get_text() for text in scatter(models, "accuracy", "tolerance", options=options).axes[0].texts}
    assert hidden in texts


def test_a_requested_label_must_name_a_known_model():
    with pytest.raises(ValueError, match="expected --label to name a model, got 'some_model'; try some_model_0"):
        check_labels(cloud(9), ["some_model"])
    with pytest.raises(ValueError, match=r"got '###'; try some_\S+, some_\S+, some_\S+$"):  # similar to no name
        check_labels(cloud(9), ["###"])


def test_figures_have_the_requested_width_and_keep_text(tmp_path):
    for width in (3.25, 6.75):
        options = PlotOptions(width=width, font_size=8)
        with styled(8):
            save(scatter(cloud(20), "accuracy", "tolerance", options=options), tmp_path / "w")
        svg = (tmp_path / "w.svg").read_text()
        assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) == pytest.approx(72 * width)
        assert "Accuracy" in svg and "<text" in svg
        pdf = (tmp_path / "w.pdf").read_bytes()
        assert (b"/Type3" not in pdf and b"/TrueType" in pdf) or b"/CIDFontType2" in pdf
