"""The blocks of a summary that are made of an evaluation's rows."""

import math
from types import SimpleNamespace

import pytest

from callbacks.summary import _by_mask, _replay
from harmonizer.statistics import AS_PUBLISHED, CENSORED, FAILED, FOUND

ROWS = [
    {"status": "found", "has_map": True, "label": 1, "alignment_mean_of_abs": 0.2, "alignment_max_of_abs": 0.4},
    {"status": "found", "has_map": True, "label": 1, "alignment_mean_of_abs": 0.4, "alignment_max_of_abs": math.nan},
    {"status": "failed", "has_map": True, "label": 3, "alignment_mean_of_abs": 9.0, "alignment_max_of_abs": 9.0},
    {"status": "found", "has_map": False, "label": 1, "alignment_mean_of_abs": 9.0, "alignment_max_of_abs": 9.0},
]
ROWS = [row | {"alignment_l2": 0.5} for row in ROWS]


def test_alignment_by_mask_is_over_found_images_with_a_map():
    blocks = _by_mask(ROWS)
    assert set(blocks) == {"mean_of_abs", "max_of_abs", "l2"}
    assert blocks["mean_of_abs"]["mean"] == pytest.approx(0.3)
    assert (blocks["max_of_abs"]["n"], blocks["max_of_abs"]["n_undefined"]) == (1, 1)


@pytest.mark.parametrize(("never", "mean"), [("dropped", (2 + 4 + 0.0088) / 3), ("counted", (2 + 4 + 0.0088 + 10) / 4)])
def test_a_replay_is_marked_and_averaged_as_published(never, mean):
    robustness = SimpleNamespace(attack=AS_PUBLISHED, settings={"never_fooled": never})
    block = _replay(robustness, ROWS, [FOUND, FOUND, FAILED, CENSORED], [2.0, 4.0, math.nan, math.nan])
    assert "not a measurement" in block["warning"]
    assert block["tolerance"]["mean"] == pytest.approx(mean, abs=1e-4)
    assert block["tolerance"]["n_nan_fooled"] == 1


def test_a_measurement_is_not_marked():
    assert _replay(SimpleNamespace(attack="linsley2023", settings={}), [], [], []) is None
