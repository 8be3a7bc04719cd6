"""Measure a batch of images, one row per image."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from harmonizer.attacks import AttackResult, Decision, minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.evaluation.alignments import OF_PREDICTION, OtherMaps, predicted_scores
from harmonizer.functional import MASKS, attack_map, dice, iou, spearman
from harmonizer.models import evaluation_saliencies, evaluation_saliency
from harmonizer.results import Row
from harmonizer.statistics import Status

PUBLISHED_MASK = "abs_of_mean"  # mask of column ``alignment``
ON_CPU = 32  # images per attack on a CPU, which gains nothing from more


def measure_batch(
    model: nn.Module,
    batch: Batch,
    attack: str = "ddn",
    *,
    decision: Decision | None = None,
    scores: Sequence[str] = (),
    others: OtherMaps | None = None,
    known: Sequence[Row] | None = None,
    on_attack: Callable[[AttackResult], None] | None = None,
    **settings: object,
) -> list[Row]:
    """Attack images, compare attack maps and saliency with human maps, and return one row per image.

    Args:
        model: Maps images (B,3,H,W) in [0,1] to logits (B,K).
        batch: B images; :meth:`harmonizer.data.batch.Batch.of` makes one of tensors.
        attack: Name of an attack; see :func:`harmonizer.attacks.minimal_radius`.
        decision: Decision between superclasses; None decides between the classes.
        scores: Names of further scores (:mod:`harmonizer.evaluation.alignments`); columns of other scores are NaN.
        others: Human maps for ``onevision2026_null``; None takes those of the batch.
        known: B rows of an earlier measurement; the images are then not attacked again.
        on_attack: Function that gets the attack's result.
        settings: Settings of the attack.

    Returns:
        B rows, in the order of the batch.

    Raises:
        ValueError: The attack, a setting or the model is unusable.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    >>> rows = measure_batch(model, Batch.of(torch.rand(2, 3, 4, 4), torch.tensor([0, 1])), "pgd")
    >>> [row.key for row in rows]
    ['0', '1']
    """
    if known is None:
        result = minimal_radius(
            model,
            batch.images,
            batch.labels,
            attack=attack,
            decision=decision,
            keys=batch.keys,
            **settings,  # type: ignore[arg-type]
        )
        if on_attack is not None:
            on_attack(result)
        rows = _attack_rows(batch, result, scores)
    else:
        rows = [replace(row, has_map=has_map) for row, has_map in zip(known, batch.has_map.tolist(), strict=True)]
    if not set(scores) & set(OF_PREDICTION):
        return _with_saliency(rows, batch, evaluation_saliency(model, batch.images, batch.labels))
    true, predicted = evaluation_saliencies(model, batch.images, batch.labels)
    others = OtherMaps.of(batch) if others is None else others
    found = {name: values.tolist() for name, values in predicted_scores(scores, predicted, batch, others).items()}
    rows = [replace(row, **{name: values[i] for name, values in found.items()}) for i, row in enumerate(rows)]
    return _with_saliency(rows, batch, true)


def images_at_once(device: torch.device, count: int) -> int:
    """Return the number of images to attack in one call, of ``count`` images; at least 1."""
    return ON_CPU if device.type == "cpu" else max(count, 1)


def _attack_rows(batch: Batch, result: AttackResult, scores: Sequence[str]) -> list[Row]:
    """Return the rows of an attack's result, without the saliency's columns."""
    counts = (result.status == Status.FOUND) & batch.has_map
    columns = {name: getattr(result, name) for name in ("prediction", "eps", "l2", "linf", "forwards", "backwards")}
    columns |= {"label": batch.labels, "has_map": batch.has_map, "rms": result.l2 * batch.images[0].numel() ** -0.5}
    for mask in MASKS:
        name = "alignment" if mask == PUBLISHED_MASK else f"alignment_{mask}"
        columns[name] = _correlation(batch, attack_map(result.adversarial, batch.images, mask=mask), counts)
    if "feng2025" in scores:
        columns["feng2025"] = _correlation(batch, (result.adversarial - batch.images).amax(1).abs(), counts)
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        Row(key=key, status=Status(status), **dict(zip(columns, row, strict=True)))
        for key, status, row in zip(batch.keys, result.status.tolist(), values, strict=True)
    ]


def _correlation(batch: Batch, maps: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) Spearman correlations of attack maps (B,H,W) with human maps; NaN where ``counts`` is false."""
    found = batch.images.new_full((len(batch.images),), torch.nan, dtype=torch.float64)
    found[counts] = spearman(maps[counts], batch.human_map[counts])
    return found


def _with_saliency(rows: Sequence[Row], batch: Batch, saliency: Tensor) -> list[Row]:
    """Add the agreement of the saliency (B,H,W) with the human maps."""
    counts = batch.has_map
    pair = saliency[counts], batch.human_map[counts]
    scores = {"feature_alignment": spearman(*pair), "dice": dice(*pair), "iou": iou(*pair)}
    values = iter(zip(*(score.tolist() for score in scores.values()), strict=True))
    return [
        replace(row, **dict(zip(scores, next(values), strict=True))) if mapped else row
        for row, mapped in zip(rows, counts.tolist(), strict=True)
    ]
