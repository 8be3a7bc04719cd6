"""Objectives that attacks maximise: functions of logits (n,K) that are large where the model is wrong.

The gradient of the cross-entropy vanishes in float32 when a model is confident; the gradient of a margin does not, at
any scale of the logits. Only the published protocol uses the cross-entropy by default.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.attacks.engine import Objective


def cross_entropy_of(labels: Tensor) -> Objective:
    """Return the cross-entropy of ``labels`` (n,)."""
    return lambda logits, part: F.cross_entropy(logits, labels[part], reduction="none")


def margin_of(labels: Tensor) -> Objective:
    """Return the best wrong logit minus the logit of ``labels`` (n,): positive where the model is wrong."""

    def margin(logits: Tensor, part: slice) -> Tensor:
        true = labels[part, None]
        return logits.scatter(1, true, -torch.inf).amax(1) - logits.gather(1, true)[:, 0]

    return margin


OBJECTIVES: Mapping[str, Callable[[Tensor], Objective]] = {"margin": margin_of, "cross_entropy": cross_entropy_of}


def margin_to(labels: Tensor, targets: Tensor) -> Objective:
    """Return the logit of ``targets`` (n,) minus that of ``labels`` (n,)."""

    def margin(logits: Tensor, part: slice) -> Tensor:
        return (logits.gather(1, targets[part, None]) - logits.gather(1, labels[part, None]))[:, 0]

    return margin
