"""The terms of the training loss of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.attacks.noise import Noise
from harmonizer.data.batch import Batch
from harmonizer.functional import harmonizer_loss
from harmonizer.functional.saliency import reduce_channels, reductions
from harmonizer.functional.supervision import right_reasons_loss
from harmonizer.models import PixelModel
from harmonizer.training.adversarial import Passes, training_passes
from harmonizer.training.precision import full_precision, promoted
from harmonizer.training.settings import OWN_PASSES, LossSettings
from harmonizer.training.supervision import supervised_pass


def classification_loss(logits: Tensor, batch: Batch, *, label_smoothing: float) -> Tensor:
    """Return the cross-entropy () of logits (B,K), with both labels for mixed samples."""
    if batch.mixup_labels is None or batch.mixup_lam is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.mixup_labels)
    )
    return (batch.mixup_lam * own + (1 - batch.mixup_lam) * other).mean()


def agreement_loss(gradient: Tensor, batch: Batch, settings: LossSettings) -> Tensor:
    """Return the loss () of the input gradient (B,3,H,W) and the human maps: the harmonizer's, or a baseline's."""
    if settings.supervision == "rrr":
        return right_reasons_loss(gradient, batch.human_map, batch.has_map)
    chosen = {name: getattr(settings, name) for name in ("levels", "scale_match", "std", "top_k")}
    metric = settings.level_metric
    saliencies = [reduce_channels(gradient, reduction) for reduction in reductions(settings.saliency_reduction)]
    if metric != "contrastive":  # it compares the samples of a batch; for the others one longer batch is faster
        saliencies = [torch.cat(saliencies)]
    times = len(saliencies[0]) // len(gradient)
    human, has_map = batch.human_map.repeat(times, 1, 1), batch.has_map.repeat(times)
    losses = [harmonizer_loss(saliency, human, has_map, metric=metric, **chosen) for saliency in saliencies]
    loss = torch.stack(losses).mean()
    if settings.gradient_penalty:
        size = gradient.square().sum((1, 2, 3))  # (B,)
        loss = loss + settings.gradient_penalty * torch.where(batch.has_map, size, 0.0).mean()
    return loss


def trades_loss(logits: Tensor, attacked: Tensor) -> Tensor:
    """Return the divergence () of the class probabilities at the adversarial images from those at the clean images.

    Args:
        logits: (B,K) at the clean images.
        attacked: (B,K) at the adversarial images.

    Reference:
        Zhang et al. 2019 (arXiv 1901.08573), equation 5.

    >>> trades_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 2.0]])).abs() < 1e-6
    tensor(True)
    """
    return F.kl_div(attacked.log_softmax(1), logits.log_softmax(1), reduction="batchmean", log_target=True)


def batch_losses(
    model: PixelModel,
    batch: Batch,
    settings: LossSettings,
    *,
    factor: float = 0.0,
    eps: float = 0.0,
    joint: bool = True,
    noise: Noise | None = None,
    class_means: Tensor | None = None,
) -> dict[str, Tensor]:
    """Run the model on a batch; return the loss () under ``"loss"``, and its terms before their factors.

    Args:
        model: Model in training mode.
        batch: B samples.
        settings: Settings of the loss.
        factor: Lambda at this step; 0 omits the harmonizer loss.
        eps: Radius of the attack at this step; 0 trains on the clean images.
        joint: See :func:`harmonizer.training.double_backward.logits_and_gradient`.
        noise: Random numbers of this step; None takes seed 0.
        class_means: (K,3,H,W) mean training image of each class, for ``supervision="pag"``.
    """
    # Without any map the harmonizer loss and its gradient are exactly zero. The contrastive loss compares the batches
    # of all processes, so that all must take part.
    saliency = bool(factor) and (settings.level_metric == "contrastive" or bool(batch.has_map.any()))
    noise, agreement = noise or Noise(batch.images, batch.keys, 0), None
    if factor and settings.supervision in OWN_PASSES:
        outputs, agreement = supervised_pass(model, batch, settings, noise, class_means)
        passes = Passes(outputs)
    else:
        passes = training_passes(model, batch, settings, eps=eps, saliency=saliency, joint=joint, noise=noise)
    with full_precision(batch.images.device):
        logits = promoted(passes.logits)
        loss = classification_loss(logits, batch, label_smoothing=settings.label_smoothing)
        losses = {"cross_entropy": loss}
        if passes.attacked is not None:
            losses["trades_loss"] = trades_loss(logits, promoted(passes.attacked))
            loss = loss + settings.trades_beta * losses["trades_loss"]
        if factor:
            if passes.gradient is not None:
                agreement = agreement_loss(passes.gradient, batch, settings)
            agreement = torch.zeros_like(loss) if agreement is None else agreement
            name = "harmonizer_loss" if settings.supervision == "harmonizer" else "supervision_loss"
            losses[name], loss = agreement, loss + factor * agreement
    return {**losses, "loss": loss}
