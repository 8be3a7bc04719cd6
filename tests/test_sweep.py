"""A sweep: interrupted, shared between processes and with failing models, it measures each model once and the same."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import timm
import torch
import yaml
from shard_data import CLASSES, write_folder

from harmonizer.module import HarmonizerModule
from harmonizer.report.build import build_report
from harmonizer.report.families import FAMILIES, guess_family
from harmonizer.results import Work, claimed, folder_name, load_results
from harmonizer.sweep import Entry, read_models, run_sweep
from harmonizer.sweep.failures import reason_of

ROOT = Path(__file__).parents[1]
CHEAP = (
    "data=folder data.folder=shards data.num_workers=0 data.eval_batch_size=8 attack=pgd attack.settings.steps=3 "
    "attack.settings.rounds=4 health=2 +callbacks.robustness.at_once=4 image_size=32"
)
TINY = ("test_resnet", "test_vit", "test_byobnet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with small shards, a control and a harmonized checkpoint, and a list of those and tiny models."""
    place = tmp_path_factory.mktemp("sweep")
    write_folder(place / "shards", train=4, val=24)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=place)
    for harmonize in (False, True):
        torch.manual_seed(harmonize)
        trainer.strategy.connect(HarmonizerModule("test_efficientnet", CLASSES, 32, harmonize=harmonize))
        trainer.save_checkpoint(place / f"pair-{harmonize}.ckpt")
    (place / "list.yaml").write_text(yaml.safe_dump(["pair-False.ckpt", "pair-True.ckpt", *TINY]))
    return place


def drive(place, *steps):
    """Run evaluate.py as the steps say; return how each ended."""
    plan = place / "plan.json"
    plan.write_text(json.dumps([{"log": "log.txt", **step, "argv": step["argv"].split()} for step in steps]))
    command = [sys.executable, str(ROOT / "tests/sweep_driver.py"), str(plan)]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, cwd=place, env=settings, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sweep(results, log="log.txt", more="", **step):
    return {"argv": f"sweep=list.yaml results={results} {CHEAP} {more}", "log": log} | step


def measured(log):
    """Return the models that a log says were measured, each time."""
    return re.findall(r"\] (\S+): done - ", log.read_text())


@pytest.fixture(scope="module")
def undisturbed(place):
    """Sweep the list without any disturbance; return its results folder and how long it took."""
    (outcome,) = drive(place, sweep("whole", "whole.txt"))
    assert outcome["status"] == 0, (place / "whole.txt").read_text()
    assert len(measured(place / "whole.txt")) == 5
    return place / "whole", outcome["seconds"]


def assert_same(one, two, tmp_path, monkeypatch):
    """Expect two results folders to give the same numbers, and the same report byte for byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    names = sorted(path.name for path in one.iterdir() if (path / "summary.json").exists())
    assert names == sorted(path.name for path in two.iterdir() if (path / "summary.json").exists())
    for name in names:
        assert (one / name / "images.csv").read_bytes() == (two / name / "images.csv").read_bytes()
        first, second = (load_results(folder / name) for folder in (one, two))
        for results in (first, second):
            results.summary["cost"]["seconds"] = 0
        assert repr(first.summary) == repr(second.summary)
        assert first.examples.keys() == second.examples.keys()
        for array, values in first.examples.items():
            np.testing.assert_array_equal(values, second.examples[array])
    reports = [build_report([folder], tmp_path / folder.name).files for folder in (one, two)]
    assert len(reports[0]) > 10
    for a, b in zip(*reports, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def kill_and_compare(place, undisturbed, kills, seed, tmp_path, monkeypatch):
    whole, seconds = undisturbed
    rng = np.random.default_rng(seed)
    moments = rng.uniform(0.5, 1.5, kills) * seconds / kills * 0.6
    steps = [sweep(f"killed-{kills}", f"killed-{kills}.txt", kill=moment) for moment in moments]
    *killed, last = drive(place, *steps, sweep(f"killed-{kills}", f"killed-{kills}.txt"))
    assert [outcome["status"] for outcome in killed] == [-9] * kills
    assert last["status"] == 0
    log = place / f"killed-{kills}.txt"
    assert sorted(measured(log)) == sorted(measured(place / "whole.txt"))  # none twice, none lost
    assert not list((place / f"killed-{kills}").glob(".*.part"))
    assert_same(whole, place / f"killed-{kills}", tmp_path, monkeypatch)


def test_a_killed_sweep_ends_with_the_same_bytes(place, undisturbed, tmp_path, monkeypatch):
    kill_and_compare(place, undisturbed, 2, 0, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_sweep_killed_ten_times_ends_with_the_same_bytes(place, undisturbed, tmp_path, monkeypatch):
    kill_and_compare(place, undisturbed, 10, 1, tmp_path, monkeypatch)


def test_two_processes_share_a_folder_and_one_inherits_from_the_other(place, undisturbed, tmp_path, monkeypatch):
    whole, seconds = undisturbed
    logs = [place / "first.txt", place / "second.txt"]
    steps = [sweep("shared", "first.txt", kill=seconds / 2, beside=True), sweep("shared", "second.txt")]
    first, second = drive(place, *steps)
    assert (first["status"], second["status"]) == (-9, 0)
    both = [name for log in logs for name in measured(log)]
    assert sorted(both) == sorted(measured(place / "whole.txt"))
    assert_same(whole, place / "shared", tmp_path, monkeypatch)
