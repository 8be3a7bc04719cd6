"""Transformer blocks of timm's models, run as fewer functions and without work that nothing reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import timm.layers
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from harmonizer.derivatives import mlp, self_attention

Forward = Callable[..., Tensor]


class Blocks:
    """The parts of a model that can be run otherwise, to the same result up to rounding.

    * Where the gradient of the images is differentiated: self-attention and Mlp, each as one function.
    * The last block of a vision transformer whose head reads the class token alone computes only that token.

    Parts with hooks, dropout or layers of another kind inside run as always.

    Args:
        backbone: Any model; those of timm's layers are found in it.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.parts = [module for module in backbone.modules() if type(module) in (Attention, timm.layers.Mlp)]
        self.whole = [module for module in backbone.modules() if type(module) is Block]
        self.last = _last(backbone)
        # Samples lie along the first dimension throughout, and nearly all work is done in the parts above.
        blocks = list(backbone.blocks) if type(backbone) is VisionTransformer else []
        self.samples_first = bool(blocks) and all(
            block in self.whole and block.attn in self.parts and block.mlp in self.parts for block in blocks
        )

    @property
    def can_lead(self) -> bool:
        """Whether :func:`harmonizer.derivatives.leading` saves the work that it is for."""
        return self.samples_first and all(map(_suits, self.parts))

    @contextmanager
    def shortened(self, *, twice: bool) -> Iterator[None]:
        """Run the model with these shortcuts; ``twice`` where the gradient of the images is differentiated."""
        forwards: dict[nn.Module, Forward] = {}
        if twice:
            parts = set(filter(_suits, self.parts))
            whole = [block for block in self.whole if {block.attn, block.mlp} <= parts and _is_residual(block)]
            forwards |= dict.fromkeys(parts, _as_one) | dict.fromkeys(whole, _residual)
        if self.last is not None and _suits(self.last.attn) and not _watched(self.last):
            forwards[self.last] = _residual_class_token if forwards.get(self.last) is _residual else _class_token
        replaced = [module for module in forwards if "forward" not in vars(module)]
        for module in replaced:
            module.forward = partial(forwards[module], module)
        try:
            yield
        finally:
            for module in replaced:
                del module.forward


def _last(model: Any) -> Any:  # noqa: ANN401 - timm's
    """Return the last block, where all that follows it reads the class token alone."""
    transforms = type(model) is VisionTransformer  # and nothing derived from it
    if not transforms or model.global_pool != "token" or model.attn_pool is not None:
        return None
    *_, last = model.blocks
    each_token = isinstance(model.norm, (nn.Identity, nn.LayerNorm, timm.layers.RmsNorm))
    return last if each_token and type(last) is Block and type(last.attn) is Attention else None


def _suits(part: Any) -> bool:  # noqa: ANN401 - an Attention or Mlp
    """Tell whether a part is what its class says and nothing more: two linear layers, others doing nothing now."""
    known = (part.qkv, part.proj) if type(part) is Attention else (part.fc1, part.fc2, part.act)
    activations = known[2:]
    if not all(type(layer) in (nn.GELU, timm.layers.GELU) and _is_exact(layer) for layer in activations):
        return False
    return (
        all(type(layer) is nn.Linear and layer.weight.grad_fn is None for layer in known[:2])  # weights of their own
        and all(layer in known or _idle(layer) for layer in part.children())
        and not any(map(_watched, part.children()))
    )


def _is_residual(block: Any) -> bool:  # noqa: ANN401 - timm's Block
    """Tell whether a block is two residual branches, each after a layer norm, and nothing more."""
    norms = block.norm1, block.norm2
    inside = *norms, block.attn, block.mlp
    return (
        all(type(norm) in (nn.LayerNorm, timm.layers.LayerNorm) and norm.bias is not None for norm in norms)
        and all(layer in inside or _idle(layer) for layer in block.children())
        and not any(map(_watched, block.children()))
    )


def _is_exact(gelu: Any) -> bool:  # noqa: ANN401 - torch's GELU, or timm's, which knows no other
    return getattr(gelu, "approximate", "none") == "none"


def _idle(layer: nn.Module) -> bool:
    """Tell whether a layer gives its input back."""
    return type(layer) is nn.Identity or (type(layer) is nn.Dropout and not (layer.p and layer.training))


def _watched(layer: nn.Module) -> bool:
    """Tell whether somebody watches a layer, or changes what it does."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return any(hooks) or "forward" in vars(layer)


def _as_one(part: Any, inputs: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:  # noqa: ANN401
    """Run an Attention or Mlp as one function."""
    if attn_mask is not None or any(options.values()):
        return type(part).forward(part, inputs, attn_mask=attn_mask, **options)  # type: ignore[no-any-return]
    return _branch(part, inputs)


def _branch(
    part: Any,  # noqa: ANN401 - an Attention or Mlp
    inputs: Tensor,
    norm: tuple[Tensor, Tensor, float] | None = None,
    queries: int | None = None,
) -> Tensor:
    if type(part) is Attention:
        heads = {"heads": part.num_heads, "scale": part.scale, "queries": queries}
        return self_attention(inputs, _pair(part.qkv, part.proj), norm, **heads)
    return mlp(inputs, _pair(part.fc1, part.fc2), norm)


def _pair(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    return first.weight, first.bias, second.weight, second.bias


def _residual(block: Any, inputs: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:  # noqa: ANN401
    """Run a block as two functions."""
    if attn_mask is not None or any(options.values()) or torch.is_autocast_enabled(inputs.device.type):
        return Block.forward(block, inputs, attn_mask=attn_mask, **options)
    return _branches(block, inputs)


def _residual_class_token(
    block: Any,  # noqa: ANN401 - timm's
    inputs: Tensor,
    attn_mask: Tensor | None = None,
    **options: Any,  # noqa: ANN401
) -> Tensor:
    """Run a block as two functions, from tokens (B,N,C) to the first one (B,1,C)."""
    if attn_mask is not None or any(options.values()) or torch.is_autocast_enabled(inputs.device.type):
        return _class_token(block, inputs, attn_mask, **options)
    return _branches(block, inputs, queries=1)


def _branches(block: Any, inputs: Tensor, queries: int | None = None) -> Tensor:  # noqa: ANN401 - timm's
    first, second = ((norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
    return _branch(block.mlp, _branch(block.attn, inputs, first, queries), second)


def _class_token(block: Any, inputs: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:  # noqa: ANN401
    """Run a block, from tokens (B,N,C) to the first one (B,1,C)."""
    if attn_mask is not None or any(options.values()):
        return Block.forward(block, inputs, attn_mask=attn_mask, **options)
    attention = block.attn
    parts = attention.qkv(block.norm1(inputs)).unflatten(-1, (3, attention.num_heads, -1))
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B,H,N,D)
    joined = F.scaled_dot_product_attention(query[:, :, :1], key, value, scale=attention.scale)
    outputs = inputs[:, :1] + block.drop_path1(block.ls1(attention.proj(joined.transpose(1, 2).flatten(2))))
    return outputs + block.drop_path2(block.ls2(block.mlp(block.norm2(outputs))))  # type: ignore[no-any-return]
