"""What figures state, and which models a correlation includes."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from harmonizer.report.data import Model, Score, comparable
from harmonizer.report.examples import choose_models, magnification_for, read_examples, relative, shared_keys
from harmonizer.report.grid import BOXES, qualitative_grid
from harmonizer.report.scatter import scatter
from harmonizer.report.sensitivity import correlations
from harmonizer.report.style import PlotOptions, styled
from harmonizer.report.survival import last_radius, survival_curves, survival_of
from harmonizer.report.tables import comma_separated


def published(source, name, **scores):
    return Model(name, name, "CNN", source, {axis: Score(value) for axis, value in scores.items()})


def test_models_without_a_score_are_not_correlated():
    with_accuracy = [published("a", str(i), accuracy=i, tolerance=i**2, alignment=-i) for i in range(4)]
    lacking = published("a", "lacking", tolerance=0.0, alignment=9.0)
    without = [published("b", str(i), tolerance=i, alignment=i) for i in range(5)]
    assert comparable([*with_accuracy, lacking, *without]) == [*with_accuracy, *without]
    found = {
        (item["x"], item["y"], item["source"], item["group"]): item
        for item in correlations([*with_accuracy, lacking, *without])
    }
    assert {group for *_, group in found} == {"all", "CNN"} and {item["n"] for item in found.values()} == {0, 4, 5}
    for group in ("all", "CNN"):
        assert found["accuracy", "tolerance", "a", group]["n"] == 4
        assert found["tolerance", "alignment", "a", group]["rho"] == pytest.approx(-1)
        assert found["tolerance", "alignment", "b", group]["rho"] == pytest.approx(1)


def test_points_outside_the_correlation_are_grey_with_a_legend():
    counted = [published("a", f"m{i}", accuracy=i, tolerance=i**2, alignment=-i) for i in range(5)]
    lacking = [published("a", f"l{i}", tolerance=3.0 + i, alignment=9.0) for i in range(2)]
    found = [item for item in correlations(counted + lacking) if item["group"] == "all"]
    with styled():
        figure = scatter(counted + lacking, "tolerance", "alignment", correlations=found[2:])
    grey = [
        points
        for points in figure.axes[0].collections
        if isinstance(points, PathCollection) and points.get_zorder() < 2
    ]
    assert sorted(map(tuple, grey[0].get_offsets())) == [(3.0, 9.0), (4.0, 9.0)]
    assert len(grey) == 1 and grey[0].get_facecolor().size == 0
    assert figure.axes[0].get_title(loc="left").endswith("n = 5")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "CNN (5)" in texts and any(text.startswith("grey: score missing") and "(2)" in text for text in texts)
    rows = {row["model"]: row["counted"] for row in csv.DictReader(io.StringIO(comma_separated(counted + lacking)))}
    assert [name for name, counts in rows.items() if counts == "0"] == ["l0", "l1"]


@pytest.mark.parametrize(
    ("n", "text"), [(1, "of 1 model: it takes 4"), (3, "of 3 models: it takes 4"), (4, "p = 0.083")]
)
def test_fewer_than_four_models_have_no_correlation(n, text):
    """Three models cannot show a rank correlation, four cannot show a significant one."""
    few = [published("a", str(i), accuracy=i, tolerance=i, alignment=i) for i in range(n)]
    found = correlations(few)
    with styled():
        title = scatter(few, "accuracy", "tolerance", correlations=found[:1]).axes[0].get_title(loc="left")
    assert text in title
    assert "[" not in title and ("p <" not in title)
    assert all(np.isnan(item["rho"]) and np.isnan(item["p"]) for item in found) == (n < 4)


def test_a_scatter_states_one_correlation_per_source(models):
    one = {"source": "pgd", "group": "all", "rho": 0.5, "low": 0.1, "high": 0.9, "p": 0.02, "n": 7}
    other = one | {"source": "ddn", "rho": -0.25, "n": 3}
    with styled():
        single = scatter(models, "accuracy", "tolerance", correlations=[one])
        several = scatter(models, "accuracy", "tolerance", correlations=[one, other], note="two protocols")
    assert "= 0.500 [0.100, 0.900], p = 0.020, n = 7" in single.axes[0].get_title(loc="left")
    assert [line.split(":")[0] for line in several.axes[0].get_title(loc="left").splitlines()] == ["pgd", "ddn"]
    assert several.get_supxlabel() == "two protocols"


def test_a_scatter_names_pairs_once_and_rings_masked_models(models):
    with styled():
        axes = scatter(models, "accuracy", "tolerance").axes[0]
    names = [text.get_text() for text in axes.texts]
    assert names.count("convnext_tiny") == 1 and "convnext_tiny control" not in names
    assert sum(type(patch).__name__ == "FancyArrowPatch" for patch in axes.patches) == 2
    markers = [points for points in axes.collections if isinstance(points, PathCollection)]
    rings = [points for points in markers if points.get_facecolor().size == 0]
    assert sum(len(ring.get_offsets()) for ring in rings) == 1


def test_survival_curves_start_at_the_accuracy_and_never_rise(models):
    for model in models:
        radii = np.linspace(0, last_radius(model), 50)
        share, n = survival_of(model, radii)
        assert 100 * share[0] == pytest.approx(model.value("accuracy"))
        assert n == 60 and (np.diff(share) <= 0).all()
    with styled():
        assert len(survival_curves(models).axes[0].lines) == 7


def test_the_grid_shows_pairs_and_states_its_magnification(models):
    chosen = choose_models(models)
    assert [model.family for model in chosen] == ["control", "harmonized"] * 2
    factor = magnification_for([e for model in chosen for e in read_examples(model).values()])
    with styled():
        figure = qualitative_grid(chosen, options=PlotOptions(attacked=True))
    texts = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    assert f"magnified {factor}\N{MULTIPLICATION SIGN}" in texts
    assert (len(figure.axes) - 1) % (2 + 2 * 4) == 0  # the last axes are the scale


def test_images_of_different_data_are_not_matched_by_name(models):
    examples = [read_examples(model) for model in models[:2]]
    shared = shared_keys(examples)
    assert len(shared) > 1
    examples[1][shared[0]] = replace(examples[1][shared[0]], data="other")
    assert shared_keys(examples) == shared[1:]


def test_examples_keep_their_radius(models):
    for key, example in read_examples(models[0]).items():
        columns = models[0].results.columns
        assert example.radius == pytest.approx(columns["l2"][columns["key"] == key][0], rel=0.05)  # clipped to [0,1]


def test_the_grid_shows_labels_maps_and_alignments(models):
    chosen = choose_models(models)
    with styled():
        figure = qualitative_grid(chosen)
    columns = (len(figure.axes) - 1) // (2 + len(chosen))
    examples = [read_examples(model) for model in chosen]
    keys = shared_keys(examples)[:columns]
    for i, key in enumerate(keys):
        first, head = examples[0][key], figure.axes[i]
        assert head.get_title() == first.label and first.category in ("animate", "inanimate")
        assert head.spines["left"].get_edgecolor()[:3] == pytest.approx(to_rgb(BOXES[first.category]))
        np.testing.assert_allclose(figure.axes[columns + i].images[0].get_array(), relative(first.human))
        attack = figure.axes[2 * columns + i]
        np.testing.assert_allclose(attack.images[0].get_array(), relative(first.perturbation))
        assert attack.get_xlabel().splitlines()[0] == f"→ {first.prediction}"
        columns_of = chosen[0].results.columns
        row = columns_of["key"].tolist().index(key)
        assert f"{columns_of['alignment'][row]:.2f}" in attack.get_xlabel().replace("\N{MINUS SIGN}", "-")


def test_a_relative_map_keeps_zero_and_divides_by_the_mean(models):
    heat = np.array([[0.0, 1.0], [2.0, 1.0]], np.float32)
    np.testing.assert_allclose(relative(heat), [[0, 1 / 6], [2 / 6, 1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(relative(7 * heat), relative(heat), rtol=1e-6)
    assert not relative(np.zeros((2, 2), np.float32)).any()


def test_images_alternate_between_animate_and_inanimate(models):
    alone = [model for model in models if model.family not in ("control", "harmonized")]
    chosen = choose_models(alone)
    assert len({model.family for model in chosen}) == len(chosen) > 1
    own = read_examples(models[0])
    labelled = {
        key: replace(example, category="animate" if i > 1 else "inanimate")
        for i, (key, example) in enumerate(own.items())
    }
    assert [labelled[key].category for key in shared_keys([labelled], most=2)] == ["animate", "inanimate"]
