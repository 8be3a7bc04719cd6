"""Stacks of maps (N,H,W): their meaning is stated, never guessed."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from harmonizer.data.ceilings.split_half import CeilingError, measure_ceilings, most_ceiling
from harmonizer.data.human_map import prepare_human_map
from harmonizer.data.shards.manifest import read_manifest


def thresholds(rng, levels=10):
    """Return mean maps of the same people's first clicks, with more clicks at each level."""
    y, x = np.indices((256, 256))
    clicks = rng.normal(rng.uniform(80, 176, 2), 30, (levels * 40, 2))
    return np.stack(
        [sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 200) for a, b in clicks[: 40 * k + 40]) for k in range(levels)]
    )


@pytest.fixture
def source(encode, tmp_path):
    """A table of one image whose map is a stack of ten thresholds, and the stack."""
    stack = thresholds(np.random.default_rng(0))
    np.save(tmp_path / "a.npy", stack)
    (tmp_path / "a.jpg").write_bytes(encode())
    (tmp_path / "table.csv").write_text("image,label,map\na.jpg,0,a.npy\n")
    return tmp_path / "table.csv", stack


def test_a_stack_of_unknown_meaning_is_refused(source, convert, tmp_path):
    status, message = convert(source[0], "--out", tmp_path / "out", "--classes", "1")
    assert status == 1
    assert "(10, 256, 256)" in message
    assert (
        "try --stack participants (one per person), thresholds (click-count levels of the same people) or mean"
        in message
    )


@pytest.mark.parametrize("meaning", ["thresholds", "mean"])
def test_levels_become_their_mean_without_ceilings(meaning, source, convert, read_shards, tmp_path):
    table, stack = source
    assert convert(table, "--out", tmp_path / "out", "--classes", "1", "--stack", meaning) == (0, "")
    assert read_manifest(tmp_path / "out").ceilings is None
    assert not (tmp_path / "out" / "participants").exists()
    sample = read_shards(tmp_path / "out")["a"]
    white = json.loads(sample.get("json", b"{}")).get("heatmap_white", 255.0)
    values = np.asarray(Image.open(io.BytesIO(sample["heatmap.png"]))) / 65535 * white
    np.testing.assert_allclose(values, prepare_human_map(stack.mean(axis=0)), atol=white / 65535)


def test_thresholds_read_as_people_are_an_error(source, convert, tmp_path):
    table, _ = source
    status, message = convert(table, "--out", tmp_path / "out", "--classes", "1", "--stack", "participants")
    assert status == 1
    assert "mean ceiling" in message
    assert "--stack thresholds or mean" in message
    assert convert(table, "--out", tmp_path / "out", "--classes", "1", "--stack", "mean") == (0, "")


@pytest.mark.parametrize("meaning", ["participants", "thresholds", "mean"])
def test_the_name_of_an_array_gives_the_meaning_of_a_stack(meaning, source, convert, tmp_path):
    people = np.random.default_rng(1).random((4, 256, 256))
    np.savez(tmp_path / "a.npz", **{meaning: people})
    source[0].write_text("image,label,map\na.jpg,0,a.npz\n")
    assert convert(source[0], "--out", tmp_path / "out", "--classes", "1") == (0, "")
    assert (read_manifest(tmp_path / "out").ceilings is not None) == (meaning == "participants")
    other = "mean" if meaning != "mean" else "participants"
    status, message = convert(source[0], "--out", tmp_path / "other", "--classes", "1", "--stack", other)
    assert status == 1
    assert f"expected a stack of {meaning}, as the file says, got --stack {other}" in message


def test_one_map_with_a_leading_axis_is_not_a_stack(source, convert, tmp_path):
    np.save(tmp_path / "a.npy", source[1][:1])
    assert convert(source[0], "--out", tmp_path / "out", "--classes", "1") == (0, "")


@pytest.mark.parametrize("people", [2, 4, 10])
def test_an_implausibly_high_ceiling_is_an_error(people, tmp_path):
    """The bound is the Spearman-Brown value for a pairwise correlation of 0.9."""
    r = 0.9
    assert most_ceiling(people) == pytest.approx(people * r / (1 + (people - 1) * r))
    rng = np.random.default_rng(people)
    common = rng.normal(size=(64, 64))
    for spread, allowed in ((0.5, True), (0.1, False)):  # pairwise r of 0.8 and 0.99
        np.save(tmp_path / "a.npy", common + spread * rng.normal(size=(people, 64, 64)))
        if allowed:
            assert measure_ceilings(tmp_path).overall <= most_ceiling(people)
        else:
            with pytest.raises(CeilingError, match="expected at most"):
                measure_ceilings(tmp_path)
