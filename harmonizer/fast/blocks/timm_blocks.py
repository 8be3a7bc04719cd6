"""Transformer blocks of timm's models, run as fewer functions and without computing unused tokens."""

from contextlib import AbstractContextManager
from typing import Any

import timm.layers
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from harmonizer.fast.blocks.functional import apply_mlp, apply_self_attention
from harmonizer.fast.patch import Forward, has_hooks_or_override, patched_forward


class Blocks:
    """Shortcuts through a model's transformer blocks, with the same result up to rounding.

    * Where the gradient of the images is differentiated, self-attention and Mlp run as one function each.
    * Where the head of a vision transformer reads the class token only, the last block computes only that token.

    Parts with hooks, dropout or unknown layers run as in timm.

    Args:
        backbone: Any model; its timm layers are used.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.parts = [module for module in backbone.modules() if type(module) in (Attention, timm.layers.Mlp)]
        self.whole = [module for module in backbone.modules() if type(module) is Block]

    @property
    def supports_prefix(self) -> bool:
        """Whether :func:`harmonizer.fast.blocks.prefix.batch_prefix` may be used, and saves work.

        All tensors then have the samples along the first dimension, and nearly all work is in parts that support it.
        """
        model: Any = self.backbone
        if type(model) is not VisionTransformer or not all(type(block) is Block for block in model.blocks):
            return False
        parts = {part for block in model.blocks for part in (block.attn, block.mlp)}
        return parts <= set(self.parts) and all(map(_is_supported, parts))

    def shortened(self, *, twice: bool) -> AbstractContextManager[None]:
        """Run the model with these shortcuts; ``twice``: the gradient of the images will be differentiated."""
        forwards: dict[nn.Module, Forward] = {}
        if twice:
            parts = set(filter(_is_supported, self.parts))
            whole = [block for block in self.whole if {block.attn, block.mlp} <= parts and _is_residual(block)]
            forwards |= dict.fromkeys(parts, _part) | dict.fromkeys(whole, _residual)
        last = _last(self.backbone)
        if last is not None:
            forwards[last] = _residual_class_token if forwards.get(last) is _residual else _class_token
        return patched_forward(forwards)


def _last(model: Any) -> Any:
    """Return the last block if only the class token of its outputs is used, otherwise None."""
    exact = type(model) is VisionTransformer  # not a subclass
    if not exact or model.global_pool != "token" or model.attn_pool is not None or model.grad_checkpointing:
        return None
    *before, last = model.blocks
    seen = last, *last.children(), model.norm
    if (
        last in before
        or type(last) is not Block
        or type(last.attn) is not Attention
        or any(map(has_hooks_or_override, seen))
    ):
        return None
    each_token = isinstance(model.norm, (nn.Identity, nn.LayerNorm, timm.layers.RmsNorm))
    return last if each_token and _is_supported(last.attn) else None


def _is_supported(part: Any) -> bool:
    """Return whether a part consists of two plain linear layers (and a GELU), its other layers being inactive."""
    known = (part.qkv, part.proj) if type(part) is Attention else (part.fc1, part.fc2, part.act)
    linear, activations = known[:2], known[2:]
    if not all(type(layer) in (nn.GELU, timm.layers.GELU) and _is_exact(layer) for layer in activations):
        return False
    return (
        not has_hooks_or_override(part)
        and all(type(layer) is nn.Linear and _owns_parameters(layer) for layer in linear)
        and all(layer in known or _idle(layer) for layer in part.children())
        and not any(map(has_hooks_or_override, part.children()))
    )


def _is_residual(block: Any) -> bool:
    """Return whether a block consists of two residual branches, each after a layer norm, and nothing else."""
    norms = block.norm1, block.norm2
    inside = *norms, block.attn, block.mlp
    return (
        all(type(norm) in (nn.LayerNorm, timm.layers.LayerNorm) and norm.bias is not None for norm in norms)
        and all(_owns_parameters(norm) and norm.weight.dtype == block.mlp.fc1.weight.dtype for norm in norms)
        and all(layer in inside or _idle(layer) for layer in block.children())
        and not any(map(has_hooks_or_override, block.children()))
    )


def _owns_parameters(layer: Any) -> bool:
    """Return whether a layer's parameters are leaves; computed ones may depend on the images."""
    return layer.weight.grad_fn is None and (layer.bias is None or layer.bias.grad_fn is None)


def _is_exact(gelu: Any) -> bool:
    return getattr(gelu, "approximate", "none") == "none"


def _idle(layer: nn.Module) -> bool:
    """Return whether a layer returns its input."""
    return type(layer) is nn.Identity or (type(layer) is nn.Dropout and not (layer.p and layer.training))


def _asks_more(*options: object) -> bool:
    """Return whether a module is called with further arguments, such as a mask."""
    return any(option is not None and option is not False for option in options)


def _part(part: Any, inputs: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Run an Attention or Mlp as one function."""
    if _asks_more(*rest, *options.values()):
        return type(part).forward(part, inputs, *rest, **options)
    return _branch(part, inputs)


def _residual(block: Any, inputs: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Run a block as two functions."""
    if _asks_more(*rest, *options.values()) or torch.is_autocast_enabled(inputs.device.type):
        return Block.forward(block, inputs, *rest, **options)
    return _branches(block, inputs)


def _residual_class_token(block: Any, inputs: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Run a block as two functions, from tokens (B,N,C) to the first one (B,1,C)."""
    if _asks_more(*rest, *options.values()) or torch.is_autocast_enabled(inputs.device.type):
        return _class_token(block, inputs, *rest, **options)
    return _branches(block, inputs, queries=1)


def _class_token(block: Any, inputs: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Run a block, from tokens (B,N,C) to the first one (B,1,C)."""
    if _asks_more(*rest, *options.values()):
        return Block.forward(block, inputs, *rest, **options)
    attention = block.attn
    parts = attention.qkv(block.norm1(inputs)).unflatten(-1, (3, attention.num_heads, -1))
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B,H,N,D)
    joined = F.scaled_dot_product_attention(query[:, :, :1], key, value, scale=attention.scale).flatten(1)  # (B,HD)
    outputs = inputs[:, 0] + block.drop_path1(block.ls1(attention.proj(joined)))
    outputs = outputs + block.drop_path2(block.ls2(block.mlp(block.norm2(outputs))))
    return outputs[:, None]


def _branches(block: Any, inputs: Tensor, queries: int | None = None) -> Tensor:
    first, second = ((norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2))
    return _branch(block.mlp, _branch(block.attn, inputs, first, queries), second)


def _branch(
    part: Any, inputs: Tensor, norm: tuple[Tensor, Tensor, float] | None = None, queries: int | None = None
) -> Tensor:
    if type(part) is Attention:
        heads = {"heads": part.num_heads, "scale": part.scale, "queries": queries}
        return apply_self_attention(inputs, _pair(part.qkv, part.proj), norm, **heads)
    return apply_mlp(inputs, _pair(part.fc1, part.fc2), norm)


def _pair(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    return first.weight, first.bias, second.weight, second.bias
