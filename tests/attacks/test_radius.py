import math

import pytest
import torch
from torch import nn

from harmonizer.attacks import Status, minimal_radius

SEARCHES = ["pgd", "ddn"]
ALL = ["linsley2023", *SEARCHES]


class Linear(nn.Module):
    def __init__(self, classes=4, size=6, scale=0.05, dtype=torch.float32, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(classes, 3 * size * size, generator=generator, dtype=dtype) * scale
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return (images.flatten(1) - 0.5) @ self.weight.T


def grey_images(count, size=6, spread=0.05, dtype=torch.float32):
    """Return images far from 0 and 1, so that the box constraint is inactive."""
    return 0.5 + spread * torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def closed_form(model, images, labels):
    logits = model(images)
    margin = logits.gather(1, labels[:, None]) - logits
    distance = margin / (model.weight[labels][:, None] - model.weight[None]).norm(dim=2)
    return distance.scatter(1, labels[:, None], torch.inf).amin(1).double().detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("attack", "classes"), [("ddn", 4), ("ddn", 9), ("ddn_full", 9), ("pgd", 2)])
def test_radii_of_a_linear_model_equal_the_closed_form(attack, classes, dtype):
    model, images = Linear(classes=classes, dtype=dtype), grey_images(16, dtype=dtype)
    labels = model(images).argmax(1)
    result = minimal_radius(model, images, labels, attack=attack)
    assert (result.status == Status.FOUND).all()
    torch.testing.assert_close(result.l2, closed_form(model, images, labels), rtol=2e-3, atol=0)


def test_radii_in_the_box_equal_those_of_a_quadratic_program():
    scipy_optimize = pytest.importorskip("scipy.optimize")
    model = Linear(classes=2, size=2, scale=1.0, dtype=torch.float64)
    images = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = model(images).argmax(1)
    result = minimal_radius(model, images, labels, attack="ddn")
    for image, label, radius in zip(images, labels, result.l2, strict=True):
        normal = (model.weight[1 - label] - model.weight[label]).detach().numpy()
        start = image.flatten().numpy()
        solution = scipy_optimize.minimize(
            lambda x, start=start: ((x - start) ** 2).sum(),
            start,
            jac=lambda x, start=start: 2 * (x - start),
            bounds=[(0, 1)] * 12,
            constraints={
                "type": "ineq",
                "fun": lambda x, normal=normal: normal @ (x - 0.5),
                "jac": lambda x, n=normal: n,
            },
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        assert solution.success
        assert radius == pytest.approx(math.sqrt(solution.fun), rel=1e-3)


@pytest.mark.parametrize("attack", ALL)
def test_adversarial_images_fool_in_a_batch_and_alone(golden, golden_net, attack):
    images, labels = golden["images"], golden["labels"]
    result = minimal_radius(golden_net, images, labels, attack=attack)
    found = result.status == Status.FOUND
    assert found.sum() >= 9
    adversarial = result.adversarial
    assert adversarial.dtype == images.dtype
    assert adversarial.isfinite().all() and (adversarial >= 0).all() and (adversarial <= 1).all()
    with torch.no_grad():
        together = golden_net(adversarial).argmax(1)
        alone = torch.cat([golden_net(image[None]).argmax(1) for image in adversarial])
    assert torch.equal(together, result.prediction)
    assert torch.equal(alone, result.prediction)
    assert torch.equal(result.prediction != labels, found | (result.status == Status.WRONG))
    offset = (adversarial.double() - images.double()).flatten(1)
    torch.testing.assert_close(result.l2[found], offset.norm(dim=1)[found], rtol=1e-12, atol=0)
    torch.testing.assert_close(result.linf[found], offset.abs().amax(1)[found], rtol=0, atol=0)
    assert result.l2[~found].isnan().all() and (offset[~found] == 0).all()


def test_ddn_is_never_above_the_cheaper_attacks(golden, golden_net):
    radius = {
        name: minimal_radius(golden_net, golden["images"], golden["labels"], attack=name).l2
        for name in ("linsley2023", "pgd", "ddn")
    }
    found = radius["ddn"].isfinite()
    assert (radius["ddn"] <= 1.01 * radius["pgd"])[found].all()
    assert (radius["ddn"] <= 1.01 * radius["linsley2023"].nan_to_num(torch.inf))[found].all()
    assert radius["ddn"][found].mean() < 0.97 * radius["pgd"][found].mean()


@pytest.mark.parametrize("attack", SEARCHES)
def test_radii_above_eps_max_are_censored(golden, golden_net, attack):
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack, eps_max=1.0)
    assert result.eps_max == 1.0
    assert set(result.status.tolist()) == {Status.WRONG, Status.CENSORED, Status.FOUND}
    assert (result.l2[result.status == Status.FOUND] <= 1.0).all()
    whole = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack)
    assert (whole.l2.nan_to_num(torch.inf) > 0.95)[result.status == Status.CENSORED].all()


@pytest.mark.parametrize("scale", [100.0, 10_000.0])
@pytest.mark.parametrize("attack", ["ddn", "pgd"])
def test_confident_logits_do_not_mask_the_radius(golden, golden_net, attack, scale):
    images, labels = golden["images"], golden["labels"]
    before = minimal_radius(golden_net, images, labels, attack=attack)
    with torch.no_grad():
        golden_net.fc.weight *= scale
        golden_net.fc.bias *= scale
    after = minimal_radius(golden_net, images, labels, attack=attack)
    assert torch.equal(before.status, after.status)
    tolerance = 0.01 if attack == "ddn" else 0.1
    torch.testing.assert_close(after.l2, before.l2, rtol=tolerance, atol=0, equal_nan=True)


