"""The order of samples: a function of seed, epoch, rank and batch size, and of nothing else."""

import hashlib
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from harmonizer.data.dataset import Position


class TrainBatches(Sampler[list[Position]]):
    """Batches of one rank for one epoch after another, shuffled anew in each.

    An epoch is a number of steps, the same on all ranks. The samples that are left over (at least those of the last
    incomplete batch) change from epoch to epoch.

    Args:
        length: Samples in the data set.
        batch_size: Of one rank.
        seed: Of the order and of each sample's augmentation.
        rank: Of this process.
        world: Number of processes.
        steps: Batches of one rank in an epoch; None takes all that the samples give.

    Raises:
        ValueError: There are fewer samples than the steps, or one batch, on every rank need.
    """

    def __init__(
        self, length: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1, steps: int | None = None
    ) -> None:
        if length < batch_size * world:
            raise ValueError(
                f"{length} training samples are fewer than one batch of {batch_size} on each of {world} processes; "
                "lower batch_size"
            )
        available = length // (batch_size * world)
        if steps is not None and not 1 <= steps <= available:
            raise ValueError(f"expected between 1 and {available} steps an epoch, got {steps}; change steps_per_epoch")
        self.steps = available if steps is None else steps
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.skip = 0

    @property
    def sampler(self) -> "TrainBatches":
        """Return itself: Lightning looks for ``set_epoch`` at a batch sampler's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs through; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Position]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        mine = order[self.rank :: self.world][: len(self) * self.batch_size].reshape(-1, self.batch_size)
        first, self.skip = self.skip, 0
        for batch in mine[first:]:
            yield [Position(int(index), sample_seed(self.seed, self.epoch, int(index))) for index in batch]


class EvaluationBatches(Sampler[list[Position]]):
    """Batches of one rank that cover each sample exactly once over all ranks, in order.

    Rank r reads samples r, r + world, ...; ranks may get unequal numbers of batches, none included.

    Args:
        length: Samples in the data set.
        batch_size: Of one rank.
        rank: Of this process.
        world: Number of processes.
    """

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, length, world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Position]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [Position(index, 0) for index in self.indices[start : start + self.batch_size]]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the augmentation seed of one sample in one epoch, 64 bits.

    >>> sample_seed(0, 1, 2) == sample_seed(0, 1, 2) != sample_seed(0, 2, 1)
    True
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=8).digest(), "big")
