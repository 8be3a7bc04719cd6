"""External tables: columns, citations, joins, and clear errors."""

import csv
import json
import re

import pytest
from matplotlib.collections import PathCollection

from harmonizer.report.__main__ import main
from harmonizer.report.data import load_models
from harmonizer.report.published import read_accuracy, read_external, with_accuracy
from harmonizer.report.scatter import OWN_AREA, scatter
from harmonizer.report.style import styled
from harmonizer.results import find_results

TABLE = """\
# citation: Someone 2030, Journal
model,pt,aa,pt_sem,aa_sem,family,control
resnet50.a1,1.5,0.2,0.1,0.01,,
vit_x,2.5,-0.1,0.2,0.02,hybrid,
resnet50 harmonized,3.5,0.6,0.2,0.02,harmonized,resnet50.a1
"""


def write(path, text):
    path.write_text(text)
    return path


def test_a_table_is_a_source_with_families_citation_and_pairs(tmp_path):
    models, source = read_external(write(tmp_path / "someone.csv", TABLE))
    assert source.name == "Someone 2030"
    assert source.citation == "Someone 2030, Journal"
    assert [model.family for model in models] == ["CNN", "hybrid", "harmonized"]
    assert models[2].control == "resnet50.a1"
    assert "accuracy" not in models[0].scores
    tolerance = models[0].scores["tolerance"]
    assert (tolerance.value, tolerance.se) == (1.5, 0.1)
    assert (tolerance.low, tolerance.high) == pytest.approx((1.5 - 0.196, 1.5 + 0.196), abs=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.5", "much", "line 3, column pt: expected a number, got 'much'"),
        ("1.5", "inf", "line 3, column pt"),
        ("pt_sem", "sem", "pt_sem is missing"),
        ("vit_x", "resnet50.a1", "line 4, column model: expected each model once"),
        ("hybrid", "cyborg", "line 4, column family: expected one of CNN"),
        ("hybrid,", "hybrid,nobody", "column control: expected a model of the table, got 'nobody'"),
        ("2.5,-0.1,", "2.5,", "line 4: expected 7 cells"),
    ],
)
def test_a_damaged_table_names_line_and_column(tmp_path, old, new, message):
    path = write(tmp_path / "someone.csv", TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_external(path)
    assert str(path) in str(error.value)


def test_missing_empty_and_out_of_range_tables_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table at .*nowhere\.csv"):
        read_external(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="at least one line"):
        read_accuracy(write(tmp_path / "timm.csv", "model,top1\n"))
    with pytest.raises(ValueError, match=r"expected 0 to 100 %, got 180 for x"):
        read_accuracy(write(tmp_path / "timm.csv", "model,top1\nx,180\n"))


def test_accuracy_is_matched_by_name_and_the_rest_is_listed(tmp_path):
    models, _ = read_external(write(tmp_path / "someone.csv", TABLE))
    accuracy = read_accuracy(write(tmp_path / "timm.csv", "model,img_size,top1\nvit_x,224,81.5\nother,224,70\n"))
    matched, unmatched = with_accuracy(models, accuracy)
    assert [model.value("accuracy") for model in matched][1] == 81.5
    assert unmatched == ["resnet50.a1", "resnet50 harmonized"]


def test_a_trained_model_gets_no_published_accuracy(zoo):
    models, _ = load_models(find_results([zoo]))
    matched, unmatched = with_accuracy(models, {"convnext_tiny": 82.0, "resnet18.a1_in1k": 71.0})
    values = {model.name: model.value("accuracy") for model in matched}
    assert values["resnet18.a1_in1k"] == 71
    assert unmatched == []
    before = {model.name: model.scores["accuracy"] for model in models}
    for model in matched:
        assert model.own_accuracy == (model.name != "resnet18.a1_in1k")
        if model.own_accuracy:
            assert model.scores["accuracy"] == before[model.name]


def test_own_accuracies_stay_in_the_report_and_are_marked(zoo, tmp_path, capsys):
    table = write(
        tmp_path / "timm.csv", "model,img_size,top1\nresnet18.a1_in1k,224,71\nmaxvit_tiny_tf_224.in1k,224,83\n"
    )
    assert main([str(zoo), "--accuracy", str(table), "--out", str(tmp_path / "out")]) == 0
    notes = capsys.readouterr().err
    assert "The table of accuracies covers 2 of 7 models." in notes
    assert "5 models not in that table: their own accuracy is shown and marked (" in notes
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines())}
    assert [row["own_accuracy"] for row in rows.values()].count("measured") == 5
    assert (rows["resnet18.a1_in1k"]["own_accuracy"], rows["resnet18.a1_in1k"]["accuracy_se"]) == ("", "")
    assert all(row["accuracy"] and row["counted"] == "1" for row in rows.values())
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert sum("(measured)" in line for line in lines) == 5
    found = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert {item["n"] for item in found} == {7}
    models, _ = with_accuracy(load_models(find_results([zoo]))[0], read_accuracy(table))
    with styled():
        figure = scatter(models, "accuracy", "tolerance")
    assert sum(len(points.get_offsets()) for points in dots(figure)) == 5
    assert any("accuracy\nmeasured" in text.get_text() for text in figure.legends[0].get_texts())
    with styled():
        assert sum(len(points.get_offsets()) for points in dots(scatter(models, "tolerance", "alignment"))) == 0


def dots(figure):
    markers = [points for points in figure.axes[0].collections if isinstance(points, PathCollection)]
    return [points for points in markers if list(points.get_sizes()) == [OWN_AREA]]


def test_the_2025_table_has_351_models_with_240_images_each(published):
    models, source = read_external(published / "feng2025_l2fmn.csv")
    assert len(models) == 351
    assert "Feng" in source.citation
    assert source.measure == ("feng2025", "decision animate") and "animate and inanimate" in source.protocol
    assert {model.scores["tolerance"].n for model in models} == {240}
    matched, unmatched = with_accuracy(models, read_accuracy(published / "timm_results_imagenet.csv"))
    assert (len(matched), len(unmatched)) == (351, 46)
