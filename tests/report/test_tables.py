"""The table of pairs and its insertion into a document; heads in the table of models."""

import csv
import json
import re
import shutil

import pytest

from harmonizer.report.__main__ import main
from harmonizer.report.build import read_models
from harmonizer.report.paired import compare, default_pairs
from harmonizer.report.tables import BEGIN, END, comma_separated, inserted, pairs_markdown


def test_a_row_holds_both_models_and_their_paired_difference(zoo):
    models, *_ = read_models([zoo], [], [])
    comparisons = [compare(a, b) for a, b in default_pairs(models)]
    head, _, first, second = pairs_markdown(comparisons).splitlines()
    assert head.split(" | ")[2:4] == ["Tolerance (L2)", "Paired difference, 95 %"]
    for pair, line in zip(comparisons, (first, second), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        a, b = (f"{model.scores['tolerance'].value:.3f}" for model in (pair.a, pair.b))
        assert re.fullmatch(rf"{a} ± [\d.]+ → {b} ± [\d.]+", cells[2])
        assert cells[3].startswith(f"{pair.differences['tolerance']['mean']:+.3f} [+")
        assert len(cells) == 6


def test_inserting_changes_only_the_text_between_the_marks(zoo, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nbelow\n")
    arguments = [str(zoo), "--out", str(tmp_path / "out"), "--insert", str(page)]
    assert main(arguments) == 0
    once = page.read_text()
    table = (tmp_path / "out" / "comparisons.md").read_text()
    assert once == f"# Title\n{BEGIN}\n\n{table}\n{END}\nbelow\n"
    page.write_text(inserted(page, table))
    assert page.read_text() == once


@pytest.mark.parametrize("text", [None, "no marks"])
def test_a_failed_insert_writes_nothing(zoo, tmp_path, capsys, text):
    page = tmp_path / "README.md"
    if text is not None:
        page.write_text(text)
    before = sorted(tmp_path.iterdir())
    assert main([str(zoo), "--out", str(tmp_path / "out"), "--insert", str(page)]) == 2
    assert "README.md" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_without_pairs_a_sentence_replaces_the_table(zoo, tmp_path):
    assert main([str(zoo / "resnet18"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "comparisons.md").read_text().startswith("No pairs: ")
    (tmp_path / "table.csv").write_text("model,pt,aa,pt_sem,aa_sem\nresnet50,1.5,0.2,0.1,0.01\n")
    assert main(["--external", str(tmp_path / "table.csv"), "--out", str(tmp_path / "published")]) == 0
    for name in ("comparisons.md", "robust_accuracy.md", "sensitivity.md"):
        assert "|---" not in (tmp_path / "published" / name).read_text()


def test_few_shared_images_give_a_difference_without_interval(make, tmp_path):
    for name, harmonize in (("a", False), ("b", True)):
        make(tmp_path / name, "vit", label=name, images=6, accuracy=1.0, training={"harmonize": harmonize, "seed": 0})
    models, *_ = read_models([tmp_path], [], [])
    (pair,) = [compare(a, b) for a, b in default_pairs(models)]
    cell = pairs_markdown([pair]).splitlines()[2].split(" | ")[3]
    assert re.fullmatch(r"[+\N{MINUS SIGN}][\d.]+, n = \d", cell)


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}" * 2])
def test_a_document_without_valid_marks_is_not_changed(tmp_path, text):
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"README\.md: expected <!-- results -->"):
        inserted(page, "table")
    assert page.read_text() == text
    with pytest.raises(FileNotFoundError, match="expected a Markdown file"):
        inserted(tmp_path / "nowhere.md", "table")


def test_the_table_shows_zero_shot_and_probe_heads(zoo, tmp_path):
    for label, head in {"clip": "zero-shot", "dino": "probe", "net": "own", "old": None}.items():
        path = shutil.copytree(zoo / "resnet18", tmp_path / label) / "summary.json"
        summary = json.loads(path.read_text())
        summary["model"] |= {"label": label} | ({} if head is None else {"head": head})
        path.write_text(json.dumps(summary))
    models, *_ = read_models([tmp_path], [], [])
    rows = {row["model"]: row["head"] for row in csv.DictReader(comma_separated(models).splitlines())}
    assert rows == {"clip": "zero-shot", "dino": "probe", "net": "own", "old": "own"}
    assert {model.source for model in models} == {"ddn", "ddn, zero-shot head", "ddn, probe head"}
