"""The class activation map of a network that ends in a mean over positions and one linear layer."""

import torch
from torch import Tensor, nn

from harmonizer.models.logits import evaluation_mode
from harmonizer.models.pixel_model import PixelModel

POOLINGS = "AdaptiveAvgPool2d", "SelectAdaptivePool2d", "FastAdaptiveAvgPool"  # torch's and timm's


def logits_and_activation_map(model: PixelModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a model; return its logits (B,K) and the predicted class's activation map (B,h,w), both with a graph.

    The map is the sum over the channels of the features before the last pooling, weighted by the linear layer's
    weights of that class.

    Args:
        model: Model that passes :func:`check_activation_map`.
        images: (B,3,H,W) in [0,1].

    Reference:
        Zhou et al. 2016 (arXiv 1512.04150), equation 2.
    """
    logits, features, _ = _run(model, images)
    weights = _head(model)[1].weight[logits.argmax(1)]  # (B,C)
    return logits, (weights[:, :, None, None] * features).sum(1)


def check_activation_map(model: PixelModel, image_size: int) -> None:
    """Check that a model has a class activation map, by running it on one image.

    Raises:
        ValueError: The input of the last linear layer is not the mean of a map, or the map has a single position.
    """
    pixels = torch.linspace(0, 1, 3 * image_size**2, device=model.mean.device).reshape(1, 3, image_size, image_size)
    with evaluation_mode(model), torch.no_grad():
        logits, features, pooled = _run(model, pixels.to(model.mean.dtype))
    defined = features.ndim == 4 and pooled.numel() == features.shape[1]
    if not defined or not torch.allclose(features.mean((2, 3)), pooled.flatten(1), rtol=1e-4, atol=1e-6):
        raise ValueError(_EXPECTED)
    linear = _head(model)[1]
    if not torch.allclose(linear(pooled.reshape(1, -1)), logits, rtol=1e-4, atol=1e-5):
        raise ValueError(_EXPECTED)
    if features[0, 0].numel() == 1:
        raise ValueError(
            f"expected an activation map of several positions, got one at image_size={image_size}; try larger images"
        )


_EXPECTED = (
    "expected a model with a class activation map, whose last layer is linear on the mean of a map over its positions; "
    "try resnet50, densenet121 or efficientnet_b0"
)


def _head(model: PixelModel) -> tuple[nn.Module, nn.Linear]:
    """Return the last pooling and the last linear layer."""
    pools = [module for module in model.backbone.modules() if type(module).__name__ in POOLINGS]
    layers = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
    if not pools or not layers:
        raise ValueError(_EXPECTED)
    return pools[-1], layers[-1]


def _run(model: PixelModel, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits (B,K), the pooled features (B,C,h,w) and the input of the linear layer (B,C)."""
    head, seen = _head(model), {}
    handles = [layer.register_forward_pre_hook(lambda layer, inputs: seen.update({layer: inputs[0]})) for layer in head]
    try:
        logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if any(module not in seen for module in head):
        raise ValueError(_EXPECTED)
    return logits, seen[head[0]], seen[head[1]]
