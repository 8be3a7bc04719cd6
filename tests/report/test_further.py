"""Named alignments and behaviour in a report: columns only if a model has them, and never two measures in one."""

import csv
import json

import numpy as np
import pytest
from further_scores import add_behaviour, add_scores
from scipy.stats import spearmanr

from harmonizer.report.__main__ import main
from harmonizer.report.build import read_models
from harmonizer.report.further import FURTHER

NAMES = ("fel2022", "onevision2026", "onevision2026_topk", "onevision2026_null")
PUBLISHED = "0.65753, as published"  # a ceiling that is not ClickMe v2's


@pytest.fixture(scope="module")
def further(make, tmp_path_factory):
    """Six models of one attack and five of another; all but one of each have named scores, all have behaviour."""
    folder, scores = tmp_path_factory.mktemp("further"), {}
    for attack, count in (("ddn", 6), ("pgd", 5)):
        for i in range(count):
            at = make(folder / f"{attack}-{i}", f"resnet{attack}{i}", tolerance=1 + i, attack=attack, images=30)
            if i:
                means = dict.fromkeys(NAMES, 0.1 + 0.05 * (i * 3 % 5))
                scores[f"resnet{attack}{i}"] = add_scores(at, means, source=PUBLISHED if i == 1 else None)
            add_behaviour(at, 0.1 + 0.05 * (i * 2 % 5), 0.3 + 0.1 * i)
    assert main([str(folder), "--out", str(folder / "out")]) == 0
    return folder / "out", scores


def table_of(page):
    return {row["model"]: row for row in csv.DictReader((page / "table.csv").read_text().splitlines())}


def test_a_column_has_each_score_as_a_share_of_its_ceiling(further):
    page, scores = further
    rows = table_of(page)
    for name, blocks in scores.items():
        for score, block in blocks.items():
            other = "_other_ceiling" if score != "fel2022" and name.endswith("1") else ""
            assert float(rows[name][score + other]) == pytest.approx(block["mean"] / 0.44)
            assert float(rows[name][f"{score}{other}_low"]) == pytest.approx(block["low"] / 0.44)
            assert int(rows[name][f"{score}{other}_n"]) == 40
            if score != "fel2022":
                ratios = f"{score}{other}_mean_of_ratios"
                assert float(rows[name][ratios]) == pytest.approx(block["mean_of_ratios"]["mean"])
                without = f"{score}{'' if other else '_other_ceiling'}"
                assert rows[name][without] == rows[name][f"{without}_mean_of_ratios"] == ""
    assert rows["resnetddn0"]["fel2022"] == "" and rows["resnetddn0"]["shape_bias"] == "0.3"
    assert float(rows["resnetddn5"]["error_consistency"]) == pytest.approx(0.1)
    assert rows["resnetddn5"]["error_consistency_n"] == "1280"


def test_a_score_has_columns_only_if_a_model_has_it(further, zoo, tmp_path):
    page, _ = further
    heads = {name: (page / name).read_text().splitlines()[0] for name in ("table.md", "table.csv")}
    assert "onevision2026 top k, other ceiling" in heads["table.md"] and "Shape bias" in heads["table.md"]
    assert "onevision2026_topk_other_ceiling_mean_of_ratios_se" in heads["table.csv"]
    for score in ("linsley2023", "feng2025"):  # no model has these
        assert not any(score in head for head in heads.values())
    html = (page / "index.html").read_text()
    assert all(f"<dt>{FURTHER[name][0].short}</dt><dd>" in html for name in (*NAMES, "error_consistency"))
    assert "12800 answers of 10 people to 1280 images; people agree with each other at kappa 0.410" in html
    assert f"<dd>{PUBLISHED}; ClickMe v2, by harmonizer.data.ceilings; published, 0.65753</dd>" in html
    assert main([str(zoo), "--out", str(tmp_path)]) == 0
    for name in ("table.md", "table.csv", "index.html", "statistics.json"):
        assert not any(score in (tmp_path / name).read_text() for score in ("onevision", "shape_bias", 'id="further"'))


