"""Shared fixtures; small shards are made here, nothing is downloaded."""

import os
import sys
from pathlib import Path

# One thread, also in the processes that tests start: sums of several threads round differently.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # helpers; train.py
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
