"""Attacks of foolbox and adversarial-library, put through the same verdict, statuses and counters as ours."""

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
"""Attacks images (n,3,H,W) of labels (n,), and returns adversarial candidates of their shape."""


def foolbox_attack(name: str, *, as_found: bool = False) -> Callable[..., Finding]:
    """Return foolbox's attack class ``name``, minimising (``epsilons=None``), as an attack of ours.

    Args:
        name: Of the class.
        as_found: Keep its perturbations, which are else pulled back to the boundary.

    Raises:
        ValueError: foolbox has no such attack, or (when it runs) the attack no such setting.
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
    """Return adversarial-library's function ``name`` as an attack of ours.

    Raises:
        ValueError: The library has no such attack, or (when it runs) the attack no such setting.
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

    The perturbation is foolbox's, not pulled back to the boundary. The paper attacks a decision between two
    superclasses: give :func:`harmonizer.attacks.minimal_radius` one.

    Reference:
        Feng, Linsley et al. 2025 (ICLR Re-Align workshop), whose code has these defaults but for ``eps_max``, which is
        ours: theirs has no bound, and the largest mean radius of their table is 11.2. foolbox's defaults are gamma 0.05
        and no least step. Pintor et al. 2021 (arXiv 2102.12827).
    """
    settings = {"steps": steps, "gamma": gamma, "min_stepsize": min_stepsize, "max_stepsize": 1.0}
    attack = foolbox_attack("L2FMNAttack", as_found=True)
    return attack(net, images, labels, noise, eps_max=eps_max, **settings)


class _Exposed(nn.Module):
    """The model as a library may use it: parameters out of reach of ``backward``, passes counted.

    Attributes:
        unanswered: (n,) bool, which of the n images that the library attacks had logits that are not finite.
    """

    def __init__(self, net: Engine, images: int) -> None:
        super().__init__()
        self._net = [net]  # in a list: not a submodule's concern
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
        # A library may attack in batches of its own making: then nobody knows whose answers these are.
        self.unanswered |= undefined if len(images) == len(self.unanswered) else undefined.any()
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def _search(
    name: str, attack: Callable[..., Any], run: Callable[..., Tensor], *, as_found: bool = False
) -> Callable[..., Finding]:
    """Return an attack of ours that calls ``run`` with its settings, model, images and labels."""

    def search(
        net: Engine, images: Tensor, labels: Tensor, noise: Noise, *, eps_max: float = 10.0, **settings: object
    ) -> Finding:
        known = inspect.signature(attack).parameters
        for setting in settings:
            if setting not in known:
                raise ValueError(f"expected settings of {name} among {list(known)}, got {setting!r}")
        return _through_verdict(net, images, labels, partial(run, settings), eps_max, as_found=as_found)

    return search


def _through_verdict(
    net: Engine, images: Tensor, labels: Tensor, run: Run, eps_max: float, *, as_found: bool
) -> Finding:
    """Run a library's attack; ``as_found`` keeps its perturbations, which are else pulled back to the boundary."""
    everything = torch.arange(len(images), device=images.device)
    clean, gradient = net.start(images, everything, margin_of(labels))
    best, attacked = Best(images, labels, clean), images.clone()
    correct = (status_before(clean, labels) == Status.CENSORED).nonzero()[:, 0]
    for rows in torch.split(correct, net.batch_size or max(len(correct), 1)):
        if not len(rows):
            continue
        exposed = _Exposed(net, len(rows))
        found = run(exposed, images[rows].contiguous(), labels[rows]).detach().to(images.dtype)
        # Libraries attack in batches of their own making: an image's passes are the batch's mean, rounded up.
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
    """Put the library's images (B,3,H,W) in place of a finding's, where those fool; ``correct`` rows were attacked."""
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
