"""User-defined networks, named in tests as ``tests/models/own_nets.py:Net``."""

from torch import nn


class Net(nn.Module):
    """A small network with the attributes that describe its input: mean, std and size."""

    mean, std, size = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1), 32

    def __init__(self, num_classes=3, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.net(images).mean((2, 3)))


class Output:
    """An output like those of transformers' models."""

    def __init__(self, logits):
        self.logits = logits


class Transformers(Net):
    def forward(self, images):
        return Output(super().forward(images))


def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))


def probabilities(num_classes=3):
    return nn.Sequential(Net(num_classes), nn.Softmax(1))


def raises():
    raise RuntimeError("no weights.pt here\nand a second line")


def number():
    return 3


def needs(width):
    return Net(width=width)


def unsized():
    return Net()


for function in (fixed, probabilities, raises, number, needs):
    function.size = 32
