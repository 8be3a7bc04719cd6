"""Skipped damaged samples are named, counted and reported to the user."""

import logging
import tarfile
from dataclasses import replace

import lightning as L
import numpy as np
import programs
import pytest
import torch
from shard_data import CLASSES, rewrite
from trainings import QUIET

from callbacks.evaluation import Evaluation
from callbacks.results import ResultsWriter
from callbacks.skipped import SkippedSamples
from harmonizer.data.datamodule import ShardData
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.loader import BatchLoader, TrainLoader
from harmonizer.data.sampling import EvaluationBatches, TrainBatches
from harmonizer.data.shards.manifest import read_manifest, write_manifest
from harmonizer.data.transforms import JointTransform
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.results import load_results
from harmonizer.statistics import Status
from harmonizer.training.module import HarmonizerModule

KEY = "s00009"  # the damaged sample, the second of shard 000001.tar
PLAIN = JointTransform(32)


def test_a_fully_damaged_batch_stops_training_not_evaluation(folder, caplog):
    rewrite(folder / "000001.tar", KEY, cls=b"cat")
    dataset = ShardDataset(folder, PLAIN, on_error="skip")
    loader = BatchLoader(dataset, EvaluationBatches(20, 1))
    assert len(list(loader)) == 19  # evaluation continues without the batch
    assert loader.skipped == 1
    with pytest.raises(ValueError, match="no sample of a batch can be used"):
        list(TrainLoader(dataset, TrainBatches(20, 1, seed=0)))


def test_the_log_names_only_the_first_skipped_samples(folder, caplog):
    with tarfile.open(folder / "000001.tar", "w") as archive:
        for number in range(8):
            archive.addfile(tarfile.TarInfo(f"{number}.cls"))
    with caplog.at_level(logging.WARNING):
        loader = BatchLoader(ShardDataset(folder, PLAIN, on_error="skip"), EvaluationBatches(20, 7))
        assert sum(len(batch.keys) for batch in loader) == 12
    assert loader.skipped == 8
    assert len(caplog.records) == 5
    assert caplog.text.count("more are counted only") == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_logged_for_train_and_val(folder, workers, tmp_path):
    rewrite(folder / "000001.tar", KEY, cls=b"cat")
    for key in ("s10001", "s10005"):
        rewrite(folder.parent / "val/000000.tar", key, cls=b"cat")
    settings = {"model": "test_vit", "image_size": 32, "crop_ratio": 1.0, "batch_size": 4, "num_workers": workers}
    data = ShardData(folder.parent, on_error="skip", eval_batch_size=1, **settings)
    module = HarmonizerModule("test_vit", CLASSES, 32)
    options = QUIET | {"num_sanity_val_steps": 2}
    trainer = L.Trainer(max_epochs=2, callbacks=[SkippedSamples()], default_root_dir=tmp_path, **options)
    trainer.fit(module, data)
    assert (trainer.global_step, data.skipped) == (10, 2)
    logged = {name: float(trainer.callback_metrics[f"{name}/skipped_samples"]) for name in ("train", "val")}
    assert logged == {"train": 1, "val": 2}
    with pytest.raises(ValueError, match="expected an integer"):
        trainer.validate(module, ShardData(folder.parent, **settings | {"num_workers": 0}), verbose=False)


def test_the_results_count_skipped_samples(folder, tmp_path):
    val = folder.parent / "val/000000.tar"
    with tarfile.open(val, "a") as archive:
        archive.addfile(tarfile.TarInfo("lost.cls"))
    manifest = read_manifest(val.parent)
    write_manifest(val.parent, replace(manifest, shards=(replace(manifest.shards[0], samples=7),)))
    torch.manual_seed(0)
    module = HarmonizerModule("test_vit", CLASSES, 32)
    settings = {"model": "test_vit", "image_size": 32, "crop_ratio": 1.0, "batch_size": 4}
    data = ShardData(folder.parent, on_error="skip", **settings)
    writer = ResultsWriter(tmp_path / "results", spec=ModelSpec("test_vit", 32, "it"), data_name="squares")
    callbacks = [writer, Evaluation("pgd", {"eps_max": 1.0, "steps": 2}), SkippedSamples()]
    trainer = L.Trainer(
        accelerator="cpu", callbacks=callbacks, logger=False, enable_progress_bar=False, inference_mode=False
    )
    trainer.validate(module, data, verbose=False)
    results = load_results(tmp_path / "results/it")
    assert (results.summary["data"]["samples"], results.summary["data"]["skipped"]) == (7, 1)
    assert results.summary["accuracy"]["n"] == len(results.columns["key"]) == 6
    assert results.summary["accuracy"]["value"] == pytest.approx(np.mean(results.columns["status"] != Status.WRONG))


LINES = [
    ["evaluate.py", "model=test_resnet", "images=4", "attack=pgd", "health=0", "results=results"],
    ["train.py", "model=test_resnet", "recipe.epochs=1", "recipe.batch_size=8", "every_n_epochs=0", "folder=run"],
]


def run(line, folder, place, **settings):
    """Run train.py or evaluate.py on damaged shards; return its exit status and standard error."""
    rewrite(folder / "000001.tar", KEY, cls=b"cat")
    rewrite(folder.parent / "val/000000.tar", "s10001", cls=b"cat")
    data = [f"data.{name}={value}" for name, value in ({"folder": folder.parent, "image_size": 32} | settings).items()]
    done = programs.run([programs.ROOT / line[0], *line[1:], "data=folder", *data], place)
    return done.returncode, done.stderr


@pytest.mark.parametrize("line", LINES)
def test_the_commands_report_skipped_samples(line, folder, tmp_path):
    status, error = run(line, folder, tmp_path, num_workers=0, on_error="skip")
    assert status == 0, error
    assert "skipped: sample" in error


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_sample_ends_a_command_with_one_line(line, folder, tmp_path):
    status, error = run(line, folder, tmp_path, num_workers=1, on_error="fail")
    assert status == 2
    (message,) = [text for text in error.splitlines() if "error" in text.lower()]
    assert message.startswith(f"{line[0]}: error: sample ")
    assert message.endswith(".cls is b'cat', expected an integer")
    assert "Traceback" not in error
