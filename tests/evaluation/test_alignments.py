"""Alignment scores by name: each equals a separate computation, and none changes what is measured by default."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

import harmonizer
from harmonizer.data.batch import Batch
from harmonizer.data.ceilings.file import Agreement
from harmonizer.data.shards.manifest import Ceilings
from harmonizer.evaluation.alignments import COLUMNS_OF, OtherMaps, onevision2026
from harmonizer.evaluation.measure import measure_batch
from harmonizer.evaluation.scores import scores_by_name
from harmonizer.models import evaluation_saliencies, evaluation_saliency
from harmonizer.results import COLUMNS, Row, load_results
from harmonizer.statistics import Status

ALL = list(COLUMNS_OF)


class Counting(nn.Module):
    """A small network that counts its backward passes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 4))
        self.backwards = 0

    def forward(self, images):
        if images.requires_grad:
            images.register_hook(self._count)
        return self.net(images)

    def _count(self, gradient):
        self.backwards += 1


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 24, 24, generator=generator)
    maps = torch.rand(6, 24, 24, generator=generator) * (torch.rand(6, 24, 24, generator=generator) > 0.5)
    maps[5] = 0
    return Batch.of(images, torch.tensor([0, 1, 2, 3, 0, 1]), maps)


def blurred(saliency):
    """Average over a disk of 21 pixels, twice, with zeros outside, by SciPy."""
    y, x = np.mgrid[-10:11, -10:11]
    disk = (x**2 + y**2 <= 100).astype(float)
    disk /= disk.sum()
    for _ in range(2):
        saliency = ndimage.convolve(saliency, disk, mode="constant")
    return saliency


@pytest.mark.parametrize("topk", [False, True])
def test_onevision_equals_numpy_and_scipy(topk):
    rng = np.random.default_rng(0)
    saliency, human = rng.random((2, 224, 224)) ** 3, rng.random((2, 224, 224)) * (rng.random((2, 224, 224)) > 0.7)
    expected = []
    for shown, people in zip(saliency, human, strict=True):
        kept = shown.copy()
        if topk:
            threshold = np.sort(kept, axis=None)[-int((people > 0).sum())]
            kept[kept < threshold] = 0
        expected.append(stats.spearmanr(blurred(kept).ravel(), people.ravel()).statistic)
    ours = onevision2026(torch.from_numpy(saliency), torch.from_numpy(human), topk=topk)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)  # rounding in SciPy's convolution breaks ties


def test_one_pass_gives_both_saliencies(batch):
    model = Counting()
    with torch.no_grad():
        predicted = model(batch.images).argmax(1)
    assert 0 < int((predicted != batch.labels).sum()) < 6
    true, shown = evaluation_saliencies(model, batch.images, batch.labels)
    assert model.backwards == 2
    assert torch.equal(true, evaluation_saliency(model, batch.images, batch.labels))
    torch.testing.assert_close(shown, evaluation_saliency(model, batch.images, predicted))
    model.backwards = 0
    true, shown = evaluation_saliencies(model, batch.images, predicted)
    assert model.backwards == 1 and true is shown  # every prediction is correct


def test_requested_scores_change_no_other_column(batch):
    model = Counting()
    plain = measure_batch(model, batch, "pgd")
    asked = measure_batch(model, batch, "pgd", scores=ALL)
    for one, other in zip(plain, asked, strict=True):
        assert all(_same(getattr(one, name), getattr(other, name)) for name in COLUMNS)
        assert np.isnan(one.onevision2026) and np.isnan(one.feng2025)
    assert [np.isnan(row.onevision2026) for row in asked] == [False] * 5 + [True]  # the last has no map


def test_feng2025_compares_the_largest_signed_channel(batch):
    kept = []
    rows = measure_batch(Counting(), batch, "pgd", scores=["feng2025"], on_attack=kept.append)
    change = (kept[0].adversarial - batch.images).numpy()
    found = [i for i, row in enumerate(rows) if row.status == Status.FOUND and row.has_map]
    assert found
    for i in found:
        expected = stats.spearmanr(np.abs(change[i].max(0)).ravel(), batch.human_map[i].numpy().ravel()).statistic
        assert rows[i].feng2025 == pytest.approx(expected, abs=1e-6)
        assert rows[i].feng2025 != pytest.approx(rows[i].alignment_max_of_abs, abs=1e-3)


