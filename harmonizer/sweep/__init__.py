"""Measure many models one after another, in as many processes as there are devices; interrupted, it goes on.

Several processes (of one machine, or tasks of a SLURM array) may sweep one list into one results folder: each takes the
next model that no other one holds. What was measured under the same protocol is passed over, what was half measured
goes on at the image, and a model that fails is recorded with its reason.
"""

from harmonizer.sweep.models import Entry, read_models
from harmonizer.sweep.sweep import run_sweep

__all__ = ["Entry", "read_models", "run_sweep"]
