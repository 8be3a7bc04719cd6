"""Every sample is used, with any number of processes and workers."""

import os
from itertools import chain

import pytest
from shard_data import write_folder

from harmonizer.data.datamodule import ShardData
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.loader import BatchLoader, TrainLoader
from harmonizer.data.sampling import EvaluationBatches, TrainBatches
from harmonizer.data.transforms import JointTransform


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize(("length", "batch_size"), [(1, 4), (7, 3), (25, 4), (64, 8)])
def test_evaluation_sees_each_sample_exactly_once(world, length, batch_size):
    ranks = [EvaluationBatches(length, batch_size, rank=rank, world=world) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    assert [len(part) for part in batches] == [len(rank) for rank in ranks]
    assert sorted(p.sample for part in batches for batch in part for p in batch) == list(range(length))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_training_ranks_take_equal_steps_and_share_no_sample(world):
    ranks = [TrainBatches(100, 5, seed=1, rank=rank, world=world) for rank in range(world)]
    epochs = []
    for epoch in range(2):
        for rank in ranks:
            rank.set_epoch(epoch)
        batches = [list(rank) for rank in ranks]
        assert {len(part) for part in batches} == {100 // (5 * world)}
        seen = [index.sample for part in batches for batch in part for index in batch]
        assert len(seen) == len(set(seen))
        epochs.append(batches)
    assert epochs[0] != epochs[1]
    for rank in ranks:
        rank.set_epoch(0)
    assert [list(rank) for rank in ranks] == epochs[0]
    assert list(TrainBatches(100, 5, seed=2, world=world)) != epochs[0][0]
    seeds = [index.seed for index in chain(*epochs[0][0], *epochs[1][0])]
    assert len(set(seeds)) == len(seeds)


def test_an_epoch_can_have_fewer_steps_than_the_samples_allow():
    batches = TrainBatches(100, 5, seed=1, world=2, steps=3)
    assert len(batches) == len(list(batches)) == 3
    for steps in (0, 11):
        with pytest.raises(ValueError, match="between 1 and 10 steps per epoch"):
            TrainBatches(100, 5, seed=1, world=2, steps=steps)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="7 training samples are fewer than one batch of 4 on each of 2"):
        TrainBatches(7, 4, seed=0, world=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_resumes_in_the_middle_of_an_epoch(tmp_path, workers):
    folder = write_folder(tmp_path / "shards", train=24, val=5, samples_per_shard=5)
    dataset = ShardDataset(folder / "train", JointTransform(32, scale=(0.5, 1), flip=0.5))

    def loader():
        return TrainLoader(dataset, TrainBatches(24, 4, seed=7), num_workers=workers)

    reference = loader()
    epochs = []
    for epoch in range(2):
        reference.batches.set_epoch(epoch)
        epochs.append(list(reference))
    for epoch, done in [(0, 0), (0, 2), (1, 5), (0, 6)]:
        first = loader()
        first.batches.set_epoch(epoch)
        iterator = iter(first)
        for _ in range(done):
            next(iterator)
        second = loader()
        second.load_state_dict(first.state_dict())
        expected = epochs[epoch][done:] if done < 6 else epochs[epoch + 1]
        for a, b in zip(second, expected, strict=True):
            assert a.keys == b.keys
            assert a.images.equal(b.images)
            assert a.human_map.equal(b.human_map)

    validation = ShardDataset(folder / "val", JointTransform(32))
    keys = [
        key for batch in BatchLoader(validation, EvaluationBatches(5, 2), num_workers=workers) for key in batch.keys
    ]
    assert keys == [f"s{10_000 + i}" for i in range(5)]


def test_there_is_one_worker_per_core_up_to_eight(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "shards", train=8, val=4)
    for cores, expected in ((3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: range(cores), raising=False)
        data = ShardData(folder, model="test_vit", batch_size=2, image_size=32, num_workers=None)
        assert data.workers["num_workers"] == expected
