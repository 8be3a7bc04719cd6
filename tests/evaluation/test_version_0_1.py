"""Checkpoints, run folders and results of version 0.1 stay readable; golden/version_0_1 says how they were made."""

import csv
import shutil
from pathlib import Path

import programs
import pytest

from harmonizer.report.build import build_report
from harmonizer.results import load_results

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "golden" / "version_0_1"
LABEL = "test_efficientnet_gn-harmonized-seed-0"
RUN = "--model test_efficientnet_gn --harmonize recipe.epochs=2 budget.steps_per_epoch=4 recipe.optimizer=momentum "
RUN += "recipe.momentum=0 folder=run images=8 every_n_epochs=0"


def run(program, arguments, folder):
    done = programs.run([ROOT / program, *arguments.split()], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def old(tmp_path):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_an_old_checkpoint_gives_the_scores_of_version_0_1(old):
    run("evaluate.py", "ckpt=run/last.ckpt images=24 attack=pgd results=new", old)
    before, after = (rows(old / folder / LABEL / "images.csv") for folder in ("results", "new"))
    assert [(row["key"], row["status"]) for row in after] == [(row["key"], row["status"]) for row in before]
    columns = ("l2", "alignment", "feature_alignment")
    for row, now in zip(before, after, strict=True):
        numbers = [float(row[name]) for name in columns if row[name]]
        assert [float(now[name]) for name in columns if now[name]] == pytest.approx(numbers, rel=1e-2, abs=1e-3)


def test_an_old_run_resumes_and_ends_with_the_same_loss(old):
    run("train.py", RUN, old)
    metrics = rows(next((old / "run" / "logs").rglob("metrics.csv")))
    assert [row["epoch"] for row in metrics if row["train/cross_entropy_epoch"]] == ["1.0"]  # only the remaining epoch
    last = [row["train/cross_entropy_epoch"] for row in metrics if row["train/cross_entropy_epoch"]]
    assert float(last[-1]) == pytest.approx(3.139298737049103, rel=1e-3)  # the loss of an uninterrupted run


def test_old_results_are_read_and_reported(old):
    results = load_results(old / "results" / LABEL)
    assert results.summary["tolerance"]["n"] == len(results.columns["status"]) == 24
    build_report([old / "results"], old / "page")
    table = (old / "page" / "table.md").read_text()
    assert "harmonized-seed-0" in table and "12.0 ±" in table and "0.500 ±" in table
