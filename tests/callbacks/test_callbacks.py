"""Training callbacks: the guard against non-finite values, the weight average and the log."""

import lightning as L
import pytest
import torch
from shard_data import CLASSES, write_folder
from trainings import fit, shards

from callbacks.ema import WeightAverage
from callbacks.evaluation import Evaluation
from callbacks.metrics_file import MetricsFile
from harmonizer.evaluation.checkpoint import EMA, restore
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.run import LAST
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=48, val=12)


def built(model="test_resnet", **settings):
    torch.manual_seed(0)
    return HarmonizerModule(model, CLASSES, 32, **{"harmonize": True, "seed": 3, "levels": 3} | settings)


class Break(L.Callback):
    """Put a NaN into one batch, or inf into the gradients of one step; keep the weights before and after that step."""

    def __init__(self, step, where):
        self.step, self.where, self.states = step, where, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
            if self.where == "loss":
                batch.images[0] = torch.nan

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step and self.where == "gradient":
            next(pl_module.parameters()).grad[0] = torch.inf

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step + 1:
            self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})


@pytest.mark.parametrize(("where", "what"), [("loss", "the loss is nan"), ("gradient", "the gradient norm is inf")])
def test_nonfinite_values_stop_and_name_step_and_checkpoint(folder, tmp_path, where, what):
    with pytest.raises(ArithmeticError) as error:
        fit(built(), shards(folder), tmp_path, Break(8, where))
    message = str(error.value)
    assert f"{what}" in message
    assert "at step 8 (samples s0" in message
    assert f"the last good checkpoint is {tmp_path / LAST}, step 6" in message
    assert read_checkpoint(tmp_path / LAST)["global_step"] == 6
    with pytest.raises(ArithmeticError, match="there is no checkpoint yet"):
        fit(built(), shards(folder), tmp_path / "other", Break(1, where))


def test_nonfinite_values_name_a_damaged_checkpoint(folder, tmp_path):
    class Damage(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 8:
                (tmp_path / LAST).write_bytes(b"cut short")

    with pytest.raises(ArithmeticError, match=r"the loss is nan at step 8 .*last\.ckpt is truncated or damaged"):
        fit(built(), shards(folder), tmp_path, Damage(), Break(8, "loss"))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_skipped_step_changes_nothing_and_is_counted(folder, tmp_path, where):
    broken = Break(8, where)
    module = built()
    trainer = fit(module, shards(folder), tmp_path, broken, nonfinite="skip")
    before, after = broken.states
    assert trainer.global_step == 12
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(after[name], value) for name, value in module.state_dict().items())
    rows = MetricsFile(tmp_path / "metrics.csv").rows()
    counts = [float(row["train/skipped_steps"]) for row in rows if row.get("train/skipped_steps")]
    assert counts == [0.0] * 8 + [1.0] * 4
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert float(rows[-1]["train/loss_epoch"]) > 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_the_average_is_over_the_weights_after_each_step(folder, tmp_path):
    # Computed separately: decay 0.8, for parameters and running statistics alike.
    class Follow(L.Callback):
        def __init__(self):
            self.average = None

        def on_fit_start(self, trainer, pl_module):
            self.average = {name: value.clone() for name, value in pl_module.model.state_dict().items()}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (batch_idx + 1) % 2 == 0:  # two batches make a step
                decay = 0.8 if trainer.global_step > 1 else 0.0
                for name, value in pl_module.model.state_dict().items():
                    old = self.average[name]
                    self.average[name] = decay * old + (1 - decay) * value if value.is_floating_point() else value

    follow, module = Follow(), built()
    ema = WeightAverage(0.8, warmup=False)
    trainer = fit(module, shards(folder), tmp_path, follow, ema, accumulate_grad_batches=2)
    saved = read_checkpoint(tmp_path / LAST)[EMA]
    for name, value in follow.average.items():
        torch.testing.assert_close(saved[f"model.{name}"], value, msg=name)
    assert 0 <= float(trainer.callback_metrics["val/accuracy_ema"]) <= 1
    assert restore(tmp_path / LAST, ema=True).state_dict().keys() == module.state_dict().keys()
    assert resolve_model(ckpt=str(tmp_path / LAST), ema=True).label.endswith("-ema")
    loader = shards(folder).val_dataloader()
    average = restore(tmp_path / LAST, ema=True).eval()
    right = sum(int((average(batch.images).argmax(1) == batch.labels).sum()) for batch in loader)
    assert float(trainer.callback_metrics["val/accuracy_ema"]) == pytest.approx(right / 12)


def test_ema_of_a_checkpoint_without_an_average_is_refused(folder, tmp_path):
    fit(built(), shards(folder), tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="holds no averaged weights"):
        resolve_model(ckpt=str(tmp_path / LAST), ema=True)


def test_epoch_means_are_over_samples(folder, tmp_path):
    fit(built(), shards(folder), tmp_path, max_epochs=1)
    rows = MetricsFile(tmp_path / "metrics.csv").rows()
    for name in ("loss", "cross_entropy", "harmonizer_loss"):
        steps = [float(row[f"train/{name}"]) for row in rows if row[f"train/{name}"]]
        assert len(steps) == 6
        assert float(rows[-1][f"train/{name}_epoch"]) == pytest.approx(sum(steps) / 6)
    row = rows[0]
    assert float(row["train/loss"]) == pytest.approx(
        float(row["train/cross_entropy"]) + float(row["train/harmonizer_loss"])
    )
    assert float(row["train/gradient_norm"]) > 0
    assert 0 <= float(row["speed/data_wait_share"]) <= 1
    assert float(row["speed/samples_per_second"]) > 0
    assert float(row["speed/memory_gib"]) > 0.01


def test_gradients_are_clipped_after_they_are_logged(folder, tmp_path):
    norms = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            norms.append(torch.stack([p.grad.norm() for p in pl_module.parameters()]).norm())

    fit(built(), shards(folder), tmp_path, Watch(), gradient_clip_val=0.1, max_epochs=1)
    assert all(float(norm) <= 0.1001 for norm in norms)
    rows = MetricsFile(tmp_path / "metrics.csv").rows()
    assert all(float(row["train/gradient_norm"]) > 0.2 for row in rows if row["train/gradient_norm"])


def test_the_log_drops_rows_that_a_resumed_run_repeats(tmp_path):
    log = MetricsFile(tmp_path / "log.csv")
    for step in range(5):
        log.log_metrics({"a": step} | ({"b": 1.0} if step > 2 else {}), step=step)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("5,5")  # half a row, as a kill leaves it
    again = MetricsFile(tmp_path / "log.csv")
    again.rewind(3)
    assert again.rows() == [{"step": str(i), "a": f"{float(i)}"} for i in range(3)]
    again.log_metrics({"a": 9.0, "c": 2.0}, step=3)
    assert again.rows()[-1] == {"step": "3", "a": "9.0", "c": "2.0"}
    again.rewind(0)
    assert again.rows() == []


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        ("linsley2032", {}, "try 'linsley2023'"),
        ("ddn", {"eps_mx": 1.0}, "expected settings of ddn"),
    ],
)
def test_an_unknown_attack_is_refused_before_training(attack, settings, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(attack, settings)
