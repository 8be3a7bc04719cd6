"""Time single layers by torch and by harmonizer.fast: ``python -m benchmarks.layers [--repeats 20]``.

The first table is for harmonizing: forward, the gradient of a layer's input, and the backward pass through both. The
second is for attacks, channels last: forward, and backward to the input only. The two ways alternate; times are the
best of each.
"""

import argparse
import contextlib
import platform
import time
from collections.abc import Callable

import timm.layers
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.fast.blocks.timm_blocks import Blocks
from harmonizer.fast.cpu.conv_relu import sequences
from harmonizer.fast.cpu.malloc import keep_freed_memory
from harmonizer.fast.first_order import input_gradient_mode
from harmonizer.fast.patch import patched_forward
from harmonizer.fast.second_order import second_order_mode


def _convolutions() -> nn.Module:
    """Return the first layers of a small network."""
    return nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())


Layer = tuple[nn.Module, tuple[int, ...]]
TWICE: dict[str, Layer] = {
    "3x3 convolution, 64 channels of 16 px": (nn.Conv2d(64, 64, 3, padding=1), (16, 64, 16, 16)),
    "1x1 convolution, 256 channels of 8 px": (nn.Conv2d(256, 256, 1), (16, 256, 8, 8)),
    "7x7 convolution, stride 2, RGB of 64 px": (nn.Conv2d(3, 64, 7, 2, 3), (16, 3, 64, 64)),
    "3x3 depthwise convolution, 64 channels of 16 px": (nn.Conv2d(64, 64, 3, padding=1, groups=64), (16, 64, 16, 16)),
    "3x3 convolution, 512 channels of 2 px": (nn.Conv2d(512, 512, 3, padding=1), (16, 512, 2, 2)),
    "3x3 convolution, 512 channels of 1 px": (nn.Conv2d(512, 512, 3, padding=1), (16, 512, 1, 1)),
    "BatchNorm, 64 channels of 16 px": (nn.BatchNorm2d(64), (16, 64, 16, 16)),
    "LayerNorm, 17 tokens of 192": (nn.LayerNorm(192), (16, 17, 192)),
    "GELU, 17 tokens of 768": (nn.GELU(), (16, 17, 768)),
    "SiLU, 64 channels of 16 px": (nn.SiLU(), (16, 64, 16, 16)),
    "ReLU, 64 channels of 16 px": (nn.ReLU(), (16, 64, 16, 16)),
    "Mlp, 17 tokens of 192": (timm.layers.Mlp(192, 768), (16, 17, 192)),
    "transformer block, 17 tokens of 192": (Block(192, 3, qkv_bias=True), (16, 17, 192)),
    "transformer block, 197 tokens of 192": (Block(192, 3, qkv_bias=True), (4, 197, 192)),
}

ONCE: dict[str, Layer] = {
    "7x7 convolution, stride 2, RGB of 64 px": (nn.Conv2d(3, 64, 7, 2, 3, bias=False), (64, 3, 64, 64)),
    "3x3 convolution, stride 2, RGB of 64 px": (nn.Conv2d(3, 32, 3, 2, 1, bias=False), (64, 3, 64, 64)),
    "3x3 convolution, RGB of 32 px": (nn.Conv2d(3, 64, 3, 1, 1, bias=False), (64, 3, 32, 32)),
    "patches of 16 px, RGB of 64 px": (nn.Conv2d(3, 192, 16, 16), (64, 3, 64, 64)),
    "patches of 4 px, RGB of 64 px": (nn.Conv2d(3, 40, 4, 4), (64, 3, 64, 64)),
    "3x3 convolution, 256 channels of 4 px": (nn.Conv2d(256, 256, 3, padding=1), (64, 256, 4, 4)),
    "3x3 convolution, 512 channels of 2 px": (nn.Conv2d(512, 512, 3, padding=1), (64, 512, 2, 2)),
    "fixed BatchNorm, 3 channels of 64 px": (nn.BatchNorm2d(3).eval(), (64, 3, 64, 64)),
    "fixed BatchNorm, 64 channels of 16 px": (nn.BatchNorm2d(64).eval(), (64, 64, 16, 16)),
    "average of 512 channels of 4 px": (nn.AdaptiveAvgPool2d(1), (64, 512, 4, 4)),
    "two 3x3 convolutions with ReLUs, RGB of 32 px": (_convolutions(), (64, 3, 32, 32)),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"torch {torch.__version__}, {platform.machine()} CPU, {options.threads} thread(s)")
    for title, layers, prepare in (("differentiated twice", TWICE, _second), ("differentiated once", ONCE, _first)):
        print(f"\n| {title} | torch, ms | ours, ms | ratio |\n|---|---|---|---|")
        for name, (layer, shape) in layers.items():
            runs = [prepare(layer, torch.rand(shape), ours) for ours in (False, True)]
            print(f"| {name} | {_compared(runs, options.repeats)} |", flush=True)


def _second(layer: nn.Module, inputs: Tensor, ours: bool) -> Callable[[], object]:
    """Return a function that runs a layer, the gradient of its input, and the backward pass through both."""
    leaf = inputs.requires_grad_()
    upstream, cotangent = torch.rand_like(layer(inputs)).requires_grad_(), torch.rand_like(inputs)

    def run() -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(second_order_mode() if ours else sdpa_kernel(SDPBackend.MATH))
            if ours:
                stack.enter_context(Blocks(layer).shortened(twice=True))
            outputs = layer(leaf)
        (gradient,) = torch.autograd.grad(outputs, leaf, upstream, create_graph=True)
        wanted = [leaf, upstream, *layer.parameters()]
        torch.autograd.grad([outputs, gradient], wanted, [upstream, cotangent], allow_unused=True)

    return run


def _first(layer: nn.Module, inputs: Tensor, ours: bool) -> Callable[[], object]:
    """Return a function that runs a layer and its backward pass to the input."""
    layer = layer.to(memory_format=torch.channels_last)
    forwards = sequences(layer)
    leaf = inputs.contiguous(memory_format=torch.channels_last).requires_grad_()

    def run() -> None:
        with contextlib.ExitStack() as stack:
            if ours:
                stack.enter_context(input_gradient_mode())
                stack.enter_context(patched_forward(forwards))
            outputs = layer(leaf)
        torch.autograd.grad(outputs, leaf, torch.ones_like(outputs))

    return run


def _compared(runs: list[Callable[[], object]], repeats: int) -> str:
    """Return the best processor times of two runs in milliseconds, and their ratio, as cells of a table."""
    best = [float("inf")] * len(runs)
    for _ in range(repeats):
        for i, run in enumerate(runs):
            start = time.process_time()
            run()
            best[i] = min(best[i], time.process_time() - start)
    return f"{1000 * best[0]:.1f} | {1000 * best[1]:.1f} | {best[0] / best[1]:.1f}"


if __name__ == "__main__":
    main()
