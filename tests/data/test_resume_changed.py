"""Resuming a run with another number of processes, batch size or number of workers."""

import logging

import lightning as L
import pytest
import torch
from shard_data import write_folder
from trainings import QUIET

from harmonizer.data.datamodule import ShardData
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.loader import TrainLoader
from harmonizer.data.sampling import TrainBatches
from harmonizer.data.transforms import JointTransform


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=24, val=4)


@pytest.fixture(scope="module")
def dataset(folder):
    return ShardDataset(folder / "train", JointTransform(32, scale=(0.5, 1), flip=0.5))


def state_after(dataset, done, **settings):
    loader = TrainLoader(dataset, TrainBatches(24, 2, seed=7, **settings))
    batches = iter(loader)
    for _ in range(done):
        next(batches)
    return loader.state_dict()


@pytest.mark.parametrize("settings", [{"world": 3}, {"batch_size": 4}, {"steps": 5}])
def test_other_processes_or_batches_resume_at_the_next_epoch(settings, dataset, caplog):
    state = state_after(dataset, 4, world=2)
    settings = {"world": 2, "batch_size": 2} | settings
    loader = TrainLoader(dataset, TrainBatches(24, settings.pop("batch_size"), seed=7, **settings))
    with caplog.at_level(logging.WARNING):
        loader.load_state_dict(state)
    assert "from the middle of epoch 0 (4 batches in)" in caplog.text
    assert "the rest of that epoch is skipped" in caplog.text
    assert list(loader) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (1, 0)
    loader.batches.set_epoch(1)
    assert len(list(loader)) == len(loader)


def test_the_last_epoch_is_not_skipped(dataset, caplog):
    state = state_after(dataset, 4, world=2)
    with pytest.raises(
        ValueError, match=r"processes \(2 -> 1\).*, and that epoch is the last; finish it with the old settings"
    ):
        TrainLoader(dataset, TrainBatches(24, 2, seed=7), epochs=1).load_state_dict(state)
    TrainLoader(dataset, TrainBatches(24, 2, seed=7, world=2), epochs=1).load_state_dict(state)
    TrainLoader(dataset, TrainBatches(24, 2, seed=7, world=3, rank=1), epochs=2).load_state_dict(state)
    assert not caplog.records  # only the first process warns


def test_resuming_at_the_end_of_an_epoch_skips_nothing(dataset, caplog):
    state = state_after(dataset, 6, world=2)
    assert (state["epoch"], state["batch"], state["processes"]) == (1, 0, 2)
    loader = TrainLoader(dataset, TrainBatches(24, 3, seed=7))
    loader.load_state_dict(state)
    assert len(list(loader)) == 8
    assert not caplog.records


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on purpose
def test_another_number_of_workers_changes_no_batch(workers, dataset):
    whole = list(TrainLoader(dataset, TrainBatches(24, 2, seed=7)))
    loader = TrainLoader(dataset, TrainBatches(24, 2, seed=7), num_workers=workers)
    loader.load_state_dict(state_after(dataset, 5))
    rest = list(loader)
    assert [batch.keys for batch in rest] == [batch.keys for batch in whole[5:]]
    assert all(a.images.equal(b.images) for a, b in zip(rest, whole[5:], strict=True))


class Net(L.LightningModule):
    """Collect the keys of each epoch; save in the middle of one."""

    def __init__(self, save=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.save, self.seen, self.validated = save, {}, []

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).extend(batch.keys)
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.current_epoch)

    def on_train_batch_end(self, *_):
        if self.save and self.global_step == 8:
            self.trainer.save_checkpoint(self.save)
            self.trainer.should_stop = True
            self.trainer.limit_val_batches = 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_a_trainer_resumes_at_the_next_epoch(batch_size, folder, tmp_path, caplog):
    def run(module, batch_size, **settings):
        data = ShardData(folder, model="test_vit", image_size=32, crop_ratio=1.0, batch_size=batch_size)
        trainer = L.Trainer(max_epochs=4, default_root_dir=tmp_path, **QUIET)
        trainer.fit(module, data, **settings)
        return trainer

    path = tmp_path / "middle.ckpt"
    run(Net(path), 4)  # six batches per epoch: saved after two of epoch 1
    resumed = Net()
    trainer = run(resumed, batch_size, ckpt_path=path, weights_only=True)
    assert "batch size (4 -> " in caplog.text
    assert sorted(resumed.seen) == [2, 3]
    for keys in resumed.seen.values():
        assert len(set(keys)) == len(keys) == 24
    assert trainer.current_epoch == 4
    assert {2, 3} <= set(resumed.validated)
