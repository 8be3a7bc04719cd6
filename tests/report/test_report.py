"""What the command writes, and that a repeated run writes the same bytes."""

import csv
import html
import io
import json
import re
import subprocess
import sys

import pytest
from scipy import stats

from harmonizer.cli import console
from harmonizer.report.__main__ import main
from harmonizer.report.data import Model, Score, load_models
from harmonizer.report.tables import comma_separated, latex, markdown
from harmonizer.results import find_results
from harmonizer.results.citations import citations

FIGURES = ("tolerance", "alignment", "tolerance-alignment", "survival", "grid")

TEXTS = (
    *("table.md", "table.csv", "table.tex", "statistics.json", "comparisons.json", "index.html"),
    *("comparisons.md", "sensitivity.json", "sensitivity.md", "robust_accuracy.md"),
)


@pytest.fixture(scope="module")
def report(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert main([str(zoo), "--out", str(out)]) == 0
    return out


def test_all_figures_and_tables_are_written(report):
    expected = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "svg", "txt", "tex")} | set(TEXTS)
    assert {path.name for path in report.iterdir()} == expected
    assert (report / "tolerance.png").read_bytes().startswith(b"\x89PNG")
    assert (report / "tolerance.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (report / "tolerance.svg").read_bytes()


def test_a_long_report_prints_its_progress(zoo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(console, "FIRST_LINE", 0.0)
    monkeypatch.setattr(console, "LATER_LINES", 0.0)
    assert main([str(zoo), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "reading results" in out and "saving survival" in out
    assert str(tmp_path / "index.html") in out and "Adversarial" in out  # the table is printed too


def test_captions_state_attack_error_bars_and_correlation(report):
    caption = (report / "tolerance.txt").read_text()
    assert "of 7 models" in caption and "ddn" in caption and "95 % intervals over images" in caption
    record = next(r for r in json.loads((report / "statistics.json").read_text()) if r["group"] == "all")
    assert f"{record['rho']:.3f}".replace("-", "\N{MINUS SIGN}") in caption and "n = 7" in caption and "p = " in caption
    tex = (report / "tolerance.tex").read_text()
    assert tex.startswith("\\caption{") and tex.endswith("\\label{fig:tolerance}\n")
    assert r"95 \% intervals" in tex and r"$\rho$" in tex and tex.isascii()
    grid = (report / "grid.txt").read_text()
    assert "the first in the data's order" in grid and "pairs of control and harmonized" in grid and "6 times" in grid


def test_another_process_writes_the_same_bytes(report, zoo, tmp_path):
    command = [sys.executable, "-m", "harmonizer.report", str(zoo), "--out", str(tmp_path / "again")]
    code = "import sys, runpy; runpy.run_module('harmonizer.report', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.argv = {command[2:]!r}; {code}"], check=False)
    assert done.returncode == 0
    for path in report.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_report_never_imports_torch():
    code = "import sys, harmonizer.report.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_statistics_hold_one_object_per_correlation(report, zoo):
    found = json.loads((report / "statistics.json").read_text())
    assert all(set(item) == {"x", "y", "source", "group", "rho", "p", "n", "low", "high"} for item in found)
    models, _ = load_models(find_results([zoo]))
    for item in found:
        if item["group"] == "all":
            x, y = ([model.value(item[end]) for model in models] for end in "xy")
            assert item["rho"] == pytest.approx(stats.spearmanr(x, y).statistic)
            assert item["n"] == 7
    assert {(item["source"], item["group"]) for item in found} == {("ddn", "all")}  # no family has four models


def test_tables_agree_with_the_results(report, zoo):
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO((report / "table.csv").read_text()))}
    assert len(rows) == 7
    for model in load_models(find_results([zoo]))[0]:
        assert float(rows[model.name]["tolerance"]) == model.value("tolerance")
        assert float(rows[model.name]["alignment_se"]) == model.scores["alignment"].se
        assert int(rows[model.name]["n_found"]) == model.results.summary["tolerance"]["n_found"]
    assert rows["convnext_tiny harmonized"]["control"] == "convnext_tiny control"
    assert rows["maxvit_tiny_tf_224.in1k"]["masked"] == "1"


def test_no_name_is_a_formula_or_breaks_a_table():
    names = ("=HYPERLINK(1)", "-1+1", "two\nlines | and a cell")
    models = [Model(name, name, "other", "@source", {"tolerance": Score(-1.0)}) for name in names]
    rows = list(csv.DictReader(io.StringIO(comma_separated(models))))
    assert [row["model"] for row in rows] == ["'=HYPERLINK(1)", "'-1+1", names[2]]
    assert {row["source"] for row in rows} == {"'@source"}
    assert {row["tolerance"] for row in rows} == {"-1.0"}  # numbers stay numbers
    assert len(markdown(models).splitlines()) == 5
    assert len(latex(models).splitlines()) == len(models) + 6


def test_names_cannot_become_markup(report):
    assert r"\<script\>" in (report / "table.md").read_text()
    assert r"\textless{}script\textgreater{}" in (report / "table.tex").read_text()
    page = (report / "index.html").read_text()
    assert "<script>alert" not in page
    assert page.count("</script>") == 2  # the data and the script


def test_the_page_loads_nothing_external(report):
    page = (report / "index.html").read_text()
    for word in ("http://", "https://", "src=//", "@import", "url("):
        assert word not in page.replace("http://www.w3.org/2000/svg", "").replace("url(#clip)", ""), word


def test_a_link_to_the_page_has_a_preview(report, zoo, tmp_path):
    page = (report / "index.html").read_text()
    tags = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', page))
    assert tags["title"] == "Perturbation tolerance and adversarial alignment" and "url" not in tags
    assert html.unescape(tags["description"]).startswith("Harmonizing 2 models raises tolerance (all of 2, +")
    assert (report / tags["image"]).is_file()
    assert main([str(zoo / "resnet18"), "--out", str(tmp_path), "--url", 'https://lab.example/a"b']) == 0
    tags = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', (tmp_path / "index.html").read_text()))
    assert tags["image"] == "https://lab.example/a&#34;b/tolerance.png"


def test_the_page_cites_papers_tables_and_software(report):
    text = re.search(r'<pre id="citation"[^>]*>(.*?)</pre>', (report / "index.html").read_text(), re.DOTALL)[1]
    keys = re.findall(r"@\w+\{(\w+),", text)
    assert keys == ["fel2022harmonizing", "linsley2023adversarial", "linsley2019learning", "harmonizer"]
    assert text.count("{") == text.count("}")
    tables = {"Feng et al. 2025": "Feng", "Someone 2030": "Someone 2030, Journal"}
    assert "feng2025beyond" in citations(tables) and "% Someone 2030: Someone 2030, Journal" in citations(tables)


def test_svg_and_pdf_carry_no_date(report):
    for name in FIGURES:
        assert b"dc:date" not in (report / f"{name}.svg").read_bytes()
        assert b"CreationDate" not in (report / f"{name}.pdf").read_bytes()


def test_a_control_and_its_harmonized_model_are_compared(report):
    found = json.loads((report / "comparisons.json").read_text())
    assert {(item["a"], item["b"]) for item in found} == {
        ("convnext_tiny control", "convnext_tiny harmonized"),
        ("vit_base_patch16_224 control", "vit_base_patch16_224 harmonized"),
    }
    tolerance = next(item for item in found if item["score"] == "tolerance")
    assert tolerance["mean"] > 1 and tolerance["p"] < 1e-3 and tolerance["low"] < tolerance["mean"] < tolerance["high"]
    assert "Wilcoxon" in tolerance["test"]
