"""The entry point to all attacks: the smallest perturbation of each image that changes a model's prediction."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.attacks.ddn import ddn, ddn_full
from harmonizer.attacks.decision import Decision
from harmonizer.attacks.engine import Engine, frozen
from harmonizer.attacks.external import advlib_attack, feng2025, foolbox_attack
from harmonizer.attacks.linsley2023 import linsley2023
from harmonizer.attacks.linsley2023_as_published import linsley2023_as_published
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.pgd import pgd
from harmonizer.attacks.result import AttackResult, Finding, Status
from harmonizer.models.logits import Caller

Attack = Callable[..., Finding]
"""Maps (net, images, labels, noise), and its settings by keyword, to a finding."""

ATTACKS: Mapping[str, Attack] = {
    "linsley2023": linsley2023,
    "linsley2023_as_published": linsley2023_as_published,
    "pgd": pgd,
    "ddn": ddn,
    "ddn_full": ddn_full,
    "feng2025": feng2025,
}
KINDS = {int: "a whole number", float: "a number", str: "text"}  # kinds of settings, by the type of the default
LIBRARIES: Mapping[str, Callable[[str], Attack]] = {"foolbox": foolbox_attack, "advlib": advlib_attack}


def minimal_radius(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: str = "ddn",
    decision: Decision | None = None,
    keys: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
    amp: torch.dtype | None = None,
    **settings: Any,  # noqa: ANN401 - the attack's own keywords, checked against its signature
) -> AttackResult:
    """Find the smallest L2 perturbation of each image that makes the model misclassify it.

    The model is attacked in evaluation mode and in full precision, except for ``amp``; its modes, gradients and
    buffers and the global random state are restored. Works under ``no_grad`` and ``inference_mode``. An image's result
    does not depend on the other images of the call or on ``batch_size``, up to the rounding of the device's kernels.

    Args:
        model: Maps images (n,3,H,W) in [0,1] to logits (n,K), or to an output that
            :func:`harmonizer.models.logits.as_logits` accepts; includes its normalisation. Not wrapped by DDP. When
            only one of model and images is float64, the images are converted, with a logged warning.
        images: (B,3,H,W) float32 or float64 in [0,1], on the model's device.
        labels: (B,) int64 in [0,K).
        attack: ``"linsley2023"``, ``"pgd"``, ``"ddn"``, ``"ddn_full"``, ``"feng2025"``, or ``"foolbox:NAME"`` and
            ``"advlib:NAME"`` for the attacks of those libraries; ``"linsley2023_as_published"`` has the known defects
            of the published figures, for replays only.
        decision: Decision between superclasses to attack; None attacks that between the classes. The paper of
            ``"feng2025"`` decides between animate and inanimate classes.
        keys: B sample keys that seed each image's random numbers; None seeds them with the images' contents.
        batch_size: Most images in one pass; None chooses by device. Halved, with a logged warning, when memory runs
            out.
        progress: Called with (images finished, B).
        seed: Seed of all random numbers.
        amp: Lower-precision dtype for the gradients, such as ``torch.bfloat16``. Whether an image fools the model is
            always decided in full precision.
        **settings: Keywords of the attack, such as ``eps_max``.

    Returns:
        One row per image.

    Raises:
        TypeError: The model is not a module, or does not return logits.
        ValueError: An attack or setting is unknown, the tensors do not fit, or the model is in bfloat16 or half.
        ImportError: The attack's library is not installed.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False)).double()
    >>> _ = nn.init.constant_(model[1].weight[0], 1.0), nn.init.constant_(model[1].weight[1], 0.9)
    >>> result = minimal_radius(model, torch.full((1, 3, 2, 2), 0.5).double(), torch.tensor([1]), attack="linsley2023")
    >>> Status(result.status.item()).name
    'WRONG'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}; try a module whose forward calls it")
    search = _find(attack)
    _check_settings(attack, search, settings)
    _check_tensors(images, labels, keys, batch_size)
    whole = attack not in ATTACKS or search is feng2025  # a library attacks a model, not an engine
    decide = None
    if decision is not None and whole:
        classes = Caller(model)
        model, labels = decision.of(model), decision.labels(labels)
    elif decision is not None:
        decide = decision.against(labels)
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError("expected a model made outside torch.inference_mode(), whose parameters allow gradients")
    with frozen(model, images.device, seed):
        net = Engine(
            model,
            len(images),
            images.device,
            batch_size=batch_size,
            amp=amp,
            classes=int(labels.max()) + 1 if len(labels) else 1,
            progress=progress,
            decide=decide,
        )
        # A copy that is not an inference tensor.
        clean = images.detach().clone(memory_format=net.layout(images))
        finding = search(net, clean, labels.clone(), Noise(clean, keys, seed), **settings)
        net.report(1.0)
        found = finding.status == Status.FOUND
        adversarial = torch.where(found[:, None, None, None], finding.adversarial, clean).contiguous()
        offset = (adversarial.double() - clean.double()).flatten(1)
        prediction = finding.prediction
        if decision is not None and whole and len(images):
            with torch.no_grad():
                prediction = decision.classes(classes(adversarial.clone()), prediction)
        return AttackResult(
            status=finding.status,
            eps=torch.where(found, finding.eps, torch.nan),
            l2=torch.where(found, offset.norm(dim=1), torch.nan),
            linf=torch.where(found, offset.abs().amax(1), torch.nan),
            prediction=prediction,
            adversarial=adversarial,
            forwards=net.forwards,
            backwards=net.backwards,
            attack=attack,
            eps_max=finding.eps_max,
        )


