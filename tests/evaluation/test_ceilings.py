"""Alignment as a share of the noise ceiling: the data's own ceilings if there are any, else the published one."""

import math
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from shard_data import CLASSES, write_folder

from callbacks.evaluation import Evaluation
from callbacks.results import ResultsWriter
from callbacks.table import ScoreTable
from harmonizer.data.datamodule import ShardData
from harmonizer.data.shards.manifest import Ceilings, read_manifest, write_manifest
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.metrics import AdversarialAlignment
from harmonizer.results import load_results
from harmonizer.statistics import NOISE_CEILING, alignment_summary
from harmonizer.training.module import HarmonizerModule

IMAGES = 6
OWN = {"s10000": 0.5, "s10001": 0.75, "s10002": None, "s10004": -0.125}
CEILINGS = Ceilings(20, 0.25, 0.0, OWN)  # the other images take 0.25
EXPECTED = [0.5, 0.75, 0.25, 0.25, -0.125, 0.25]


def measure(folder, ceilings, capsys):
    """Evaluate an untrained network; return its results, the logged metrics and the printed text."""
    write_folder(folder / "shards", val=IMAGES)
    manifest = read_manifest(folder / "shards/val")
    write_manifest(folder / "shards/val", replace(manifest, ceilings=ceilings))
    torch.manual_seed(0)
    module = HarmonizerModule("test_vit", CLASSES, 32)
    data = ShardData(folder / "shards", model="test_vit", image_size=32, crop_ratio=1.0, batch_size=4)
    writer = ResultsWriter(folder, spec=ModelSpec("test_vit", 32, "it"), data_name="squares")
    evaluation = Evaluation("pgd", {"eps_max": 5.0})
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[evaluation, writer, ScoreTable("pgd")],
        logger=False,
        enable_progress_bar=False,
        inference_mode=False,
    )
    trainer.validate(module, data, verbose=False)
    return load_results(folder / "it"), trainer.callback_metrics, " ".join(capsys.readouterr().out.split())


def test_the_datas_own_ceilings_are_used(tmp_path, capsys):
    results, logged, printed = measure(tmp_path, CEILINGS, capsys)
    block, score = results.summary["feature_alignment"], results.columns["feature_alignment"]
    assert block["ceiling"] == pytest.approx(np.mean(EXPECTED))
    assert block["share_of_ceiling"] == pytest.approx(score.mean() / np.mean(EXPECTED))
    assert "split-half reliability of these data (3 images with their own, others 0.25)" in block["ceiling_source"]
    assert float(logged["val/feature_alignment_of_ceiling"]) == pytest.approx(block["share_of_ceiling"], rel=1e-6)
    assert float(logged["val/feature_alignment_ceiling"]) == pytest.approx(block["ceiling"])
    found = results.columns["status"] == 2
    attacked = results.summary["adversarial_alignment"]
    keys = results.columns["key"][found]
    assert 0 < attacked["n"] == len(keys)
    assert attacked["ceiling"] == pytest.approx(np.mean([CEILINGS.of(key) for key in keys]))
    assert float(logged["val/adversarial_alignment_of_ceiling"]) == pytest.approx(
        attacked["share_of_ceiling"], rel=1e-6
    )
    assert "noise ceiling: split-half reliability" in printed


def test_without_ceilings_the_published_one_is_used(tmp_path, capsys):
    results, logged, printed = measure(tmp_path, None, capsys)
    for name in ("feature_alignment", "adversarial_alignment"):
        block = results.summary[name]
        assert (block["ceiling"], block["share_of_ceiling"]) == (NOISE_CEILING, block["mean"] / NOISE_CEILING)
        assert "0.65753, as published" in block["ceiling_source"]
        assert float(logged[f"val/{name}_of_ceiling"]) == pytest.approx(block["share_of_ceiling"], rel=1e-6)
    assert "noise ceiling: 0.65753, as published" in printed


def test_undefined_ceilings_give_an_undefined_share(tmp_path, capsys):
    results, logged, _ = measure(tmp_path, Ceilings(20, None, None, {"s10000": None}), capsys)
    block = results.summary["feature_alignment"]
    assert math.isfinite(block["mean"])
    assert math.isnan(block["ceiling"]) and math.isnan(block["share_of_ceiling"])
    assert math.isnan(float(logged["val/feature_alignment_of_ceiling"]))


def test_the_ceiling_is_averaged_over_the_scored_images():
    summary = alignment_summary([0.2, np.nan, 0.4], ceilings=[0.5, 0.1, np.nan], resamples=0)
    assert (summary["ceiling"], summary["share_of_ceiling"]) == (0.5, pytest.approx(0.6))
    assert math.isnan(alignment_summary([0.2], ceilings=[-0.1], resamples=0)["share_of_ceiling"])
    with pytest.raises(ValueError, match="one ceiling per value, got 1 for 2"):
        alignment_summary([0.1, 0.2], ceilings=[0.5])
    images, human = torch.rand(3, 3, 9, 9), torch.rand(3, 9, 9)
    metric = AdversarialAlignment()
    status, ceilings = torch.tensor([2, 1, 2]), torch.tensor([0.4, 9.0, 0.6])
    metric.update(images.flip(0), images, human, status=status, ceilings=ceilings)
    assert float(metric.compute()["ceiling"]) == pytest.approx(0.5)
