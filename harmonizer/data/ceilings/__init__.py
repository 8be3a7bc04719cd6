"""How well people agree on each image: the ceiling for a model's alignment, and the floor of mismatched images.

Two kinds, never mixed: ``split_half``, stepped up by Spearman-Brown, which the converter writes into the manifest; and
``clickme_v2``, as ClickMe's code of 2026 computes it, which ``python -m harmonizer.data.ceilings FOLDER`` writes.
"""

from harmonizer.data.ceilings.clickme_v2 import resampled_agreement
from harmonizer.data.ceilings.split_half import (
    CEILING_SPLITS,
    CeilingError,
    measure_ceilings,
    most_ceiling,
    split_half_reliability,
)

__all__ = [
    "CEILING_SPLITS",
    "CeilingError",
    "measure_ceilings",
    "most_ceiling",
    "resampled_agreement",
    "split_half_reliability",
]
