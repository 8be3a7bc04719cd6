"""Search accuracy, tolerance and alignment over recipes at equal cost: ``python -m benchmarks.front [NAME...]``.

Each point is a training on the demo data and its evaluation, in folders of its own; rerun the same command to resume.
All points get ``--passes`` (see ``harmonizer.training.steps.step_passes``), so that recipes with cheaper steps take
more of them. At the end the command writes the table and ``front.png`` of all points in the folder.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import hydra

import configs.build  # noqa: F401 - registers the resolvers of the settings
from benchmarks.front_figure import draw
from harmonizer import compare
from harmonizer.cli import translate
from harmonizer.report.style import save
from harmonizer.results import Results, load_results
from harmonizer.results.families import WITHOUT_MAPS
from harmonizer.training.settings import LossSettings
from harmonizer.training.steps import step_passes

ROOT = Path(__file__).parents[1]
IMAGES, MAPPED, BATCH = 4000, 0.8, 32  # training images of the demo data, the share with a human map, images per step
PGD, FAST, TRADES = (f"adversarial={name} adversarial_eps=" for name in ("pgd", "fast", "trades"))
MODERN = "harmonize=true recipe=modern "
LATE = "adversarial_start=0.7"
JOINT, LAMBDA_1 = "harmonize=true recipe=joint ", "recipe.harmonizer_weight=1 recipe.gradient_penalty=0.02 "
POINTS = {
    "control": "",
    "fel2022": "harmonize=true",
    "modern": MODERN,
    **{name: f"harmonize=true recipe={name}" for name in ("joint", "rrr", "sgt", "pag", "cyborg")},
    "pgd-0.25": PGD + "0.25",
    "pgd-0.5": PGD + "0.5",
    "pgd-1": PGD + "1",
    "fast-0.5": FAST + "0.5",
    "trades-0.5": TRADES + "0.5",
    "modern-pgd-0.25": MODERN + PGD + "0.25",
    "modern-pgd-0.5": MODERN + PGD + "0.5",
    "modern-pgd-1": MODERN + PGD + "1",
    "modern-pgd-0.5-clean": MODERN + PGD + "0.5 adversarial_saliency=clean",
    "modern-fast-0.5": MODERN + FAST + "0.5",
    "late-fast-0.5": FAST + "0.5 " + LATE,
    "modern-late-fast-0.5": MODERN + FAST + "0.5 " + LATE,
    "modern-late-pgd-0.5": MODERN + PGD + "0.5 " + LATE,
    "modern-fast-1": MODERN + FAST + "1",
    "modern-trades-0.5": MODERN + TRADES + "0.5",
    "joint-eps-0.25": JOINT + "adversarial_eps=0.25",
    "joint-eps-1": JOINT + "adversarial_eps=1",
    "joint-pgd": JOINT + "adversarial=pgd",
    "late-fast-0.5-restart": "recipe=joint",
    "joint-lambda-1": JOINT + LAMBDA_1,
    "joint-lambda-1-at-0.6": JOINT + LAMBDA_1 + "harmonizer_start=0.6 adversarial_start=0.6 restart=0.6",
    "joint-lambda-1-slow": JOINT + LAMBDA_1 + "restart_rate=0.5",
    "joint-lambda-1-slow-at-0.5": JOINT
    + LAMBDA_1
    + "restart_rate=0.5 harmonizer_start=0.5 adversarial_start=0.5 restart=0.5",
    "joint-lambda-1-slow-pgd": JOINT + LAMBDA_1 + "restart_rate=0.5 adversarial=pgd",
    "joint-lr-0.003": JOINT + "recipe.lr=0.003",
    "modern-lr-0.003": MODERN + "recipe.lr=0.003",
    "modern-from-half": MODERN + "harmonizer_start=0.5 restart=0.5",
    "fel2022-pgd-0.5": "harmonize=true " + PGD + "0.5",
    "pgd-0.5-lr-0.006": PGD + "0.5 recipe.lr=0.006",
    "control-lr-0.006": "recipe.lr=0.006",
}
Score = TypeVar("Score")
SCORES = ("accuracy (%)", "tolerance, mean", "tolerance, median", "adversarial alignment", "feature alignment")


def main() -> None:
    """Run the missing points, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"points from {', '.join(POINTS)}; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--passes", type=float, default=48.0, help="forward passes per training image")
    parser.add_argument("--images", type=int, default=150, help="validation images to attack")
    parser.add_argument("--model", default="test_efficientnet_gn")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), default=Path("results/front").resolve())
    parser.add_argument("--table", action="store_true", help="only write table and figure of the existing points")
    parser.add_argument("--against", metavar="NAME", help="also print NAME minus each other point of the same seed")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in POINTS]:
        parser.error(f"expected points from {', '.join(POINTS)}, got {', '.join(unknown)}")
    if options.against and options.against not in POINTS:
        parser.error(f"expected --against to be one of {', '.join(POINTS)}, got {options.against}")
    for seed in options.seeds:
        for name in () if options.table else options.names or POINTS:
            run(name, seed, options)
    measured = sorted((options.out / "results").glob("[!.]*-seed-*/summary.json"))
    points = {path.parent.name: load_results(path.parent) for path in measured}
    if not points:
        parser.error(f"expected results in {options.out / 'results'}, found none; run without --table")
    print(table(points))
    if options.against:
        print(f"\n{differences(points, options.against)}")
    seeds = {name: [[value for value, _ in scores(one)] for one in found] for name, found in by_recipe(points).items()}
    save(draw(seeds), options.out / "front")


