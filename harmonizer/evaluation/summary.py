"""The protocol of an evaluation and the summary of its results."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

import harmonizer
from harmonizer.attacks import Decision, check_attack
from harmonizer.data.datamodule import ShardData
from harmonizer.evaluation.alignments import check_scores
from harmonizer.evaluation.decision import CLASSES, check_decision, decision_digest, decision_of, protocol_name
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.scores import agreement_of, alignment_of, scores_by_name
from harmonizer.fast import fast
from harmonizer.files import file_sha256
from harmonizer.models import resolve, weights_digest
from harmonizer.models.weights import weights_file
from harmonizer.results import COLUMNS, VERSION, Row, creation_time, protocol_hash
from harmonizer.results.families import guess_family, trained_family
from harmonizer.statistics import (
    AS_PUBLISHED,
    BOUND,
    BUDGETS,
    as_published_summary,
    mean_summary,
    proportion,
    robust_accuracy,
    survival,
    tolerance_summary,
)
from harmonizer.training.module import HarmonizerModule

# Points of the survival curve from 0 to the attack's largest radius, and more points at the radii of ordinary networks
# (the median of a pretrained EfficientNet-Lite0 is near 0.08). Both are ours: the papers show no curve.
RADII = 101
SMALL_RADII = np.linspace(0, 0.5, 51)
OF_MODEL = ("model", "classes", "pretrained")  # training settings that describe the model itself


@dataclass(frozen=True)
class Protocol:
    """The protocol of a measurement.

    Raises:
        ValueError: The attack, a setting, the decision or a score is unknown.
        ImportError: The attack's library is not installed.
    """

    attack: str  # name of the attack
    settings: Mapping[str, Any]  # settings of the attack
    images: int | None = None  # number of images, the first of the validation split; None takes all
    decision: str = CLASSES  # decision that the attack has to change: `"classes"` or `"animate"`
    categories: str | None = None  # table of the classes' categories, for `"animate"`
    scores: tuple[str, ...] = ()  # names of further alignment scores

    def __post_init__(self) -> None:
        check_attack(self.attack, self.settings)
        check_decision(self.decision)
        object.__setattr__(self, "scores", check_scores(self.scores))

    @property
    def name(self) -> str:
        """The name of attack and decision in results."""
        return protocol_name(self.attack, self.decision)

    def decide(self, classes: Sequence[str]) -> Decision | None:
        """Return the decision over the data's classes; None decides between the classes."""
        return decision_of(self.decision, classes, self.categories)

    def described(
        self, decision: Decision | None, *, stretch: bool, images: int, digest: str, repeated_keys: bool
    ) -> dict[str, Any]:
        """Return the protocol as a summary has it, without ``eps_max``; ``digest`` identifies the data."""
        named = {} if decision is None else {"decision": decision.name, "decision_sha256": decision_digest(decision)}
        return {
            "attack": self.attack,
            "settings": dict(self.settings),
            **named,
            **({"stretch": True} if stretch else {}),
            "images": images,
            "data": digest,
            **({"sample_names": "SHARD/KEY"} if repeated_keys else {}),  # seeds depend on names
        }

    def count(self, data: ShardData) -> int:
        """Return the number of images to measure."""
        samples = data.manifest.samples
        return samples if self.images is None else min(self.images, samples)


@dataclass(frozen=True)
class Outcome:
    """The outcome of an evaluation, over all processes."""

    rows: Sequence[Row]  # one row per image, sorted by key
    accuracy: float  # accuracy on all samples
    eps_max: float  # largest radius that the attack searched
    skipped: int = 0  # number of damaged samples that were skipped
    health: Mapping[str, Any] | None = None  # gradient-masking report, as plain values; None if there is none
    seconds: float = 0.0  # duration of the measurement


def summarise(
    outcome: Outcome,
    module: HarmonizerModule,
    data: ShardData,
    *,
    protocol: Protocol,
    spec: ModelSpec,
    data_name: str,
    family: str | None,
) -> dict[str, Any]:
    """Assemble ``summary.json`` of evaluate.py.

    Args:
        outcome: Outcome of the evaluation.
        module: Measured module.
        data: Data of the measurement.
        protocol: Protocol of the measurement.
        spec: Specification of the model.
        data_name: Name of the data set.
        family: Family of the model; None derives it from the training settings or the name.
    """
    settings, trained, manifest = module.hparams, spec.checkpoint is not None, data.manifest
    request = request_of(spec, data, protocol)
    built = module.model.architecture or resolve(spec.source)
    return assemble(
        outcome,
        module.model,
        data,
        model=request["model"]
        | {
            "label": spec.label,
            "family": family or (trained_family(settings) if trained else guess_family(built.name)),
            **built.described_head(),
            "pretrained": settings["pretrained"],
            "checkpoint": spec.checkpoint.name if spec.checkpoint else None,
        },
        training={name: settings[name] for name in settings if name not in OF_MODEL} if trained else None,
        images={"name": data_name, "manifest_sha256": manifest.digest(), "samples": manifest.samples},
        protocol=request["protocol"],
        scores=protocol.scores,
        device=module.device,
    )


