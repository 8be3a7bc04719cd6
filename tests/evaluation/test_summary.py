"""Summary blocks that are computed from an evaluation's rows."""

import math

import numpy as np
import pytest

from harmonizer.evaluation.summary import _by_mask, _replay, survival_radii
from harmonizer.results import Row
from harmonizer.statistics import AS_PUBLISHED, BUDGETS, Status, survival


def row(status, has_map, label, mean_of_abs, max_of_abs, l2=math.nan):
    masks = {"alignment_mean_of_abs": mean_of_abs, "alignment_max_of_abs": max_of_abs, "alignment_l2": 0.5}
    return Row(key="k", label=label, prediction=0, status=status, l2=l2, has_map=has_map, **masks)


ROWS = [
    row(Status.FOUND, True, 1, 0.2, 0.4, 2.0),
    row(Status.FOUND, True, 1, 0.4, math.nan, 4.0),
    row(Status.FAILED, True, 3, 9.0, 9.0),
    row(Status.CENSORED, False, 1, 9.0, 9.0),
]


def test_alignment_by_mask_averages_found_images_with_a_map():
    blocks = _by_mask(ROWS)
    assert set(blocks) == {"mean_of_abs", "max_of_abs", "l2"}
    assert blocks["mean_of_abs"]["mean"] == pytest.approx(0.3)
    assert (blocks["max_of_abs"]["n"], blocks["max_of_abs"]["n_undefined"]) == (1, 1)


@pytest.mark.parametrize(("never", "mean"), [("dropped", (2 + 4 + 0.0088) / 3), ("counted", (2 + 4 + 0.0088 + 10) / 4)])
def test_a_replay_is_marked_and_averaged_as_published(never, mean):
    block = _replay({"attack": AS_PUBLISHED, "settings": {"never_fooled": never}}, ROWS)
    assert "not a measurement" in block["warning"]
    assert block["tolerance"]["mean"] == pytest.approx(mean, abs=1e-4)
    assert block["tolerance"]["n_nan_fooled"] == 1


def test_a_measurement_is_not_marked_as_a_replay():
    assert _replay({"attack": "linsley2023", "settings": {}}, []) is None


def test_the_survival_curve_resolves_small_radii():
    radii = survival_radii(10.0)
    small, large = radii[radii <= 0.5], radii[radii >= 0.5]
    np.testing.assert_allclose(small, np.arange(51) / 100)
    np.testing.assert_allclose(large, np.arange(5, 101) / 10)
    assert set(BUDGETS) <= set(radii.tolist())
    curve = survival([Status.FOUND] * 2, [0.075, 0.3], radii)
    assert dict(zip(curve["radii"], curve["share"], strict=True))[0.07] == 1
    assert dict(zip(curve["radii"], curve["share"], strict=True))[0.08] == 0.5
    assert survival_radii(0.2).max() == 0.2
