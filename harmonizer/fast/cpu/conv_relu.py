"""ReLUs after convolutions, computed in place on a CPU.

Nothing else reads what lies between two layers of an ``nn.Sequential``. In the first layers of a small network, filling
new memory takes longer than the arithmetic.
"""

from itertools import pairwise

from torch import Tensor, nn

from harmonizer.fast.patch import Forward, has_hooks_or_override


def sequences(model: nn.Module) -> dict[nn.Module, Forward]:
    """Return the modules of a model that hold a convolution and a ReLU in a row, and how to run them.

    >>> stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2))
    >>> list(sequences(stem)) == [stem]
    True
    """
    found = (module for module in model.modules() if type(module) is nn.Sequential)
    return {module: _run for module in found if any(_is_pair(*layers) for layers in pairwise(module))}


def _run(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    for before, layer in pairwise((None, *layers)):
        inputs = inputs.relu_() if _is_pair(before, layer) else layer(inputs)
    return inputs


def _is_pair(convolution: nn.Module | None, relu: nn.Module) -> bool:
    """Return whether two layers are a convolution and a ReLU whose input nothing else reads."""
    return (
        type(convolution) is nn.Conv2d
        and type(relu) is nn.ReLU
        and not any(map(has_hooks_or_override, (convolution, relu)))
    )
