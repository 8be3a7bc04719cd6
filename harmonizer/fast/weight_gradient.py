"""Weights' gradients where a Function returns its weight again, so that both parts of them meet in one place."""

from torch import Tensor


def summed(before: Tensor | None, grad_outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return a weight's gradient from the outputs' (N,C') and the inputs (N,C), added to ``before``, in its place."""
    return grad_outputs.T @ inputs if before is None else before.addmm_(grad_outputs.T, inputs)


def frozen(handles: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the handles of tensors that require no gradient."""
    return [handle for handle, tensor in zip(handles, tensors, strict=True) if not tensor.requires_grad]
