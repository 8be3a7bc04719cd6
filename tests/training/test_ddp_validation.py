"""Validation with fewer samples than processes: ranks without samples join every collective too."""

import os
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from shard_data import CLASSES, write_folder
from trainings import fit, in_ranks, shards

from callbacks.evaluation import Evaluation
from callbacks.results import ResultsWriter
from callbacks.skipped import SkippedSamples
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.results import load_results
from harmonizer.training.module import HarmonizerModule

SAMPLES = (1, 2, 3)
PGD = {"steps": 2, "rounds": 2}


def measure(place, samples, results, **settings):
    """Evaluate an untrained network as evaluate.py does."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = resolve_model(model="test_resnet", image_size=32)
    writer = ResultsWriter(results, spec=spec, data_name="squares")
    callbacks = [Evaluation("pgd", PGD), SkippedSamples(), writer]
    options = {"accelerator": "cpu", "logger": False, "use_distributed_sampler": False, "inference_mode": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(callbacks=callbacks, **options | settings)
    data = shards(place / f"{samples}", eval_batch_size=2)
    trainer.validate(spec.build(CLASSES), data, verbose=False)


def train(place, samples, folder, world):
    """Train two steps, then validate."""
    torch.manual_seed(0)
    module = HarmonizerModule("test_resnet", CLASSES, 32, schedule="constant")
    data = shards(place / f"{samples}", steps_per_epoch=2)
    fit(module, data, folder, Evaluation("pgd", PGD), max_epochs=1, devices=world, strategy="ddp")


def main(place, world):
    """Measure and train all cases, as one of several processes."""
    for samples in SAMPLES:
        measure(place, samples, place / f"{samples}-of-{world}", devices=world, strategy="ddp")
    train(place, 1, place / f"run-of-{world}", world)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Shards with one, two and three validation samples, and the results of one process on each."""
    place = tmp_path_factory.mktemp("few")
    for samples in SAMPLES:
        write_folder(place / f"{samples}", train=48, val=samples)
        measure(place, samples, place / f"{samples}-of-1", devices=1)
    return place


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_without_samples_join_every_collective(place, world):
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    in_ranks([__file__, place, world], world, PYTHONPATH=path)
    for samples in SAMPLES:
        found, expected = (
            load_results(place / f"{samples}-of-{number}" / "test_resnet-untrained") for number in (world, 1)
        )
        assert found.summary["accuracy"] == expected.summary["accuracy"]
        assert found.summary["accuracy"]["n"] == samples
        assert list(found.columns["key"]) == list(expected.columns["key"])
        assert found.columns["status"].tolist() == expected.columns["status"].tolist()
        for name in ("l2", "feature_alignment"):
            torch.testing.assert_close(
                torch.from_numpy(found.columns[name]),
                torch.from_numpy(expected.columns[name]),
                rtol=1e-4,
                atol=1e-4,
                equal_nan=True,
            )
    assert (place / f"run-of-{world}" / "last.ckpt").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
