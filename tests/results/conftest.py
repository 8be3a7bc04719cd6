"""Fixtures for tests of results folders."""

import numpy as np
import pytest
from results_folder import rows, summary

from harmonizer.results import (
    write_results,
)


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    picture, plane = rng.random((2, 3, 8, 8), np.float32), rng.random((2, 8, 8), np.float32)
    return {"keys": np.array(["a,b", "c"]), "image": picture, "adversarial": picture, "human": plane, "saliency": plane}


@pytest.fixture
def folder(tmp_path, examples):
    write_results(tmp_path / "tiny", summary(), rows(), examples)
    return tmp_path / "tiny"
