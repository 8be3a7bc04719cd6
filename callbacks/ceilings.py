"""What people reach on the validation images: the data set's own ceilings, where its manifest has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from harmonizer.data.datamodule import ShardData
from harmonizer.data.manifest import Ceilings
from harmonizer.statistics import HUMAN_CEILING, alignment_summary


def data_ceilings(trainer: L.Trainer) -> Ceilings | None:
    """Return the ceilings of the trainer's validation data; None where nobody measured them."""
    data = getattr(trainer, "datamodule", None)
    return data.manifest.ceilings if isinstance(data, ShardData) else None


def image_ceilings(trainer: L.Trainer, keys: Sequence[str]) -> Tensor | None:
    """Return (B,) float64 ceilings of images, NaN where undefined; None where the published one stands in."""
    ceilings = data_ceilings(trainer)
    return None if ceilings is None else torch.tensor([ceilings.of(key) for key in keys], dtype=torch.float64)


def ceiling_source(trainer: L.Trainer) -> str:
    """Say in words which ceiling the scores are shares of."""
    ceilings = data_ceilings(trainer)
    if ceilings is None:
        return f"{HUMAN_CEILING}, as published (Linsley et al. 2023)"
    own = sum(value is not None for value in ceilings.per_image.values())
    return f"split-half reliability of these data ({own} images with their own, others {ceilings.overall})"


def alignment_of(trainer: L.Trainer, rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, Any]:
    """Summarise a column of rank correlations, one row an image, and say which ceiling it is a share of."""
    ceilings = data_ceilings(trainer)
    reached = None if ceilings is None else [ceilings.of(row["key"]) for row in rows]
    summary = alignment_summary([row[column] for row in rows], ceilings=reached)
    return summary | {"ceiling_source": ceiling_source(trainer)}
