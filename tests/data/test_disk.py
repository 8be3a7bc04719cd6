"""ClickMe v2's blur: a flat disk applied twice."""

import gc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d

from harmonizer.data.clicks import SUFFIX, Clicks, KeptClicks, read_clicks, write_clicks
from harmonizer.data.disk import disk_area, disk_blur, disk_diameter, disk_sum


def published_kernel(size):
    """Compute circle_kernel of the published code, following its description."""
    y, x = np.mgrid[:size, :size]
    centre = (size - 1) / 2
    kernel = ((x - centre) ** 2 + (y - centre) ** 2 <= centre**2).astype(np.float64)
    return kernel / kernel.sum()


def test_disk_sums_create_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        disk_sum(torch.rand(2, 9, 9), 5)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("diameter", [1, 3, 5, 7, 21, 31, 51])
def test_the_blur_equals_two_zero_padded_convolutions(diameter):
    maps = np.random.default_rng(diameter).random((2, 60, 71))
    kernel = torch.from_numpy(published_kernel(diameter))[None, None]
    expected = torch.from_numpy(maps)[:, None]
    for _ in range(2):
        expected = F.conv2d(expected, kernel, padding="same")
    np.testing.assert_allclose(disk_blur(torch.from_numpy(maps), diameter), expected[:, 0], rtol=1e-12)
    assert disk_area(diameter) == (published_kernel(diameter) > 0).sum()


def test_sums_of_counts_are_integers_and_far_pixels_are_zero():
    counts = np.zeros((40, 50), np.int64)
    counts[20, 25] = 3
    kernel = (published_kernel(7) > 0).astype(np.int64)
    np.testing.assert_array_equal(disk_sum(torch.from_numpy(counts), 7), convolve2d(counts, kernel, mode="same"))
    blurred = disk_blur(torch.from_numpy(counts / 7), 7)
    assert int((blurred != 0).sum()) == int((convolve2d(kernel, kernel) > 0).sum())


@pytest.mark.parametrize(
    ("size", "diameter"),
    [
        ((256, 256), 21),
        ((500, 375), 31),
        ((375, 500), 31),
        ((64, 64), 5),
        ((128, 300), 11),
        ((10, 10), 1),
        ((4000, 3000), 51),
    ],
)
def test_the_diameter_follows_the_shorter_side_up_to_51(size, diameter):
    assert disk_diameter(*size) == diameter
    expected = int(np.round(21 * min(size) / 256))
    assert diameter == min(expected + (not expected % 2), 51)


def test_wrong_disk_settings_are_refused():
    assert disk_diameter(512, 512, diameter=11, most=9) == 9
    for wrong in ({"diameter": 0}, {"most": 50}, {"most": -1}):
        with pytest.raises(ValueError, match="odd bound"):
            disk_diameter(256, 256, **wrong)


def people(rng, height, width, count=9):
    """Draw clicks of several people, some of them on the border or outside the image."""
    return [rng.integers(-4, max(height, width) + 4, (rng.integers(2, 25), 2)).astype(np.int32) for _ in range(count)]


@pytest.mark.parametrize(("height", "width", "diameter"), [(48, 61, 21), (20, 22, 51), (90, 120, 7), (3, 9, 1)])
def test_blurred_clicks_equal_their_blurred_counts(height, width, diameter):
    clicks = Clicks.on_image(people(np.random.default_rng(height), height, width), height, width)
    expected = disk_blur(torch.from_numpy(clicks.counts()).double(), diameter).numpy()
    np.testing.assert_array_equal(clicks.disk_sums(diameter) / disk_area(diameter) ** 2, expected)
    np.testing.assert_allclose(clicks.mean_blurred(diameter), expected.mean(axis=0), rtol=1e-12)


def test_counts_saturate_and_ignore_clicks_off_the_image():
    trials = [np.array([(1, 0), (1, 0), (2, 1), (-1, 0), (3, 0)]), np.array([(9, 9), (0, 2)]), np.array([(3, 1)] * 300)]
    clicks = Clicks.on_image(trials, 2, 4)
    np.testing.assert_array_equal(clicks.counts(), [[[0, 2, 0, 1], [0, 0, 1, 0]], [[0, 0, 0, 0], [0, 0, 0, 255]]])
    assert clicks.outside == 3
    assert clicks.total_counts().tolist() == [[0, 2, 0, 1], [0, 0, 1, 255]]


def test_levels_are_the_first_clicks_of_each_person():
    trial = np.arange(40).reshape(20, 2)
    clicks = Clicks.on_image([trial], 50, 50)
    lengths = [len(clicks.first(level, 10).points[0]) for level in range(10)]
    assert lengths == np.linspace(max(int(20 / 2) * 0.1, 1), 20, 10).astype(int).tolist()
    np.testing.assert_array_equal(clicks.first(3, 10).points[0], trial[: lengths[3]])


def test_kept_clicks_round_trip_and_damage_is_refused(tmp_path):
    clicks = Clicks.on_image(people(np.random.default_rng(3), 30, 40), 30, 40)
    path = tmp_path / f"a{SUFFIX}"
    write_clicks(path, KeptClicks(clicks, "disk", 3))
    kept = read_clicks(path)
    np.testing.assert_array_equal(kept.clicks.counts(), clicks.counts())
    assert (kept.prepare, kept.diameter) == ("disk", 3)
    with np.load(path) as file:
        arrays = dict(file)
    for change in (
        {"points": arrays["points"] + 100},
        {"lengths": arrays["lengths"][:-1]},
        {"size": np.array([1 << 20, 1 << 20])},
        {"prepare": np.array("rm -rf")},
        {"diameter": np.array(5000)},
        {"points": np.array([print], object)},
    ):
        np.savez(path, **(arrays | change))
        with pytest.raises(ValueError, match=r"a\.clicks\.npz.* convert the data again"):
            read_clicks(path)
