"""Inspecting shards: the numbers, the problems, and the contact sheet."""

import io

import numpy as np
import pytest
from PIL import Image

from harmonizer.data.inspect import describe, inspect, main
from harmonizer.data.shards.writer import write_shards
from harmonizer.data.sheet import CELL, GAP, overlay


def grey(height, width, value=200):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path, encode):
    """Five samples in three shards; two have maps."""
    samples = [
        {"__key__": f"s{n}", "jpg": encode(64, 96, seed=n), "cls": n % 2}
        | ({"heatmap.png": grey(32, 48)} if n < 2 else {})
        for n in range(5)
    ]
    write_shards(samples, tmp_path / "shards", classes=("ant", "bee"), maps="by hand", samples_per_shard=2)
    return tmp_path / "shards"


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_an_undamaged_folder_is_described_without_problems(folder, capsys, tmp_path):
    status, out, _ = run(capsys, folder, "--sheet", tmp_path / "sheet.png")
    assert status == 0
    lines = {line[:12].strip(): line[12:] for line in out.splitlines()}
    assert lines["samples"] == "5"
    assert lines["with maps"] == "2 (40.0%); by hand"
    assert lines["classes"] == "2 of 2; most often ant (3), bee (2)"
    assert (lines["image sizes"], lines["map sizes"]) == ("96x64 (5)", "48x32 (2)")
    assert lines["problems"] == "none"


def test_one_shard_is_compared_with_its_manifest(folder, capsys, tmp_path):
    status, out, _ = run(capsys, folder / "000001.tar", "--images", 0)
    assert (status, "samples     2\n" in out) == (0, True)
    assert not (tmp_path / "contact_sheet.png").exists()


def damage(folder, name, **changes):
    """Replace a shard by one that holds a single sample; a member that is None is missing."""
    path = folder / name
    path.unlink()
    sample = {"__key__": "s0", "jpg": changes.pop("jpg"), "cls": 0} | {
        k.replace("_", "."): v for k, v in changes.items()
    }
    other = folder.with_name("other")
    write_shards([{k: v for k, v in sample.items() if v is not None}], other, classes=("ant", "bee"), maps="")
    (other / "000000.tar").rename(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jpg": b"\xff\xd8\xff"}, "000000.tar: sample 's0' has a damaged .jpg"),
        ({"jpg": None}, "sample 's0' has no image"),
        ({"cls": None}, "sample 's0' has no .cls"),
        ({"cls": 2}, "sample 's0' has label 2, out of range of 2 classes"),
        (
            {"heatmap_png": b"PNG"},
            "sample 's0' has a damaged .heatmap.png (it is not an image in one of",
        ),
        ({"heatmap_png": grey(32, 32)}, "of 96x64 and a map of another shape, 32x32"),
        ({"heatmap_png": "RGB"}, "map of mode RGB"),
    ],
)
def test_damaged_samples_are_reported(folder, capsys, encode, tmp_path, changes, message):
    if changes.get("heatmap_png") == "RGB":
        changes = {"heatmap_png": encode(32, 48, kind="PNG")}
    damage(folder, "000000.tar", **({"jpg": encode(64, 96)} | changes))
    status, out, _ = run(capsys, folder, "--sheet", tmp_path / "sheet.png")
    assert (status, message in out) == (1, True), out
    assert "000000.tar has changed" in out
    assert "holds 1 samples" in out


def test_damaged_or_missing_shards_are_reported(folder, tmp_path):
    whole = (folder / "000001.tar").read_bytes()
    (folder / "000000.tar").unlink()
    (folder / "000001.tar").write_bytes(whole[: len(whole.rstrip(b"\0")) // 512 * 512 - 512])
    (folder / "000002.tar").rename(folder / "000009.tar")
    problems = "\n".join(inspect(folder)[2])
    for message in (
        "000000.tar is missing",
        "000001.tar is cut short",
        "000001.tar holds 0 samples with 0 maps, the manifest says 2 with 0",
        "000009.tar is not in the manifest",
        "000002.tar is missing",
    ):
        assert message in problems


def test_a_copy_of_a_shard_is_reported(folder):
    (folder / "manifest.json").unlink()
    (folder / "000003.tar").write_bytes((folder / "000000.tar").read_bytes())
    manifest, reports, problems = inspect(folder)
    assert (manifest, problems) == (None, [f"{folder}/000003.tar is a copy of 000000.tar: its samples count twice"])
    assert ("keys", "2 in more than one shard, such as s0: samples are named SHARD/KEY") in describe(manifest, reports)


def test_a_missing_or_empty_folder_is_an_error(capsys, tmp_path):
    assert run(capsys, tmp_path / "absent")[::2] == (1, f"inspect: no folder or shard {tmp_path / 'absent'}\n")
    assert run(capsys, tmp_path)[0] == 1


def test_the_sheet_shows_image_and_map(folder, capsys, tmp_path):
    run(capsys, folder, "--sheet", tmp_path / "sheet.png", "--images", 4)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(float)
    assert sheet.shape[1] == 4 * (2 * CELL + GAP) + GAP
    rows = slice(GAP + CELL // 6, GAP + CELL - CELL // 6)  # images of 64 x 96 fill two thirds of their cells
    for n in range(4):
        left = GAP + n * (2 * CELL + GAP)
        image, mapped = (sheet[rows, at : at + CELL] for at in (left, left + CELL))
        assert (image < 250).any(-1).mean() > 0.95
        assert ((mapped < 250).any(-1).mean() > 0.95) == (n < 2)  # two have maps
        assert np.abs(image - mapped).mean() > 5
    assert (sheet[-20:, : 2 * CELL] < 250).any()  # the legend


def test_overlay_colours_where_the_map_is_large():
    picture = Image.new("RGB", (40, 20), (0, 0, 255))
    human = np.zeros((10, 20), dtype=np.uint16)
    human[:, 10:] = 3000  # the scale does not matter
    mixed = np.asarray(overlay(picture, Image.fromarray(human)))
    np.testing.assert_array_equal(mixed[:, :15], np.broadcast_to([0, 0, 255], (20, 15, 3)))
    assert (mixed[:, 25:, 0] > 150).all()
    np.testing.assert_array_equal(overlay(picture, Image.new("L", (20, 10))), picture)
