"""Comparison of two models on the same images."""

import json

import numpy as np
import pytest
from scipy import stats

from harmonizer.evaluation.compare import show_comparison
from harmonizer.report.data import load_models
from harmonizer.report.page.static import facts
from harmonizer.report.paired import compare, default_pairs, named_pair
from harmonizer.results import find_results
from harmonizer.statistics import NOISE_CEILING, Status


def test_differences_equal_those_of_a_loop_over_images(models):
    a, b = named_pair(models, ["convnext_tiny control", "convnext_tiny harmonized"])
    pair = compare(a, b)
    first, second = (dict(zip(m.results.columns["key"], range(60), strict=True)) for m in (a, b))
    tolerance, alignment = [], []
    for key in first:
        i, k = first[key], second[key]
        one, two = a.results.columns, b.results.columns
        if one["status"][i] in (1, 2) and two["status"][k] in (1, 2):
            radii = [c["l2"][at] if c["status"][at] == Status.FOUND else 10 for c, at in ((one, i), (two, k))]
            tolerance.append(min(radii[1], 10) - min(radii[0], 10))
        if np.isfinite(one["alignment"][i]) and np.isfinite(two["alignment"][k]):
            alignment.append((two["alignment"][k] - one["alignment"][i]) / NOISE_CEILING)
    for score, expected in (("tolerance", tolerance), ("alignment", alignment)):
        found = pair.differences[score]
        assert found["n"] == len(expected)
        assert found["mean"] == pytest.approx(np.mean(expected))
        assert found["p"] == pytest.approx(stats.wilcoxon(expected).pvalue)


def test_the_images_that_changed_most_are_the_extremes(models):
    a, b = named_pair(models, ["resnet18", "vit_base_patch16_224 harmonized"])  # a folder's name works too
    pair = compare(a, b)
    difference = pair.values["tolerance"][1] - pair.values["tolerance"][0]
    listed = pair.most_changed("tolerance")
    assert difference[listed[0]] == np.nanmin(difference)
    assert difference[listed[-1]] == np.nanmax(difference)
    assert len(set(listed)) == len(listed) == 8


def test_only_a_control_and_its_harmonized_model_are_paired(models):
    assert [(a.architecture, b.architecture) for a, b in default_pairs(models)] == [
        ("convnext_tiny", "convnext_tiny"),
        ("vit_base_patch16_224", "vit_base_patch16_224"),
    ]


def test_pairs_share_the_radius_of_adversarial_training(make, tmp_path):
    for radius in (0.5, 1.0, 0.25):
        training = {"seed": 0, "adversarial": "pgd", "adversarial_eps": radius}
        make(tmp_path / f"pgd-{radius}", "a", label=f"pgd-{radius}", training=training | {"harmonize": False})
        if radius != 0.25:
            make(tmp_path / f"joint-{radius}", "a", label=f"joint-{radius}", training=training | {"harmonize": True})
    pairs = default_pairs(load_models(find_results([tmp_path]))[0])
    assert {(a.name, b.name) for a, b in pairs} == {("pgd-0.5", "joint-0.5"), ("pgd-1.0", "joint-1.0")}


def test_any_two_models_are_paired_when_there_are_only_two(models):
    two = [model for model in models if model.family in ("CNN", "hybrid")]
    assert len(default_pairs(two)) == 1
    assert default_pairs(two[:1]) == []


def test_models_of_different_protocols_are_not_compared(models, make, tmp_path):
    make(tmp_path / "x", "resnet50", attack="linsley2023")
    (other,), _ = load_models([tmp_path / "x"])
    with pytest.raises(ValueError, match="one protocol"):
        compare(models[0], other)


def test_alignments_are_shares_of_the_datas_own_ceiling(make, tmp_path):
    for name in ("resnet18", "resnet34"):
        make(tmp_path / name, name)
        path = tmp_path / name / "summary.json"
        summary = json.loads(path.read_text())
        summary["adversarial_alignment"] |= {"ceiling": 0.5, "ceiling_source": "measured here"}
        path.write_text(json.dumps(summary))
    (a, b), _ = load_models([tmp_path / "resnet18", tmp_path / "resnet34"])
    assert a.value("alignment") == pytest.approx(2 * a.results.summary["adversarial_alignment"]["mean"])
    difference = b.results.columns["alignment"] - a.results.columns["alignment"]
    assert compare(a, b).differences["alignment"]["mean"] == pytest.approx(2 * np.nanmean(difference))
    assert "measured here" in dict(facts([a, b], []))["Correlation between people"]


def test_the_printed_table_without_maps_has_dashes_not_nan(make, tmp_path, capsys):
    for name in ("a", "b"):
        make(tmp_path / name, "resnet18", label=name, images=5, accuracy=1.0)
        path = tmp_path / name / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"adversarial_alignment": None}))
    show_comparison(tmp_path / "a", tmp_path / "b")
    out = capsys.readouterr().out
    assert "nan" not in out and "[" not in out
    assert "\N{EN DASH}" in next(line for line in out.splitlines() if "adversarial alignment" in line)
