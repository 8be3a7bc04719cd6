from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden" / "attack.npz"


class GoldenNet(nn.Module):
    """The small network for which results of the published protocol were recorded."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 5, stride=2)
        self.conv2 = nn.Conv2d(12, 16, 3)
        self.fc = nn.Linear(16, 10)

    def forward(self, images):
        return self.fc(self.conv2(self.conv1(images).tanh()).tanh().mean((2, 3)))


@pytest.fixture(scope="session")
def golden():
    with np.load(GOLDEN) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture
def seen(golden_net):
    """Image counts of the small network's forward and backward passes, from hooks."""
    seen = {"forward": 0, "backward": 0}

    def count(module, inputs, output):
        seen["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.__setitem__("backward", seen["backward"] + len(gradient)))

    golden_net.register_forward_hook(count)
    return seen


@pytest.fixture
def golden_net(golden):
    net = GoldenNet()
    net.load_state_dict({name[8:]: golden[name] for name in golden if name.startswith("weights.")})
    return net
