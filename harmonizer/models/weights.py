"""Files of weights: read without unpickling objects, renamed as in the backbone, and loaded without the head."""

import argparse
import pickle
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harmonizer.cli.console import print_rank_zero
from harmonizer.models.tensors import check_weights
from harmonizer.run import BEST
from harmonizer.untrusted import check_zip

# Keys of the weights in checkpoints: of Lightning and timm's train.py, of others, and of averages as a last resort.
HOLDERS = ("state_dict", "model", "model_state_dict", "net", "module", "state_dict_ema", "model_ema")
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
)  # DDP, torch.compile, Lightning, our checkpoints
HEAD_NEEDED: ContextVar[bool] = ContextVar("head_needed", default=False)  # set by `with_head`
IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin", BEST)  # files of an export or the Hub, and of a run


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a backbone from a file.

    Args:
        path: ``.safetensors`` (preferred); a file of ``torch.save`` with weights or a checkpoint, for example of
            train.py or timm, of which only tensors and plain values are read; or a folder of
            :mod:`harmonizer.export` or a run.

    Returns:
        Weights by the backbone's own names, on the CPU.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The path is a URL, or the file is damaged or holds something else.
    """
    if "://" in str(path):
        raise ValueError(f"expected a local file of weights, got {path}; download it first, then weights=FILE")
    path = weights_file(path)
    try:
        check_zip(path)
        # timm's train.py stores its arguments in a Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except pickle.UnpicklingError:
        raise ValueError(f"{path} holds more than tensors and plain values, or no weights; it is not loaded") from None
    except (SafetensorError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or damaged ({reason}); it is not loaded") from None
    for holder in HOLDERS:
        if isinstance(content, dict) and isinstance(content.get(holder), dict):
            content = content[holder]
            break
    weights = _without_prefixes(content) if isinstance(content, dict) else {}
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} holds no weights; expected tensors by their names in a timm model")
    check_weights(weights, path)
    return weights


@contextmanager
def with_head() -> Iterator[None]:
    """Require a head for the model's classes in files of weights, because it is not trained afterwards."""
    token = HEAD_NEEDED.set(True)
    try:
        yield
    finally:
        HEAD_NEEDED.reset(token)


@contextmanager
def loading_all_but_head(path: str | Path, weights: Mapping[str, Tensor], heads: Sequence[str]) -> Iterator[None]:
    """Check that timm loads all weights but the head while it builds a model; print what was loaded.

    timm loads whatever matches by name and does not report it, so ``load_state_dict`` is watched.

    Raises:
        ValueError: A parameter or running statistic is missing, has another shape, or is not a float.
    """
    head = {f"{layer}.{kind}" for layer in heads for kind in ("weight", "bias")}
    original = nn.Module.load_state_dict

    def load(module: nn.Module, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        return _load(partial(original, module), module.state_dict(), state, path, head=head, in_file=set(weights))

    nn.Module.load_state_dict = load  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]


def load_all_but_head(model: nn.Module, path: str | Path, weights: Mapping[str, Tensor]) -> None:
    """Load a file's weights into a model that timm did not build; print what was loaded.

    The head is the last linear layer or convolution with weights. It is skipped if the file has none, or one for
    another number of classes.

    Raises:
        ValueError: A parameter or running statistic outside the head is missing, has another shape, or is not a float.
    """
    own = model.state_dict()
    plain = _without_prefixes({name: name for name in own})  # read_weights has removed them
    weights = {plain.get(name, name): value for name, value in weights.items()}
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    rows = [(_rows(own, layer), _rows(weights, layer)) for layer in layers]
    # Other layers for the same numbers of classes, such as auxiliary classifiers, are heads, too.
    others = rows[-1] if rows and rows[-1][0] != rows[-1][1] else None
    heads = [layer for layer, found in zip(layers, rows, strict=True) if layer == layers[-1] or found == others]
    head = {f"{layer}.{kind}" for layer in heads for kind in ("weight", "bias")}
    skipped = {name for name in head & own.keys() & weights.keys() if len(weights[name]) != len(own[name])}
    state = {name: value for name, value in weights.items() if name not in skipped}
    _load(model.load_state_dict, own, state, path, head=head, in_file=set(weights))


