"""The two terms of the training loss, of one batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.data.batch import Batch
from harmonizer.functional import harmonizer_loss
from harmonizer.functional.saliency import reduce_channels, reductions
from harmonizer.training.settings import LossSettings


def classification_loss(logits: Tensor, batch: Batch, *, label_smoothing: float) -> Tensor:
    """Return the cross-entropy () of logits (B,K), with both labels where samples were mixed."""
    if batch.mixup_labels is None or batch.mixup_lam is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.mixup_labels)
    )
    return (batch.mixup_lam * own + (1 - batch.mixup_lam) * other).mean()


def agreement_loss(gradient: Tensor, batch: Batch, settings: LossSettings) -> Tensor:
    """Return the harmonizer loss () of the input gradient (B,3,H,W) and the human maps."""
    chosen = {name: getattr(settings, name) for name in ("levels", "scale_match", "std", "top_k")}
    metric = settings.level_metric
    saliencies = [reduce_channels(gradient, reduction) for reduction in reductions(settings.saliency_reduction)]
    if metric != "contrastive":  # which compares the samples of a batch; for the others one longer batch is faster
        saliencies = [torch.cat(saliencies)]
    times = len(saliencies[0]) // len(gradient)
    human, has_map = batch.human_map.repeat(times, 1, 1), batch.has_map.repeat(times)
    losses = [harmonizer_loss(saliency, human, has_map, metric=metric, **chosen) for saliency in saliencies]
    loss = torch.stack(losses).mean()
    if settings.gradient_penalty:
        size = gradient.square().sum((1, 2, 3))  # (B,)
        loss = loss + settings.gradient_penalty * torch.where(batch.has_map, size, 0.0).mean()
    return loss
