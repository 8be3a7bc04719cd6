"""The reduction over processes is exact: with unequal or empty ranks, and with images that two ranks measured."""

import pytest
import torch
from processes import in_two_processes

from harmonizer.metrics import AdversarialAlignment, FeatureAlignment, PerturbationTolerance

IMAGES = 7
SHARES = {
    "unequal": (range(5), range(5, 7)),
    "empty": (range(7), range(0)),
    "overlapping": (range(5), range(3, 7)),
}


def scores(indices):
    """Update with the given images and compute; in a process group, over all processes."""
    generator = torch.Generator().manual_seed(0)
    images, human = torch.rand(IMAGES, 3, 8, 8, generator=generator), torch.rand(IMAGES, 8, 8, generator=generator)
    adversarial = images + torch.randn(images.shape, generator=generator)
    status, radius = torch.tensor([2, 1, 2, 0, 2, 3, 2]), torch.rand(IMAGES, generator=generator).double()
    tolerance, attack, feature = PerturbationTolerance(), AdversarialAlignment(), FeatureAlignment()
    for i in indices:
        part, keys = slice(i, i + 1), [f"k{i}"]
        tolerance.update(status[part], radius[part], keys)
        attack.update(adversarial[part], images[part], human[part], status=status[part], keys=keys)
        feature.update(adversarial.mean(1)[part], human[part], keys=keys)
    computed = [metric.compute() for metric in (tolerance, attack, feature)]
    return {f"{i} {name}": float(value) for i, found in enumerate(computed) for name, value in found.items()}


def work(rank, shares, folder):
    torch.save(scores(shares[rank]), folder / f"{rank}.pt")


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")  # an empty rank has no update
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12 on fork; short-lived children
@pytest.mark.parametrize("name", SHARES)
def test_scores_of_two_processes_equal_those_of_one(name, tmp_path):
    in_two_processes(work, tmp_path, SHARES[name], tmp_path)
    expected = scores(range(IMAGES))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == pytest.approx(expected, rel=1e-12, nan_ok=True)
