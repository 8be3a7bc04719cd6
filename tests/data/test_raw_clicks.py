"""Raw clicks to maps: filters, counts, the published blur, and what is kept of people."""

import ast
import csv
import io
import json
import re
import subprocess
import sys
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import fftconvolve
from scipy.stats import spearmanr

from harmonizer.data.ceilings.cli import measure_agreement
from harmonizer.data.ceilings.clickme_v2 import draw_halves
from harmonizer.data.clicks import SUFFIX, read_clicks
from harmonizer.data.convert.cli import main
from harmonizer.data.convert.maps import Disk
from harmonizer.data.convert.readers.click_table import MIN_SUBJECTS, ClickOptions, parse_clicks
from harmonizer.data.demo.raw_clicks import write_raw_clicks
from harmonizer.data.human_map import prepare_human_map
from harmonizer.data.shards.manifest import read_manifest


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw clicks of 40 people on 30 demo images."""
    return write_raw_clicks(tmp_path_factory.mktemp("raw") / "raw")


@pytest.fixture(scope="module")
def converted(raw):
    """The folder of shards that they are converted to."""
    out = raw.parent / "out"
    assert main([str(raw), "--images", str(raw.parent / "images"), "--out", str(out), "--workers", "1"]) == 0
    return out


def trials_of(table):
    """Read a table and filter it as published, in plain Python: key -> list of clicks of each person."""
    seen, trials = set(), defaultdict(list)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if float(row["user_catch_trial"]) < 0.95 or row["is_mobile"] == "True":
                continue
            if (row["user_id"], row["image_path"]) in seen:
                continue
            seen.add((row["user_id"], row["image_path"]))
            clicks = ast.literal_eval(row["clicks"])
            if len(clicks) > 1:
                trials[row["image_path"].split("/", 1)[1]].append(clicks)
    return trials


def size_of(path):
    """Width and height of an image."""
    with Image.open(path) as picture:
        return picture.size


def counts_of(trials, height, width):
    """Count clicks per person and pixel."""
    maps = np.zeros((len(trials), height, width))
    for counts, clicks in zip(maps, trials, strict=True):
        for x, y in clicks:
            if 0 <= y < height and 0 <= x < width:
                counts[y, x] += 1
    return maps[maps.sum((1, 2)) >= 1]


def blur(counts, height, width):
    """Average over the flat disk twice, by convolution; integers stay integers up to a last division."""
    size = round(21 * min(height, width) / 256)
    size = min(size + (size % 2 == 0), 51)
    y, x = np.mgrid[:size, :size] - size // 2
    kernel = (x**2 + y**2 <= (size // 2) ** 2).astype(float)
    for _ in range(2):
        counts = np.rint(fftconvolve(counts, kernel, mode="same"))
    return counts / kernel.sum() ** 2


def crop(values):
    """Take the shorter side to 256 by nearest pixels, and the central 224."""
    height, width = values.shape
    out = [int(256 * length / min(height, width)) for length in (height, width)]
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(out, (height, width), strict=True)
    )
    top, left = (round((n - 224) / 2) for n in out)
    return values[np.ix_(rows[top : top + 224], columns[left : left + 224])]


def stored_map(sample):
    """The map of a shard's sample, in the units of its source."""
    white = json.loads(sample["json"])["heatmap_white"]
    return np.asarray(Image.open(io.BytesIO(sample["heatmap.png"]))) / 65535 * white, white


