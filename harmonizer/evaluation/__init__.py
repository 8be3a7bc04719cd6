"""Evaluation as a function: from a model and images to rows, scores and a summary; no Trainer is needed."""

from harmonizer.evaluation.measure import measure_batch
from harmonizer.evaluation.scores import scores_of

__all__ = ["measure_batch", "scores_of"]
