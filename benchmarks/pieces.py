"""Measure the gain of each fast path beyond the core: ``python -m benchmarks.pieces [--repeats 7]``.

Each row is a whole harmonized training step, or a whole attack, by ``fast=core``, by core and one piece, and by
``fast=auto``. The ways alternate; times are the best processor times on one thread. The gain of a piece is the share of
the time of ``core`` that it saves. With ``--within`` it is the share that it saves in ``auto``, compared with ``auto``
without it. ``plain`` is a step without harmonizing. Freed memory returns to the system between two ways unless
``malloc`` is on.
"""

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch

from benchmarks.networks import draw_images, small_cnn, strided_cnn
from benchmarks.step import _harmonized, _plain
from harmonizer.attacks import minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.fast import FastPath, fast
from harmonizer.fast.switch import PIECES
from harmonizer.models import PixelModel

STEPS = (  # network, pixels, batch, whether only one image in four has a map
    ("resnet50", 32, 16, False),
    ("resnet18", 64, 16, False),
    ("resnet50", 224, 4, False),
    ("vit_tiny_patch16_224", 32, 16, False),
    ("vit_tiny_patch16_224", 64, 16, False),
    ("vit_tiny_patch16_224", 64, 16, True),
    ("vit_tiny_patch16_224", 224, 4, False),
    ("convnext_atto", 64, 16, False),
)
ATTACKS = (  # network, pixels, images
    ("small_cnn", 32, 64),
    ("strided_cnn", 32, 64),
    ("strided_cnn", 64, 16),
    ("strided_cnn", 224, 2),
    ("resnet18", 64, 64),
    ("resnet50", 224, 4),
    ("vit_tiny_patch16_224", 224, 4),
)
MODES = {mode: (mode, ()) for mode in ("core", "auto", "off")}
OVER = MODES | {piece: ("core", (piece,)) for piece in PIECES}
WITHIN = MODES | {piece: ("core", tuple(other for other in PIECES if other != piece)) for piece in PIECES}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="of a step; an attack is repeated half as often")
    parser.add_argument("--only", nargs="+", choices=("steps", "attacks"), default=("steps", "attacks"))
    parser.add_argument("--networks", nargs="+", help="measure these networks only")
    parser.add_argument("--within", action="store_true", help="compare auto with auto without each piece")
    options = parser.parse_args()
    torch.set_num_threads(1)
    gain = "gain of each piece within auto, of auto and off over core" if options.within else "gain over core"
    print(f"torch {torch.__version__}, {platform.machine()} CPU, 1 thread; {gain}, % of the whole\n")
    print(f"| what | core, ms | {' | '.join(PIECES)} | auto | off |\n|---|---|{'---|' * (len(PIECES) + 2)}")
    if "steps" in options.only:
        for name, size, batch, some in _chosen(STEPS, options.networks):
            title = f"step, {name}, {size} px, batch {batch}{', 1 in 4 mapped' if some else ''}"
            print(_row(title, _step(name, size, batch, some=some), options.repeats, within=options.within), flush=True)
        if _chosen(STEPS[:1], options.networks):
            run = _step("resnet50", 32, 16, plain=True)
            print(_row("plain step, resnet50, 32 px, batch 16", run, options.repeats, within=options.within))
    if "attacks" in options.only:
        for name, size, count in _chosen(ATTACKS, options.networks):
            title = f"linsley2023, {name}, {size} px, {count} images"
            run, repeats = _attack(name, size, count), max(options.repeats // 2, 2)
            print(_row(title, run, repeats, within=options.within), flush=True)


def _chosen(rows: Sequence[Any], networks: Sequence[str] | None) -> list[Any]:
    return [row for row in rows if networks is None or row[0] in networks]


def _row(title: str, run: Callable[[], None], repeats: int, *, within: bool) -> str:
    ways = WITHIN if within else OVER
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):
        for way, (mode, pieces) in ways.items():
            with fast(mode, *pieces), FastPath.freed_memory_kept(torch.device("cpu")):
                run()  # warm-up, which allocates this way's memory
                start = time.process_time()
                run()
                if turn:
                    best[way] = min(best[way], time.process_time() - start)
    saved = {way: 1 - seconds / best["core"] for way, seconds in best.items()}
    if within:
        saved |= {piece: 1 - best["auto"] / best[piece] for piece in PIECES}
    cells = [f"{100 * saved[way]:.0f}" for way in (*PIECES, "auto", "off")]
    return f"| {title} | {1000 * best['core']:.0f} | {' | '.join(cells)} |"


def _step(name: str, size: int, batch: int, *, some: bool = False, plain: bool = False) -> Callable[[], None]:
    sized = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=1000, **sized)
    model = PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=True).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    has_map = torch.arange(batch) % 4 == 0 if some else torch.ones(batch, dtype=torch.bool)
    images, human = torch.rand(batch, 3, size, size), torch.rand(batch, size, size)
    given = Batch(images, torch.randint(1000, (batch,)), human, has_map, [str(i) for i in range(batch)])

    def run() -> None:
        loss = _plain(model, given) if plain else _harmonized(model, given, joint=not some)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def _attack(name: str, size: int, count: int) -> Callable[[], None]:
    torch.manual_seed(0)
    own = {"small_cnn": small_cnn, "strided_cnn": strided_cnn}
    sized = {"img_size": size} if name.startswith("vit") else {}
    model = (own[name]() if name in own else timm.create_model(name, num_classes=10, **sized)).eval()
    model = PixelModel(model, (0.5,) * 3, (0.5,) * 3).eval()
    images, _ = draw_images(count, seed=4, size=size)
    with torch.no_grad():
        labels = model(images).argmax(1)

    def run() -> None:
        minimal_radius(model, images, labels, attack="linsley2023")

    return run


if __name__ == "__main__":
    main()
