"""The peers' attacks at their usual settings; each maps (model, images, labels) to adversarial images."""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries' own
    import adv_lib.attacks as adv_lib
    import foolbox
    import torchattacks
    from adv_lib.attacks.auto_pgd import minimal_apgd

Peer = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _foolbox(attack: foolbox.attacks.base.MinimizationAttack) -> Peer:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return attack(foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device), images, labels, epsilons=None)[
            1
        ]

    return run


def torchattacks_bisected(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Bisect the radius of torchattacks' PGDL2 ten times, ten steps each, image by image."""
    attack = torchattacks.PGDL2(model, steps=10, random_start=False)
    low, high = images.new_zeros(len(images)), images.new_full((len(images),), 2.0)
    best = images.clone()
    for _ in range(10):
        attack.eps = (low + high) / 2
        attack.alpha = 0.25 * attack.eps[:, None, None, None]
        moved = attack(images, labels).detach()
        fooled = model(moved).argmax(1) != labels
        best = torch.where(fooled[:, None, None, None], moved, best)
        low, high = torch.where(fooled, low, attack.eps), torch.where(fooled, attack.eps, high)
    return best


def linsley2023_one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Run the published protocol as published: one image at a time, each attack from scratch, with ``backward``."""

    def attack(x0: Tensor, y: Tensor, eps: float) -> Tensor:
        x = x0
        for _ in range(3):
            x = x.detach().requires_grad_()
            nn.functional.cross_entropy(model(x), y).backward()
            moved = x + 0.5 * x.grad / x.grad.norm()
            x = (x0 + eps * (moved - x0) / (moved - x0).norm()).clamp(0, 1).detach()
        return x

    found = []
    for x0, y in zip(images.split(1), labels.split(1), strict=True):
        best = x0
        if model(attack(x0, y, 10.0)).argmax() != y:
            fine = bool(model(attack(x0, y, 1.0)).argmax() != y)
            low, high, width = (0.001, 1.0, 0.01) if fine else (1.0, 10.0, 0.1)
            best = attack(x0, y, high)
            while high - low > width:
                middle = (low + high) / 2
                moved = attack(x0, y, middle)
                if model(moved).argmax() != y:
                    best, high = moved, middle
                else:
                    low = middle
        found.append(best)
    for parameter in model.parameters():
        parameter.grad = None
    return torch.cat(found)


PEERS: Mapping[str, Peer] = {
    "linsley2023, one by one": linsley2023_one_by_one,
    "torchattacks PGDL2, bisected 10x10": torchattacks_bisected,
    "foolbox DDN 100": _foolbox(foolbox.attacks.DDNAttack(steps=100)),
    "foolbox FMN 100": _foolbox(foolbox.attacks.L2FMNAttack(steps=100)),
    "foolbox FMN 1000 (feng2025)": _foolbox(foolbox.attacks.L2FMNAttack(steps=1000)),
    "adv-lib DDN 100": lambda m, x, y: adv_lib.ddn(m, x, y, steps=100, levels=None),
    "adv-lib DDN 1000": lambda m, x, y: adv_lib.ddn(m, x, y, steps=1000, levels=None),
    "adv-lib FMN 100": lambda m, x, y: adv_lib.fmn(m, x, y, norm=2, steps=100),
    "adv-lib FMN 1000": lambda m, x, y: adv_lib.fmn(m, x, y, norm=2, steps=1000),
    "adv-lib ALMA 1000": lambda m, x, y: adv_lib.alma(m, x, y, num_steps=1000, init_lr_distance=0.1),
    "adv-lib APGD_t 20x10x5": lambda m, x, y: minimal_apgd(
        m, x, y, norm=2, max_eps=2.0, binary_search_steps=10, targeted_version=True, n_iter=20
    ),
}
