"""Ceiling and floor of ClickMe v2 against an independent computation in NumPy and SciPy."""

import json

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.signal import fftconvolve
from scipy.stats import spearmanr

from harmonizer.data.ceilings import cli
from harmonizer.data.ceilings.clickme_v2 import draw_halves, resampled_agreement
from harmonizer.data.ceilings.file import NAME, read_agreements
from harmonizer.data.ceilings.participants import evaluation_crop, participant_maps
from harmonizer.data.clicks import SUFFIX, Clicks, KeptClicks, write_clicks
from harmonizer.functional.agreement import iou_auc


def published_auc(test, reference):
    """Compute the area under the IoU curve of one pair, following the published description."""
    test, reference = ((m - m.min()) / (m.max() - m.min() + 1e-8) for m in (test, reference))
    levels, scores = np.arange(0.05, 1.0, 0.05), []
    for level in levels:
        union = ((test > level) | (reference > level)).sum()
        scores.append(((test > level) & (reference > level)).sum() / union if union else 0.0)
    return trapezoid(scores, levels)


def blurred_and_cropped(counts, size):
    """Blur by convolution, resize the shorter side to 256 by nearest neighbour, crop the central 224."""
    y, x = np.mgrid[:size, :size] - size // 2
    kernel = (x**2 + y**2 <= (size // 2) ** 2).astype(float)
    for _ in range(2):
        counts = np.rint(fftconvolve(counts, kernel, mode="same"))
    counts /= kernel.sum() ** 2
    height, width = counts.shape
    out = [int(256 * length / min(height, width)) for length in (height, width)]
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(out, (height, width), strict=True)
    )
    top, left = (round((n - 224) / 2) for n in out)
    return counts[np.ix_(rows[top : top + 224], columns[left : left + 224])]


def trials(rng, height, width, people):
    """Draw the clicks of several people around one point of the image."""
    centre = rng.uniform(0.3, 0.7, 2) * (width, height)
    return [
        rng.normal(centre + rng.normal(0, 6, 2), 10, (rng.integers(5, 15), 2)).round().astype(np.int32)
        for _ in range(people)
    ]


@pytest.fixture
def folder(tmp_path):
    """Clicks on three images of different sizes, by 7, 6 and 4 people."""
    rng = np.random.default_rng(0)
    (tmp_path / "participants").mkdir()
    kept = {}
    for key, height, width, diameter, people in (("a", 96, 128, 9, 7), ("b", 64, 64, 5, 6), ("c", 120, 80, 7, 4)):
        kept[key] = Clicks.on_image(trials(rng, height, width, people), height, width), diameter
        write_clicks(tmp_path / "participants" / f"{key}{SUFFIX}", KeptClicks(kept[key][0], "disk", diameter))
    return tmp_path, kept


def mean_map(clicks, diameter, weights):
    """Compute the blurred and cropped weighted mean over people."""
    counts = np.tensordot(weights, clicks.counts().astype(float), axes=1)
    return blurred_and_cropped(counts, diameter) / weights.sum()


@pytest.mark.parametrize("score", ["spearman", "auc"])
@pytest.mark.parametrize(("key", "other"), [("a", None), ("b", None), ("a", "c")])
def test_ceiling_and_floor_equal_numpy_and_scipy(score, key, other, folder):
    root, kept = folder
    maps = [None if k is None else participant_maps(root / "participants" / f"{k}{SUFFIX}") for k in (key, other)]
    found = resampled_agreement(maps[0], maps[1], score=score, iterations=8, seed=3)
    generator = torch.Generator().manual_seed(3)
    first, second = draw_halves(len(kept[key][0].points), 8, generator)
    if other is not None:
        second = draw_halves(len(kept[other][0].points), 8, generator)[1]
    expected = []
    for a, b in zip(first.numpy(), second.numpy(), strict=True):
        pair = mean_map(*kept[key], a), mean_map(*kept[other or key], b)
        scored = published_auc(*pair) if score == "auc" else spearmanr(pair[0].ravel(), pair[1].ravel()).statistic
        expected.append(scored)
    assert found == pytest.approx(np.mean(expected), abs=1e-9)


@pytest.mark.parametrize("people", [2, 5, 8])
def test_halves_are_disjoint_and_each_is_resampled(people):
    first, second = draw_halves(people, 4000, torch.Generator().manual_seed(0))
    assert not ((first > 0) & (second > 0)).any()
    assert (first.sum(1) == 2 * (people // 2)).all()
    assert (second.sum(1) == people).all()
    # A person is in A with p = (n // 2) / n: then once for certain, and on average once more by the extra draws.
    assert first.mean(0).numpy() == pytest.approx(np.full(people, 2 * (people // 2) / people), abs=0.08)


def test_the_ceiling_agrees_with_the_published_sampling(folder):
    """The published loop: a permutation, random.choices in each half, no Spearman-Brown."""
    import random

    root, kept = folder
    clicks, diameter = kept["b"]
    rng, draws = np.random.default_rng(9), random.Random(9)
    people, values = len(clicks.points), []
    for _ in range(50):
        order = rng.permutation(people).tolist()
        sides = order[: people // 2], order[people // 2 :]
        weights = [np.bincount([*side, *draws.choices(side, k=people // 2)], minlength=people) for side in sides]
        pair = [mean_map(clicks, diameter, weight).ravel() for weight in weights]
        values.append(spearmanr(*pair).statistic)
    maps = participant_maps(root / "participants" / f"b{SUFFIX}")
    found = resampled_agreement(maps, None, score="spearman", iterations=200)
    assert found == pytest.approx(np.mean(values), abs=4 * np.std(values) / 50**0.5)


def test_the_crop_equals_torchvision():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tvf

    for height, width in ((375, 500), (500, 333), (256, 256), (64, 64), (100, 101), (240, 319)):
        maps = torch.from_numpy(np.random.default_rng(height).random((2, height, width)))
        resized = tvf.resize(maps, 256, interpolation=InterpolationMode.NEAREST_EXACT)
        assert torch.equal(evaluation_crop(maps), tvf.center_crop(resized, [224, 224]))


def test_iou_auc_equals_the_published_loop():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 5, 30, 30)) ** 3
    b[1], b[2], a[3] = a[1], 0, np.round(a[3] * 20) / 20
    expected = [published_auc(*pair) for pair in zip(a, b, strict=True)]
    assert iou_auc(torch.from_numpy(a), torch.from_numpy(b)).tolist() == pytest.approx(expected, abs=1e-12)
    assert expected[1] == pytest.approx(0.9)
    b[0, 0, 0] = np.nan
    assert iou_auc(torch.from_numpy(a), torch.from_numpy(b))[0].isnan()


def test_the_command_measures_both_scores_or_replaces_one(folder, capsys):
    root, _ = folder
    arguments = [str(root), "--iterations", "3", "--device", "cpu"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "clickme_v2 spearman: ceiling" in said
    assert "clickme_v2 auc: ceiling" in said
    spearman, auc = sorted(read_agreements(root), key=lambda one: one.score, reverse=True)
    assert (spearman.levels, auc.levels) == (1, 10)  # as published
    assert spearman.ceilings.keys() == spearman.floors.keys() == {"a", "b", "c"}
    assert 0 < auc.floor < auc.ceiling < 0.9
    assert -1 <= spearman.floor < spearman.ceiling <= 1
    assert cli.main([*arguments, "--scores", "spearman", "--seed", "1"]) == 0
    again = {one.score: one for one in read_agreements(root)}
    assert again["auc"] == auc
    assert again["spearman"].ceilings != spearman.ceilings


def test_an_interrupted_measurement_resumes(folder, monkeypatch, capsys):
    root, _ = folder
    arguments = [str(root), "--iterations", "2", "--scores", "spearman", "--device", "cpu"]
    assert cli.main(arguments) == 0
    undisturbed = (root / NAME).read_bytes()
    (root / NAME).unlink()
    calls = []

    def stop(*given, **settings):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return resampled_agreement(*given, **settings)

    monkeypatch.setattr(cli, "resampled_agreement", stop)
    assert cli.main(arguments) == 130
    assert "rerun the same command" in capsys.readouterr().err
    (partial,) = root.glob(".ceilings*")
    partial.write_text(partial.read_text() + '["b", 0.')  # torn
    assert cli.main(arguments) == 0
    assert len(calls) == 4 + 4  # image a is not measured again
    assert (root / NAME).read_bytes() == undisturbed
    assert not list(root.glob(".ceilings*"))


def test_bad_participant_data_are_reported(folder, tmp_path, capsys):
    root, _ = folder
    assert cli.main([str(tmp_path / "nothing")]) == 1
    assert "holds no participants' maps" in capsys.readouterr().err
    np.save(root / "participants" / "d.npy", np.random.default_rng(0).random((4, 224, 224)))
    assert cli.main([str(root), "--levels", "10", "--iterations", "1"]) == 1
    assert "expected clicks for the levels" in capsys.readouterr().err
    np.save(root / "participants" / "d.npy", np.random.default_rng(0).random((4, 60, 60)))
    assert cli.main([str(root), "--iterations", "1", "--scores", "spearman"]) == 1
    assert "maps of one size" in capsys.readouterr().err
    (root / NAME).write_text(json.dumps({"version": 1, "agreements": [{"ceilings": {"a": "x"}}]}))
    with pytest.raises(ValueError, match="damaged"):
        read_agreements(root)


@pytest.mark.parametrize("people", [1, 2])
def test_a_ceiling_needs_two_people(people):
    clicks = Clicks.on_image(trials(np.random.default_rng(5), 64, 64, people), 64, 64)
    maps = evaluation_crop(torch.from_numpy(clicks.disk_sums(5)).double())
    from harmonizer.data.ceilings.participants import ParticipantMaps

    value = resampled_agreement(ParticipantMaps(maps, 1.0), None, score="spearman", iterations=4)
    assert np.isnan(value) == (people == 1)
