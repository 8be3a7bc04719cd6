"""The ranking of models under other masks and attacks, and robust accuracy at fixed budgets."""

import csv

import numpy as np
import pytest
from scipy import stats

from harmonizer.report.__main__ import main
from harmonizer.report.data import load_models
from harmonizer.report.sensitivity import MASKS, alignment_of_mask, sensitivity, sensitivity_markdown
from harmonizer.report.tables import robust_markdown
from harmonizer.results import find_results
from harmonizer.statistics import NOISE_CEILING, Status

NAMES = ("resnet18", "resnet34", "resnet50", "vgg16")


@pytest.fixture(scope="module")
def both(make, tmp_path_factory):
    """Four models measured with two attacks; one attack swaps the ranks of two models."""
    folder = tmp_path_factory.mktemp("attacks")
    for i, name in enumerate(NAMES):
        make(folder / "ddn" / name, name, tolerance=1 + i, alignment=0.1 * (i + 1))
        swapped = {2: 3, 3: 2}.get(i, i)
        make(folder / "pgd" / name, name, tolerance=1 + swapped, alignment=0.1 * (i + 1), attack="pgd")
    return folder


def test_rankings_are_compared_between_masks_and_attacks(both):
    models, _ = load_models(find_results([both]))
    found = sensitivity(models)
    assert [record["group"] for record in found].count("masks, ddn") == 6  # pairs of four masks
    assert {(record["x"], record["y"]) for record in found if record["group"] == "attacks"} == {
        ("tolerance (ddn)", "tolerance (pgd)"),
        ("alignment (ddn)", "alignment (pgd)"),
    }
    assert {record["n"] for record in found} == {4}
    tolerance = next(record for record in found if record["x"] == "tolerance (ddn)")
    assert tolerance["rho"] == pytest.approx(0.8)  # 1 - 6 (0 + 0 + 1 + 1) / (4 x 15)
    for record in found:
        if record["group"] == "masks, pgd":
            masks = [name.split("(")[1][:-1] for name in (record["x"], record["y"])]
            means = [
                [np.nanmean(m.results.columns[MASKS[mask]]) for m in models if m.source == "pgd"] for mask in masks
            ]
            assert record["rho"] == pytest.approx(stats.spearmanr(*means).statistic)
    text = sensitivity_markdown(models, found)
    assert "| resnet18 | ddn | 0." in text
    assert "(4) |" in text


@pytest.fixture(scope="module")
def page(both, tmp_path_factory):
    """The report on the models of one attack, with alignment under the mask l2."""
    out = tmp_path_factory.mktemp("page")
    assert main([str(both / "ddn"), "--out", str(out), "--mask", "l2"]) == 0
    return out


def table_of(page):
    return list(csv.DictReader((page / "table.csv").read_text().splitlines()))


def test_the_report_uses_the_requested_mask(both, page):
    models, _ = load_models(find_results([both / "ddn"]))
    for row, model in zip(table_of(page), models, strict=True):
        gain = float(row["alignment"]) - model.value("alignment")
        assert gain == pytest.approx(0.15 / NOISE_CEILING)  # the offset of the made-up rows under this mask
        assert float(row["tolerance"]) == model.value("tolerance")
        assert float(row["alignment_low"]) < float(row["alignment"]) < float(row["alignment_high"])
        assert alignment_of_mask(model, "l2") == pytest.approx(float(row["alignment"]))
    assert "mask l2" in (page / "index.html").read_text()


def test_robust_accuracy_is_reported_as_an_upper_bound(both, page):
    models, _ = load_models(find_results([both / "ddn"]))
    text = (page / "robust_accuracy.md").read_text()
    assert text == robust_markdown(models)
    assert text.startswith("Correct (%) at an L2 budget. Upper bound")
    for row, model in zip(table_of(page), models, strict=True):
        status, radius = model.results.columns["status"], model.results.columns["l2"]
        for eps in (0.5, 1, 2, 3):
            still = (status == Status.CENSORED).sum() + ((status == Status.FOUND) & (radius > eps)).sum()
            assert float(row[f"robust_accuracy_{eps:g}"]) == pytest.approx(still / (status != Status.FAILED).sum())


def test_one_model_has_no_ranking(make, tmp_path):
    make(tmp_path / "one", "resnet18")
    models, _ = load_models(find_results([tmp_path]))
    assert sensitivity(models) == []
    assert "No rankings to compare" in sensitivity_markdown(models, [])
