from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# An example's time limit says nothing on a busy machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="session")
def golden_clickme():
    """Values recorded from the published TensorFlow code."""
    with np.load(GOLDEN / "clickme.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def golden_tfrecord():
    """Five records of the public ClickMe layout, synthetic pictures."""
    return GOLDEN / "clickme_1.tfrecords"
