"""A sweep measures each model once, with equal results when interrupted, shared by processes or hit by failures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from shard_data import CLASSES, write_folder

from harmonizer.evaluation.sweep import run_sweep
from harmonizer.evaluation.sweep_failures import reason_of
from harmonizer.evaluation.sweep_list import read_models
from harmonizer.report.build import build_report
from harmonizer.results import load_results, lock_results
from harmonizer.training.checkpoint_io import write_checkpoint
from harmonizer.training.module import HarmonizerModule

ROOT = Path(__file__).parents[2]
CHEAP = (
    "data=folder data.folder=shards data.num_workers=0 data.eval_batch_size=8 attack=pgd attack.settings.steps=2 "
    "attack.settings.rounds=3 +callbacks.evaluation.at_once=4 image_size=32"
)
TRAINER = SimpleNamespace(is_global_zero=True, global_rank=0, world_size=1, callbacks=[])
TINY = ("test_resnet", "test_vit", "test_byobnet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with small shards, a control and a harmonized checkpoint, and a list of those and tiny models."""
    place = tmp_path_factory.mktemp("sweep")
    write_folder(place / "shards", train=4, val=16)
    for harmonize in (False, True):
        torch.manual_seed(harmonize)
        module = HarmonizerModule("test_efficientnet", CLASSES, 32, harmonize=harmonize)
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        write_checkpoint(content, place / f"pair-{harmonize}.ckpt")
    (place / "list.yaml").write_text(yaml.safe_dump(["pair-False.ckpt", "pair-True.ckpt", *TINY]))
    return place


def drive(place, *steps):
    """Run evaluate.py once per step; return the exit status of each."""
    plan = place / "plan.json"
    plan.write_text(json.dumps([{"log": "log.txt", **step, "argv": step["argv"].split()} for step in steps]))
    command = [sys.executable, str(ROOT / "tests/sweep_driver.py"), str(plan)]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, cwd=place, env=settings, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sweep(results, log, health=0, **step):
    return {"argv": f"sweep=list.yaml results={results} health={health} {CHEAP}", "log": log} | step


def measured(log):
    """Return the models that a log reports as measured, with repetitions."""
    return re.findall(r"\] (\S+): done - ", log.read_text())


@pytest.fixture(scope="module")
def swept(place):
    """Sweep the list without interruption, with two kills, and with two processes of which one is killed."""
    return drive(
        place,
        sweep("whole", "whole.txt"),
        sweep("killed", "killed.txt", kill=0.31),
        sweep("killed", "killed.txt", kill=0.22),
        sweep("killed", "killed.txt"),
        sweep("shared", "first.txt", kill=0.5, with_next=True),
        sweep("shared", "second.txt"),
    )


