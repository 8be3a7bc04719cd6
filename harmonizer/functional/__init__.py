"""Pure tensor mathematics: saliency, pyramid, harmonizer loss, attack maps and map agreement."""

from harmonizer.functional.agreement import dice, iou, spearman
from harmonizer.functional.levels import LEVEL_METRICS
from harmonizer.functional.loss import harmonizer_loss
from harmonizer.functional.pyramid import gaussian_pyramid
from harmonizer.functional.saliency import MASKS, attack_map, input_saliency, standardize_cut

__all__ = [
    "LEVEL_METRICS",
    "MASKS",
    "attack_map",
    "dice",
    "gaussian_pyramid",
    "harmonizer_loss",
    "input_saliency",
    "iou",
    "spearman",
    "standardize_cut",
]
