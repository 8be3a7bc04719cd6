"""Models that take images in [0,1] and contain their own mean/std normalisation."""

import hashlib
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonizer.fast import FastPath
from harmonizer.models.architecture import Architecture
from harmonizer.models.logits import as_logits


class PixelModel(nn.Module):
    """A classifier of pixel-space images.

    Args:
        backbone: Maps normalised images (B,3,H,W) to logits (B,K), in any form that :func:`as_logits` takes.
        mean: Mean per channel, in [0,1] units.
        std: Standard deviation per channel, in [0,1] units.
        second_order: Training differentiates twice. Forward passes in training then take the fast paths of
            :class:`harmonizer.fast.FastPath`.
        recomputes: The backward pass repeats parts of the forward pass (gradient checkpointing). All forward passes in
            training then use torch's own layers, without fused attention, so that both passes agree.

    Attributes:
        architecture: Architecture of the backbone; None for a wrapped model.
        image_size: Input height and width in pixels; None for any.
        interpolates_to: Height and width in pixels to which images of another size are interpolated, without a crop.
    """

    architecture: Architecture | None = None
    image_size: int | None = None
    interpolates_to: int | None = None

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        second_order: bool = False,
        recomputes: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.second_order = second_order and not recomputes
        # timm modules that can switch off fused kernels, which have no second derivative.
        fused = [module for module in backbone.modules() if getattr(module, "fused_attn", False)]
        self.attention = fused if second_order and recomputes else []
        self.fast = None if recomputes else FastPath(backbone)
        self.mean: Tensor
        self.std: Tensor
        # Constants of the architecture, not part of the state.
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)

    @property
    def supports_prefix(self) -> bool:
        """Whether a forward pass in training saves work if only the first images need a gradient."""
        fast = self.fast
        return self.second_order and fast is not None and fast.model is self.backbone and fast.supports_prefix

    def forward(self, images: Tensor, *, num_mapped: int | None = None, attacked: bool = False) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to logits (B,K).

        In training, ``num_mapped`` promises that only the gradient of the first ``num_mapped`` images is differentiated
        and that no other image's gradient is computed under ``create_graph``. ``attacked`` promises that only the
        gradient of the images is computed, once.
        """
        if num_mapped is not None and not 0 < num_mapped <= len(images):
            raise ValueError(f"expected num_mapped in [1,{len(images)}], the number of images, got {num_mapped}")
        size = self.interpolates_to
        if size is not None and images.shape[2:] != (size, size):
            own = "bilinear" if self.architecture is None else self.architecture.interpolation
            mode = "bicubic" if own == "bicubic" else "bilinear"
            images = F.interpolate(images, (size, size), mode=mode, align_corners=False)
        for module in self.attention:
            module.fused_attn = not self.training  # type: ignore[assignment]
        passes: AbstractContextManager[None] = nullcontext()
        if attacked and self.fast is not None:
            passes = self.fast.attack(on_cpu=images.device.type == "cpu" and images.dtype == torch.float32)
        elif self.fast is not None and self.second_order and self.training:
            passes = self.fast.training(twice=images.requires_grad, num_mapped=num_mapped)
        with passes:
            return as_logits(self.backbone((images - self.mean) / self.std), len(images))


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of the names, types and bytes of a model's state, which identifies it in results."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
