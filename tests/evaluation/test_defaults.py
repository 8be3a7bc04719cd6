"""Defaults that affect scores: each equals its source, has a row in methods.md, and names its source in the code."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from harmonizer.attacks.external import feng2025
from harmonizer.data.ceilings import split_half
from harmonizer.data.ceilings.clickme_v2 import ITERATIONS, LEVELS
from harmonizer.data.ceilings.participants import CROP, SIDE
from harmonizer.data.class_names import imagenet_classes
from harmonizer.data.convert.arguments import PREPARE_CLICKS, parser
from harmonizer.data.disk import DIAMETER, REFERENCE_SIDE
from harmonizer.evaluation import alignments
from harmonizer.evaluation.decision import decision_of
from harmonizer.evaluation.summary import RADII, SMALL_RADII
from harmonizer.functional.agreement import IOU_LEVELS
from harmonizer.functional.sixteen import CATEGORIES, IMAGENET
from harmonizer.statistics import BUDGETS, NOISE_CEILING

ROOT = Path(__file__).parents[2]
FENG = yaml.safe_load((ROOT / "configs/attack/feng2025.yaml").read_text())
CONVERT = vars(parser().parse_args(["clicks.csv", "--out", "shards"]))


def default(name):
    return inspect.signature(feng2025).parameters[name].default


# Name in the table -> (in the code, at its source, as the table shows it)
DEFAULTS = {
    "--min-catch": (CONVERT["min_catch"], 0.95, "0.95"),
    "--keep-mobile": (CONVERT["keep_mobile"], False, "off"),
    "--keep-repeats": (CONVERT["keep_repeats"], False, "off"),
    "--min-clicks": (CONVERT["min_clicks"], 2, "2"),
    "--max-clicks": (CONVERT["max_clicks"], None, "all"),
    "--min-subjects": (CONVERT["min_subjects"], 1, "train: 1; val: 5; co3d: 6"),
    "--click-size": (CONVERT["click_size"], None, "native"),
    "--prepare disk": (PREPARE_CLICKS, "disk", "for clicks"),
    "--disk": ((CONVERT["disk"], CONVERT["disk_most"], REFERENCE_SIDE), (21, 51, 256), "21, 51"),
    "--ceiling-splits": (CONVERT["ceiling_splits"], 20, "20"),
    "MOST_ALIKE": (split_half.MOST_ALIKE, 0.9, "0.9"),
    "NOISE_CEILING": (NOISE_CEILING, 0.65753, "0.65753"),
    "--iterations": (ITERATIONS, 100, "100"),
    "--levels": (LEVELS, 10, "10 for the AUC of clicks, else 1"),
    "SIDE": ((SIDE, CROP), (256, 224), "256, 224"),
    "IOU_LEVELS": ([round(float(v), 9) for v in IOU_LEVELS], [i / 20 for i in range(1, 20)], "0.05, 0.10 ... 0.95"),
    "onevision2026": ((alignments.SIDE, DIAMETER), (224, 21), "224 pixels, disk 21"),
    "onevision2026_null": (alignments.POOL, 64, "64"),
    "steps": ((default("steps"), FENG["settings"]["steps"]), (1000, 1000), "1000"),
    "gamma": ((default("gamma"), FENG["settings"]["gamma"]), (10, 10), "10"),
    "min_stepsize": ((default("min_stepsize"), FENG["settings"]["min_stepsize"]), (1e-5, 1e-5), "1e-5"),
    "eps_max": ((default("eps_max"), FENG["settings"]["eps_max"]), (20, 20), "20"),
    "attack_size": (FENG["size"], 224, "224"),
    "geometry": (
        FENG["geometry"],
        {"crop_ratio": 0.875, "crop_mode": "center", "interpolation": "bicubic", "stretch": True},
        "0.875, center, bicubic, stretch",
    ),
    "decision": (
        (FENG["decision"], decision_of("animate", imagenet_classes()).groups),
        ("animate", (0,) * 398 + (1,) * 602),
        "animate: the first 398 classes",
    ),
    "BUDGETS": (BUDGETS, (0.05, 0.1, 0.25, 0.5, 1, 2, 3), "0.05, 0.1, 0.25, 0.5, 1, 2, 3"),
    "RADII": (
        (RADII, *SMALL_RADII[[0, 1, -1]]),
        (101, 0, 0.01, 0.5),
        "101 up to the largest radius, 0.01 steps to 0.5",
    ),
    "CATEGORIES": ((len(CATEGORIES), IMAGENET), (16, 1000), "16 of 1000 classes"),
}
CONSTANTS = {  # file -> constants whose source is given in a comment or docstring next to them
    "data/disk.py": ("DIAMETER", "REFERENCE_SIDE", "LARGEST_DIAMETER"),
    "data/clicks.py": ("MOST_COUNT",),
    "data/convert/arguments.py": ("PREPARE_CLICKS",),
    "data/convert/readers/click_table.py": ("MIN_SUBJECTS",),
    "data/ceilings/split_half.py": ("CEILING_SPLITS", "MOST_ALIKE"),
    "data/ceilings/clickme_v2.py": ("ITERATIONS", "LEVELS"),
    "data/ceilings/participants.py": ("SIDE", "CROP"),
    "functional/agreement.py": ("IOU_LEVELS",),
    "functional/sixteen.py": ("RANGES", "IMAGENET"),
    "evaluation/alignments.py": ("SIDE", "POOL"),
    "evaluation/summary.py": ("RADII", "SMALL_RADII"),
    "statistics/budgets.py": ("BUDGETS",),
    "statistics/summaries.py": ("NOISE_CEILING",),
}
SOURCE = re.compile(r"publish|et al\.|serre-lab|onevision|model-vs-human|\bours\b|ClickMe v2|same code|usual order")


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_equals_its_source_and_is_documented(name):
    code, source, shown = DEFAULTS[name]
    np.testing.assert_equal(code, source)
    rows = [line for line in (ROOT / "docs/methods.md").read_text().splitlines() if line.startswith("| `")]
    (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1] and len(row.split("|")) == 6]
    _, _, default, origin, test, _ = row.split("|")
    assert default.strip() == shown
    assert origin.strip() and ("tests/" in test or "the same" in test)


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in CONSTANTS.items() for name in names])
def test_a_constant_names_its_source(file, name):
    lines = (ROOT / "harmonizer" / file).read_text().splitlines()
    (at,) = [i for i, line in enumerate(lines) if re.match(rf"{name}\b.* = ", line)]
    first = next(i for i in range(at - 1, -1, -1) if not lines[i].strip())  # where its paragraph starts
    assert SOURCE.search("\n".join(lines[first : at + 1])), f"{file}: {name}"


def test_the_settings_of_feng2025_name_their_source():
    text = (ROOT / "configs/attack/feng2025.yaml").read_text()
    assert "All values are those of its published code" in text
    assert "whose code has these defaults" in inspect.getdoc(feng2025)
