"""Slow checks: float32 against float64, radii against long runs of a peer, one call against several."""

import pytest
import torch

from harmonizer.attacks import Status, minimal_radius

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # adv-lib's own
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


def many(golden, net, count):
    """Mix pairs of the recorded pictures; label them by the net, every tenth wrongly."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(golden["images"]), (2, count), generator=generator)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    images = share * golden["images"][pairs[0]] + (1 - share) * golden["images"][pairs[1]]
    with torch.no_grad():
        labels = net(images).argmax(1)
    labels[::10] = (labels[::10] + 1) % 10
    return images, labels


def test_linsley2023_in_float32_gives_the_eps_of_float64(golden, golden_net):
    images, labels = many(golden, golden_net, 400)
    single = minimal_radius(golden_net, images, labels, attack="linsley2023")
    double = minimal_radius(golden_net.double(), images.double(), labels, attack="linsley2023")
    same = (single.status == double.status) & (single.eps.nan_to_num(0) == double.eps.nan_to_num(0))
    assert len(set(double.status.tolist())) == 3
    assert same.double().mean() >= 0.995
    notch = torch.where(double.eps <= 1, 0.999 / 128, 9 / 128)
    both = (single.status == Status.FOUND) & (double.status == Status.FOUND)
    assert ((single.eps - double.eps).abs() <= 1.001 * notch)[both].all()


def test_ddn_and_ddn_full_are_below_a_thousand_steps_of_ddn(golden, golden_net):
    pytest.importorskip("adv_lib")
    images, labels = many(golden, golden_net, 40)
    peer = minimal_radius(golden_net, images, labels, attack="advlib:ddn", steps=1000, levels=None)
    ours = minimal_radius(golden_net, images, labels, attack="ddn")
    full = minimal_radius(golden_net, images, labels, attack="ddn_full")
    found = peer.status == Status.FOUND
    assert found.sum() >= 20
    assert (ours.status == Status.FOUND)[found].all()
    best = torch.minimum(torch.minimum(peer.l2, ours.l2), full.l2)[found]
    assert ours.l2[found].mean() <= peer.l2[found].mean()
    assert full.l2[found].mean() <= peer.l2[found].mean()
    assert (ours.l2[found] / best).mean() <= 1.02


def test_two_halves_give_the_results_of_the_whole(golden, golden_net):
    images, labels = many(golden, golden_net, 60)
    for attack in ("linsley2023", "pgd", "ddn"):
        whole = minimal_radius(golden_net, images, labels, attack=attack, batch_size=64)
        halves = [minimal_radius(golden_net, images[i::2], labels[i::2], attack=attack, batch_size=7) for i in (0, 1)]
        for i, half in enumerate(halves):
            assert torch.equal(half.status, whole.status[i::2])
            close = torch.isclose(half.l2, whole.l2[i::2], rtol=1e-3, equal_nan=True)
            assert close.double().mean() >= 0.96  # of 30: at most one
