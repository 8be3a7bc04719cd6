"""The samples of an epoch and their order, as a function of seed and epoch only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Part(NamedTuple):
    """One source of a mixture."""

    shards: Sequence[int]  # number of samples in each shard
    weight: float = 1.0  # share of an epoch, relative to the other parts


class Mixture:
    """Sources mixed by weight. Samples are numbered consecutively through all parts.

    Each epoch takes exactly its share of every part, rounded to whole samples, and reshuffles each part.

    Args:
        parts: One or more sources.
        seed: Seed of the order.
        shuffle_window_shards: Shuffle the shards, and samples only within this many successive shards, so that few are
            needed at a time; None shuffles all samples.
        repeat: Repeat a part that is too small for its share, instead of ending the epoch.

    Raises:
        ValueError: A part is empty, or a weight or the shuffle window is not positive.
    """

    def __init__(
        self, parts: Sequence[Part], *, seed: int, shuffle_window_shards: int | None = None, repeat: bool = False
    ) -> None:
        self.lengths = [sum(part.shards) for part in parts]
        weights = [part.weight for part in parts]
        if not parts or min(self.lengths) < 1 or not min(weights) > 0:
            raise ValueError(f"expected sources with samples and weights above 0, got {self.lengths} and {weights}")
        if shuffle_window_shards is not None and shuffle_window_shards < 1:
            raise ValueError(f"expected a shuffle window of at least 1 shard, got {shuffle_window_shards}")
        self.parts = tuple(parts)
        self.seed = seed
        self.shuffle_window_shards = shuffle_window_shards
        self.repeat = repeat
        self.weights = np.array(weights) / sum(weights)

    def __len__(self) -> int:
        return sum(self.lengths)

    def largest(self, multiple: int) -> int:
        """Return the size of the largest epoch that is a multiple of a number; 0 if there are too few samples.

        With ``repeat``, it is one pass through the part that is largest for its weight.
        """
        choose = max if self.repeat else min
        total = int(choose(length / weight for length, weight in zip(self.lengths, self.weights, strict=True)) + 1e-6)
        total -= total % multiple
        while total and not self.repeat and not self.fits(total):  # shares are rounded to whole samples
            total -= multiple
        return total

    def fits(self, count: int) -> bool:
        """Return whether an epoch of ``count`` samples needs no sample twice."""
        return all(share <= length for share, length in zip(self.shares(count), self.lengths, strict=True))

    def shares(self, count: int) -> list[int]:
        """Return the number of samples of each part in an epoch of ``count``, by largest remainders.

        >>> Mixture([Part([60]), Part([300], weight=4)], seed=0).shares(101)
        [20, 81]
        """
        exact = self.weights * count
        shares = np.floor(exact + 1e-9).astype(int)
        for part in np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]:
            shares[part] += 1
        return [int(share) for share in shares]

    def order(self, epoch: int, count: int) -> tuple[Numbers, Numbers]:
        """Return the samples of an epoch.

        Returns:
            (count,) sample numbers, and how often each has already occurred in this epoch.
        """
        numbers, passes, first = [], [], 0
        for index, (share, length) in enumerate(zip(self.shares(count), self.lengths, strict=True)):
            rounds = -(-share // length)
            runs = [self._shuffled(index, epoch, number) + first for number in range(rounds)]
            numbers.append(np.concatenate([*runs, np.empty(0, np.int64)])[:share])
            passes.append(np.repeat(np.arange(rounds), length)[:share])
            first += length
        if len(self.parts) == 1:
            return numbers[0], passes[0]
        # The part of each sample is drawn; the order within each part does not change.
        turns = np.repeat(np.arange(len(self.parts)), self.shares(count))
        np.random.default_rng([self.seed, epoch, len(self.parts)]).shuffle(turns)
        mixed, repeats = np.empty(count, np.int64), np.empty(count, np.int64)
        for index in range(len(self.parts)):
            mixed[turns == index], repeats[turns == index] = numbers[index], passes[index]
        return mixed, repeats

    def _shuffled(self, index: int, epoch: int, number: int) -> Numbers:
        """Return the shuffled samples of a part for one of an epoch's passes through it."""
        rng = np.random.default_rng([self.seed, epoch] if index == number == 0 else [self.seed, epoch, index, number])
        shards, length = self.parts[index].shards, self.lengths[index]
        if self.shuffle_window_shards is None:
            return rng.permutation(length)
        starts = np.cumsum([0, *shards])
        order = rng.permutation(len(shards))
        blocks = [
            np.concatenate(
                [np.arange(starts[shard], starts[shard + 1]) for shard in order[at : at + self.shuffle_window_shards]]
            )
            for at in range(0, len(order), self.shuffle_window_shards)
        ]
        return np.concatenate([rng.permutation(block) for block in blocks])