def test_the_null_takes_a_map_of_another_class():
    maps = torch.arange(4.0)[:, None, None].expand(4, 5, 5)
    others = OtherMaps(maps, torch.tensor([0, 0, 1, 2]))
    keys = [str(i) for i in range(40)]
    drawn = others.draw(keys, torch.zeros(40, dtype=torch.int64), torch.zeros(40, 5, 5))[:, 0, 0]
    assert set(drawn.tolist()) == {2.0, 3.0}
    again = others.draw(keys[7:8], torch.zeros(1, dtype=torch.int64), torch.zeros(1, 5, 5))
    assert again[0, 0, 0] == drawn[7]  # drawn by the image's key, in any batch
    alone = OtherMaps(maps[:1], torch.tensor([0])).draw(["a"], torch.tensor([0]), torch.zeros(1, 5, 5))
    assert bool(alone.isnan().all())


def test_mean_of_ratios_is_given_next_to_the_ratio_of_means():
    row = {
        "label": 0,
        "prediction": 0,
        "status": Status.FOUND,
        "has_map": True,
        "feng2025": 0.3,
        "feature_alignment": 0.5,
    }
    rows = [Row(key=key, onevision2026=value, **row) for key, value in (("a", 0.2), ("b", 0.6), ("c", 0.5))]
    v2 = Agreement("clickme_v2", "spearman", 100, 1, 0, {"a": 0.5, "b": 0.8, "c": None}, {})
    manifest = Ceilings(10, 0.9, None, {"a": 0.9})
    found = scores_by_name(rows, ["onevision2026", "feng2025", "fel2022"], manifest, v2)
    assert found["onevision2026"]["mean_of_ratios"]["mean"] == pytest.approx((0.2 / 0.5 + 0.6 / 0.8) / 2)
    assert found["onevision2026"]["ceiling"] == pytest.approx(0.65)
    assert found["onevision2026"]["share_of_ceiling"] == pytest.approx((0.2 + 0.6 + 0.5) / 3 / 0.65)
    assert "v2" in found["onevision2026"]["ceiling_source"]
    assert found["feng2025"]["ceiling"] == 0.65753  # the paper's ceiling, whatever ceilings the data have
    assert "mean_of_ratios" not in found["fel2022"] and found["fel2022"]["ceiling"] == 0.9


def test_requested_scores_are_saved_as_columns(batch, tmp_path):
    model = harmonizer.wrap(Counting(), size=24)
    results = harmonizer.evaluate(
        model, tuple(batch[:3]), attack="pgd", scores=["onevision2026", "fel2022"], progress=False
    )
    read = load_results(results.save(tmp_path / "mine"))
    assert list(read.columns) == [*COLUMNS, "onevision2026"]
    np.testing.assert_array_equal(read.columns["onevision2026"], [row.onevision2026 for row in results.rows])
    assert read.summary["scores"].keys() == {"onevision2026", "fel2022"}
    assert read.summary["scores"]["fel2022"]["mean"] == read.summary["feature_alignment"]["mean"]
    plain = harmonizer.evaluate(model, tuple(batch[:3]), attack="pgd", progress=False)
    assert list(plain.columns) == list(COLUMNS) and "scores" not in plain.summary
    with pytest.raises(ValueError, match=r"expected scores among fel2022, .* got 'fel2025'"):
        harmonizer.evaluate(model, tuple(batch[:3]), attack="pgd", scores=["fel2025"], progress=False)
    again = harmonizer.load_results(tmp_path / "mine")
    np.testing.assert_array_equal(again.columns["onevision2026"], results.columns["onevision2026"])


def _same(a, b):
    return a == b or (a != a and b != b)
