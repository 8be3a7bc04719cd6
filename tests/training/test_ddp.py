"""Two gloo processes train as one process does on the joined batch, however the maps are distributed."""

import os
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from shard_data import CLASSES
from torch.utils.data import DataLoader
from trainings import fit, in_ranks

from harmonizer.data.batch import Batch
from harmonizer.training.module import HarmonizerModule

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")

SIZE, BATCH = 32, 4  # pixels; samples per process
WORLD = 2


class Whole(L.LightningDataModule):
    """Random images in float64; rank r of n takes every n-th, so that all ranks together see one process's batches."""

    def __init__(self, steps, mapped):
        super().__init__()
        self.steps, self.mapped = steps, mapped

    def train_dataloader(self):
        rank, world = self.trainer.global_rank, self.trainer.world_size
        draw = torch.Generator().manual_seed(7)
        batches = []
        for step in range(self.steps):
            count = BATCH * WORLD
            images = torch.rand(count, 3, SIZE, SIZE, generator=draw, dtype=torch.float64)
            human = torch.rand(count, SIZE, SIZE, generator=draw, dtype=torch.float64)
            labels = torch.randint(3, (count,), generator=draw)
            has_map = {
                "all": torch.ones(count, dtype=torch.bool),
                "one process": torch.arange(count) % WORLD == 1,  # rank 0 never has a map
                "broken": torch.ones(count, dtype=torch.bool),
                "uneven": torch.rand(count, generator=draw) < 0.3,
            }[self.mapped]
            if self.mapped == "broken" and step == 1:
                images[1] = torch.nan  # a sample of rank 1
            keys = [f"{step}-{i}" for i in range(count)]
            mine = slice(rank, None, WORLD) if world == WORLD else slice(None)
            batches.append(Batch(images[mine], labels[mine], human[mine], has_map[mine], keys[mine]))
        return DataLoader(batches, batch_size=None)

    def probe_dataloader(self, most):
        draw = torch.Generator().manual_seed(8)
        images = torch.rand(6, 3, SIZE, SIZE, generator=draw, dtype=torch.float64)
        return [Batch.of(images, torch.arange(6) % 3)]


class Gradients(L.Callback):
    """Keep the gradients of the first optimiser step."""

    def __init__(self):
        self.first = None

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if self.first is None:
            self.first = {name: value.grad.clone() for name, value in pl_module.named_parameters()}


def train(model, mapped, accumulate, steps, folder, **settings):
    """Train in double precision; return the first gradients and the final weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"optimizer": "sgd", "lr": 0.01, "schedule": "constant", "levels": 3, "harmonizer_weight": 5.0}
    module = HarmonizerModule(model, CLASSES, SIZE, harmonize=True, **options, **settings.pop("module", {})).double()
    gradients = Gradients()
    options = {"accumulate_grad_batches": accumulate, "max_epochs": 1, "precision": "64-true"}
    options["nonfinite"] = "skip" if mapped == "broken" else "stop"
    fit(module, Whole(steps * accumulate, mapped), folder, gradients, **options | settings)
    return gradients.first, module.state_dict()


CASES = [
    (model, mapped, accumulate, "none")
    for model in ("test_efficientnet_gn", "test_vit")
    for mapped, accumulate in (("all", 1), ("one process", 1), ("uneven", 2))
] + [("test_vit", "broken", 1, "none")]
EXTRAS = {name: {"adversarial": name} for name in ("none", "pgd", "trades", "fast")}
EXTRAS["pgd"]["adversarial_saliency"] = "clean"
BASELINES = {name: {"supervision": name} for name in ("rrr", "sgt", "pag")}
BASELINES["rrr"]["saliency_of"] = "log_probs"
CASES += [("test_efficientnet_gn", "uneven", 2, extra) for extra in ("pgd", "trades", "fast", *BASELINES)]
EXTRAS |= BASELINES
STEPS = 20
MODULES = {"split": {}, "joint": {"saliency_batch": "joint"}, "checkpointed": {"checkpoint_gradients": True}}


def main(folder):
    """Train all cases, as one of two processes."""
    rank = int(os.environ["LOCAL_RANK"])
    for number, (model, mapped, accumulate, attack) in enumerate(CASES):
        steps = STEPS if accumulate == 1 and mapped == "one process" else 3
        settings = {"module": EXTRAS[attack], "devices": WORLD, "strategy": "ddp"}
        found = train(model, mapped, accumulate, steps, folder / f"run-{number}", **settings)
        if rank == 0:
            torch.save(found, folder / f"{number}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Train all cases in two processes; return the folder of their gradients and weights."""
    folder = tmp_path_factory.mktemp("ddp")
    in_ranks([__file__, folder], WORLD, PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    return folder


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(map(str, case)) for case in CASES])
def test_gradients_and_weights_equal_those_of_one_process(results, tmp_path, number):
    model, mapped, accumulate, attack = CASES[number]
    steps = STEPS if accumulate == 1 and mapped == "one process" else 3
    gradients, weights = torch.load(results / f"{number}.pt", weights_only=True)
    expected_gradients, expected_weights = train(model, mapped, accumulate, steps, tmp_path, module=EXTRAS[attack])
    assert sum(value.abs().sum() for value in expected_gradients.values()) > 1e-3
    for name, value in expected_gradients.items():
        assert (gradients[name] - value).abs().max() <= 1e-10, name
    for name, value in expected_weights.items():
        assert (weights[name] - value).abs().max() <= 1e-8, name


@pytest.mark.parametrize("model", ["test_efficientnet_gn", "test_vit"])
def test_joint_and_recomputed_gradients_equal_split_ones(tmp_path, model):
    found = {
        name: train(model, "uneven", 1, 2, tmp_path / name, module=settings)[0] for name, settings in MODULES.items()
    }
    for other in ("joint", "checkpointed"):
        for name, value in found["split"].items():
            assert (value - found[other][name]).abs().max() <= 1e-10, (other, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
