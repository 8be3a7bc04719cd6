"""Fixtures of the security tests."""

import pytest
from shard_data import CLASSES

from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module")
def content():
    module = HarmonizerModule("test_resnet", CLASSES, 32, seed=5)
    settings = dict(module.hparams)
    return {"state_dict": module.state_dict(), "hyper_parameters": settings, "global_step": 1}
