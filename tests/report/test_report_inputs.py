"""Reports on unusual, damaged or few results."""

import csv
import html
import json
import re
import shutil

import numpy as np
import pytest
import torch

from harmonizer.evaluation.sweep_failures import Failures
from harmonizer.report.__main__ import main
from harmonizer.statistics import Status, tolerance_summary


def test_two_protocols_are_two_sources_with_a_warning(zoo, make, tmp_path, capsys):
    make(tmp_path / "results" / "other", "resnet50", attack="linsley2023")
    shutil.copytree(zoo / "resnet18", tmp_path / "results" / "resnet18")
    assert main([str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    warning = "Scores of 2 protocols (ddn, linsley2023): only compare models of the same protocol."
    assert warning in capsys.readouterr().err.replace("linsley2023, ddn", "ddn, linsley2023")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Scores of 2 protocols" in page
    names = {row["source"] for row in csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines())}
    assert names == {"ddn", "linsley2023"}


def test_two_input_sizes_are_named_and_get_an_rms_axis(make, tmp_path, capsys):
    make(tmp_path / "results" / "small", "resnet18", size=24)
    assert main([str(tmp_path / "results"), "--out", str(tmp_path / "one")]) == 0
    assert "Input sizes differ" not in capsys.readouterr().err
    assert 'tolerance_rms":{' not in (tmp_path / "one" / "index.html").read_text()
    make(tmp_path / "results" / "large", "resnet50", size=48)
    assert main([str(tmp_path / "results"), "--out", str(tmp_path / "two")]) == 0
    assert (
        "Input sizes differ (24, 48 pixels), and the L2 norm of a perturbation grows with the size"
        in capsys.readouterr().err
    )
    page = (tmp_path / "two" / "index.html").read_text()
    content = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert "tolerance_rms" in content["axes"]
    for model in content["models"]:
        l2, rms = model["scores"]["tolerance"][0], model["scores"]["tolerance_rms"][0]
        assert rms == pytest.approx(255 * l2 / (3 * model["input"] ** 2) ** 0.5, rel=1e-4)


def test_models_that_could_not_be_measured_are_listed(zoo, tmp_path, capsys):
    place = tmp_path / "results"
    shutil.copytree(zoo / "resnet18", place / "resnet18")
    failures = Failures(place)
    failures.record("large/one", torch.OutOfMemoryError("CUDA out of memory <b>"))
    failures.record("unknown", ValueError("timm has no model 'unknown'"))
    assert main([str(place), "--out", str(tmp_path / "out")]) == 0
    expected = (
        "2 models could not be measured: large/one (out of memory: CUDA out of memory <b>); "
        "unknown (no such model: timm has no model 'unknown')."
    )
    assert f"note: {expected}" in capsys.readouterr().err
    page = (tmp_path / "out" / "index.html").read_text()
    assert expected in html.unescape(page) and "<b>" not in page.partition("could not be measured")[2][:200]
    (place / "failed" / "torn.json").write_text("{")
    assert main([str(place), "--out", str(tmp_path / "again")]) == 2
    assert "torn.json: expected JSON, got a damaged file" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_one_model_has_no_correlation(zoo, tmp_path):
    assert main([str(zoo / "resnet18"), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "statistics.json").read_text())
    assert [item["rho"] for item in found] == [None] * 3


def test_a_model_whose_images_all_failed_has_no_score(make, tmp_path):
    folder = make(tmp_path / "in" / "broken", "broken")
    table = (folder / "images.csv").read_text()
    (folder / "images.csv").write_text(re.sub(",(wrong|found|censored),", ",failed,", table))
    summary = json.loads((folder / "summary.json").read_text())
    status = [Status.FAILED] * summary["tolerance"]["n"]
    summary["tolerance"] = tolerance_summary(status, [0.0] * len(status), eps_max=10)
    (folder / "summary.json").write_text(json.dumps(summary).replace("NaN", "null"))
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    for name in ("table.md", "robust_accuracy.md", "sensitivity.md", "comparisons.md"):
        assert "nan" not in (tmp_path / "out" / name).read_text()
    page = (tmp_path / "out" / "index.html").read_text()
    (model,) = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])["models"]
    assert "survival" not in model  # null times 100 is 0 in JavaScript


def test_a_model_with_only_censored_images_shows_infinity(make, tmp_path):
    make(tmp_path / "in" / "tough", "tough", tolerance=1e6)
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert "∞" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "summary.json").write_text("{"), "summary.json: expected strict JSON"),
        (lambda folder: (folder / "summary.json").write_text('{"version": 1}'), "field model: missing"),
        (lambda folder: (folder / "images.csv").unlink(), "no table of images"),
        (lambda folder: (folder / "images.csv").write_text("key\n"), "images.csv, line 1: expected the columns"),
        (lambda folder: (folder / "examples.npz").write_bytes(b"PK"), "examples.npz: expected an archive"),
        (lambda folder: (folder / "summary.json").unlink(), "no results in"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_damaged_results_give_one_clear_line(zoo, tmp_path, capsys, damage, message):
    shutil.copytree(zoo / "resnet18", tmp_path / "results" / "resnet18")
    damage(tmp_path / "results" / "resnet18")
    path = tmp_path / "results" / "resnet18"
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and str(path) in error
    assert not (tmp_path / "out").exists()


def test_all_damaged_folders_are_named_at_once(zoo, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(zoo / "resnet18", tmp_path / name)
        (tmp_path / name / "summary.json").write_text("[]")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "a") in error and str(tmp_path / "b") in error


def test_a_report_without_inputs_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert "expected results folders or an --external table" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--grid", "--compare"])
def test_unknown_models_are_refused_and_known_ones_listed(zoo, tmp_path, capsys, option):
    names = ["nobody"] if option == "--grid" else ["nobody", "resnet18"]
    assert main([str(zoo), "--out", str(tmp_path), option, *names]) == 2
    error = capsys.readouterr().err
    assert "'nobody'" in error and "resnet18.a1_in1k" in error


def test_the_2025_tables_give_the_known_correlations(published, tmp_path):
    arguments = ["--external", published / "feng2025_l2fmn.csv", "--accuracy", published / "timm_results_imagenet.csv"]
    assert main([*map(str, arguments), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "statistics.json").read_text())
    overall = {(item["x"], item["y"]): item for item in found if item["group"] == "all"}
    for pair, rho, low, high in [
        (("accuracy", "tolerance"), 0.825, 0.784, 0.854),
        (("accuracy", "alignment"), -0.745, -0.778, -0.698),
        (("tolerance", "alignment"), -0.713, -0.762, -0.655),
    ]:
        item = overall[pair]
        assert (item["n"], round(item["rho"], 3)) == (305, rho)
        assert (item["low"], item["high"]) == pytest.approx((low, high), abs=0.006)
    assert not np.isnan(item["p"])
