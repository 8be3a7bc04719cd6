"""Measure the ceilings and floors of ClickMe v2: ``python -m harmonizer.data.ceilings FOLDER``.

FOLDER is a folder of shards converted from raw clicks or from stacks of participants' maps. The result is
``ceilings.json`` in that folder. Rerun the same command to resume an interrupted measurement. The ceilings in the
manifest, split halves stepped up by Spearman-Brown, do not change. Exit status: 0 done; 1 failed, the message says why;
2 wrong usage.
"""

import argparse
import math
import random
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import get_args

import torch

from harmonizer.cli.arguments import parser_of, positive
from harmonizer.data.ceilings.clickme_v2 import ITERATIONS, LEVELS, Score, resampled_agreement
from harmonizer.data.ceilings.file import NAME, Agreement, note, unfinished, write_agreement
from harmonizer.data.ceilings.participants import participant_files, participant_maps
from harmonizer.data.progress import Advance, show_progress

KIND = "clickme_v2"
PARTICIPANTS = "participants"


def measure_agreement(
    folder: Path,
    *,
    score: Score,
    iterations: int = ITERATIONS,
    levels: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    advance: Advance = lambda count: None,
) -> Agreement:
    """Measure the ceiling and the floor of each image of a folder of shards.

    Args:
        folder: Folder of shards with the participants' maps or clicks.
        score: ``"spearman"`` or ``"auc"``.
        iterations: Halvings per image.
        levels: Levels of click counts to average over; None is 10 for the AUC of clicks, as published, otherwise 1.
        seed: Seed of the halvings and of the choice of the other image for each floor. Results depend only on the seed
            and the keys.
        device: Device of the computation.
        advance: Called with the number of images done since the last call.

    Raises:
        FileNotFoundError: The folder holds no participants' maps.
        ValueError: A file is damaged, or holds maps although the levels need clicks.
    """
    files = participant_files(folder / PARTICIPANTS)
    if not files:
        raise FileNotFoundError(f"{folder} holds no participants' maps; convert raw clicks, or stacks of them")
    if levels is None:
        levels = LEVELS if score == "auc" and not any(path.suffix == ".npy" for path in files.values()) else 1
    settings = {"kind": KIND, "score": score, "iterations": iterations, "levels": levels, "seed": seed}
    keys = list(files)
    over_levels = partial(_over_levels, score=score, iterations=iterations, levels=levels, device=device)
    with unfinished(folder, settings | {"images": sha256("\n".join(keys).encode()).hexdigest()}) as (known, file):
        for index, key in enumerate(keys):
            if key not in known:
                ceiling, floor = over_levels(files[key], None, seed=_seed(seed, key, "ceiling")), math.nan
                if len(keys) > 1:
                    drawn = random.Random(_seed(seed, key, "other")).randrange(len(keys) - 1)
                    other = keys[drawn + (drawn >= index)]
                    floor = over_levels(files[key], files[other], seed=_seed(seed, key, "floor"))
                known[key] = note(file, key, ceiling, floor)
            advance(1)
    ceilings, floors = ({key: known[key][side] for key in keys} for side in (0, 1))
    return Agreement(KIND, score, iterations, levels, seed, ceilings, floors)


def _over_levels(
    own: Path, other: Path | None, *, score: Score, iterations: int, levels: int, seed: int, device: torch.device | str
) -> float:
    """Return the mean agreement over the levels of click counts."""
    read = partial(participant_maps, prepare="disk", device=device)
    found = []
    for level in range(levels):
        step = None if levels == 1 else (level, levels)
        against = None if other is None else read(other, level=step)
        found.append(resampled_agreement(read(own, level=step), against, score=score, iterations=iterations, seed=seed))
    return sum(found) / len(found)


def _seed(seed: int, key: str, what: str) -> int:
    """Return a seed for an image that does not depend on the other images."""
    return int(sha256(f"{seed} {what} {key}".encode()).hexdigest()[:15], 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        for score in given.scores:
            with show_progress() as progress, progress.task(f"measuring {score}") as advance:
                settings = {name: getattr(given, name) for name in ("iterations", "levels", "seed", "device")}
                measured = measure_agreement(given.folder, score=score, advance=advance, **settings)
            write_agreement(given.folder, measured)
            sys.stdout.write(
                f"{KIND} {score}: ceiling {measured.ceiling:.4f}, floor {measured.floor:.4f}, "
                f"{len(measured.ceilings)} images, {measured.iterations} halvings, {measured.levels} level(s)\n"
            )
    except KeyboardInterrupt:
        sys.stderr.write("ceilings: interrupted; rerun the same command to resume\n")
        return 130
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: no such device
        sys.stderr.write(f"ceilings: {error}\n")
        return 1
    sys.stdout.write(f"{given.folder / NAME}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = parser_of("harmonizer.data.ceilings", __doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder of shards with participants' maps")
    add("--scores", nargs="+", choices=get_args(Score), default=list(get_args(Score)), help="default: both")
    add("--iterations", type=positive, default=ITERATIONS, metavar="N", help="halvings (default: %(default)s)")
    add("--levels", type=positive, metavar="N", help="click-count levels (default: 10 for the AUC of clicks, else 1)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the halvings (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    return parser
