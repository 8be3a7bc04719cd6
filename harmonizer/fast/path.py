"""The fast paths of one model, by purpose."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.fast.blocks.prefix import batch_prefix
from harmonizer.fast.blocks.timm_blocks import Blocks
from harmonizer.fast.cpu.conv_relu import sequences
from harmonizer.fast.cpu.malloc import freed_memory_kept
from harmonizer.fast.first_order import input_gradient_mode, parameter_gradient_mode
from harmonizer.fast.patch import patched_forward
from harmonizer.fast.second_order import second_order_mode, torch_second_order_mode
from harmonizer.fast.switch import CORE, fast


class FastPath:
    """Run a model faster, for training, attacks and inference; see :mod:`harmonizer.fast` for the contract.

    Args:
        model: Any module. It is inspected at each call, so that it may change in between.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.blocks = Blocks(model)
        self.sequences = sequences(model)

    @property
    def supports_prefix(self) -> bool:
        """Whether training saves work where only the first images' gradient is differentiated."""
        return fast.enables("blocks") and self.blocks.supports_prefix

    @contextmanager
    def training(self, *, twice: bool, num_mapped: int | None = None) -> Iterator[None]:
        """Run training forwards.

        Args:
            twice: Whether the gradient of the images will be differentiated.
            num_mapped: Number of images, the first ones, whose gradient will be differentiated, where
                ``supports_prefix``; the gradients of the others must not be requested under ``create_graph``. None
                allows all.
        """
        with ExitStack() as stack:
            if not fast.enables(CORE):
                if twice:
                    stack.enter_context(torch_second_order_mode())
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                yield
                return
            if twice and self.supports_prefix:
                stack.enter_context(batch_prefix(num_mapped))
            stack.enter_context(second_order_mode() if twice else parameter_gradient_mode())
            stack.enter_context(self._shortened(twice=twice))
            yield

    @contextmanager
    def attack(self, *, on_cpu: bool) -> Iterator[None]:
        """Run passes that compute the gradient of the images only; ``on_cpu``: in float32 on a CPU."""
        with self._shortened(twice=False), ExitStack() as stack:
            if on_cpu and fast.enables(CORE):
                stack.enter_context(patched_forward(self.sequences if fast.enables("conv_relu") else {}))
                stack.enter_context(input_gradient_mode())
            yield

    @staticmethod
    def freed_memory_kept(device: torch.device) -> AbstractContextManager[None]:
        """Keep freed memory within a block of passes on a CPU."""
        return freed_memory_kept() if device.type == "cpu" and fast.enables("malloc") else nullcontext()

    def _shortened(self, *, twice: bool) -> AbstractContextManager[None]:
        return self.blocks.shortened(twice=twice) if fast.enables("blocks") else nullcontext()
