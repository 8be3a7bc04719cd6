"""Batches of one process, as a function of seed, epoch, rank and batch size only."""

import hashlib
from collections.abc import Iterator

from torch.utils.data import Sampler

from harmonizer.data.dataset import SampleIndex
from harmonizer.data.mixture import Mixture, Part


class TrainBatches(Sampler[list[SampleIndex]]):
    """Training batches of one rank, reshuffled in each epoch.

    An epoch has the same number of steps on all ranks, and no two ranks share a sample in it. The unused samples (at
    least those of the last incomplete batch) change from epoch to epoch.

    Args:
        samples: Number of samples in the data set, or a mixture of several.
        batch_size: Batch size per rank.
        seed: Seed of the order and of each sample's augmentation.
        rank: Rank of this process.
        world: Number of processes.
        steps: Batches per rank and epoch; None uses all samples.

    Raises:
        ValueError: There are too few samples for the steps, or for one batch, on every rank.
    """

    def __init__(
        self,
        samples: int | Mixture,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        steps: int | None = None,
    ) -> None:
        self.mixture = Mixture([Part([samples])], seed=seed) if isinstance(samples, int) else samples
        self.steps = count_steps(self.mixture, batch_size, world=world, steps=steps)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.skip = 0

    @property
    def sampler(self) -> "TrainBatches":
        """Return itself, because Lightning calls ``set_epoch`` of a batch sampler's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        each = self.steps * self.batch_size
        numbers, passes = self.mixture.order(self.epoch, each * self.world)
        # With a shuffle window, each rank takes successive samples, to need few shards at a time.
        windowed = self.mixture.shuffle_window_shards is not None
        mine = slice(self.rank * each, (self.rank + 1) * each) if windowed else slice(self.rank, None, self.world)
        # A repeated sample gets another augmentation: its later passes are numbered after the last sample.
        identities = numbers[mine] + passes[mine] * len(self.mixture)
        first, self.skip = self.skip, 0
        for start in range(first * self.batch_size, each, self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield [
                SampleIndex(number, sample_seed(self.seed, self.epoch, identity))
                for number, identity in zip(numbers[mine][batch].tolist(), identities[batch].tolist(), strict=True)
            ]


class EvaluationBatches(Sampler[list[SampleIndex]]):
    """Evaluation batches of one rank, in order; all ranks together cover each sample exactly once.

    Rank r reads samples r, r + world, ...; ranks may get unequal numbers of batches, even none.

    Args:
        length: Number of samples in the data set.
        batch_size: Batch size per rank.
        rank: Rank of this process.
        world: Number of processes.
    """

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, length, world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [SampleIndex(index, 0) for index in self.indices[start : start + self.batch_size]]


def count_steps(mixture: Mixture, batch_size: int, *, world: int = 1, steps: int | None = None) -> int:
    """Return the number of batches per rank and epoch: ``steps``, or as many as there are samples for.

    Raises:
        ValueError: There are too few samples.
    """
    available = mixture.largest(batch_size * world) // (batch_size * world)
    if not available:
        what = f"{len(mixture)} training samples" + (" mixed by weight" if len(mixture.parts) > 1 else "")
        raise ValueError(
            f"{what} are fewer than one batch of {batch_size} on each of {world} processes; lower batch_size"
        )
    if steps is None:
        return available
    if steps < 1 or (steps > available and not mixture.repeat):
        hint = "" if len(mixture.parts) == 1 else f" (the sources hold {mixture.lengths} samples)"
        raise ValueError(
            f"expected between 1 and {available} steps per epoch{hint}, got {steps}; change steps_per_epoch"
        )
    return steps


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the augmentation seed of one sample in one epoch, 64 bits.

    >>> sample_seed(0, 1, 2) == sample_seed(0, 1, 2) != sample_seed(0, 2, 1)
    True
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=8).digest(), "big")
