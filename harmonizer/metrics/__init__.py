"""torchmetrics accumulators of the scores: perturbation tolerance, adversarial and feature alignment."""

from harmonizer.metrics.alignment import AdversarialAlignment, FeatureAlignment
from harmonizer.metrics.tolerance import PerturbationTolerance

__all__ = ["AdversarialAlignment", "FeatureAlignment", "PerturbationTolerance"]
