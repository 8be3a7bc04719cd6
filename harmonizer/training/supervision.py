"""Baselines of explanation supervision that need other passes than the harmonizer."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.attacks.noise import Noise
from harmonizer.data.batch import Batch
from harmonizer.functional.saliency import reduce_channels, reductions
from harmonizer.functional.supervision import activation_map_loss, gradient_alignment_loss, mask_lowest
from harmonizer.models import PixelModel
from harmonizer.models.activation_map import logits_and_activation_map
from harmonizer.training.double_backward import logits_and_gradient
from harmonizer.training.precision import full_precision, promoted
from harmonizer.training.settings import LossSettings


def supervised_pass(
    model: PixelModel, batch: Batch, settings: LossSettings, noise: Noise, class_means: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the model on a batch; return logits (B,K) and the loss () of ``settings.supervision``.

    Args:
        model: Model in training mode.
        batch: B samples.
        settings: Settings with the kind of supervision.
        noise: Random numbers of this step, from one generator per image.
        class_means: (K,3,H,W) mean training image of each class, for ``"pag"``.
    """
    if settings.supervision == "cyborg":
        logits, maps = logits_and_activation_map(model, batch.images)
        return logits, activation_map_loss(promoted(maps), batch.human_map, batch.has_map)
    if settings.supervision == "sgt":
        return _masked_pass(model, batch, settings, noise)
    assert class_means is not None
    targets = (noise.uniform("target class")[:, 0] * len(class_means)).long()
    aimed = batch._replace(labels=targets, mixup_labels=None, mixup_lam=None)
    logits, gradient = logits_and_gradient(model, aimed, joint=True, score=settings.saliency_of)
    goal = class_means.to(batch.images)[targets] - batch.images.detach()
    with full_precision(batch.images.device):
        return logits, gradient_alignment_loss(promoted(gradient), goal)


def _masked_pass(model: PixelModel, batch: Batch, settings: LossSettings, noise: Noise) -> tuple[Tensor, Tensor]:
    """Return logits (B,K) and their divergence () from those of images whose pixels of lowest saliency are masked.

    The saliency is that of the training pass; the published code computes it in a separate pass in evaluation mode.
    """
    logits, gradient = logits_and_gradient(model, batch, joint=True, score=settings.saliency_of)
    maps = [reduce_channels(gradient.detach(), reduction) for reduction in reductions(settings.saliency_reduction)]
    images = batch.images.detach()
    fill = noise.uniform("fill", images.shape[1:])
    masked = model(mask_lowest(images, torch.stack(maps).mean(0), fill, share=settings.masked_share))
    with full_precision(images.device):
        clean, other = (promoted(values).log_softmax(1) for values in (logits, masked))
        return logits, F.kl_div(other, clean, reduction="batchmean", log_target=True)


def mean_images(batches: Iterable[Batch], classes: int) -> Tensor:
    """Return the mean image of each class, (K,3,H,W).

    Raises:
        ValueError: A class has no image.
    """
    sums, counts = None, torch.zeros(classes, dtype=torch.int64)
    for batch in batches:
        if sums is None:
            sums = batch.images.new_zeros(classes, *batch.images.shape[1:])
        sums.index_add_(0, batch.labels, batch.images)
        counts += batch.labels.bincount(minlength=classes)
    missing = (counts == 0).nonzero()[:, 0].tolist()
    if sums is None or missing:
        raise ValueError(f"expected training images of each class for supervision=pag, got none for {missing[:5]}")
    return sums / counts[:, None, None, None]
