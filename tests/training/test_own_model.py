"""A user's own network through all commands: trained, killed, resumed, exported, evaluated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from PIL import Image
from shard_data import write_folder

import harmonizer

ROOT = Path(__file__).parents[2]
NET = f"{ROOT / 'tests/models/own_nets.py'}:Net"
SHARDS = "--data folder data.folder=shards data.image_size=32 data.num_workers=0"
RUN = (
    f"{ROOT / 'train.py'} --model {NET} --harmonize {SHARDS} recipe.epochs=10 recipe.batch_size=8 "
    "data.steps_per_epoch=2 every_n_epochs=0 checkpoint_minutes=0.0001 "
    "--trainer ddp trainer.devices=2 trainer.accelerator=cpu"
)


def run(place, words):
    done = programs.run(words.split(), place, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_killed(place, words, file):
    """Start a command and kill it as soon as a file exists."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *words.split()], cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert file.exists(), errors.decode()


@pytest.mark.slow
def test_a_user_model_trains_resumes_exports_and_evaluates(tmp_path):
    write_folder(tmp_path / "shards", train=64, val=20)
    run_killed(tmp_path, f"{RUN} folder=killed", tmp_path / "killed/last-previous.ckpt")
    assert "resuming in epoch " in run(tmp_path, f"{RUN} folder=killed")
    run(tmp_path, f"{RUN} folder=whole")
    killed, whole = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("killed", "whole"))
    assert killed["global_step"] == whole["global_step"] == 20
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in killed["state_dict"].items())
    run(tmp_path, f"-m harmonizer.export ckpt=killed/last.ckpt model={NET} out=exported")
    measured = f"{SHARDS} --attack pgd health=0"
    run(tmp_path, f"{ROOT / 'evaluate.py'} ckpt=killed/last.ckpt model={NET} label=checkpoint {measured}")
    run(tmp_path, f"{ROOT / 'evaluate.py'} --model {NET} weights=exported label=exported {measured}")
    rows = [(tmp_path / "results" / name / "images.csv").read_text() for name in ("checkpoint", "exported")]
    assert rows[0] == rows[1]


def test_user_data_give_equal_scores_in_python_and_commands(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    maps = rng.integers(0, 2**16, (40, 32, 32)).astype(np.float32)  # shards keep 16 bits of a map
    maps[:, 0, 0] = 2**16 - 1
    for number in range(40):
        name = f"{'abcde'[number % 5]}/{number:02d}"
        for folder in ("images", "maps"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(tmp_path / "images" / f"{name}.png")
        np.save(tmp_path / "maps" / f"{name}.npy", maps[number])
    run(tmp_path, "-m harmonizer.data.convert images --maps maps --out shards/val --prepare none")
    torch.save(harmonizer.load(NET, num_classes=5).backbone.state_dict(), tmp_path / "net.pth")
    measured = "--data folder data.folder=shards data.num_workers=0 health=0 --label it"
    run(tmp_path, f"{ROOT / 'evaluate.py'} --model {NET} weights=net.pth --attack linsley2023 {measured}")
    by_command = harmonizer.load_results(tmp_path / "results/it")
    model = harmonizer.load(NET, num_classes=5, weights=str(tmp_path / "net.pth"))
    order = np.argsort([f"{'abcde'[number % 5]}/{number:02d}" for number in range(40)])
    data = (images[order].transpose(0, 3, 1, 2) / np.float32(255), order % 5, maps[order])
    python = harmonizer.evaluate(model, data, attack="linsley2023", progress=False)
    for name, column in by_command.columns.items():
        if name != "key":
            np.testing.assert_array_equal(python.columns[name], column, name)
    for score in ("accuracy", "tolerance", "adversarial_alignment", "feature_alignment"):
        np.testing.assert_equal(python.summary[score], by_command.summary[score])
