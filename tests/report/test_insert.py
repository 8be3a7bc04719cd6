"""The table of pairs, and its way into a document."""

import re

import pytest

from harmonizer.report.__main__ import main
from harmonizer.report.build import read_models
from harmonizer.report.insert import BEGIN, END, insert_table, pairs_markdown
from harmonizer.report.paired import compare, default_pairs


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


def test_only_what_is_between_the_marks_changes(zoo, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nbelow\n")
    arguments = [str(zoo), "--out", str(tmp_path / "out"), "--insert", str(page)]
    assert main(arguments) == 0
    once = page.read_text()
    table = (tmp_path / "out" / "comparisons.md").read_text()
    assert once == f"# Title\n{BEGIN}\n\n{table}\n{END}\nbelow\n"
    insert_table(page, table)
    assert page.read_text() == once


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}" * 2])
def test_a_document_without_the_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"README\.md: expected <!-- results -->"):
        insert_table(page, "table")
    assert page.read_text() == text
    with pytest.raises(FileNotFoundError, match="no Markdown file"):
        insert_table(tmp_path / "nowhere.md", "table")