def test_maps_and_ceilings_of_40_people_equal_numpy(raw, converted, read_shards):
    """Maps and split halves, from the table on, by another computation."""
    trials, samples = trials_of(raw), read_shards(converted)
    manifest = read_manifest(converted)
    assert manifest.samples == len(trials) == 30
    assert manifest.maps.startswith("disk: ")
    people = {}
    for name, of_image in trials.items():
        key = name.removesuffix(".png").replace("/", "-")
        width, height = size_of(raw.parent / "images" / name)
        counts = people[key] = counts_of(of_image, height, width)
        values, white = stored_map(samples[key])
        expected = blur(counts.sum(0), height, width) / len(counts)
        np.testing.assert_allclose(values, expected, atol=white / 65535)
        assert white == pytest.approx(expected.max(), rel=1e-12)
        assert manifest.classes[int(samples[key]["cls"])] == name.split("/")[0]
    for key in list(people)[:2]:
        maps = np.stack([crop(blur(counts, *counts.shape)) for counts in people[key]])
        rng = np.random.default_rng(int(sha256(key.encode()).hexdigest()[:16], 16))
        values = []
        for _ in range(20):
            order = rng.permutation(len(maps))
            halves = maps[order[: len(maps) // 2]].mean(0), maps[order[len(maps) // 2 :]].mean(0)
            values.append(spearmanr(*(np.rint(half / maps.max() * 1e9).ravel() for half in halves)).statistic)
        expected = 2 * np.mean(values) / (1 + np.mean(values))
        assert manifest.ceilings.per_image[key] == pytest.approx(expected, abs=1e-4)
    assert 0.2 < manifest.ceilings.floor < 0.5 < manifest.ceilings.overall < 1


def test_v2_ceilings_of_the_conversion_equal_numpy(raw, converted):
    measured = measure_agreement(converted, score="spearman", iterations=2, seed=7)
    for name, of_image in list(trials_of(raw).items())[:4]:
        key = name.removesuffix(".png").replace("/", "-")
        width, height = size_of(raw.parent / "images" / name)
        counts = counts_of(of_image, height, width)
        seed = int(sha256(f"7 ceiling {key}".encode()).hexdigest()[:15], 16)
        halves = draw_halves(len(counts), 2, torch.Generator().manual_seed(seed))
        values = []
        for pair in zip(*(half.numpy() for half in halves), strict=True):
            maps = [crop(blur(np.tensordot(weight, counts, 1), height, width)) / weight.sum() for weight in pair]
            values.append(spearmanr(maps[0].ravel(), maps[1].ravel()).statistic)
        assert measured.ceilings[key] == pytest.approx(np.mean(values), abs=2e-6)
    assert measured.floor < measured.ceiling


def test_the_defaults_are_the_published_ones():
    assert ClickOptions() == ClickOptions(
        min_catch=0.95,
        keep_mobile=False,
        keep_repeats=False,
        min_clicks=2,  # more than one
        max_clicks=None,
        min_subjects=1,
        click_size=None,
    )
    assert MIN_SUBJECTS == {"train": 1, "val": 5, "co3d": 6}
    assert Disk() == (21, 51)


LINES = """image_path,clicks,user_id,user_catch_trial,is_mobile,timestamp
val/cat/a.png,"[(1, 2), (3, 4), (5, 6)]",ann,1.0,False,3
val/cat/a.png,"[(7, 8), (9, 9)]",ann,1.0,False,1
val/cat/a.png,"[(1, 1), (2, 2)]",bob,0.9,False,2
val/cat/a.png,"[(1, 1), (2, 2)]",cyd,,False,2
val/cat/a.png,"[(1, 1), (2, 2)]",dan,0.95,[True],2
val/cat/a.png,"[(1, 1)]",eve,1,[],2
val/cat/a.png,"[(30, 1), (2, 2), (0, 0)]",fay,1,0,2
val/dog/b.png,"[(4, 4), (4, 4)]",ann,1.0,False,3
"""


@pytest.fixture
def few(tmp_path):
    """Two images and a table of eight trials."""
    for name in ("cat/a.png", "dog/b.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (12, 10)).save(path)
    (tmp_path / "clicks.csv").write_text(LINES)
    return tmp_path / "clicks.csv"


@pytest.mark.parametrize(
    ("options", "points", "reasons"),
    [
        (
            (),
            [[[7, 8], [9, 9]], [[2, 2], [0, 0]]],
            {
                "2 trials with a catch score",
                "1 trials on mobile",
                "1 repeated",
                "1 trials of fewer",
                "1 clicks outside",
            },
        ),
        (
            ("--min-catch", "0.9"),
            [[[7, 8], [9, 9]], [[1, 1], [2, 2]], [[2, 2], [0, 0]]],
            {
                "1 trials with a catch score below 0.9",
                "1 trials on mobile",
                "1 repeated",
                "1 trials of fewer",
                "1 clicks",
            },
        ),
        (
            ("--keep-mobile",),
            [[[7, 8], [9, 9]], [[1, 1], [2, 2]], [[2, 2], [0, 0]]],
            {"2 trials with a catch score", "1 repeated", "1 trials of fewer", "1 clicks outside"},
        ),
        (
            ("--keep-repeats", "--max-clicks", "2"),
            [[[1, 2], [3, 4]], [[7, 8], [9, 9]], [[2, 2]]],
            {
                "2 trials with",
                "1 trials on mobile",
                "1 trials of fewer",
                "2 clicks after the first 2",
                "1 clicks outside",
            },
        ),
        (
            ("--min-clicks", "1", "--min-subjects", "2"),
            [[[7, 8], [9, 9]], [[1, 1]], [[2, 2], [0, 0]]],
            {
                "2 trials with",
                "1 trials on mobile",
                "1 repeated",
                "1 images with fewer than 2 people",
                "1 clicks outside",
            },
        ),
    ],
    ids=["defaults", "catch", "mobile", "repeats", "clicks"],
)
def test_each_filter_is_a_setting_and_is_counted(options, points, reasons, few, convert, tmp_path):
    assert convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out", *options) == (0, "")
    kept = read_clicks(tmp_path / "out" / "participants" / f"cat-a{SUFFIX}").clicks
    assert [person.tolist() for person in kept.points] == points
    with (tmp_path / "out" / "skipped.csv").open() as file:
        listed = {row["reason"] for row in csv.DictReader(file)}
    assert len(listed) == len(reasons)
    for reason in reasons:
        assert any(text.startswith(reason) for text in listed), (reason, listed)
    assert read_manifest(tmp_path / "out").samples == (1 if "--min-subjects" in options else 2)


@pytest.mark.parametrize(("name", "samples"), [("train", 2), ("val", 0), ("co3d", 0), ("3", 0)])
def test_the_fewest_people_have_the_names_of_sets(name, samples, few, convert, tmp_path):
    status, message = convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out", "--min-subjects", name)
    assert (status == 0) == (samples > 0)
    assert samples or "no samples" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"[(7, 8), (9, 9)]"', '"[(7, 8), os.system(9)]"', "expected clicks such as"),
        ("1.0,False,3", "high,False,3", "expected user_catch_trial to be a number"),
        ("[True]", "perhaps", "expected is_mobile true or false"),
        ("False,1", "False,yesterday", "expected timestamp as a number or ISO 8601"),
        (",ann,", ",,", "expected a user_id"),
        ("val/cat/a.png", "../../etc/passwd", "is not in --images"),
        ("val/cat/a.png", "val/../a.png", "ends in CLASS/FILE"),
        ("val/cat/a.png", "a.png", "ends in CLASS/FILE"),
        ("val/dog/b.png", "val/dog/.hidden.png", "ends in CLASS/FILE"),
        ("user_id", "person", "user_id not in"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(old, new, message, few, convert, tmp_path):
    few.write_text(LINES.replace(old, new, 1) if "passwd" not in new else LINES.replace(old, new))
    status, said = convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert status == 1
    assert message in said
    assert said.count("\n") == 1
    if message != "user_id not in":
        arguments = (few, "--images", tmp_path / "images", "--out", tmp_path / "out", "--on-error", "skip")
        status, said = convert(*arguments)
        assert status == 3
        assert message in (tmp_path / "out" / "skipped.csv").read_text()


def test_a_table_of_clicks_needs_its_images(few, convert, tmp_path):
    status, said = convert(few, "--out", tmp_path / "out")
    assert (status, "try --images FOLDER" in said) == (1, True)
    status, said = convert(few, "--images", tmp_path / "none", "--out", tmp_path / "out")
    assert (status, "no such folder" in said) == (1, True)
    few.write_text(LINES.replace("(4, 4), (4, 4)", "(400, 4), (400, 4)"))
    status, said = convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert status == 1
    assert "none of 2 clicks lies on b.png, of 12x10 pixels; try --click-size 256" in said


def test_clicks_in_a_square_take_every_preparation(convert, read_shards, tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("RGB", (100, 100)).save(tmp_path / "images" / "cat" / "a.png")
    lines = [f'cat/a.png,"[({40 + 20 * n}, 50), (200, {90 + n})]",{n}' for n in range(5)]
    (tmp_path / "clicks.csv").write_text("\n".join(["image_path,clicks,user_id", *lines]))
    counts = np.zeros((5, 256, 256))
    for n in range(5):
        counts[n, 50, 40 + 20 * n] += 1
        counts[n, 90 + n, 200] += 1
    expected = {
        "fel2022": prepare_human_map(counts.mean(0)),
        "gaussian": prepare_human_map(counts.mean(0), method="gaussian"),
        "disk": blur(counts.sum(0), 256, 256) / 5,
        "none": counts.mean(0),
    }
    for method, values in expected.items():
        out = tmp_path / method
        options = ("--click-size", "256", "--prepare", method, "--images", tmp_path / "images")
        assert convert(tmp_path / "clicks.csv", "--out", out, *options) == (0, "")
        stored, white = stored_map(read_shards(out)["cat-a"])
        np.testing.assert_allclose(stored, values, atol=white / 65535)


def test_clicks_follow_the_image_as_it_is_shown(convert, read_shards, tmp_path):
    """An image that viewers turn is clicked on as they show it."""
    (tmp_path / "images" / "cat").mkdir(parents=True)
    picture = Image.new("RGB", (60, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "images" / "cat" / "a.jpg", exif=exif)
    (tmp_path / "clicks.csv").write_text('image_path,clicks,user_id\ncat/a.jpg,"[(39, 59), (0, 58)]",ann\n')
    assert convert(tmp_path / "clicks.csv", "--images", tmp_path / "images", "--out", tmp_path / "out") == (0, "")
    values, _ = stored_map(read_shards(tmp_path / "out")["cat-a"])
    assert values.shape == (60, 40)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("[(1, 2), (3, 4)]", [[1, 2], [3, 4]]),
        ('{"(1,2),(3,4)"}', [[1, 2], [3, 4]]),
        ("[(1.9, -0.5)]", [[1, -1]]),
        ("[]", []),
        ("", []),
    ],
)
def test_clicks_are_read_in_the_spellings_of_the_exports(text, points):
    assert parse_clicks(text).tolist() == points


@pytest.mark.parametrize("text", ["[(1, 2), (3)]", "(1, 2, 3)", "[(1, 9999999999)]", "nan", "[(nan, 1)]"])
def test_other_texts_are_no_clicks(text):
    with pytest.raises(ValueError, match="expected clicks"):
        parse_clicks(text)


def write_objects(path):
    """An NPZ of pickled objects, as ClickMe v2 dumps its trials."""
    clicks = np.empty(3, object)
    clicks[:] = [[1, 3, 5], [2, 2], [7]]
    np.savez(
        path,
        file_pointer=np.array(["val/cat/a.png", "val/cat/a.png", "val/dog/b.png"], object),
        clickmap_x=clicks,
        clickmap_y=clicks[::-1][[2, 1, 0]],
        user_id=np.array(["ann", "bob", "ann"], object),
        user_catch_trial=np.array([1.0, 0.5, 1.0]),
        is_mobile=np.array([[False], [], False], object),
    )


def test_pickled_trials_are_refused_and_exported_as_documented(few, convert, tmp_path):
    write_objects(tmp_path / "dump.npz")
    status, said = convert(tmp_path / "dump.npz", "--out", tmp_path / "out")
    assert status == 1
    assert "pickled Python objects" in said
    assert "docs/data.md" in said
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (block,) = re.findall(r"^```py\n(import csv.*?)^```$", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "clicks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["is_mobile"] for row in rows] == ["False", "False", "False"]
    assert parse_clicks(rows[0]["clicks"]).tolist() == [[1, 1], [3, 3], [5, 5]]
    assert convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out") == (0, "")
    assert read_manifest(tmp_path / "out").samples == 1