def assert_same(one, two, tmp_path, monkeypatch, *, report=True):
    """Assert that two results folders give the same numbers, and the same report byte for byte."""
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
        columns, keys = first.columns, first.columns["key"].tolist()
        for name in ("label", "prediction") if first.has_examples else ():  # named, so that figures need no data
            codes = [int(columns[name][keys.index(key)]) for key in first.example_keys]
            assert first.examples[name].tolist() == [CLASSES[code] for code in codes]
        for array, values in first.examples.items():
            np.testing.assert_array_equal(values, second.examples[array])
    if not report:
        return
    reports = [build_report([folder], tmp_path / folder.name).files for folder in (one, two)]
    assert len(reports[0]) > 10
    for a, b in zip(*reports, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def assert_whole(place, results, *logs):
    """Assert that all five models are measured, none twice, without failures or leftover files."""
    names = [name for log in logs for name in measured(place / log)]
    assert len(names) == len(set(names))
    assert not list((place / results / "failed").glob("*"))
    assert {path.name for path in (place / results).glob(".*")} == {".locks"}
    assert len(list((place / results).glob("*/summary.json"))) == 5


def test_a_killed_sweep_ends_with_the_same_bytes(place, swept, tmp_path, monkeypatch):
    assert swept[:4] == [0, -9, -9, 0], (place / "whole.txt").read_text() + (place / "killed.txt").read_text()
    assert len(measured(place / "whole.txt")) == 5
    assert_whole(place, "killed", "killed.txt")
    assert_same(place / "whole", place / "killed", tmp_path, monkeypatch)


def test_two_processes_share_a_folder_and_one_takes_over(place, swept, tmp_path, monkeypatch):
    assert swept[4:] == [-9, 0]
    assert_whole(place, "shared", "first.txt", "second.txt")
    assert measured(place / "second.txt")
    assert_same(place / "whole", place / "shared", tmp_path, monkeypatch, report=False)


@pytest.mark.slow
def test_a_sweep_killed_ten_times_ends_with_the_same_bytes(place, tmp_path, monkeypatch):
    moments = np.random.default_rng(1).uniform(0.04, 0.16, 10)
    steps = [sweep("tenfold", "tenfold.txt", health=2, kill=moment) for moment in moments]
    status = drive(
        place,
        sweep("healthy", "healthy.txt", health=2),
        *steps,
        sweep("tenfold", "tenfold.txt", health=2),
    )
    assert status == [0, *[-9] * 10, 0]
    assert_whole(place, "tenfold", "tenfold.txt")
    assert_same(place / "healthy", place / "tenfold", tmp_path, monkeypatch)


class Stub:
    def __init__(self, label):
        self.label = label


def resolve_model(model, **_):
    if model == "unknown":
        raise ValueError("timm has no model 'unknown'; did you mean another?")
    return Stub(model)


def test_failures_are_recorded_and_the_sweep_continues(tmp_path, capsys):
    seen = []

    def measure(spec, *, family, report):
        seen.append((spec.label, family))
        report(1, 2)
        if spec.label == "large":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return None if spec.label == "old" else tmp_path / spec.label

    entries = read_models({"CNN": ["unknown", "large"], "hybrid": ["old", "new"]})
    assert run_sweep(entries, tmp_path, resolve_model=resolve_model, measure=measure) == 1
    assert seen == [("large", "CNN"), ("old", "hybrid"), ("new", "hybrid")]
    reasons = {path.stem: json.loads(path.read_text())["reason"] for path in (tmp_path / "failed").iterdir()}
    assert reasons["unknown"].startswith("no such model: timm has no model 'unknown'")
    assert reasons["large"].startswith("out of memory: CUDA out of memory")
    out = capsys.readouterr().out
    assert re.search(r"large +│ failed +│ out of memory", out)
    assert out.rindex(" new ") < out.rindex(" large ")  # failed models come last, where they are visible
    # A later sweep retries them and removes the record of those that succeed.
    entries = read_models({"CNN": ["large"]})
    assert run_sweep(entries, tmp_path, resolve_model=resolve_model, measure=lambda spec, **_: tmp_path) == 0
    assert [path.stem for path in (tmp_path / "failed").iterdir()] == ["unknown"]


def test_a_lost_device_ends_the_sweep(tmp_path):
    def measure(spec, **_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="the device is lost while measuring a"):
        run_sweep(read_models(["a", "b"]), tmp_path, resolve_model=resolve_model, measure=measure)
    assert [path.stem for path in (tmp_path / "failed").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (ValueError("the weights of x are not cached and cannot be downloaded: offline"), "no weights: "),
        (RuntimeError("derivative for aten::_scaled_dot_product is not implemented"), "no derivative: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: "),
        (KeyError("x"), "KeyError: 'x'"),
        (MemoryError(), "out of memory: MemoryError"),
    ],
)
def test_failure_reasons_begin_with_their_kind(error, beginning):
    assert reason_of(error).startswith(beginning)


HOLD = """
import sys
from pathlib import Path
from harmonizer.results import lock_results
with lock_results(Path(sys.argv[1]), "a"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_model_is_taken_over_only_if_its_process_dies(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        seen = []
        settings = {"resolve_model": resolve_model, "measure": lambda spec, **_: seen.append(spec.label)}
        with (
            pytest.raises(
                BlockingIOError,
                match=rf"the results folder of a in .* is in use by process {holder.pid} on \w.* since 20",
            ),
            lock_results(tmp_path, "a"),
        ):
            pass
        assert run_sweep(read_models(["a", "b"]), tmp_path, wait=False, **settings) == 0
        assert seen == ["b"]
        holder.kill()
        assert run_sweep(read_models(["a", "b"]), tmp_path, **settings) == 0
        assert seen[0] == "b"
        assert sorted(seen[1:]) == ["a", "b"]
    finally:
        holder.kill()
        holder.communicate()


def test_a_model_that_failed_in_another_process_is_skipped(tmp_path):
    def measure(spec, **_):  # while this one is measured, another process fails on the next
        run_sweep(read_models(["b"]), tmp_path, resolve_model=resolve_model, measure=fail)

    def fail(spec, **_):
        raise ValueError("no luck")

    assert run_sweep(read_models(["a", "b"]), tmp_path, resolve_model=resolve_model, measure=measure) == 1
