"""A run that is killed and resumed by the same command equals an uninterrupted one, bit for bit."""

import os
import random
import re
import signal
import time

import pytest
from interrupt import Run, differences, rows
from shard_data import write_folder

from harmonizer.run import BEST, LAST, PREVIOUS
from harmonizer.training.checkpoint_io import read_checkpoint

RUN = "runs/test_resnet/harmonized/seed-0"
# Validation with an attack in every fifth epoch; averaged weights and their accuracy; a checkpoint every 0.3 s.
WORDS = [
    "--model",
    "test_resnet",
    "--harmonize",
    "--data",
    "folder",
    "data.folder=shards",
    "data.image_size=32",
    "data.num_workers=2",
    "data.flip=0.5",
    "recipe.batch_size=8",
    "--images",
    "4",
    "attack=pgd",
    "attack.settings.steps=1",
    "attack.settings.rounds=1",
    "ema=0.9",
    "checkpoint_minutes=0.005",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture
def place(tmp_path):
    """A working folder with shards."""
    write_folder(tmp_path / "shards", train=120, val=12)
    return tmp_path


def check_equal(whole, cut):
    """Compare the last and best checkpoints and the logs of two finished runs."""
    for name in (LAST, BEST):
        found = differences(read_checkpoint(whole / name), read_checkpoint(cut / name))
        assert not found, f"{name}: {found[:10]}"
    assert rows(cut) == rows(whole)


def cut_into_pieces(place, epochs, signals, longest, *, seed, fork):
    """Train once without interruption, and once with each signal sent after a random delay."""
    words = [*WORDS, f"recipe.epochs={epochs}"]
    code, out = Run(place, words, fork=fork).wait()
    assert code == 0, out
    run, whole = place / RUN, place / "whole"
    run.rename(whole)
    rng = random.Random(seed)
    for number in signals:
        code, out = Run(place, words, fork=fork).interrupt(number, rng.uniform(0, longest), run)
        if number == signal.SIGKILL:
            assert code == -number, f"not interrupted: {out}"
        else:
            assert code == 128 + number, out
            assert re.search(
                rf"stopped by {number.name} (in the validation )?at step \d+; rerun the same command to resume", out
            )
            assert "Traceback" not in out
            read_checkpoint(run / LAST)
        for path in (run / LAST, run / PREVIOUS):
            if path.exists():
                read_checkpoint(path)  # a file under its final name is always complete
    code, out = Run(place, words, fork=fork).wait()
    assert code == 0, out
    assert "warning" not in out
    check_equal(whole, run)


def test_killed_and_stopped_runs_equal_an_uninterrupted_one(place):
    cut_into_pieces(place, 4, [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], 0.5, seed=3, fork=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_evaluation_stops_during_an_attack_and_keeps_rows(place, number):
    """Two of three images are misclassified and finish at once; the attack on each of the others takes long."""
    words = ["--model", "test_resnet", "--data", "folder", "data.folder=shards", "data.image_size=32", "health=0"]
    words += ["seed=1", "data.num_workers=2", "+callbacks.evaluation.at_once=1"]
    words += ["attack=pgd", "attack.settings.steps=2000", "attack.settings.rounds=3"]
    run = Run(place, words, fork=True, program="evaluate")
    table = place / "results/.test_resnet-untrained-seed-1.part/images-0-of-1.csv"
    run.until(lambda: table.exists() and len(table.read_text().splitlines()) > 1)
    time.sleep(1)
    start = time.monotonic()
    os.killpg(run.process.pid, number)
    code, out = run.wait()
    assert code == 128 + number, out
    assert time.monotonic() - start < 60
    assert (
        f"stopped by {number.name}; results keeps the images measured so far: rerun the same command to resume" in out
    )
    assert "Traceback" not in out
    assert len(table.read_text().splitlines()) > 1
    assert not (place / "results/test_resnet-untrained-seed-1").exists()


@pytest.mark.slow
def test_twenty_kills_and_five_stops_change_nothing(place):
    signals = [signal.SIGKILL] * 20 + [signal.SIGTERM] * 4 + [signal.SIGUSR1]
    random.Random(1).shuffle(signals)
    cut_into_pieces(place, 60, signals, 1.0, seed=2, fork=False)