class Silent(nn.Module):
    """Classifies by the mean intensity through a step function, whose gradient is zero everywhere."""

    def forward(self, images):
        bright = (images.mean((1, 2, 3)) > 0.5).to(images.dtype)
        return torch.stack([1 - bright, bright], 1) + 0 * images.sum((1, 2, 3))[:, None]


class NotANumber(nn.Module):
    """Predicts class 0, with a NaN gradient."""

    def forward(self, images):
        zero = (images.sum((1, 2, 3)) * 0).sqrt()
        return torch.stack([1 + zero, zero], 1)


@pytest.mark.parametrize("model", [Silent(), NotANumber()])
def test_linsley2023_finds_nothing_with_an_unusable_gradient(model):
    images = torch.full((3, 3, 4, 4), 0.2)
    result = minimal_radius(model, images, torch.tensor([0, 0, 1]), attack="linsley2023")
    assert result.status.tolist()[2] == Status.WRONG
    expected = Status.FAILED if isinstance(model, Silent) else Status.CENSORED  # NotANumber ignores its input
    assert result.status.tolist()[:2] == [expected] * 2
    assert result.eps.isnan().all()


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize("attached", [True, False])
def test_a_constant_model_is_wrong_or_censored(attack, attached):
    class Constant(nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 1.0, 0.0]).expand(len(images), 3) + (0 * images.sum() if attached else 0)

    result = minimal_radius(Constant(), torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 1, 2]), attack=attack)
    assert result.status.tolist() == [Status.WRONG, Status.CENSORED, Status.CENSORED, Status.WRONG]


def test_a_model_detached_from_its_input_gives_failed():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(48, 3)

        def forward(self, images):
            return self.head(images.detach().flatten(1))

    model, images = Detached(), torch.rand(5, 3, 4, 4)
    labels = model(images).argmax(1)
    result = minimal_radius(model, images, labels, attack="linsley2023")
    assert (result.status == Status.FAILED).all()


@pytest.mark.parametrize("attack", ALL)
def test_result_does_not_depend_on_batch_size_or_order(golden, golden_net, attack):
    images, labels = golden["images"][:9].double(), golden["labels"][:9]
    golden_net.double()
    keys = [f"sample-{i}" for i in range(len(images))]
    settings = {"restarts": 2} if attack == "pgd" else {}
    whole = minimal_radius(golden_net, images, labels, attack=attack, keys=keys, **settings)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(5))
    for batch_size in (1, 7, 64):
        result = minimal_radius(
            golden_net,
            images[order],
            labels[order],
            attack=attack,
            keys=[keys[i] for i in order.tolist()],
            batch_size=batch_size,
            **settings,
        )
        assert torch.equal(result.status, whole.status[order])
        assert torch.equal(result.forwards, whole.forwards[order])
        torch.testing.assert_close(result.l2, whole.l2[order], rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("attack", ALL)
def test_counters_equal_what_hooks_count(golden, golden_net, seen, attack):
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack, batch_size=5)
    assert seen == {"forward": result.forwards.sum(), "backward": result.backwards.sum()}


@pytest.mark.parametrize(("attack", "most"), [("ddn", 150), ("ddn_full", 600), ("pgd", 64)])
def test_passes_stay_within_the_budget(golden, golden_net, attack, most):
    result = minimal_radius(golden_net, golden["images"][:6], golden["labels"][:6], attack=attack)
    assert result.forwards.max() <= most
    assert result.backwards.max() <= most


def test_one_round_of_pgd_is_one_attack_at_eps_max(golden, golden_net):
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack="pgd", rounds=1)
    found = result.status == Status.FOUND
    assert found.sum() >= 9
    assert result.forwards.max() <= 1 + 7 + 7


class Small(nn.Module):
    """A random convolutional network with many classes, so that the two searches choose different targets."""

    def __init__(self, seed, activation, classes=24):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 12, 3, stride=2), activation(), nn.Conv2d(12, 16, 3, stride=2), activation()),
            *(nn.Flatten(), nn.Linear(16 * 9, classes)),
        )
        for weight in self.parameters():
            weight.data.mul_(3)

    def forward(self, images):
        return self.layers(images - 0.5)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ddn_full_is_never_above_ddn(activation, seed):
    model = Small(seed, activation).eval()
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    labels = model(images).argmax(1)
    ddn, full = (minimal_radius(model, images, labels, attack=attack) for attack in ("ddn", "ddn_full"))
    assert (ddn.status == Status.FOUND).sum() > 20
    assert (full.l2.nan_to_num(torch.inf) <= ddn.l2.nan_to_num(torch.inf)).all()
    fewer = minimal_radius(model, images, labels, attack="ddn_full", targets=2, refined=1, steps=5)
    assert (fewer.l2.nan_to_num(torch.inf) <= ddn.l2.nan_to_num(torch.inf)).all()


def test_ddn_full_finds_smaller_mean_radii_than_ddn(golden, golden_net):
    images, labels = golden["images"], golden["labels"]
    ddn, full = (minimal_radius(golden_net, images, labels, attack=attack) for attack in ("ddn", "ddn_full"))
    found = ddn.status == Status.FOUND
    assert (full.l2 <= ddn.l2)[found].all()
    assert full.l2[found].mean() < 0.995 * ddn.l2[found].mean()
