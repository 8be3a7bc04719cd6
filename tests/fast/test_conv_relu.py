"""ReLUs computed in place after convolutions, compared with the same layers run one by one."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from harmonizer.fast.cpu.conv_relu import sequences
from harmonizer.fast.first_order import input_gradient_mode
from harmonizer.fast.patch import patched_forward


def conv(inputs, outputs, *arguments, **settings):
    return nn.Conv2d(inputs, outputs, *arguments, **settings)


NETWORKS = {
    "small": lambda: [conv(3, 8, 3, 1, 1), nn.ReLU(), conv(8, 16, 3, 2, 1), nn.ReLU(), conv(16, 8, 3), nn.ReLU()],
    "in place": lambda: [conv(3, 8, 3), nn.ReLU(inplace=True), conv(8, 8, 3), nn.ReLU(inplace=True)],
    "last one bare": lambda: [conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3), nn.Hardswish(inplace=True)],
    "two bare": lambda: [conv(3, 8, 3), conv(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2)],
    "between others": lambda: [nn.BatchNorm2d(3), conv(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), conv(8, 4, 3), nn.ReLU()],
    "grouped and dilated": lambda: [conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=4, dilation=2), nn.ReLU()],
    "without bias": lambda: [conv(3, 8, 1, bias=False), nn.ReLU(), conv(8, 3, 1), nn.ReLU(), conv(3, 4, 3), nn.ReLU()],
    "ReLUs in a row": lambda: [nn.ReLU(), conv(3, 8, 3), nn.ReLU(), nn.ReLU(), conv(8, 8, 3), nn.ReLU()],
    "five by five, stride 2": lambda: [conv(3, 8, 5, 2, 2), nn.ReLU(), conv(8, 8, 5, 1, 2), nn.ReLU()],
    "patches": lambda: [conv(3, 8, 4, 4), nn.ReLU(), conv(8, 8, 3), nn.ReLU()],
    "many channels": lambda: [conv(3, 256, 3), nn.ReLU(), conv(256, 256, 3, 8), nn.ReLU()],
    "padded otherwise": lambda: [
        conv(3, 8, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        conv(8, 8, 3, padding="same"),
        nn.ReLU(),
        conv(8, 8, 3),
        nn.ReLU(),
    ],
}


def results(model, images, *, in_place):
    leaf = images.clone(memory_format=torch.channels_last).requires_grad_()
    with patched_forward(sequences(model) if in_place else {}), input_gradient_mode():
        outputs = model(leaf)
    return outputs.detach(), torch.autograd.grad(outputs.sin().sum(), leaf)[0]


def assert_same(model, images):
    one_by_one = results(model, images, in_place=False)
    for value, other in zip(results(model, images, in_place=True), one_by_one, strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_image_gradient_are_bitwise_equal(name, count):
    torch.manual_seed(0)
    model = nn.Sequential(*NETWORKS[name]()).eval().to(memory_format=torch.channels_last)
    images = torch.rand(count, 3, 20, 20)
    assert sequences(model)
    assert_same(model, images)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inner_sequences_are_found_and_subclasses_skipped():
    class Residual(nn.Sequential):
        def forward(self, images):
            return images + super().forward(images)

    inner = nn.Sequential(conv(3, 3, 3, padding=1), nn.ReLU())
    derived = Residual(conv(3, 3, 3, padding=1), nn.ReLU())
    model = nn.Sequential(nn.Sequential(inner), derived, nn.Sequential(nn.ReLU(), conv(3, 3, 1)))
    assert list(sequences(model)) == [inner]
    assert_same(model, torch.rand(2, 3, 8, 8))


def test_hooked_and_parametrized_layers_run_unchanged():
    watched, normed = conv(3, 8, 3), weight_norm(conv(8, 8, 3))
    model = nn.Sequential(watched, nn.ReLU(), normed, nn.ReLU(), conv(8, 8, 3), nn.ReLU())
    seen = []
    watched.register_forward_hook(lambda module, inputs, outputs: seen.append((outputs < 0).any()))
    assert_same(model, torch.rand(2, 3, 12, 12))
    assert len(seen) == 2 and all(seen)  # before the ReLU


def test_the_input_of_a_sequence_is_not_modified():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = conv(3, 3, 3, padding=1)
            self.one = nn.Sequential(nn.ReLU(), conv(3, 3, 3, padding=1), nn.ReLU())
            self.other = nn.Sequential(conv(3, 3, 3, padding=1), nn.ReLU())

        def forward(self, images):
            maps = self.first(images)  # outside a sequence: read three times below
            return self.one(maps) + self.other(maps) + maps

    model = Twice().to(memory_format=torch.channels_last)
    assert_same(model, images)
