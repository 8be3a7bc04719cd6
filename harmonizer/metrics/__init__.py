"""torchmetrics accumulators of the scores: accuracy, perturbation tolerance, adversarial and feature alignment."""

from harmonizer.metrics.accuracy import Accuracy, ErrorConsistency
from harmonizer.metrics.alignment import AdversarialAlignment, FeatureAlignment
from harmonizer.metrics.tolerance import PerturbationTolerance

__all__ = ["Accuracy", "AdversarialAlignment", "ErrorConsistency", "FeatureAlignment", "PerturbationTolerance"]