def test_a_correlation_uses_one_score_of_one_source(further):
    page, _ = further
    rows = list(table_of(page).values())
    found = [r for r in json.loads((page / "statistics.json").read_text()) if r["y"] in FURTHER]
    pairs = {(r["x"], r["y"], r["source"]) for r in found}
    assert {(r["group"], r["source"]) for r in found} == {("all", "ddn"), ("all", "pgd")} and len(pairs) == len(found)
    for record in found:
        both = [
            (float(row[record["x"]]), float(row[record["y"]]))
            for row in rows
            if row["source"] == record["source"] and row[record["y"]]
        ]
        assert record["n"] == len(both) >= 4
        assert record["rho"] == pytest.approx(spearmanr(*zip(*both, strict=True)).statistic)
    counts = {r["y"]: r["n"] for r in found if r["source"] == "ddn"}
    assert (counts["fel2022"], counts["onevision2026"], counts["shape_bias"]) == (5, 4, 6)
    assert not any("other_ceiling" in y for _, y, _ in pairs)  # only one model each
    assert ("accuracy", "onevision2026", "pgd") not in pairs  # only three models


def test_behaviour_with_other_weights_or_data_is_not_shown(make, tmp_path):
    for i in range(5):
        at = make(tmp_path / f"m{i}", f"resnet{i}", images=30)
        add_behaviour(at, 0.2, weights="cd" * 32 if i == 3 else "ab" * 32, data="34" * 32 if i == 4 else "12" * 32)
    models, _, notes = read_models([tmp_path], [], [])
    assert [model.name for model in models if "error_consistency" in model.scores] == ["resnet0", "resnet1", "resnet2"]
    assert "Not shown, because behaviour.json was measured with other weights than the results: resnet3." in notes
    assert any(note.endswith("uses other images or answers than that of most models: resnet4.") for note in notes)
    assert not any("shape_bias" in model.scores for model in models)  # no cue-conflict images


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected strict JSON"),
        ("[]", "expected fields weights_sha256"),
        ('{"weights_sha256": "ab"}', "field data_sha256: missing"),
        (None, "field error_consistency: expected a number, got 'high'"),
    ],
)
def test_damaged_behaviour_is_a_one_line_error(make, tmp_path, capsys, text, message):
    at = make(tmp_path / "one", "resnet50", images=30)
    content = add_behaviour(at, "high")
    (at / "behaviour.json").write_text(text or json.dumps(content))
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "behaviour.json" in line and message in line


def test_feng2025_is_not_repeated_for_its_own_attack(make, tmp_path):
    for decision in ("animate", None):
        at = make(tmp_path / str(decision), "resnet50", label=str(decision), images=30)
        add_scores(at, {"feng2025": 0.2, "future2030": 0.3})
        summary = json.loads((at / "summary.json").read_text())
        summary["protocol"] |= {"attack": "feng2025", "hash": str(decision)} | (
            {"decision": decision} if decision else {}
        )
        (at / "summary.json").write_text(json.dumps(summary))
    models = {model.name: model for model in read_models([tmp_path], [], [])[0]}
    assert "feng2025" not in models["animate"].scores and "alignment" in models["animate"].scores
    assert "feng2025" in models["None"].scores
    assert not any("future2030" in model.scores for model in models.values())


def test_a_damaged_mean_of_ratios_is_named(make, tmp_path):
    at = make(tmp_path / "one", "resnet50", images=30)
    add_scores(at, {"onevision2026": 0.2})
    summary = json.loads((at / "summary.json").read_text())
    summary["scores"]["onevision2026"]["mean_of_ratios"] = {"mean": "<b>"}
    (at / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=r"field scores\.onevision2026\.mean_of_ratios\.mean: expected a number"):
        read_models([at], [], [])


def test_an_undefined_score_has_no_column(make, tmp_path):
    at = make(tmp_path / "one", "resnet50", images=30)
    add_scores(at, {"onevision2026": np.nan})
    add_behaviour(at, None)
    (model,) = read_models([at], [], [])[0]
    assert not set(model.scores) & set(FURTHER)
