"""An interrupted and resumed run equals an uninterrupted one, bit for bit."""

import math
import time

import lightning as L
import pytest
import torch
from shard_data import CLASSES, write_folder
from trainings import QUIET

from callbacks import progress
from harmonizer.data.datamodule import ShardData
from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=50)


def build(folder, workers=0, **loss):
    L.seed_everything(3, verbose=False)
    data = ShardData(
        folder, model="test_vit", image_size=32, batch_size=8, crop_ratio=1.0, flip=0.5, num_workers=workers, seed=3
    )
    settings = {"harmonize": True, "warmup_epochs": 1, "seed": 3, "levels": 3}
    return HarmonizerModule("test_vit", CLASSES, 32, **(settings | loss)), data


class Stop(L.Callback):
    """Save a checkpoint after a step and stop there."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def trainer(folder, *callbacks, bar=False):
    options = QUIET | {"max_epochs": 3, "enable_progress_bar": bar}
    return L.Trainer(callbacks=list(callbacks), default_root_dir=folder, **options)


# Random starts within a growing radius; the attack begins at a step between two checkpoints.
FAST = {"adversarial": "fast", "adversarial_start": 0.15, "adversarial_warmup_epochs": 1}


CASES = [(4, 0, {}), (6, 0, {}), (9, 0, {}), (8, 2, {}), (4, 0, FAST)]
CASES += [(4, 0, {"supervision": name}) for name in ("rrr", "sgt", "pag")]
LATE = {"harmonizer_start": 0.5, "adversarial": "fast", "adversarial_start": 0.5, "restart": 0.5, "lr": 0.01}
CASES += [(8, 0, LATE), (11, 0, LATE)]  # stopped before and after the late start


class Steps(L.Callback):
    """Keep radius, lambda and learning rate of each step."""

    def __init__(self):
        self.radii, self.factors, self.rates = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.radii.append(pl_module._eps())
        self.factors.append(pl_module._factor())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_attack_starts_late_and_its_radius_grows(folder, tmp_path):
    module, data = build(folder, 0, adversarial="pgd", adversarial_start=0.5, adversarial_warmup_epochs=0.5)
    trainer(tmp_path, seen := Steps()).fit(module, data)
    assert seen.radii == pytest.approx([0.0] * 10 + [0.5 / 3, 1 / 3] + [0.5] * 6)
    assert seen.factors == [1.0] * 18


def test_the_harmonizer_starts_late_and_lambda_grows(folder, tmp_path):
    module, data = build(folder, 0, harmonizer_weight=3.0, harmonizer_start=0.5, harmonizer_warmup_epochs=0.5)
    trainer(tmp_path, seen := Steps()).fit(module, data)
    assert seen.factors == pytest.approx([0.0] * 10 + [1.0, 2.0] + [3.0] * 6)
    assert module.measured["harmonizer_loss"] > 0


def test_the_learning_rate_restarts_its_cosine(folder, tmp_path):
    module, data = build(folder, 0, warmup_epochs=0, lr=0.01, restart=2 / 3, restart_rate=0.4)
    trainer(tmp_path, seen := Steps()).fit(module, data)
    halves = [0.5 + 0.5 * math.cos(math.pi * step / steps) for steps in (12, 6) for step in range(steps)]
    assert seen.rates == pytest.approx([0.01 * half for half in halves[:12]] + [0.004 * half for half in halves[12:]])


@pytest.mark.parametrize(("step", "workers", "loss"), CASES)
def test_resumed_run_equals_an_uninterrupted_one(folder, tmp_path, step, workers, loss):
    module, data = build(folder, workers, **loss)
    trainer(tmp_path).fit(module, data)
    expected = {key: value.clone() for key, value in module.state_dict().items()}

    interrupted, data = build(folder, workers, **loss)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, Stop(step, tmp_path / "stop.ckpt")).fit(interrupted, data)
    assert any(not torch.equal(expected[key], value) for key, value in interrupted.state_dict().items())

    torch.manual_seed(999)  # the random state in between must not matter
    resumed, data = build(folder, workers, **loss)
    run = trainer(tmp_path)
    run.fit(resumed, data, ckpt_path=tmp_path / "stop.ckpt", weights_only=True)
    assert run.global_step == 18
    for key, value in resumed.state_dict().items():
        assert torch.equal(expected[key], value), key


def test_a_resumed_epoch_is_timed_from_the_restart(folder, tmp_path, monkeypatch):
    module, data = build(folder)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, Stop(4, tmp_path / "stop.ckpt")).fit(module, data)
    module, data = build(folder)
    said, began = [], time.monotonic()
    monkeypatch.setattr(progress, "duration", said.append)
    run = trainer(tmp_path, progress.Progress(), bar=True)
    run.fit(module, data, ckpt_path=tmp_path / "stop.ckpt", weights_only=True)
    assert len(said) == 3 and max(said) <= time.monotonic() - began
