"""The order of an epoch: exact shares, no repeated sample, and few open shards when asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonizer.data.mixture import Mixture, Part
from harmonizer.data.sampling import TrainBatches, count_steps


def numbers(batches):
    return [index.sample for batch in batches for index in batch]


def test_one_source_is_one_permutation_split_over_the_ranks():
    for rank in range(3):
        batches = TrainBatches(50, 4, seed=9, rank=rank, world=3)
        batches.set_epoch(2)
        assert numbers(batches) == np.random.default_rng([9, 2]).permutation(50)[rank::3][:16].tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_sources_keep_their_shares_and_no_sample_repeats(world):
    parts = [Part([30, 0, 30], 0.2), Part([100, 140], 0.8)]  # 60 and 240 samples
    epochs = []
    for epoch in range(2):
        ranks = [TrainBatches(Mixture(parts, seed=1), 5, seed=1, rank=rank, world=world) for rank in range(world)]
        for rank in ranks:
            rank.set_epoch(epoch)
        batches = [list(rank) for rank in ranks]
        assert {len(part) for part in batches} == {300 // (5 * world)}
        seen = [number for part in batches for number in numbers(part)]
        assert len(set(seen)) == len(seen)
        assert sum(number < 60 for number in seen) == pytest.approx(len(seen) * 0.2, abs=1)
        seeds = [index.seed for part in batches for batch in part for index in batch]
        assert len(set(seeds)) == len(seeds)
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    halves = [np.mean(np.array(half) < 60) for half in (epochs[0][:150], epochs[0][150:])]
    assert halves == pytest.approx([0.2, 0.2], abs=0.1)  # mixed, not one after the other


@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0.05, 5)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_the_longest_epoch_is_as_long_as_the_weights_allow(parts, multiple, epoch):
    mixture = Mixture([Part([length], weight) for length, weight in parts], seed=0)
    count = mixture.largest(multiple)
    assert count % multiple == 0
    assert mixture.fits(count)
    weights = [weight for _, weight in parts]
    assert any(
        (count + multiple) * weight / sum(weights) > length - 1
        for (length, _), weight in zip(parts, weights, strict=True)
    )
    order, passes = mixture.order(epoch, count)
    assert len(set(order.tolist())) == count
    assert not passes.any()
    for share, (_, weight) in zip(mixture.shares(count), parts, strict=True):
        assert abs(share - count * weight / sum(weights)) < 1


def test_a_small_source_is_repeated_only_when_asked():
    parts = [Part([10], 0.5), Part([200], 0.5)]
    assert count_steps(Mixture(parts, seed=0), 4) == 5
    with pytest.raises(
        ValueError, match=r"between 1 and 5 steps per epoch \(the sources hold \[10, 200\] samples\), got 9"
    ):
        count_steps(Mixture(parts, seed=0), 4, steps=9)
    mixture = Mixture(parts, seed=0, repeat=True)
    assert count_steps(mixture, 4) == 100
    batches = list(TrainBatches(mixture, 4, seed=0, steps=15))
    small = [index for batch in batches for index in batch if index.sample < 10]
    assert sorted(index.sample for index in small) == sorted([*range(10)] * 3)
    assert len({index.seed for index in small}) == 30  # a new augmentation each time


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_window_keeps_few_shards_open(world):
    shards = [7] * 12
    seen, orders = [], []
    for rank in range(world):
        batches = TrainBatches(
            Mixture([Part(shards)], seed=3, shuffle_window_shards=2), 3, seed=3, rank=rank, world=world
        )
        mine = numbers(batches)
        open_at_once = [len({number // 7 for number in mine[at : at + 14]}) for at in range(0, len(mine) - 14)]
        assert max(open_at_once) <= 4  # two windows of two shards, where they meet
        assert len({number // 7 for number in mine}) <= 12 // world + 4
        seen += mine
        orders.append(mine)
        assert mine != sorted(mine)
    assert len(set(seen)) == len(seen) == 84 // (3 * world) * 3 * world


def test_wrong_mixtures_are_refused():
    for parts in ([], [Part([])], [Part([0])], [Part([3], 0.0)], [Part([3], -1.0)]):
        with pytest.raises(ValueError, match="samples and weights above 0"):
            Mixture(parts, seed=0)
    with pytest.raises(ValueError, match="window"):
        Mixture([Part([3])], seed=0, shuffle_window_shards=0)
    with pytest.raises(ValueError, match="13 training samples mixed by weight are fewer than one batch of 8"):
        count_steps(Mixture([Part([3], 0.5), Part([10], 0.5)], seed=0), 8)
