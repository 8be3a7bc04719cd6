"""Slow checks: float32 against float64, radii against long runs of Adversarial Library, one call against several."""

import pytest
import torch

from harmonizer.attacks import Status, minimal_radius

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # adv-lib's own
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


def many(golden, net, count):
    """Mix pairs of the recorded images; label them by the network's prediction, every tenth incorrectly."""
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


def test_mean_radii_are_not_above_1000_steps_of_adv_libs_ddn(golden, golden_net):
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


@pytest.mark.parametrize(("attack", "count"), [("linsley2023", 400), ("pgd", 400), ("ddn", 200)])
def test_float32_results_do_not_depend_on_the_batch(golden, golden_net, attack, count):
    images, labels = many(golden, golden_net, count)
    keys = [f"sample-{i}" for i in range(count)]

    def attacked(rows, batch_size=None):
        chosen = [keys[i] for i in rows.tolist()]
        return minimal_radius(golden_net, images[rows], labels[rows], attack=attack, keys=chosen, batch_size=batch_size)

    whole = attacked(torch.arange(count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    runs = [(order, 1), (order, 7), (order, 64), (order[: count // 3], None), (order[count // 3 :], None)]
    for rows, batch_size in runs:  # the last two are the shares of two processes
        result = attacked(rows, batch_size)
        assert torch.equal(result.status, whole.status[rows])
        close = torch.isclose(result.l2, whole.l2[rows], rtol=1e-3, equal_nan=True)
        assert close.double().mean() >= 0.995