def load_all(model: nn.Module, path: str | Path, weights: Mapping[str, Tensor]) -> None:
    """Load all of a file's weights into a model; print what was loaded.

    Raises:
        ValueError: A parameter or running statistic is missing, has another shape, or is not a float.
    """
    _load(model.load_state_dict, model.state_dict(), weights, path, head=set(), in_file=set(weights))


def _rows(weights: Mapping[str, Tensor], layer: str) -> int | None:
    """Return the number of outputs of a layer; None if there is no such layer."""
    name = f"{layer}.weight"
    return len(weights[name]) if name in weights else None


def _load(
    load: Callable[..., Any],
    own: Mapping[str, Tensor],
    state: Mapping[str, Any],
    path: str | Path,
    *,
    head: Set[str],
    in_file: Collection[str],
) -> Any:  # noqa: ANN401 - what load_state_dict returns
    """Load weights by name, check that only the head stays untrained, and print what was loaded."""
    try:
        result = load(state, strict=False)
    except RuntimeError as error:  # one line per tensor
        raise ValueError(f"the file belongs to another model: {str(error).splitlines()[-1].strip()}") from None
    if HEAD_NEEDED.get() and head & set(result.missing_keys):
        raise ValueError(
            f"{path} has no head for these classes ({_some([name for name in result.missing_keys if name in head])}); "
            "try data with its classes, or train a head with train.py weights=FILE"
        )
    missing = [name for name in result.missing_keys if name not in head and own[name].is_floating_point()]
    left = [*result.unexpected_keys, *sorted(set(head) & set(in_file) - state.keys())]
    if missing:
        raise ValueError(
            f"{len(missing)} of the model's {len(own)} tensors are not in the file, {_some(missing)}, and "
            f"{len(left)} of the file's are not in the model{_some(left, ', ')}; is it another model's?"
        )
    for name in own.keys() & state.keys():
        if own[name].is_floating_point() and not state[name].is_floating_point():
            raise ValueError(f"expected floats in {name}, got {state[name].dtype}; try the weights before quantisation")
    print_rank_zero(
        f"weights from {path}: {len(own) - len(result.missing_keys)} tensors loaded, {len(left)} left"
        f"{_some(left, ': ')}, {len(result.missing_keys)} of the model's missing{_some(result.missing_keys, ': ')}"
    )
    return result


def weights_file(path: str | Path) -> Path:
    """Return a path to a file of weights: the path itself, or a file in this folder.

    Raises:
        FileNotFoundError: There is no file of weights.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in IN_A_FOLDER if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"no weights in the folder {path}; expected one of {', '.join(IN_A_FOLDER)}")
        return found[0]
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; weights=FILE takes .safetensors or .pth")
    return path


def _without_prefixes(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Remove the prefixes that wrappers added to at least half of the names.

    >>> _without_prefixes({"module._orig_mod.model.fc.bias": 1, "module._orig_mod.model.fc.weight": 2, "step": 3})
    {'fc.bias': 1, 'fc.weight': 2, 'step': 3}
    """
    names = {name: str(name) for name in state}
    while True:
        for prefix in PREFIXES:
            wrapped = [name for name, plain in names.items() if plain.startswith(prefix)]
            if wrapped and 2 * len(wrapped) >= len(names):
                names |= {name: names[name].removeprefix(prefix) for name in wrapped}
                break
        else:
            return {plain: state[name] for name, plain in names.items()}


def _some(names: Sequence[str], before: str = "") -> str:
    """Return the first names, for a message."""
    return before * bool(names) + ", ".join(names[:3]) + ", ..." * (len(names) > 3)
