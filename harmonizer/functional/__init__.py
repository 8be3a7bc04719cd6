"""Pure tensor mathematics: saliency, pyramid, harmonizer loss, attack maps and map agreement."""

from harmonizer.functional.agreement import dice, iou, spearman
from harmonizer.functional.loss import LevelMetric, harmonizer_loss, squared_error
from harmonizer.functional.maps import attack_map, input_saliency, standardize_cut
from harmonizer.functional.pyramid import gaussian_pyramid

__all__ = [
    "LevelMetric",
    "attack_map",
    "dice",
    "gaussian_pyramid",
    "harmonizer_loss",
    "input_saliency",
    "iou",
    "spearman",
    "squared_error",
    "standardize_cut",
]
