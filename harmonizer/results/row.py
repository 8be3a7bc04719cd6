"""The outcome of one image: a row of ``images.csv``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harmonizer.statistics import Status

_KEPT = {"column": False}  # used during an evaluation, not written
_ASKED = {"column": "asked"}  # written on request


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The outcome of one image; its fields are the columns of ``images.csv``, in this order.

    The scores from ``feng2025`` on are columns only on request (``EXTRA``).
    """

    key: str  # the sample's name in its data set
    label: int  # class
    prediction: int  # predicted class of the adversarial image, or of the clean image without one
    status: Status  # outcome of the attack
    eps: float = math.nan  # budget at which the attack fooled the model; like the next three, NaN unless found
    l2: float = math.nan  # L2 norm of the perturbation in [0,1] pixel units
    rms: float = math.nan  # `l2 / sqrt(3 H W)`
    linf: float = math.nan  # largest absolute difference
    alignment: float = math.nan  # Spearman correlation of attack map and human map; NaN unless found and with a map
    feature_alignment: float = math.nan  # Spearman correlation of saliency and human map; NaN without a map
    forwards: int = 0  # forward passes of the attack
    backwards: int = 0  # backward passes of the attack
    # like `alignment`, with another reduction of the perturbation's channels; see `attack_map`
    alignment_mean_of_abs: float = math.nan
    alignment_max_of_abs: float = math.nan
    alignment_l2: float = math.nan
    # like `alignment`, with the absolute value of the largest channel
    feng2025: float = field(default=math.nan, metadata=_ASKED)
    # Spearman correlation of the predicted class's blurred saliency with the human map
    onevision2026: float = field(default=math.nan, metadata=_ASKED)
    # like `onevision2026`, on as many pixels as people marked
    onevision2026_topk: float = field(default=math.nan, metadata=_ASKED)
    # like `onevision2026`, with the human map of an image of another class
    onevision2026_null: float = field(default=math.nan, metadata=_ASKED)
    has_map: bool = field(default=False, metadata=_KEPT)  # the image has a human map; not a column
    # Dice of the top pixels of saliency and human map; not a column
    dice: float = field(default=math.nan, metadata=_KEPT)
    iou: float = field(default=math.nan, metadata=_KEPT)  # their intersection over union; not a column

    @property
    def aligned(self) -> bool:
        """Whether adversarial alignment is over this image: found, and with a human map."""
        return self.status == Status.FOUND and self.has_map


COLUMNS: Mapping[str, Any] = {each.name: each.type for each in fields(Row) if not each.metadata}
EXTRA = tuple(each.name for each in fields(Row) if each.metadata == _ASKED)
ADDED = ("alignment_mean_of_abs", "alignment_max_of_abs", "alignment_l2")  # missing in older tables
RADIUS = "l2"  # the column of perturbation tolerance
