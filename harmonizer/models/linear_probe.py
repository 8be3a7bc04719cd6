"""A linear probe: the last linear layer of a network, fitted to its frozen features by logistic regression.

The fit minimises the mean cross-entropy plus ``l2 / 2`` times the squared norm of the weights, a convex problem, on
features of mean 0 and variance 1, by SciPy's L-BFGS in float64 from zero. A fixed random fifth of the images is held
out. ``l2`` falls from 1 by factors of 10 until the held-out cross-entropy rises; the probe is then fitted to all images
with the best ``l2``.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from harmonizer.models.architecture import PROBE
from harmonizer.models.logits import Caller, evaluation_mode
from harmonizer.models.pixel_model import PixelModel

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
HELD_OUT = 5  # one in this many images
TOLERANCE = 1e-6  # largest derivative of the objective at convergence
STEPS = 1000


def fit_probe(
    model: PixelModel,
    batches: Iterable[tuple[Any, ...]],
    *,
    device: torch.device | None = None,
    **details: Any,  # noqa: ANN401 - plain values
) -> dict[str, Any]:
    """Fit a model's last linear layer to images, in place; the rest of the model stays unchanged.

    Args:
        model: Model whose last linear layer returns the logits (B,K).
        batches: Images (B,3,H,W) in [0,1] and labels (B,); further values are ignored.
        device: Device of the fit; None takes the model's. The model returns to its own device.
        details: Further details of the images, to be recorded.

    Returns:
        Details of the fit, as plain values, also recorded in ``model.architecture``.

    Raises:
        ValueError: The logits are not those of the last linear layer, there are too few images, or a label is too
            large.
    """
    name = "the model" if model.architecture is None else model.architecture.name
    head, home = last_linear(model.backbone, name), model.mean.device
    model.to(device or home)
    features, labels = _features(model, head, batches, name)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))  # images may be sorted by label
    held_out = (order % HELD_OUT == 0).to(labels.device)
    classes = head.out_features
    if len(labels) < HELD_OUT or int(labels.min()) == int(labels.max()):
        raise ValueError(f"expected {HELD_OUT} or more images of two classes to fit a probe to, got {len(labels)}")
    if int(labels.max()) >= classes:
        raise ValueError(f"expected labels below {classes}, the number of classes, got {int(labels.max())}")
    mean, std = features.mean(0), features.std(0).clamp_min(1e-12)
    features = (features - mean) / std
    l2, loss, found = STRENGTHS[0], float("inf"), None
    for lower in STRENGTHS:  # each fit starts from the previous, easier one
        found = _fit(features[~held_out], labels[~held_out], classes, lower, found)
        logits = features[held_out] @ found[:, :-1].T + found[:, -1]
        now = float(F.cross_entropy(logits, labels[held_out]))
        if now >= loss:
            break
        l2, loss = lower, now
    found = _fit(features, labels, classes, l2, None)
    weight = found[:, :-1] / std
    with torch.no_grad():
        head.weight.copy_(weight)
        assert head.bias is not None
        head.bias.copy_(found[:, -1] - weight @ mean)
    details |= {"probe_fitted": len(labels), "probe_l2": l2, "probe_held_out_cross_entropy": loss}
    model.to(home)
    if model.architecture is not None:
        model.architecture = replace(model.architecture, head=PROBE, head_details=details)
    return details


def last_linear(backbone: nn.Module, name: str) -> nn.Linear:
    """Return the last linear layer of a network.

    Raises:
        ValueError: There is no linear layer with a bias.
    """
    layers = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
    if not layers or layers[-1].bias is None:
        raise ValueError(
            f"expected a last linear layer with a bias in {name}, got none; try a function of your own that adds one"
        )
    return layers[-1]


def _features(
    model: PixelModel, head: nn.Linear, batches: Iterable[tuple[Any, ...]], name: str
) -> tuple[Tensor, Tensor]:
    """Return the inputs of the head (N,D), in float64, and the labels (N,)."""
    got: list[Tensor] = []
    labels: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    try:
        with evaluation_mode(model), torch.inference_mode():
            for images, label, *_ in batches:
                before = len(got)
                logits = Caller(model)(images.to(model.mean.device))
                seen = got[before:]
                own = F.linear(seen[0], head.weight, head.bias) if len(seen) == 1 and seen[0].ndim == 2 else None
                same = own is not None and own.shape == logits.shape
                if own is None or not same or not torch.allclose(own.to(logits.dtype), logits, rtol=1e-3, atol=1e-4):
                    raise ValueError(
                        f"expected the logits of {name} to be those of its last linear layer, which a probe replaces; "
                        "try a function whose model ends in one"
                    )
                got[-1] = seen[0].double()
                labels.append(label.to(logits.device))
    finally:
        hook.remove()
    if not got:
        return torch.zeros(0, head.in_features), torch.zeros(0, dtype=torch.int64)
    return torch.cat(got).clone(), torch.cat(labels).clone()


def _fit(features: Tensor, labels: Tensor, classes: int, l2: float, start: Tensor | None) -> Tensor:
    """Return weights and, in the last column, biases (K,D+1) that minimise the penalised cross-entropy."""
    shape = classes, features.shape[1] + 1
    penalised = torch.ones(shape, dtype=torch.float64, device=features.device)
    penalised[:, -1] = 0
    inputs = torch.cat([features, torch.ones_like(features[:, :1])], 1)
    targets = F.one_hot(labels, classes).double()

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(values).to(features.device).reshape(shape)
        log_shares = (inputs @ weights.T).log_softmax(1)
        loss = -(log_shares * targets).sum() / len(inputs) + l2 / 2 * (weights * penalised).square().sum()
        gradient = (log_shares.exp() - targets).T @ inputs / len(inputs) + l2 * weights * penalised
        return float(loss), gradient.cpu().numpy().ravel()

    first = np.zeros(shape).ravel() if start is None else start.cpu().numpy().ravel()
    options = {"gtol": TOLERANCE, "ftol": 0.0, "maxiter": STEPS, "maxfun": 2 * STEPS}
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x).to(features.device).reshape(shape)