def run(name: str, seed: int, options: argparse.Namespace) -> None:
    """Train and evaluate one point, unless it has results."""
    label = f"{name}-seed-{seed}"
    if (options.out / "results" / label / "summary.json").exists():
        return
    words = [*POINTS[name].split(), f"model={options.model}", "experiment=demo_pair", "pair=false", f"seed={seed}"]
    folder = options.out / "runs" / label
    command = [*words, *budget(words, options.passes), f"folder={folder}"]
    subprocess.run([sys.executable, "train.py", *command], cwd=ROOT, check=True)
    measured = [f"ckpt={folder}/last.ckpt", f"label={label}", f"results={options.out}/results"]
    settings = ["attack=ddn", f"images={options.images}", "data.image_size=64"]
    subprocess.run([sys.executable, "evaluate.py", *measured, *settings], cwd=ROOT, check=True)


def budget(words: list[str], passes: float) -> list[str]:
    """Return the settings of epochs at which each training image gets these passes on average."""
    with hydra.initialize_config_module("configs", version_base="1.3"):
        config = hydra.compose("train", translate(words))
    names = {field.name for field in fields(LossSettings)}
    settings = LossSettings(**{str(name): value for name, value in config.module.items() if name in names})
    mapped = 1 if settings.supervision in WITHOUT_MAPS else MAPPED
    mapped /= settings.harmonize_every
    starts = settings.harmonizer_start, settings.adversarial_start
    cuts = sorted({0.0, *starts, 1.0})
    cost = sum(
        (end - begin) * of_images * step_passes(part, harmonize=harmonize and begin >= starts[0])
        for begin, end in pairwise(cuts)
        for part in [settings if begin >= starts[1] else replace(settings, adversarial="none")]
        for of_images, harmonize in ((mapped, bool(config.harmonize)), (1 - mapped, False))
    )
    steps = passes * IMAGES / BATCH / cost
    epochs = math.ceil(steps * BATCH / IMAGES)
    warmup = f"recipe.warmup_epochs={epochs / 6:.3f}"  # a sixth of the training, as in the demo pair
    return [f"recipe.epochs={epochs}", f"budget.steps_per_epoch={round(steps / epochs)}", warmup]


def scores(results: Results) -> list[tuple[float, float]]:
    """Return the five scores of a training, each with its standard error over images, 0 for none."""
    summary = results.summary
    tolerance, median = summary["tolerance"]["restricted_mean"], summary["tolerance"]["median"]
    alignments = [summary[f"{kind}_alignment"] for kind in ("adversarial", "feature")]
    accuracy = summary["accuracy"]
    return [
        (100 * accuracy["value"], 100 * accuracy["se"]),
        (tolerance["mean"], tolerance["se"]),
        (median["value"], (median["high"] - median["low"]) / 3.92),
        *((alignment["mean"], alignment["se"]) for alignment in alignments),
    ]


def by_recipe(trainings: Mapping[str, Score]) -> dict[str, list[Score]]:
    """Group trainings, given by NAME-seed-S, by name.

    >>> by_recipe({"modern-seed-0": 1, "modern-seed-1": 2, "control-seed-0": 3})
    {'modern': [1, 2], 'control': [3]}
    """
    collected: dict[str, list[Score]] = {}
    for name, value in trainings.items():
        collected.setdefault(name.partition("-seed-")[0], []).append(value)
    return collected


def cell(values: Sequence[float], digits: int) -> str:
    """Format the mean over seeds, with the lowest and the highest of several.

    >>> cell([1, 2, 6], 1), cell([0.5], 2)
    ('3.0 (1.0 to 6.0)', '0.50')
    """
    mean = f"{sum(values) / len(values):.{digits}f}"
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else mean


def table(points: Mapping[str, Results]) -> str:
    """Format one row per recipe: the mean over seeds, with the lowest and the highest."""
    lines = [f"| recipe | seeds | {' | '.join(SCORES)} |", f"|---|---:|{'---:|' * len(SCORES)}"]
    for name, trainings in by_recipe(points).items():
        columns = zip(*([value for value, _ in scores(results)] for results in trainings), strict=True)
        cells = [cell(values, 3 if column else 1) for column, values in enumerate(columns)]
        lines.append(f"| {name} | {len(trainings)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(points: Mapping[str, Results], own: str) -> str:
    """Format one row per training: ``own`` minus it, paired over images, with the 95 % interval of the mean.

    Trainings that were measured under another protocol, or have no counterpart of the same seed, are skipped.
    """
    kinds = ("tolerance", "adversarial_alignment", "feature_alignment")
    lines = [
        f"| other | seed | accuracy, other → `{own}` | tolerance, n | adversarial alignment | feature alignment |",
        f"|---|{'---:|' * 5}",
    ]
    for name, other in points.items():
        base, _, seed = name.partition("-seed-")
        mine = points.get(f"{own}-seed-{seed}")
        if base == own or mine is None or mine.summary["protocol"]["hash"] != other.summary["protocol"]["hash"]:
            continue
        before, after = (100 * one.summary["accuracy"]["value"] for one in (other, mine))
        found = compare(other, mine)
        cells = ["{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**found[kind]) for kind in kinds]
        cells[0] += f", {found['tolerance']['n']}"
        lines.append(f"| `{base}` | {seed} | {before:.1f} → {after:.1f} % | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
