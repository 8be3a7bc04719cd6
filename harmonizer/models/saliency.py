"""The saliency of a model in evaluation mode, which is compared with human maps."""

import torch
from torch import Tensor, nn

from harmonizer.functional.saliency import class_score, reduce_channels
from harmonizer.models.logits import Caller, evaluation_mode


def evaluation_saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the saliency for feature alignment: max over channels of |d true logit / d image|.

    Works under ``no_grad`` and ``inference_mode``. The model's mode is restored, and no parameter gets a gradient.

    Args:
        model: Maps images (B,3,H,W) in [0,1] to logits (B,K), as :func:`harmonizer.attacks.minimal_radius` takes it.
        images: (B,3,H,W).
        labels: (B,) int64.

    Returns:
        (B,H,W), >= 0.
    """
    with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        return _saliency(Caller(model)(images), images, labels)


def evaluation_saliencies(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the saliency of the true and of the predicted logit, (B,H,W) each; see :func:`evaluation_saliency`.

    Takes one forward pass, and a second backward pass only if a prediction is wrong.
    """
    with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        logits = Caller(model)(images)
        predicted = logits.detach().argmax(1)
        wrong = predicted != labels
        true = _saliency(logits, images, labels, again=bool(wrong.any()))
        if not bool(wrong.any()):
            return true, true
        return true, torch.where(wrong[:, None, None], _saliency(logits, images, predicted), true)


def _saliency(logits: Tensor, images: Tensor, labels: Tensor, *, again: bool = False) -> Tensor:
    """Return max over channels of |gradient|; ``again`` keeps the graph for another gradient of the same logits."""
    score = class_score(logits, labels.clone(), "logit")
    (gradient,) = torch.autograd.grad(score.sum(), images, retain_graph=again)
    return reduce_channels(gradient, "absmax")
