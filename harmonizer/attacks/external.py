"""Attacks of foolbox and adversarial-library, finalized and counted as the other attacks are."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.finalize import Best, finalize, fooled, status_before
from harmonizer.attacks.l2 import is_usable, norms, per_row
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import margin_of
from harmonizer.attacks.result import Finding, Status

Settings = Mapping[str, Any]
Run = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Maps a model, images (n,3,H,W) and labels (n,) to adversarial candidates (n,3,H,W)."""


def foolbox_attack(name: str, *, as_found: bool = False) -> Callable[..., Finding]:
    """Return foolbox's attack class ``name``, minimising (``epsilons=None``), as an attack function.

    Args:
        name: Name of the class.
        as_found: Keep foolbox's perturbations instead of pulling them back to the boundary.

    Raises:
        ValueError: foolbox has no such attack, or (when it runs) the attack has no such setting.
        ImportError: foolbox is not installed.
    """
    foolbox = _library("foolbox", "foolbox")
    attack = _member(foolbox.attacks, name, "foolbox")

    def run(settings: Settings, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        found: Tensor = attack(**settings)(wrapped, x, y, epsilons=None)[1]
        return found

    return _search(name, attack, run, as_found=as_found)


def advlib_attack(name: str) -> Callable[..., Finding]:
    """Return adversarial-library's function ``name`` as an attack function.

    Raises:
        ValueError: The library has no such attack, or (when it runs) the attack has no such setting.
        ImportError: The library is not installed.
    """
    attack = _member(_library("adv_lib.attacks", "adv-lib"), name, "adv-lib")

    def run(settings: Settings, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attack(model, x, y, **settings)
        return found

    return _search(name, attack, run)


def feng2025(
    net: Engine,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    eps_max: float = 20.0,
    steps: int = 1000,
    gamma: float = 10.0,
    min_stepsize: float = 1e-5,
) -> Finding:
    """Run foolbox's L2FMNAttack as the 2025 paper did: for comparison only, since it ends far from the optimum.

    Foolbox's perturbation is kept, without pulling it back to the boundary. The paper attacks a decision between two
    superclasses: pass one to :func:`harmonizer.attacks.minimal_radius`.

    Reference:
        Feng, Linsley et al. 2025 (ICLR Re-Align workshop), whose code has these defaults except ``eps_max``: their
        attack is unbounded, and the largest mean radius of their table is 11.2. foolbox's defaults are gamma 0.05 and
        no least step. Pintor et al. 2021 (arXiv 2102.12827).
    """
    settings = {"steps": steps, "gamma": gamma, "min_stepsize": min_stepsize, "max_stepsize": 1.0}
    attack = foolbox_attack("L2FMNAttack", as_found=True)
    return attack(net, images, labels, noise, eps_max=eps_max, **settings)


class _Exposed(nn.Module):
    """The model as a library sees it: its parameters get no gradient, and its passes are counted.

    Attributes:
        unanswered: (n,) bool, which of the n attacked images had a non-finite logit.
    """

    def __init__(self, net: Engine, images: int) -> None:
        super().__init__()
        self._net = [net]  # in a list, so that nn.Module does not register it
        self._state = {name: value.detach() for name, value in net.model.named_parameters()}
        self.forwards = self.backwards = 0  # rows
        self.unanswered = torch.zeros(images, dtype=torch.bool, device=net.forwards.device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        net = self._net[0]
        # A copy: the model may change its input in place.
        logits = net.call(images.clone(), lambda inputs: functional_call(net.model, self._state, (inputs,)))
        self.forwards += len(images)
        undefined = ~logits.detach().isfinite().all(1)
        # A library may use batches of its own: the images of these logits are then unknown.
        self.unanswered |= undefined if len(images) == len(self.unanswered) else undefined.any()
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def _search(
    name: str, attack: Callable[..., Any], run: Callable[..., Tensor], *, as_found: bool = False
) -> Callable[..., Finding]:
    """Return an attack function that calls ``run`` with its settings, model, images and labels."""

    def search(
        net: Engine, images: Tensor, labels: Tensor, noise: Noise, *, eps_max: float = 10.0, **settings: object
    ) -> Finding:
        known = inspect.signature(attack).parameters
        for setting in settings:
            if setting not in known:
                raise ValueError(f"expected settings of {name} among {list(known)}, got {setting!r}")
        return _finalized(net, images, labels, partial(run, settings), eps_max, as_found=as_found)

    return search


def _finalized(net: Engine, images: Tensor, labels: Tensor, run: Run, eps_max: float, *, as_found: bool) -> Finding:
    """Run a library's attack and finalize its perturbations; ``as_found`` keeps them as they are."""
    everything = torch.arange(len(images), device=images.device)
    clean, gradient = net.start(images, everything, margin_of(labels))
    best, attacked = Best(images, labels, clean), images.clone()
    correct = (status_before(clean, labels) == Status.CENSORED).nonzero()[:, 0]
    for rows in torch.split(correct, net.batch_size or max(len(correct), 1)):
        if not len(rows):
            continue
        exposed = _Exposed(net, len(rows))
        found = run(exposed, images[rows].contiguous(), labels[rows]).detach().to(images.dtype)
        # Libraries use batches of their own: each image is assigned the mean number of passes, rounded up.
        net.forwards[rows] += -(-exposed.forwards // len(rows))
        net.backwards[rows] += -(-exposed.backwards // len(rows))
        finite = found.flatten(1).isfinite().all(1)
        net.unanswered[rows] += (exposed.unanswered | ~finite).long()
        found = torch.where(per_row(finite), found, images[rows]).clamp(0, 1)
        best.offer(rows, found - images[rows], net.logits(found, rows))
        attacked[rows] = found
    finding = finalize(net, images, labels, clean, [best], is_usable(gradient), eps_max)
    return _as_found(net, images, labels, attacked, correct, finding) if as_found else finding


def _as_found(
    net: Engine, images: Tensor, labels: Tensor, attacked: Tensor, correct: Tensor, finding: Finding
) -> Finding:
    """Replace a finding's images by the library's (B,3,H,W) where those fool; ``correct`` rows were attacked."""
    logits = net.logits(attacked[correct], correct)
    length = norms((attacked - images).double())
    fools = torch.zeros_like(labels, dtype=torch.bool)
    fools[correct] = fooled(logits, labels[correct]) & (length[correct] <= finding.eps_max)
    prediction = finding.prediction.clone()
    prediction[correct] = torch.where(fools[correct], logits.argmax(1), labels[correct])
    status = torch.where(finding.status == Status.FOUND, int(Status.CENSORED), finding.status)
    status = torch.where(fools, int(Status.FOUND), status)
    return Finding(status, length, prediction, attacked, finding.eps_max)


def _library(module: str, package: str) -> Any:  # noqa: ANN401 - a module without type information
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this attack needs {package}, which cannot be imported ({error}); try: pip install {package}"
            + " (with setuptools below 81; see benchmarks/README.md)" * (package == "adv-lib")
        ) from error


def _member(module: Any, name: str, library: str) -> Callable[..., Any]:  # noqa: ANN401 - as above
    attack = getattr(module, name, None)
    if not callable(attack):
        known = [member for member in dir(module) if member[0] != "_" and callable(getattr(module, member))]
        nearest = difflib.get_close_matches(name, known, n=2)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        raise ValueError(f"expected an attack of {library} among {', '.join(known)}; got {name!r}{hint}")
    found: Callable[..., Any] = attack
    return found
