"""Each sample is read once for every combination of ranks, workers, shards (some empty) and start methods."""

import multiprocessing

import lightning as L
import pytest
import torch
import torch.distributed as dist
from processes import in_two_processes
from shard_data import CLASSES, sample, write_folder
from trainings import QUIET

from harmonizer.data.datamodule import ShardData
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.loader import BatchLoader, TrainLoader
from harmonizer.data.mixture import Mixture, Part
from harmonizer.data.sampling import EvaluationBatches, TrainBatches
from harmonizer.data.shards.manifest import Manifest, write_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.writer import shard_name, write_shard
from harmonizer.data.transforms import JointTransform

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on purpose

SIZE = 16
WORLDS = (1, 2, 3, 8)


def uneven(folder, shards):
    """Write the given number of shards, of 0 to 7 samples each."""
    folder.mkdir()
    entries, first = [], 0
    for number in range(shards):
        count = (5 * number + 3) % 8
        samples = (sample(i, SIZE) for i in range(first, first + count))
        entries.append(write_shard(folder / shard_name(number), samples))
        first += count
    write_manifest(folder, Manifest(CLASSES, "", tuple(entries)))
    return folder, first


def check(folder, length, world, workers, *, start_method=None):
    """Check one combination on simulated ranks."""
    source = ShardFolder(folder)
    dataset = ShardDataset([source], JointTransform(SIZE, scale=(0.5, 1), flip=0.5))
    settings = {"num_workers": workers, "start_method": start_method}
    keys = [f"s{i:05d}" for i in range(length)]

    validation = [
        key
        for rank in range(world)
        for batch in BatchLoader(dataset, EvaluationBatches(length, 2, rank=rank, world=world), **settings)
        for key in batch.keys
    ]
    assert sorted(validation) == keys  # each exactly once

    if length < world:
        return
    mixture = Mixture([Part([shard.samples for shard in source.manifest.shards])], seed=5)

    def epoch(number, **settings):
        ranks = []
        for rank in range(world):
            batches = TrainBatches(mixture, 1, seed=5, rank=rank, world=world)
            batches.set_epoch(number)
            loaded = list(TrainLoader(dataset, batches, **settings))
            assert len(loaded) == length // world  # the stated number of steps on each rank
            ranks.append([(batch.keys[0], float(batch.images.sum())) for batch in loaded])
        seen = [key for rank in ranks for key, _ in rank]
        assert len(set(seen)) == len(seen)
        return ranks

    first = epoch(0)
    assert epoch(0, **settings) == first  # repeatable, with any number of workers
    if length // world > 1:
        assert epoch(1) != first


@pytest.mark.parametrize(("shards", "world", "workers"), [(1, 1, 0), (2, 8, 0), (4, 2, 1), (7, 3, 2), (12, 1, 3)])
def test_each_sample_is_read_once_in_some_combinations(shards, world, workers, tmp_path):
    folder, length = uneven(tmp_path / "shards", shards)
    check(folder, length, world, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", range(4))
@pytest.mark.parametrize("shards", range(1, 13))
def test_each_sample_is_read_once_in_all_combinations(shards, workers, tmp_path):
    folder, length = uneven(tmp_path / "shards", shards)
    for world in WORLDS:
        check(folder, length, world, workers)


@pytest.mark.slow
@pytest.mark.parametrize("start_method", multiprocessing.get_all_start_methods())
def test_each_sample_is_read_once_by_every_start_method(start_method, tmp_path):
    folder, length = uneven(tmp_path / "shards", 5)
    check(folder, length, 2, 2, start_method=start_method)


class Place:
    """The attributes of a trainer that a data module reads."""

    def __init__(self, rank, world):
        self.global_rank, self.world_size, self.max_epochs = rank, world, None


def work(rank, folder, workers):
    data = ShardData(
        folder / "a",
        model="test_resnet",
        image_size=SIZE,
        crop_ratio=1.0,
        batch_size=4,
        eval_batch_size=3,
        num_workers=workers,
        sources=[{"folder": folder / "a", "weight": 0.25}, {"folder": folder / "b", "weight": 0.75}],
    )
    data.trainer = Place(dist.get_rank(), dist.get_world_size())
    train = [key for batch in data.train_dataloader() for key in batch.keys]
    parts = [None, None]
    dist.all_gather_object(parts, (train, [key for batch in data.val_dataloader() for key in batch.keys]))
    assert len(train) == 4 * data.train_batches()
    trained, validated = ([key for part in parts for key in part[which]] for which in (0, 1))
    assert sorted(validated) == [f"s{10_000 + i}" for i in range(7)]
    assert len(set(trained)) == len(trained) == 40 == len(parts[0][0]) + len(parts[1][0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12 on fork; short-lived children
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_share_the_samples_without_overlap(workers, tmp_path):
    write_folder(tmp_path / "a", train=13, val=7, size=SIZE, samples_per_shard=4)
    write_folder(tmp_path / "b", train=32, val=1, size=SIZE, samples_per_shard=5, first=500)
    in_two_processes(work, tmp_path, tmp_path, workers)


@pytest.mark.slow
def test_a_two_process_trainer_sees_each_sample_once(tmp_path):
    """Lightning starts the second process and calls the data module in each."""
    write_folder(tmp_path / "a", train=13, val=7, size=SIZE, samples_per_shard=4)
    data = ShardData(tmp_path / "a", model="test_resnet", image_size=SIZE, crop_ratio=1.0, batch_size=3)
    module = Keys()
    trainer = L.Trainer(devices=2, strategy="ddp_fork", max_epochs=2, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, data)


class Keys(L.LightningModule):
    """Collect keys and check them across processes."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.epochs = [], [], []

    def training_step(self, batch, batch_idx):
        self.trained += batch.keys
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.keys

    def on_validation_epoch_end(self):
        parts = [None, None]
        dist.all_gather_object(parts, self.validated)
        assert sorted(parts[0] + parts[1]) == [f"s{10_000 + i}" for i in range(7)]
        dist.all_gather_object(parts, self.trained)
        assert len(parts[0]) == len(parts[1]) == 6
        assert len(set(parts[0] + parts[1])) == 12
        self.epochs.append(parts)
        assert len(self.epochs) == 1 or self.epochs[0] != self.epochs[1]
        self.trained, self.validated = [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
