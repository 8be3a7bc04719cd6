"""Attention with second derivatives: the fused kernels have none, and are switched off only where they are needed."""

from torch import nn


def fused_attention(model: nn.Module) -> list[nn.Module]:
    """Return the modules of a timm model that use fused attention and can do without."""
    return [module for module in model.modules() if getattr(module, "fused_attn", False)]


def fuse(modules: list[nn.Module], *, fused: bool) -> None:
    """Choose the fused kernels, or the arithmetic that autograd can differentiate twice."""
    for module in modules:
        module.fused_attn = fused  # type: ignore[assignment]
