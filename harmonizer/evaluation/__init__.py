"""Evaluation as a function: from a model and images to rows, scores and a summary; no Trainer is needed."""
