"""Score models against the maps of the same clicks, prepared as in 2022 and as in ClickMe v2.

``python -m benchmarks.preparations RUN...`` takes checkpoints or run folders of the demo pair
(``python train.py experiment=demo_pair``). 40 simulated people click on demo images of 256 x 256 pixels; each
preparation makes shards of the same clicks, with ceilings of its own, and every model is measured on both.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import spearmanr

import harmonizer
from harmonizer.data.ceilings.cli import measure_agreement
from harmonizer.data.convert.cli import main as convert
from harmonizer.data.demo.raw_clicks import write_raw_clicks
from harmonizer.data.shards.manifest import read_manifest

PREPARATIONS = ("fel2022", "disk")


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="checkpoint or run folder")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--people", type=int, default=40)
    options = parser.parse_args()
    with TemporaryDirectory() as root:
        table = write_raw_clicks(Path(root, "raw"), images=options.images, people=options.people, crops=((64, 64),))
        folders = {name: Path(root, name, "val") for name in PREPARATIONS}
        for name, folder in folders.items():
            words = ["--images", str(table.parent / "images"), "--click-size", "256", "--prepare", name]
            if convert([str(table), *words, "--out", str(folder)]):
                raise SystemExit(f"the conversion by {name} failed")
        print_ceilings(folders)
        print_scores(folders, options.runs)


def print_ceilings(folders: dict[str, Path]) -> None:
    """Print the agreement of people, by preparation and kind of ceiling."""
    print("| maps | split halves, Spearman-Brown: ceiling | floor | ClickMe v2's halves: ceiling | floor |")
    print("|---|---:|---:|---:|---:|")
    for name, folder in folders.items():
        own = read_manifest(folder).ceilings
        assert own is not None
        cells = f"| {name} | {own.overall:.3f} | {own.floor:.3f} |"
        if name == "disk":
            v2 = measure_agreement(folder, score="spearman", iterations=20)
            cells += f" {v2.ceiling:.3f} | {v2.floor:.3f} |"
        else:
            cells += " its blur is the disk | |"
        print(cells)
    print()


def print_scores(folders: dict[str, Path], runs: list[str]) -> None:
    """Print each model's scores with both preparations."""
    print(
        "| model | feature alignment fel2022 | disk | of the ceiling fel2022 | disk "
        "| adversarial alignment fel2022 | disk | rho of images | largest difference |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    means = []
    for run in runs:
        found = [harmonizer.evaluate(run, folder.parent, attack="pgd", progress=False) for folder in folders.values()]
        blocks = [[one.summary[score] for one in found] for score in ("feature_alignment", "adversarial_alignment")]
        values = np.array([[row.feature_alignment for row in one.rows] for one in found])
        defined = np.isfinite(values).all(0)
        cells = [
            *(f"{block['mean']:.3f}" for block in blocks[0]),
            *(f"{block['share_of_ceiling']:.3f}" for block in blocks[0]),
            *(f"{block['mean']:.3f}" for block in blocks[1]),
            f"{spearmanr(*values[:, defined]).statistic:.3f}",
            f"{np.abs(values[0] - values[1])[defined].max():.3f}",
        ]
        means.append([block["mean"] for block in blocks[0]])
        print(f"| {'/'.join(Path(run).parts[-3:])} | {' | '.join(cells)} |")
    if len(means) > 2:
        rho = spearmanr(*np.array(means).T).statistic
        print(f"\nRank correlation of the {len(means)} models' feature alignment: {rho:.3f}")


if __name__ == "__main__":
    main()