def assemble(
    outcome: Outcome,
    network: nn.Module,
    data: ShardData | None,
    *,
    model: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    images: Mapping[str, Any],
    protocol: Mapping[str, Any],
    scores: Sequence[str],
    device: torch.device,
) -> dict[str, Any]:
    """Assemble ``summary.json``; see :mod:`harmonizer.results.schema`.

    Args:
        outcome: Rows and health report.
        network: Measured network.
        data: Data module of the images; None for images that were given as tensors.
        model: Name, label and settings of the model.
        training: Training settings; None for a model that was not trained here.
        images: Name, digest and number of the images.
        protocol: The protocol, without ``eps_max``; see :meth:`Protocol.described`.
        scores: Names of the rows' further alignment scores.
        device: Device of the network.
    """
    rows, eps_max = outcome.rows, outcome.eps_max
    status, radius = [row.status for row in rows], [row.l2 for row in rows]
    measured = images["samples"] - outcome.skipped
    ceilings, agreement = (data.manifest.ceilings, agreement_of(data)) if data else (None, None)
    asked = dict(protocol) | {"eps_max": eps_max}
    return {
        "version": VERSION,
        "model": {
            **model,
            "weights_sha256": weights_digest(network),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        },
        "training": training,
        "data": {
            **images,
            "skipped": outcome.skipped,
            "classes": len(data.classes) if data else 1 + max(row.label for row in rows),
        },
        "protocol": asked | {"hash": protocol_hash(asked)},
        "accuracy": proportion(round(outcome.accuracy * measured), measured),
        "tolerance": tolerance_summary(status, radius, eps_max=eps_max),
        "survival": survival(status, radius, survival_radii(eps_max)),
        "robust_accuracy": {"label": BOUND, "budgets": robust_accuracy(status, radius, eps_max=eps_max)},
        "alignment_by_mask": _by_mask(rows),
        "as_published": _replay(asked, rows),
        "adversarial_alignment": alignment_of([row for row in rows if row.aligned], "alignment", ceilings),
        "feature_alignment": alignment_of([row for row in rows if row.has_map], "feature_alignment", ceilings),
        **({"scores": scores_by_name(rows, scores, ceilings, agreement)} if scores else {}),
        "health": outcome.health,
        "cost": {
            "forwards": sum(row.forwards for row in rows),
            "backwards": sum(row.backwards for row in rows),
            "seconds": outcome.seconds,
        },
        "software": {
            "harmonizer": harmonizer.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            **{name: version(name) for name in ("timm", "lightning")},
            "python": platform.python_version(),
        },
        "device": device_name(device),
        "fast": fast.mode,
        "created": creation_time(),
    }


def survival_radii(eps_max: float) -> NDArray[np.float64]:
    """Return the radii of the survival curve in ascending order, including the budgets of robust accuracy.

    >>> survival_radii(0.2).size, float(survival_radii(0.2).max())
    (101, 0.2)
    """
    radii = np.concatenate([np.linspace(0, eps_max, RADII), SMALL_RADII, BUDGETS])
    return np.unique(radii[radii <= eps_max].round(12))


def request_of(spec: ModelSpec, data: ShardData, protocol: Protocol) -> dict[str, Any]:
    """Return the settings that decide the numbers: the protocol, and the model with its image preparation.

    The input size belongs to the model, so that models of different sizes share a protocol.
    """
    transform, path, manifest = data.eval_transform, spec.checkpoint, data.manifest
    return {
        "protocol": protocol.described(
            protocol.decide(manifest.classes),
            stretch=transform.stretch,
            images=protocol.count(data),
            digest=manifest.digest(),
            repeated_keys=manifest.repeated_keys,
        ),
        "model": {
            "name": spec.model,
            "checkpoint_sha256": None if path is None else file_sha256(path),
            "weights": "ema" if spec.ema else "raw",
            **({"weights_file_sha256": file_sha256(weights_file(spec.weights))} if spec.weights else {}),
            **{name: list(value) for name, value in (("mean", spec.mean), ("std", spec.std)) if value is not None},
            "seed": spec.seed,
            **spec.head(data),
            **({"model_args": dict(spec.model_args)} if spec.model_args else {}),
            "input_size": data.image_size,
            **({} if data.image_size == spec.image_size else {"interpolated_to": spec.image_size}),
            **transform.geometry(),
        },
    }


def _by_mask(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean adversarial alignment under each mask other than the published one."""
    columns = [name for name in COLUMNS if name.startswith("alignment_")]
    aligned = [row for row in rows if row.aligned]
    return {name.removeprefix("alignment_"): mean_summary([getattr(row, name) for row in aligned]) for name in columns}


def _replay(protocol: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return the averages of a replay of the published protocol, with a warning; None for other attacks."""
    if protocol["attack"] != AS_PUBLISHED or "decision" in protocol:
        return None
    status, radius, label = ([getattr(row, name) for row in rows] for name in ("status", "l2", "label"))
    never = protocol["settings"].get("never_fooled", "dropped")
    average = as_published_summary(status, radius, label, never_fooled=never)
    return {"warning": "a replay of a protocol with known defects: not a measurement", "tolerance": average}


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
