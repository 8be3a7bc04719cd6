"""Tables of raw clicks: the filters of trials, the error messages, and the refusal of pickled trials."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonizer.data.clicks import SUFFIX, read_clicks
from harmonizer.data.convert.maps import Disk
from harmonizer.data.convert.readers.click_table import MIN_SUBJECTS, ClickOptions, parse_clicks
from harmonizer.data.shards.manifest import read_manifest


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
def test_each_filter_is_an_option_and_counts_its_trials(options, points, reasons, few, convert, tmp_path):
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
def test_min_subjects_accepts_the_name_of_a_set(name, samples, few, convert, tmp_path):
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
def test_errors_in_a_click_table_are_reported(old, new, message, few, convert, tmp_path):
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


def test_a_click_table_needs_its_images(few, convert, tmp_path):
    status, said = convert(few, "--out", tmp_path / "out")
    assert (status, "try --images FOLDER" in said) == (1, True)
    status, said = convert(few, "--images", tmp_path / "none", "--out", tmp_path / "out")
    assert (status, "no such folder" in said) == (1, True)
    few.write_text(LINES.replace("(4, 4), (4, 4)", "(400, 4), (400, 4)"))
    status, said = convert(few, "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert status == 1
    assert "none of 2 clicks is on b.png, which has 12x10 pixels; try --click-size 256" in said


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
def test_clicks_are_parsed_in_every_exported_format(text, points):
    assert parse_clicks(text).tolist() == points


@pytest.mark.parametrize("text", ["[(1, 2), (3)]", "(1, 2, 3)", "[(1, 9999999999)]", "nan", "[(nan, 1)]"])
def test_text_that_is_not_clicks_is_refused(text):
    with pytest.raises(ValueError, match="expected clicks"):
        parse_clicks(text)


def write_objects(path):
    """Write an NPZ of pickled objects, as ClickMe v2 dumps its trials."""
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
