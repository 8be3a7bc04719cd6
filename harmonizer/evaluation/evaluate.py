"""Measure a model in Python: ``harmonizer.evaluate``."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.attacks.engine import frozen
from harmonizer.cli.console import Bars
from harmonizer.data.batch import Batch
from harmonizer.data.convert.readers.record import Stack
from harmonizer.data.datamodule import ShardData
from harmonizer.data.direct.folder import Reading
from harmonizer.data.human_map import Method
from harmonizer.data.transforms import stretched
from harmonizer.evaluation.checkpoint import check_own_classes
from harmonizer.evaluation.decision import CLASSES
from harmonizer.evaluation.examples import stack_examples
from harmonizer.evaluation.images import Images, images_of
from harmonizer.evaluation.load import device_of, load
from harmonizer.evaluation.masking import MaskingReport
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.results import Results
from harmonizer.evaluation.summary import Outcome, Protocol, assemble
from harmonizer.models import Architecture, PixelModel
from harmonizer.models.logits import Caller
from harmonizer.models.trial import warn_of_probabilities
from harmonizer.results.categories import ANIMATE
from harmonizer.results.families import guess_family
from harmonizer.statistics import Status

FENG = "feng2025"  # attack of a paper with its own decision, score and image preparation


def evaluate(
    model: nn.Module | str | Path,
    data: Any,  # noqa: ANN401 - see below
    *,
    attack: str = "ddn",
    images: int | None = None,
    label: str | None = None,
    health: int = 0,
    decision: str | None = None,
    categories: str | Path | None = None,
    scores: Sequence[str] = (),
    progress: bool = True,
    maps: str | Path | None = None,
    classes: str | int | None = None,
    prepare: Method | None = None,
    stack: Stack | None = None,
    **settings: Any,  # noqa: ANN401 - the attack's own
) -> Results:
    """Measure accuracy, perturbation tolerance, adversarial and feature alignment of a model.

    The rows equal those of ``evaluate.py`` on the same images. For the attack ``feng2025``, each image is stretched to
    its own minimum and maximum, as in its paper; size and crop are those of the data.

    Args:
        model: Model that takes images in [0,1], on any device; or a name for :func:`load`.
        data: ``(images, labels)`` or ``(images, labels, maps)``: tensors or arrays (N,3,H,W) in [0,1], (N,) and
            (N,H,W); an iterable of such batches, for example a DataLoader; ``"demo"``; a folder of shards; or images
            without shards: class folders, a CSV table, or a Hugging Face dataset. A map of zeros counts as no map.
        attack: Name of an attack; see :func:`harmonizer.minimal_radius`.
        images: Number of images to attack, the first ones; None takes all. Accuracy is over all images, but an iterable
            is not read beyond the attacked ones.
        label: Name in tables and figures; None takes the model's.
        health: Most correctly classified images whose gradients are examined for masking, at a tenth of the attacks'
            cost or less; 0 makes no report.
        decision: Decision that the attack has to change: ``"classes"``, or ``"animate"``, whether the image shows
            something animate. None is ``"animate"`` for ``feng2025``, as in its paper, else ``"classes"``.
        categories: Table of the classes' categories, for ``"animate"`` and classes other than ImageNet's.
        scores: Names of further alignment scores (:mod:`harmonizer.evaluation.alignments`); ``feng2025`` adds its own.
        progress: Show a progress bar.
        maps: Folder of human maps for images without shards; None looks next to the images.
        classes: Classes of such images: ``"imagenet"``, a number or a file of names; None takes the names of folders or
            labels.
        prepare: Preparation of their maps: ``"fel2022"``, ``"gaussian"`` or ``"none"``; None takes fel2022 for maps of
            ClickMe's sizes, and none for others.
        stack: Meaning of stacks of maps: ``"participants"``, ``"thresholds"`` or ``"mean"``.
        settings: Settings of the attack, for example ``eps_max``.

    Raises:
        TypeError: The data have another type.
        ValueError: The attack, the model or the data are unusable.

    >>> from harmonizer import wrap
    >>> model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), size=4)
    >>> results = evaluate(model, (torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 2, 0])), attack="pgd", progress=False)
    >>> [row.key for row in results.rows]
    ['0', '1', '2', '3']
    """
    if images is not None and images < 1:
        raise ValueError(f"expected images >= 1, got {images}")
    network = load(model) if isinstance(model, str | Path) else model
    protocol = Protocol(
        attack,
        dict(settings),
        images,
        decision or (ANIMATE if attack == FENG else CLASSES),
        None if categories is None else str(categories),
        (*scores, *[FENG] * (attack == FENG)),
    )
    source = images_of(data, network, Reading(maps, classes, prepare, stack))
    run = _Run(network, protocol, health, source)
    if source.shards is not None:
        run.check_classes(source.shards)
    total = source.total if images is None else min(images, source.total or images)
    start = time.monotonic()
    with Bars(shown=progress) as bars:
        task = bars.task("image")
        for batch in source.batches:
            run.take(batch, lambda done: task.update(f"attacked {done}/{total} images", done, total or done))
            if images is not None and len(run.found.rows) >= images and source.total is None:
                break
    found, rows = run.found, list(run.found.rows.values())
    report = None if found.masking is None else found.masking.make(network, rows, lambda done, total: None)
    if not rows:
        raise ValueError("expected at least one image, got none")
    outcome = Outcome(rows, run.right / run.count, found.eps_max, health=report, seconds=time.monotonic() - start)
    summary = _summary(network, label, source, run, outcome)
    shown = summary["model"]["label"]
    return Results(Path(shown), summary, rows, stack_examples(network, found.examples, run.device) or {})


class _Run:
    """The state of an evaluation."""

    def __init__(self, model: nn.Module, protocol: Protocol, health: int, source: Images) -> None:
        self.model, self.device, self.source = model, device_of(model), source
        eps_max = float(protocol.settings.get("eps_max", 10.0))
        self.found = Progress(protocol, source.total or 0, eps_max=eps_max)
        self.found.masking = MaskingReport(health) if health else None
        self.right = self.count = self.side = 0
        self.stretch = protocol.attack == FENG

    def check_classes(self, data: ShardData) -> None:
        """Check that the data have the model's classes, as far as these are known.

        Raises:
            ValueError: The number, the names or the order of the classes differ.
        """
        own = self._logits(torch.zeros(1, 3, data.image_size, data.image_size, device=self.device)).shape[1]
        if own != len(data.classes):
            raise ValueError(
                f"expected as many classes as the model has, {own}, got {len(data.classes)} in {data.val} "
                f"({', '.join(data.classes[:4])}, ...)"
                + "; try classes=FILE with the model's, one name per line"
                * data.is_direct
            )
        architecture = getattr(self.model, "architecture", None)
        if isinstance(architecture, Architecture):
            check_own_classes(architecture.name, architecture, data.classes)

    def take(self, batch: Batch, show: Callable[[int], None]) -> None:
        """Measure a batch: attack images until there are enough, and classify the rest."""
        moved = (value.to(self.device) if isinstance(value, Tensor) else value for value in batch)
        batch = Batch(*moved)  # type: ignore[arg-type]
        if self.stretch:
            batch = batch._replace(images=stretched(batch.images))
        found, images, shards = self.found, self.found.protocol.images, self.source.shards
        chosen = batch.part(0, len(batch.labels) if images is None else max(images - len(found.rows), 0))
        self.side = batch.images.shape[-1]
        if not found.rows:
            logits = self._logits(batch.images[:2])
            warn_of_probabilities(logits, type(self.model).__name__)
            found.prepare(shards.classes if shards else tuple(map(str, range(logits.shape[1]))), shards)
        if twice := [key for i, key in enumerate(chosen.keys) if key in found.rows or key in chosen.keys[:i]]:
            raise ValueError(f"two images are named {twice[0]!r}; expected each name once")
        for part, rows in found.measure(self.model, chosen, self.device, show):
            self.source.seen(part)
            self._count(torch.tensor([row.status != Status.WRONG for row in rows]))
        rest = batch.part(len(chosen.labels), len(batch.labels))
        if len(rest.labels) and self.source.total is not None:
            self._count(self._logits(rest.images).argmax(1) == rest.labels)

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (B,K) of images (B,3,H,W), in evaluation mode."""
        with frozen(self.model, self.device, 0), torch.no_grad():
            return Caller(self.model)(images)

    def _count(self, right: Tensor) -> None:
        self.right += int(right.sum())
        self.count += len(right)


def _summary(model: nn.Module, label: str | None, source: Images, run: _Run, outcome: Outcome) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    architecture = model.architecture if isinstance(model, PixelModel) else None
    inner = model.backbone if isinstance(model, PixelModel) else model
    name = architecture.shown if architecture is not None else type(inner).__name__
    shards, found = source.shards, run.found
    return assemble(
        outcome,
        model,
        shards,
        model={
            "name": name,
            "label": label or name,
            "family": guess_family(name),
            **(Architecture("factory", name) if architecture is None else architecture).described_head(),
            "pretrained": False,
            "checkpoint": None,
            "input_size": run.side,
            **(shards.eval_transform.geometry() if shards else {}),
        },
        training=None,
        images={"name": source.name, "manifest_sha256": source.digest, "samples": run.count},
        protocol=found.protocol.described(
            found.decision,
            stretch=run.stretch,
            images=len(outcome.rows),
            digest=source.digest,
            repeated_keys=bool(shards and shards.manifest.repeated_keys),
        ),
        scores=found.protocol.scores,
        device=run.device,
    )
