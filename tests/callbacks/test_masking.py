"""The gradient-masking report of an evaluation: when it is made, on which images, and at what cost."""

import lightning as L
import pytest
import torch
from shard_data import CLASSES, write_folder
from torch import nn
from trainings import shards

from callbacks.evaluation import Evaluation, EvaluationHooks
from harmonizer.attacks.diagnostics import PASSES
from harmonizer.data.batch import Batch
from harmonizer.evaluation.masking import SHARE, MaskingReport
from harmonizer.evaluation.measure import measure_batch
from harmonizer.statistics import Status
from harmonizer.training.module import HarmonizerModule


class Counted(nn.Module):
    """A linear model that counts the images of its passes; those that are differentiated count twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
        self.passes = 0

    def forward(self, images):
        self.passes += len(images) * (2 if images.requires_grad else 1)
        return self.layer(images)


@pytest.mark.parametrize(("correct", "examined"), [(200, 8), (60, 2), (1, 1), (0, 0)])
def test_the_report_costs_a_tenth_of_the_passes_or_one_image(correct, examined):
    torch.manual_seed(0)
    model = Counted()
    images = torch.rand(max(correct, 4), 3, 6, 6)
    labels = model(images).argmax(1)
    labels[correct:] = (labels[correct:] + 1) % 3
    batch = Batch.of(images, labels)
    rows = measure_batch(model, batch)
    spent = sum(row.forwards + row.backwards for row in rows)
    report = MaskingReport(8)
    report.collect(batch.part(0, 2), rows[:2])
    report.collect(batch.part(2, len(images)), rows[2:])
    model.passes, seen = 0, []
    found = report.make(model, rows, lambda done, total: seen.append((done, total)))
    assert found["n"] == examined
    assert model.passes <= max(SHARE * spent, PASSES) + 8  # plus the clean images
    if correct:
        assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1]
        assert seen == sorted(seen)


class Listener(L.Callback, EvaluationHooks):
    """Keep rows; fail during the report, or supply one that an interrupted evaluation has kept."""

    def __init__(self, kept=None):
        self.kept, self.rows, self.health = kept, [], None

    def on_evaluation_start(self, trainer, pl_module, progress):
        progress.health = self.kept

    def on_rows(self, trainer, pl_module, rows, progress):
        self.rows += rows

    def on_gradients_examined(self, trainer, done, total):
        raise RuntimeError("in the report")

    def on_evaluation_end(self, trainer, pl_module, outcome, progress):
        self.health = outcome.health


def evaluate(place, listener):
    torch.manual_seed(0)
    module = HarmonizerModule("test_resnet", CLASSES, 32, harmonize=False)
    evaluation = Evaluation("pgd", {"steps": 2, "rounds": 1}, health=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", enable_progress_bar=False, callbacks=[evaluation, listener], **quiet)
    trainer.validate(module, shards(place), verbose=False)


def test_rows_are_saved_before_the_report_which_is_made_once(tmp_path):
    place = write_folder(tmp_path / "shards", train=4, val=9)
    listener = Listener()
    with pytest.raises(RuntimeError, match="in the report"):
        evaluate(place, listener)
    assert len(listener.rows) == 9
    assert any(row.status != Status.WRONG for row in listener.rows)
    listener = Listener(kept={"masked": False})
    evaluate(place, listener)
    assert listener.health == {"masked": False}
