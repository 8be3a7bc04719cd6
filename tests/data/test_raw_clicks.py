"""Raw clicks become maps and ceilings: counts, the published blur, and the stored clicks of each person."""

import ast
import csv
import io
import json
from collections import defaultdict
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import fftconvolve
from scipy.stats import spearmanr

from harmonizer.data.ceilings.cli import measure_agreement
from harmonizer.data.ceilings.clickme_v2 import draw_halves
from harmonizer.data.convert.cli import main
from harmonizer.data.demo.raw_clicks import write_raw_clicks
from harmonizer.data.human_map import prepare_human_map
from harmonizer.data.shards.manifest import read_manifest


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw clicks of 40 people on 30 demo images."""
    return write_raw_clicks(tmp_path_factory.mktemp("raw") / "raw")


@pytest.fixture(scope="module")
def converted(raw):
    """The folder of shards converted from the raw clicks."""
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
    """Return width and height of an image."""
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
    """Average over the flat disk twice, by convolution; values stay integers until the final division."""
    size = round(21 * min(height, width) / 256)
    size = min(size + (size % 2 == 0), 51)
    y, x = np.mgrid[:size, :size] - size // 2
    kernel = (x**2 + y**2 <= (size // 2) ** 2).astype(float)
    for _ in range(2):
        counts = np.rint(fftconvolve(counts, kernel, mode="same"))
    return counts / kernel.sum() ** 2


def crop(values):
    """Resize the shorter side to 256 by nearest neighbour and crop the central 224."""
    height, width = values.shape
    out = [int(256 * length / min(height, width)) for length in (height, width)]
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(out, (height, width), strict=True)
    )
    top, left = (round((n - 224) / 2) for n in out)
    return values[np.ix_(rows[top : top + 224], columns[left : left + 224])]


def stored_map(sample):
    """Return a sample's map in the units of its source, and the value stored as white."""
    white = json.loads(sample["json"])["heatmap_white"]
    return np.asarray(Image.open(io.BytesIO(sample["heatmap.png"]))) / 65535 * white, white


def test_maps_and_ceilings_of_40_people_equal_numpy(raw, converted, read_shards):
    """Maps and split halves are computed independently, starting from the table."""
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


def test_v2_ceilings_of_converted_clicks_equal_numpy(raw, converted):
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


def test_clicks_of_size_256_support_every_preparation(convert, read_shards, tmp_path):
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


def test_clicks_follow_the_exif_orientation_of_an_image(convert, read_shards, tmp_path):
    """People click on an image as a viewer shows it, so clicks refer to the turned image."""
    (tmp_path / "images" / "cat").mkdir(parents=True)
    picture = Image.new("RGB", (60, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "images" / "cat" / "a.jpg", exif=exif)
    (tmp_path / "clicks.csv").write_text('image_path,clicks,user_id\ncat/a.jpg,"[(39, 59), (0, 58)]",ann\n')
    assert convert(tmp_path / "clicks.csv", "--images", tmp_path / "images", "--out", tmp_path / "out") == (0, "")
    values, _ = stored_map(read_shards(tmp_path / "out")["cat-a"])
    assert values.shape == (60, 40)
