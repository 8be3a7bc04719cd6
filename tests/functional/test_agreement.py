import numpy as np
import pytest
import torch
from scipy import stats

from harmonizer.functional import dice, iou, spearman

GENERATOR_SEED = 0


def maps(kind, count=6, pixels=400, seed=GENERATOR_SEED):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, pixels, generator=generator)
    return {
        "no ties": noise,
        "float64": noise.double() * 1.1,
        "levels": (noise * 3).round(),
        "half zero": noise.relu(),
        "signed zeros": torch.where(noise > 1, noise, 0.0 * noise),
        "integers": (noise * 5).long(),
        "bfloat16": noise.bfloat16(),
        "tiny and huge": noise * 10.0 ** torch.randint(-30, 30, noise.shape, generator=generator),
        "close doubles": 1 + 1e-12 * (noise * 2).round().double(),
    }[kind]


KINDS = ["no ties", "float64", "levels", "half zero", "signed zeros", "integers", "bfloat16", "tiny and huge"]


def oracle(a, b):
    rows = zip(a.double().numpy(), b.double().numpy(), strict=True)
    return torch.tensor([stats.spearmanr(*row).statistic for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("kind_a", [*KINDS, "close doubles"])
@pytest.mark.parametrize("kind_b", ["no ties", "levels", "half zero"])
def test_spearman_equals_scipy(kind_a, kind_b):
    a, b = maps(kind_a), maps(kind_b, seed=1)
    b = torch.where(torch.rand(b.shape, generator=torch.Generator().manual_seed(2)) < 0.5, a.to(b.dtype), b)
    result = spearman(a, b)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, oracle(a, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [1500, 2047, 2049, 20_000])
def test_spearman_of_many_tied_values_equals_scipy(levels):
    generator = torch.Generator().manual_seed(levels)
    a = torch.randint(levels, (2, 30_000), generator=generator).float() / levels
    b = a + torch.randint(levels, (2, 30_000), generator=generator) / levels
    torch.testing.assert_close(spearman(a, b), oracle(a, b), rtol=0, atol=1e-12)


def test_spearman_of_constant_or_nonfinite_maps_is_undefined():
    a = maps("no ties", count=5)
    a[0] = 3.0
    a[1, 7] = torch.nan
    a[2, 7] = torch.inf
    result = spearman(a, maps("levels", count=5, seed=3))
    assert result.isnan().tolist() == [True, True, True, False, False]
    assert spearman(a[:0], a[:0]).shape == (0,)


def test_spearman_depends_only_on_the_order_and_flips_sign():
    a, b = maps("half zero").reshape(6, 20, 20), maps("levels", seed=1).reshape(6, 20, 20)
    torch.testing.assert_close(spearman(a.exp(), b), spearman(a, b), rtol=0, atol=1e-12)
    torch.testing.assert_close(spearman(-a, b), -spearman(a, b), rtol=0, atol=1e-12)


def test_spearman_does_not_depend_on_the_number_of_threads():
    a, b = maps("half zero", pixels=5000), maps("levels", pixels=5000, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(spearman(a, b))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_dice_and_iou_of_the_top_equal_numpy():
    a, b = maps("no ties"), maps("levels", seed=1)
    for percent in (10, 33.3):
        top = [m.double().numpy() > np.percentile(m.double().numpy(), 100 - percent, axis=1)[:, None] for m in (a, b)]
        both, total = (top[0] & top[1]).sum(1), top[0].sum(1) + top[1].sum(1)
        np.testing.assert_allclose(dice(a, b, percent=percent), 2 * both / total, rtol=1e-12)
        np.testing.assert_allclose(iou(a, b, percent=percent), both / (total - both), rtol=1e-12)


@pytest.mark.parametrize("score", [dice, iou])
def test_overlap_of_a_map_without_a_top_is_undefined(score):
    """Undefined, never 0, if either map is constant, non-finite or has its maximum on more pixels than the top."""
    a, b = maps("no ties", count=5, pixels=100), maps("no ties", count=5, pixels=100, seed=1)
    b[0], b[1, 7] = 0.5, torch.nan
    b[2] = (torch.arange(100) < 30).float()
    b[3] = (torch.arange(100) < 9).float()
    for result in (score(a, b), score(b, a)):
        assert result.isnan().tolist() == [True, True, True, False, False]
    pair = a[3].topk(10).indices < 9
    assert float(dice(a, b)[3]) == pytest.approx(2 * int(pair.sum()) / 19)


@pytest.mark.parametrize("score", [spearman, dice, iou])
def test_different_shapes_are_refused(score):
    with pytest.raises(ValueError, match="one shape"):
        score(torch.zeros(2, 9), torch.zeros(2, 3, 3))


def test_a_percentage_out_of_range_is_refused():
    with pytest.raises(ValueError, match="percentage"):
        dice(torch.zeros(2, 9), torch.zeros(2, 9), percent=100)
