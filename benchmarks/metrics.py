"""Compare the rank correlation with scipy's and torchmetrics': ``python -m benchmarks.metrics``."""

import argparse
import time
from collections.abc import Callable

import scipy
import torch
import torchmetrics
from scipy import stats
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from harmonizer.functional import spearman

MAPS, PIXELS = 64, 224 * 224


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, scipy {scipy.__version__}, torchmetrics {torchmetrics.__version__}")
    print(f"{MAPS} pairs of {PIXELS} pixels, {options.threads} thread(s), best of {options.repeats}; seconds\n")
    print("| maps | scipy | torchmetrics | harmonizer | scipy / harmonizer | largest difference from scipy |")
    print("|---|---|---|---|---|---|")
    generator = torch.Generator().manual_seed(0)
    for title, draw in CASES.items():
        a, b = draw(generator), draw(generator)
        runs: list[Callable[[], Tensor]] = [
            lambda a=a, b=b: torch.tensor([stats.spearmanr(*row).statistic for row in zip(a, b, strict=True)]),
            lambda a=a, b=b: spearman_corrcoef(a.T.contiguous(), b.T.contiguous()),
            lambda a=a, b=b: spearman(a, b),
        ]
        repeats = (options.repeats, 1, options.repeats)  # torchmetrics is too slow for more
        (theirs, expected), (metric, _), (ours, result) = map(_best, runs, repeats)
        difference = float((result - expected).abs().max())
        print(f"| {title} | {theirs:.2f} | {metric:.2f} | {ours:.3f} | {theirs / ours:.1f} | {difference:.0e} |")


CASES: dict[str, Callable[[torch.Generator], Tensor]] = {
    "heavy ties: 50 levels": lambda g: torch.randint(50, (MAPS, PIXELS), generator=g).float() / 49,
    "heavy ties: 900 levels": lambda g: torch.randint(900, (MAPS, PIXELS), generator=g).float() / 899,
    "half of it zero": lambda g: torch.randn(MAPS, PIXELS, generator=g).relu(),
    "no ties": lambda g: torch.randn(MAPS, PIXELS, generator=g),
}


def _best(run: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


if __name__ == "__main__":
    main()
