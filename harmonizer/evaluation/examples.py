"""Examples of an evaluation: the first fooled images with a human map."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from harmonizer.attacks import AttackResult
from harmonizer.data.batch import Batch
from harmonizer.models import evaluation_saliency
from harmonizer.report.tables import one_line
from harmonizer.results import Row
from harmonizer.statistics import Status

EXAMPLES = 8  # number of attacked images to keep
Examples = dict[str, dict[str, Any]]
"""By key: image (3,H,W), human map (H,W), adversarial (3,H,W), on the CPU, and label."""


def keep_examples(kept: Examples, batch: Batch, result: AttackResult) -> None:
    """Add fooled images of a batch that have a map, until there are enough."""
    counts = (result.status == Status.FOUND) & batch.has_map
    for i in counts.nonzero()[:, 0].tolist()[: max(EXAMPLES - len(kept), 0)]:
        arrays = {"image": batch.images, "human": batch.human_map, "adversarial": result.adversarial}
        example = {name: array[i].float().cpu() for name, array in arrays.items()}
        kept[batch.keys[i]] = example | {"label": int(batch.labels[i])}


def stack_examples(
    model: nn.Module,
    kept: Mapping[str, Mapping[str, Any]],
    device: torch.device,
    *,
    rows: Mapping[str, Row] = MappingProxyType({}),
    classes: Sequence[str] = (),
) -> dict[str, np.ndarray] | None:
    """Return the examples as arrays for :func:`harmonizer.results.write_results`, with the model's saliency.

    Args:
        model: Attacked model.
        kept: Examples by key.
        device: Device of the model.
        rows: Rows of the examples by key; needed with ``classes``.
        classes: Class names, to add the classes of the examples before and after the attack.
    """
    if not kept:
        return None
    arrays = {name: torch.stack([e[name] for e in kept.values()]) for name in ("image", "human", "adversarial")}
    labels = torch.tensor([example["label"] for example in kept.values()])
    arrays["saliency"] = evaluation_saliency(model, arrays["image"].to(device), labels.to(device)).cpu()
    indices = {name: [getattr(rows[key], name) for key in kept] for name in ("label", "prediction") if classes}
    names = {name: np.array([one_line(classes[index]) for index in own]) for name, own in indices.items()}
    return {"keys": np.array(list(kept)), **names, **{name: array.numpy() for name, array in arrays.items()}}
