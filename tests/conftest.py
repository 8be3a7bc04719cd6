"""Settings of all tests: one thread, and the import path."""

import os
import sys
from pathlib import Path

# One thread, also in the processes that tests start: sums over several threads round differently.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # test helpers; train.py
torch.set_num_threads(1)  # small tensors: more threads only wait for each other

if "PYTEST_XDIST_WORKER" in os.environ:
    import programs

    programs.serve()  # before a test that converts with several workers, or changes the environment
