"""The forward pass of training: logits of all samples, and the input gradient, with a graph, of those with a map."""

import torch
from torch import Tensor, nn

from harmonizer.data.batch import Batch
from harmonizer.functional.saliency import Score, class_score, input_gradient

RELATIVES = ("EvoNorm2dB", "InplaceAbn")  # timm's other layers with batch statistics, besides BatchNorm


def has_batch_statistics(model: nn.Module) -> bool:
    """Return whether a sample's logits depend on the other samples of its batch in training mode.

    They do with batch normalisation and related layers.

    >>> has_batch_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    True
    >>> has_batch_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)))
    False
    """
    return any(map(takes_batch_statistics, model.modules()))


def takes_batch_statistics(layer: nn.Module) -> bool:
    """Return whether a layer normalises by statistics over the batch."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) or type(layer).__name__.startswith(RELATIVES)


def logits_and_gradient(
    model: nn.Module, batch: Batch, *, joint: bool, score: Score = "logit"
) -> tuple[Tensor, Tensor]:
    """Run the model once over each sample, with a graph of the input gradient for those that have a human map.

    Args:
        model: Maps images (B,3,H,W) to logits (B,K).
        batch: B samples.
        joint: Run all samples together, as published. Otherwise the gradient is computed only for samples with a map,
            which run in a separate pass. This is exact where samples do not depend on each other
            (:func:`has_batch_statistics`), except that dropout draws other random numbers. With batch normalisation
            each part has its own statistics, and a part of a single sample, which has none, runs with the others. In
            vision transformers both parts run in one forward pass, with the same result
            (:class:`harmonizer.fast.FastPath`).
        score: Score to differentiate; see :func:`harmonizer.functional.saliency.class_score`.

    Returns:
        Logits (B,K), and the gradient (B,3,H,W) of the true class's score; in a split batch zero without a map.
    """
    mapped = batch.has_map
    if joint or not splits(model, mapped):
        images = batch.images.requires_grad_()
        logits = model(images)
        return logits, _gradient(logits, images, batch, score)
    order = torch.argsort(mapped.logical_not().long(), stable=True)  # those with a map first
    place = torch.argsort(order)
    part = chosen(batch, mapped)  # M samples
    if getattr(model, "supports_prefix", False) and not has_batch_statistics(model):
        images = batch.images[order].requires_grad_()
        logits = model(images, num_mapped=len(part.keys))
        return logits[place], _gradient(logits[: len(part.keys)], images, part, score)[place]
    plain = model(batch.images[~mapped])  # (B-M,K)
    images = part.images.requires_grad_()
    logits = model(images)  # (M,K)
    gradient = _gradient(logits, images, part, score)  # (M,3,H,W)
    absent = gradient.new_zeros(len(plain), *gradient.shape[1:])
    return torch.cat([logits, plain])[place], torch.cat([gradient, absent])[place]


def splits(model: nn.Module, mapped: Tensor) -> bool:
    """Return whether the samples with a map, of ``mapped`` (B,), can run separately from the others.

    Neither part may be empty or, in a model with batch statistics, a single sample.
    """
    parts = int(mapped.sum()), int((~mapped).sum())
    return 0 not in parts and not (1 in parts and has_batch_statistics(model))


def batch_score(logits: Tensor, batch: Batch, score: Score) -> Tensor:
    """Return the true class's score (B,); for mixed samples, the mixture of both scores."""
    scores = class_score(logits, batch.labels, score)
    if batch.mixup_labels is not None and batch.mixup_lam is not None:
        scores = batch.mixup_lam * scores + (1 - batch.mixup_lam) * class_score(logits, batch.mixup_labels, score)
    return scores


def _gradient(logits: Tensor, images: Tensor, batch: Batch, score: Score) -> Tensor:
    return input_gradient(batch_score(logits, batch, score), images, create_graph=True)


def chosen(batch: Batch, which: Tensor) -> Batch:
    """Return the M samples of a batch where a mask (B,) is True."""
    tensors = {name: value[which] for name, value in batch._asdict().items() if isinstance(value, Tensor)}
    return batch._replace(**tensors, keys=[batch.keys[i] for i in which.nonzero()[:, 0].tolist()])
