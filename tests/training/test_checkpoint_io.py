"""Checkpoints are written atomically; damaged ones are detected, reported and skipped; reading one runs no code."""

import errno
import os
import random
import subprocess
import sys

import pytest
import torch
from shard_data import CLASSES, write_folder
from trainings import fit, shards

from harmonizer.run import LAST, PREVIOUS
from harmonizer.training.checkpoint_io import newest_checkpoint, read_checkpoint, write_checkpoint
from harmonizer.training.module import HarmonizerModule


def content(value, size=1000):
    return {
        "state_dict": {"w": torch.full((size,), float(value)), "b": torch.arange(7)},
        "hyper_parameters": {"model": "test_vit"},
        "global_step": value,
    }


@pytest.fixture
def pair(tmp_path):
    """A folder with the checkpoint of step 2 and the previous one, of step 1."""
    for step in (1, 2):
        write_checkpoint(content(step), tmp_path / LAST, previous=tmp_path / PREVIOUS)
    return tmp_path


def test_the_previous_checkpoint_is_kept(pair):
    assert [read_checkpoint(pair / name)["global_step"] for name in (LAST, PREVIOUS)] == [2, 1]
    assert newest_checkpoint(pair) == pair / LAST
    assert sorted(path.name for path in pair.iterdir()) == [PREVIOUS, LAST]


def test_a_kill_between_the_two_renames_loses_nothing(pair, capsys):
    (pair / LAST).rename(pair / PREVIOUS)  # the state after a kill before the second rename
    assert newest_checkpoint(pair) == pair / PREVIOUS
    write_checkpoint(content(3), pair / LAST, previous=pair / PREVIOUS)
    assert newest_checkpoint(pair) == pair / LAST
    assert sorted(path.name for path in pair.iterdir()) == [PREVIOUS, LAST]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_skipped_and_reported(pair, share, capsys):
    whole = (pair / LAST).read_bytes()
    (pair / LAST).write_bytes(whole[: int(len(whole) * share)])
    assert newest_checkpoint(pair) == pair / PREVIOUS
    message = capsys.readouterr().err
    assert f"{pair / LAST} is truncated or damaged" in message
    assert f"resuming from {pair / PREVIOUS}, step 1" in message
    write_checkpoint(content(3), pair / LAST, previous=pair / PREVIOUS)
    assert [read_checkpoint(pair / name)["global_step"] for name in (LAST, PREVIOUS)] == [3, 1]


def test_a_flipped_bit_is_detected_or_harmless(pair):
    whole, expected = (pair / LAST).read_bytes(), read_checkpoint(pair / LAST)
    rng, refused = random.Random(0), 0
    for _ in range(400):
        place = rng.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        (pair / "flipped").write_bytes(damaged)
        try:
            found = read_checkpoint(pair / "flipped")
        except ValueError as error:
            assert "flipped" in str(error)
            refused += 1
            continue
        assert found["global_step"] == 2, place
        assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())
    assert refused > 200  # most of the file is content; the rest is padding and dates


def test_damaged_checkpoints_without_a_good_one_are_an_error(pair):
    for name in (LAST, PREVIOUS):
        (pair / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"no usable checkpoint: .*overwrite=true"):
        newest_checkpoint(pair)
    assert newest_checkpoint(pair / "nowhere") is None


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload_ran",)


def test_a_pickled_payload_is_refused_and_does_not_run(pair, monkeypatch, capsys):
    monkeypatch.chdir(pair)
    torch.save(content(3) | {"extra": Payload()}, pair / LAST)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        read_checkpoint(pair / LAST)
    assert newest_checkpoint(pair) == pair / PREVIOUS
    assert "more than tensors" in capsys.readouterr().err
    assert not (pair / "payload_ran").exists()


FULL = """
import resource, sys, torch
from pathlib import Path
from harmonizer.training.checkpoint_io import write_checkpoint
import signal
if len(sys.argv) > 2:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
folder = Path(sys.argv[1])
big = {"state_dict": {"w": torch.zeros(1_000_000)}, "hyper_parameters": {}}
write_checkpoint(big, folder / "last.ckpt", previous=folder / "last-previous.ckpt")
"""


def check_full(folder, *limit):
    write_checkpoint(content(1), folder / LAST)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), *limit], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "cannot write the checkpoint" in done.stderr
    assert "the previous checkpoint is intact" in done.stderr
    assert read_checkpoint(folder / LAST)["global_step"] == 1
    assert [path.name for path in folder.iterdir()] == [LAST]
    return done.stderr


def test_a_full_disk_is_reported_and_keeps_the_checkpoint(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:  # not allowed to mount: limit the file size instead
        assert os.strerror(errno.EFBIG) in check_full(folder, "1000000")
        return
    try:
        assert os.strerror(errno.ENOSPC) in check_full(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_training_resumes_from_the_previous_checkpoint(tmp_path, capsys):
    write_folder(tmp_path / "shards", train=40, val=6)

    def train(folder):
        torch.manual_seed(0)
        module = HarmonizerModule("test_vit", CLASSES, 32, harmonize=True, seed=3)
        fit(module, shards(tmp_path / "shards"), tmp_path / folder)
        return module.state_dict()

    train("run")
    expected = read_checkpoint(tmp_path / "run" / LAST)["state_dict"]
    for kind in ("truncated", "payload"):
        whole = (tmp_path / "run" / LAST).read_bytes()
        if kind == "truncated":
            (tmp_path / "run" / LAST).write_bytes(whole[:-1000])
        else:
            torch.save({"state_dict": {}, "hyper_parameters": {}, "extra": Payload()}, tmp_path / "run" / LAST)
        state = train("run")  # repeats one epoch, from last-previous.ckpt
        assert "resuming from" in capsys.readouterr().err
        assert all(torch.equal(value, state[name]) for name, value in expected.items())