def check_attack(attack: str, settings: Mapping[str, object]) -> None:
    """Check an attack's name and settings as :func:`minimal_radius` does, before there are images.

    Raises:
        ValueError: The attack or a setting is unknown. The settings of a library's attack are checked when it runs.
        ImportError: The attack's library is not installed.
    """
    _check_settings(attack, _find(attack), settings)


def _find(attack: str) -> Attack:
    if attack in ATTACKS:
        return ATTACKS[attack]
    library, _, name = attack.partition(":")
    if library in LIBRARIES and name:
        return LIBRARIES[library](name)
    nearest = difflib.get_close_matches(attack, ATTACKS, n=1, cutoff=0.0)[0]
    known = ", ".join([*ATTACKS, *(f"{library}:NAME" for library in LIBRARIES)])
    raise ValueError(f"expected an attack among {known}; got {attack!r}; try {nearest!r}")


def _check_settings(attack: str, search: Attack, settings: Mapping[str, object]) -> None:
    parameters = inspect.signature(search).parameters
    known = [name for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # checked when the library's attack runs
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"expected settings of {attack} among {known}, got {name!r}")
        kind = type(parameters[name].default)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise ValueError(f"expected {name} to be {KINDS[kind]}, got {value!r}")
        if not isinstance(value, str) and not value > 0:
            raise ValueError(f"expected {name} above 0, got {value!r}")


def _check_tensors(images: Tensor, labels: Tensor, keys: Sequence[str] | None, batch_size: int | None) -> None:
    if images.ndim == 4 and images.shape[3] == 3 != images.shape[1]:
        raise ValueError(
            f"expected images (B,3,H,W), got {tuple(images.shape)}, channels last; try images.permute(0, 3, 1, 2)"
        )
    if images.ndim != 4 or labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"expected images (B,C,H,W) and labels (B,) int64, got {tuple(images.shape)} and {tuple(labels.shape)} "
            f"{labels.dtype}"
        )
    if images.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"expected float32 or float64 images, got {images.dtype}; try images.float()")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("expected finite images in [0,1]; put the model's normalisation inside the model")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected batch_size at least 1 or None, got {batch_size}")
    if bool((labels < 0).any()):
        raise ValueError(f"expected labels in [0,K), got {int(labels.min())}")
    if keys is not None and len(keys) != len(images):
        raise ValueError(f"expected one key per image, got {len(keys)} keys for {len(images)} images")
