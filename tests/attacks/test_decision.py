"""Decisions between superclasses: a function of the logits that any attack can target."""

import pytest
import torch
from torch import nn

from harmonizer.attacks import Decision, Status, minimal_radius

GROUPS = (0, 0, 0, 1, 1, 1, 1)
DECISION = Decision("animate", GROUPS)
ATTACKS = {"ddn": 2e-3, "pgd": 6e-2, "linsley2023": 0.5}  # relative excess over the closed form


class Linear(nn.Module):
    """Classes 1 and 2 copy class 0 with lower biases, so that the largest animate logit is linear."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(7, 48, generator=torch.Generator().manual_seed(1))
        weight[1] = weight[0]
        weight[2] = weight[0]
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.tensor([2.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]))

    def forward(self, images):
        return (images - 0.5).flatten(1) @ self.weight.T + self.bias


def small_net():
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 12, 5, stride=2), nn.Tanh(), nn.Conv2d(12, 24, 3), nn.Tanh()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 7)).eval()


@pytest.fixture
def net():
    model = small_net()
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        model[-1].weight *= 40
        model[-1].bias -= model(images).mean(0)  # so that all classes occur
        labels = model(images).argmax(1)
    return model, images, labels


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_two_way_radius_equals_the_closed_form(attack):
    model, images = Linear(), torch.full((2, 3, 4, 4), 0.5)
    images[1] += 0.01
    labels = torch.tensor([2, 1])  # wrong classes of the right superclass
    result = minimal_radius(model, images, labels, attack=attack, decision=DECISION)
    with torch.no_grad():
        logits = model(images)
        lengths = (model.weight[3:] - model.weight[0]).norm(dim=1)
        expected = ((logits[:, :1] - logits[:, 3:]) / lengths).amin(1).double()
    assert result.status.tolist() == [Status.FOUND] * 2
    assert bool((result.l2 >= expected * (1 - 1e-4)).all())
    assert bool((result.l2 <= expected * (1 + ATTACKS[attack])).all())
    assert bool((result.prediction >= 3).all())


def test_another_class_of_the_superclass_does_not_fool(net):
    model, images, labels = net
    plain = minimal_radius(model, images, labels)
    decided = minimal_radius(model, images, labels, decision=DECISION)
    within = torch.tensor([GROUPS[i] for i in plain.prediction]) == torch.tensor([GROUPS[i] for i in labels])
    assert bool(within.any())  # otherwise the test is empty
    assert bool((decided.l2 >= plain.l2 * 0.99).all())
    assert bool((decided.l2[within] > plain.l2[within] * 1.01).all())
    with torch.no_grad():
        superclass = torch.tensor(GROUPS)[model(decided.adversarial).argmax(1)]
    assert bool((superclass != torch.tensor(GROUPS)[labels]).all())


def test_no_radius_is_below_the_nearest_opposite_class(net):
    model, images, labels = net

    class Against(nn.Module):
        """The true class against every class of the other superclass; the rest of its own is dropped."""

        def __init__(self, label):
            super().__init__()
            self.net, self.label = model, label
            self.others = [i for i, group in enumerate(GROUPS) if group != GROUPS[label]]

        def forward(self, x):
            return self.net(x)[:, [self.label, *self.others]]

    decided = minimal_radius(model, images, labels, attack="ddn_full", decision=DECISION)
    for label in labels.unique().tolist():
        against, same = Against(label), labels == label
        first = torch.zeros(int(same.sum()), dtype=torch.int64)
        nearest = minimal_radius(against, images[same], first, attack="ddn_full", targets=len(against.others))
        assert bool((decided.l2[same] >= nearest.l2 * (1 - 2e-3)).all())


def test_feng2025_equals_foolbox_called_directly(net):
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = net

    class TwoWay(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            logits = self.net(x)
            return torch.stack([logits[:, :3].max(1).values, logits[:, 3:].max(1).values], 1)

    two_way = foolbox.PyTorchModel(TwoWay().eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2FMNAttack(steps=200, max_stepsize=1.0, min_stepsize=1e-5, gamma=10)
    _, attacked, fooled = attack(two_way, images, (labels >= 3).long(), epsilons=None)
    ours = minimal_radius(
        model, images, labels, attack="feng2025", decision=DECISION, steps=200, batch_size=len(images)
    )
    assert bool(fooled.all())
    assert (ours.status == Status.FOUND).tolist() == fooled.tolist()
    torch.testing.assert_close(ours.adversarial, attacked, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.l2, (attacked - images).double().flatten(1).norm(dim=1), atol=1e-5, rtol=1e-5)


def test_nonfinite_logits_give_the_status_failed():
    class Broken(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :7] * torch.tensor([1.0, 1, -torch.inf, 1, 1, 1, 1])

    result = minimal_radius(Broken(), torch.rand(2, 3, 4, 4), torch.tensor([0, 4]), decision=DECISION, attack="pgd")
    assert result.status.tolist() == [Status.FAILED] * 2


def test_errors_name_the_invalid_decision(net):
    model, images, labels = net
    with pytest.raises(ValueError, match="two superclasses or more, got 1 in animate"):
        Decision("animate", (0, 0))
    with pytest.raises(ValueError, match=r"expected logits \(n,3\), one per class of the decision animate"):
        minimal_radius(model, images, labels.clamp(max=1), decision=Decision("animate", (0, 1, 1)))
    with pytest.raises(ValueError, match="labels of 3 classes, got 6"):
        minimal_radius(model, images, labels.clamp(min=6), decision=Decision("animate", (0, 1, 1)))
