"""train.py and evaluate.py, as a user types them."""

import csv
import importlib
import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from shard_data import write_folder

from harmonizer.cli import command_line
from harmonizer.results import load_results

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with small shards."""
    place = tmp_path_factory.mktemp("work")
    write_folder(place / "shards", train=48, val=20)
    write_folder(place / "plain", train=8, val=4, unmapped=1)
    return place


DATA = "--data folder data.folder=shards data.image_size=32 data.num_workers=0"


def run(place, line, code=0, *, new=False, **environment):
    """Run a program in a folder, in a ``new`` Python or a forked one; return its output, or its errors if it fails."""
    program, *words = shlex.split(line)
    if new:
        done = subprocess.run([sys.executable, ROOT / program, *words], cwd=place, capture_output=True, text=True)
    else:
        done = programs.run([ROOT / program, *words], place, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def single(value):
    """Compare with a value that the log has in single precision."""
    return pytest.approx(value, rel=1e-6)


def last_scores(folder):
    """Return the scores of the last validation, from the CSV log."""
    (log,) = (folder / "logs").glob("*/metrics.csv")
    rows = [row for row in csv.DictReader(log.read_text().splitlines()) if row["val/accuracy"]]
    return {name: float(value) for name, value in rows[-1].items() if name.startswith("val/") and value}


@pytest.fixture(scope="module")
def trained(place):
    """A harmonized ViT, trained from the command line."""
    settings = "recipe.epochs=2 recipe.batch_size=16 --images 10"
    out = run(place, f"train.py --model test_vit --harmonize {DATA} {settings}", new=True)
    return place / "runs/test_vit/harmonized/seed-0", out


def test_training_prints_its_settings_and_writes_its_files(trained):
    folder, out = trained
    assert "adversarial alignment, Spearman" in out
    assert "epoch 2/2: train/cross_entropy " in out
    first, *_, last = out.splitlines()
    assert re.fullmatch(r"model +test_vit, 0\.\d M parameters, harmonized \(lambda 1\), from scratch", first)
    assert re.search(r"^training +48 images \(\d+ with human maps\) from shards/train$", out, re.MULTILINE)
    assert re.search(r"^recipe +fel2022: adamw, lr 0.001 \(cosine\), 2 epochs of 3 batches of 16$", out, re.MULTILINE)
    assert re.search(r"^run folder +runs/test_vit/harmonized/seed-0, a new run$", out, re.MULTILINE)
    best = "runs/test_vit/harmonized/seed-0/best.ckpt"
    data = "data=folder data.folder=shards data.image_size=32 data.num_workers=0"
    assert last == f"next: python evaluate.py ckpt={best} {data}"
    settings = json.loads((folder / "config.json").read_text())
    assert settings["module"]["harmonize"] is True
    scores = last_scores(folder)
    assert 0 <= scores["val/accuracy"] <= 1
    fooled = scores["val/attack_success_rate"] * (1 - scores["val/share_wrong"])
    assert fooled + scores["val/share_censored"] + scores["val/share_wrong"] == pytest.approx(1)
    for name in ("best.ckpt", "last.ckpt"):
        torch.load(folder / name, weights_only=True)
    if scores["val/attack_success_rate"] > 0:
        assert list((folder / "examples").glob("*.png"))


def test_evaluation_reproduces_the_validation_exactly(place, trained):
    folder, _ = trained
    out = run(place, f"evaluate.py ckpt={folder / 'last.ckpt'} {DATA} --images 10 --attack pgd", new=True)
    results = load_results(place / re.search(r"results: (\S+)", out)[1])
    assert re.search(r"^attack +pgd on 10 of them, ", out, re.MULTILINE)
    assert out.endswith("next: python -m harmonizer.report results --out page\n")
    summary, scores = results.summary, last_scores(folder)
    assert summary["accuracy"]["value"] == pytest.approx(scores["val/accuracy"])
    assert summary["tolerance"]["restricted_mean"]["mean"] == single(scores["val/tolerance_mean"])
    assert summary["feature_alignment"]["mean"] == single(scores["val/feature_alignment"])
    alignment = scores.get("val/adversarial_alignment", np.nan)
    assert summary["adversarial_alignment"]["mean"] == pytest.approx(alignment, rel=1e-6, nan_ok=True)
    assert summary["protocol"]["attack"] == "pgd"
    assert len(results.columns["key"]) == 10
    assert summary["model"]["family"] == "harmonized"
    assert "harmonized" in str(results.folder)
    again = run(place, f"evaluate.py ckpt={folder / 'last.ckpt'} {DATA} --images 10", code=2)
    assert "holds results already; add overwrite=true" in again


def test_the_model_card_states_the_scores_of_a_results_folder(place, trained):
    ckpt = trained[0] / "last.ckpt"
    run(place, f"evaluate.py ckpt={ckpt} {DATA} --images 12 --attack pgd --health 0 --results card")
    folder = place / "card/test_vit-harmonized-seed-0"
    module = ["-m", "harmonizer.export", f"ckpt={ckpt}", f"out={place / 'model'}", f"results={folder}"]
    done = programs.run(module, ROOT)
    assert done.returncode == 0, done.stderr
    card, summary = (place / "model/README.md").read_text(), load_results(folder).summary
    for block, key in ((summary["accuracy"], "value"), (summary["feature_alignment"], "mean")):
        ends = f"{block['low']:.4f} to {block['high']:.4f}"
        assert f"| {block[key]:.4f} | {ends} | {block['n']} |" in card
    assert "nan" not in card
    other = [*module[:2], f"ckpt={trained[0] / 'best.ckpt'}", f"out={place / 'other'}", f"results={folder}"]
    path = folder / "summary.json"
    path.write_text(path.read_text().replace(summary["model"]["weights_sha256"], "0" * 64))
    done = programs.run(other, ROOT)
    assert done.returncode != 0 and "which belong to other weights" in done.stderr
    assert not (place / "other").exists()


@pytest.mark.parametrize("images", [1, 9])
def test_two_processes_give_the_results_of_one(place, trained, images):
    line = f"evaluate.py ckpt={trained[0] / 'last.ckpt'} {DATA} --images {images} --attack pgd --health 0 --results"
    run(place, f"{line} one-{images}")
    out = run(place, f"{line} two-{images} --trainer ddp trainer.accelerator=cpu trainer.devices=2")
    assert out.count("results: ") == 1
    one, two = (load_results(place / f"{name}-{images}/test_vit-harmonized-seed-0") for name in ("one", "two"))
    for column, values in one.columns.items():
        if values.dtype.kind == "f":  # batches of other sizes round differently
            np.testing.assert_allclose(values, two.columns[column], rtol=1e-3, atol=1e-5)
        else:
            np.testing.assert_array_equal(values, two.columns[column])
    for block in ("accuracy", "protocol", "model"):
        assert one.summary[block] == two.summary[block]
    assert one.summary["tolerance"]["n"] == images


def test_another_run_in_the_same_folder_is_refused(place, trained):
    folder, _ = trained
    before = (folder / "last.ckpt").stat().st_mtime_ns
    settings = "recipe.epochs=2 recipe.batch_size=16 --images 10"
    error = run(place, f"train.py --model test_vit --harmonize {DATA} {settings} recipe.lr=0.5", code=2)
    assert "another run, with other" in error
    assert "recipe.lr (0.001 -> 0.5)" in error
    assert (folder / "last.ckpt").stat().st_mtime_ns == before


def test_an_untrained_timm_model_gets_complete_results(place):
    out = run(place, f"evaluate.py --model test_resnet {DATA} image_size=32 --images 4")
    few = r"note: test_resnet-untrained: [0-4] of 4 images .* fewer than 10 images is not informative; measure more"
    assert re.search(few, out)
    results = load_results(place / "results/test_resnet-untrained")
    summary = results.summary
    assert {"harmonizer", "torch", "torchvision", "timm", "lightning", "python"} <= summary["software"].keys()
    assert summary["fast"] == "auto"
    assert {"name", "label", "family", "weights_sha256", "input_size", "crop_ratio", "interpolation"} <= summary[
        "model"
    ].keys()
    assert {"attack", "settings", "eps_max", "images", "data", "hash"} <= summary["protocol"].keys()
    assert summary["health"].keys() >= {"masked", "reasons", "n"}
    assert summary["cost"]["forwards"] == results.columns["forwards"].sum()
    assert summary["cost"]["seconds"] > 0
    assert summary["data"]["manifest_sha256"] == summary["protocol"]["data"]
    assert summary["device"]
    assert not list((place / "results").glob(".*.part"))  # the unfinished work is deleted
    assert summary["training"] is None
    assert summary["model"]["family"] == "CNN"
    assert summary["tolerance"]["n"] == 4
    assert summary["protocol"]["attack"] == "ddn"


def test_a_label_may_be_a_number(place):
    run(place, f"evaluate.py --model test_resnet {DATA} image_size=32 --images 2 --label 7 health=0")
    assert load_results(place / "results/7").summary["model"]["label"] == "7"


def test_pair_trains_evaluates_and_compares_two_models(place):
    settings = "recipe.epochs=1 recipe.batch_size=16 --images 6 --every-n-epochs 0 --folder 'runs/a (pair), here'"
    out = run(place, f"train.py --pair --model test_resnet {DATA} {settings}")
    assert "paired difference" in out
    assert out.count("tolerance") >= 3
    assert {path.name for path in (place / "runs/a (pair), here").iterdir()} == {"control", "harmonized"}
    for condition in ("control", "harmonized"):
        summary = load_results(place / f"results/test_resnet-{condition}-seed-0").summary
        assert summary["training"]["harmonize"] is (condition == "harmonized")
        assert summary["tolerance"]["n"] == 20


BAD = [
    ("train.py --model resnt50", "did you mean resnet50"),
    ("train.py --model", "expected a value after --model"),
    (f"train.py --model test_resnet {DATA.replace('shards', 'nowhere')}", "no data folder at nowhere/val"),
    (f"train.py --model test_resnet {DATA} recipe.lr=-1", "lr > 0"),
    (f"train.py --model test_resnet {DATA} recipe.batch_size=1000 folder=runs/bad", "fewer than one batch of 1000"),
    (
        f"train.py --model test_resnet {DATA} attack.name=linsley2032 recipe.epochs=1 batch_size=16 folder=runs/bad",
        "linsley2023",
    ),
    (
        f"train.py --model test_resnet {DATA} recipe.optimizer=sgd recipe.batch_size=16 recipe.lr=1e30 folder=runs/bad",
        "loss is",
    ),
    (f"train.py --model test_resnet {DATA} harmonize=maybe", "expected harmonize to be true or false, got maybe"),
    (f"train.py --model test_resnet {DATA} recipe.optimzer=sgd", "did you mean recipe.optimizer=sgd?"),
    (f"train.py --model test_resnet {DATA} recipe=nosuch", "expected recipe to be one of cyborg, fel2022, "),
    (f"train.py --model test_resnet {DATA} recipe.lr=abc", "expected recipe.lr to be a number, got 'abc'"),
    (f"train.py --model test_resnet {DATA} --seed abc", "expected seed to be a whole number, got 'abc'"),
    (f"train.py --model test_resnet {DATA} --seed true", "expected seed to be a whole number, got True"),
    (f"evaluate.py --model test_resnet {DATA} image_size=32 --seed -1", "a seed that is a whole number"),
    *(
        (f"train.py --model test_vit --harmonize {DATA} --overwrite batch_size=16 recipe.epochs={epochs}", "of epochs")
        for epochs in ("0", "-1", "1.5", "true", "null")  # refused before --overwrite removes the existing run
    ),
    (f"train.py --model test_resnet {DATA} data.image_size=0", "data.image_size >= 1"),
    (f"train.py --model test_resnet {DATA} trainer.devices=0 folder=runs/bad", "devices"),
    (
        f"train.py --model test_vit --harmonize {DATA.replace('shards', 'plain')}",
        "none of the 8 samples in plain/train",
    ),
    ("evaluate.py ckpt=missing.ckpt", "no checkpoint at missing.ckpt"),
    ("evaluate.py ckpt=truncated.ckpt", "truncated.ckpt is truncated or damaged"),
    ("evaluate.py ckpt=other.ckpt", "other.ckpt is not a checkpoint of train.py"),
    ("evaluate.py", "either ckpt=FILE or model=NAME"),
    ("evaluate.py sweep=nowhere.yaml", "no list of models at nowhere.yaml"),
    ("evaluate.py sweep=demo --trainer ddp", "expected a sweep with one device"),
    ("evaluate.py sweep.models=[a,a]", "each model once, got a again"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_mistake_is_one_clear_line(place, trained, line, message, monkeypatch, capsys):
    whole = (trained[0] / "last.ckpt").read_bytes()
    (place / "truncated.ckpt").write_bytes(whole[: len(whole) // 3])
    torch.save({"weights": torch.ones(1)}, place / "other.ckpt")
    program, *words = shlex.split(line)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [program, *words])
    monkeypatch.syspath_prepend(ROOT)
    main = importlib.import_module(program.removesuffix(".py")).main
    with pytest.raises(SystemExit) as exit_, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about few batches
        command_line(main)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message in error
    assert "Traceback" not in error
    assert f"{program}: error: " in error
    assert error.count("\n") == 1
    assert (trained[0] / "last.ckpt").read_bytes() == whole


def test_help_shows_the_usage_and_common_options(place):
    for program in ("train.py", "evaluate.py"):
        out = run(place, f"{program} --help")
        assert "usage: python" in out
        assert "--attack NAME" in out
        assert "ckpt=" in out
