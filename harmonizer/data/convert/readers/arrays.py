"""Samples and maps in NumPy and PyTorch files; nothing is unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harmonizer.data.convert.readers.files import MOST_BYTES, check_arrays
from harmonizer.data.convert.readers.hdf5 import read_dataset
from harmonizer.data.convert.readers.images import IMAGE_SUFFIXES, open_image
from harmonizer.data.convert.readers.record import HumanMap, Item, Pixels, Record, Stack
from harmonizer.data.image import MOST_PIXELS

SAMPLE_SUFFIXES = (".npz", ".pth", ".pt")
MAP_SUFFIXES = (".npy", *SAMPLE_SUFFIXES, *IMAGE_SUFFIXES)
MAP_NAMES = ("heatmap", "map", "hmp", "human")
STACK_NAMES: dict[str, Stack] = {name: name for name in get_args(Stack)}  # names of arrays and what their stacks are
COARSEST = 1 / 256  # a float map keeps a fixed scale only if that leaves it at least 8 of 16 bits


def read_arrays(item: Item) -> Record:
    """Read an NPZ or ``.pth`` file with ``image``, ``label`` and ``heatmap``.

    Raises:
        RecordError: The file is damaged, or a part is missing or wrong.
    """
    content = _load(Path(item.file), item)
    if not isinstance(content, Mapping):
        raise item.error("holds one array, expected image, label and heatmap; give single maps with a table or --maps")
    if "image" not in content:
        raise item.error(f"has no image, only {', '.join(sorted(map(str, content))) or 'nothing'}")
    if "label" not in content:
        raise item.error("has no label")
    label = _array(content["label"], item, "label")
    if label.size != 1 or label.dtype.kind not in "iu":
        raise item.error(f"label is {label.dtype} of shape {label.shape}, expected one integer")
    name = next((name for name in (*MAP_NAMES, *STACK_NAMES) if name in content), None)
    human = None if name is None else to_map(_array(content[name], item, "heatmap"), item, STACK_NAMES.get(name))
    item.check_map(human)
    return Record(to_pixels(_array(content["image"], item, "image"), item), int(label.reshape(-1)[0]), human)


def read_map(path: Path, item: Item) -> HumanMap:
    """Read a map, or a stack of participants' maps, from a separate file.

    Raises:
        RecordError: The file is missing, damaged, or not a map.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return decode_map(item.read(path, f"the map {path}"), item)
    if item.member is not None:
        try:
            return to_map(read_dataset(path, item.member), item)
        except (OSError, ValueError) as error:
            raise item.error(f"cannot read the map in {path} ({error})") from None
    content, meaning = _load(path, item), None
    if isinstance(content, Mapping):
        names = [name for name in content if name in (*MAP_NAMES, *STACK_NAMES)] or list(content)
        if len(names) != 1:
            raise item.error(f"{path.name} holds {len(names)} arrays, expected one, or one named {MAP_NAMES[0]}")
        content, meaning = content[names[0]], STACK_NAMES.get(names[0])
    return to_map(_array(content, item, path.name), item, meaning)


def decode_map(encoded: bytes, item: Item) -> HumanMap:
    """Decode a grey image of 8 or 16 bits."""
    image = open_image(encoded, item, "the heatmap")
    if image.mode not in ("L", "I;16", "I"):
        raise item.error(f"the heatmap is an image of mode {image.mode}, expected one channel of 8 or 16 bits")
    return HumanMap(np.asarray(image).astype(np.float64), 255.0 if image.mode == "L" else 65535.0)


def to_map(array: NDArray[Any], item: Item, meaning: Stack | None = None) -> HumanMap:
    """Check a map (H,W), (1,H,W) or (H,W,1), or a stack (P,H,W), which becomes its mean."""
    if array.dtype.kind not in "fiu":
        raise item.error(f"the heatmap has dtype {array.dtype}, expected numbers")
    full_scale = {"uint8": 255.0, "uint16": 65535.0}.get(array.dtype.name)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise item.error(f"the heatmap has shape {array.shape}, expected (H,W) or a stack of them")
    if array.size > MOST_PIXELS:
        raise item.error(f"the heatmap has shape {array.shape}, expected at most {MOST_PIXELS} values")
    values = array.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise item.error("the heatmap holds values that are negative or not finite")
    stack = values if array.ndim == 3 and len(array) > 1 else None
    if values.ndim == 3:
        values = values.mean(axis=0)
    if full_scale is None:  # a float map is relative to 1 or 255 if its values use that range, else to its maximum
        largest = float(values.max())
        used = (scale for scale in (1.0, 255.0) if scale * COARSEST <= largest <= scale)
        full_scale = next(used, largest or 1.0)
    return HumanMap(values, full_scale, stack, meaning)


def to_pixels(array: NDArray[Any], item: Item) -> Pixels:
    """Convert an image (H,W,3) or (3,H,W), 8-bit or float in [0,1] or [0,255], to pixels."""
    if array.ndim == 3 and array.shape[-1] != 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise item.error(f"the image has shape {array.shape}, expected (H,W,3) or (3,H,W)")
    if array.size > 3 * MOST_PIXELS:
        raise item.error(f"the image has shape {array.shape}, expected at most {MOST_PIXELS} pixels")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiu":
        raise item.error(f"the image has dtype {array.dtype}, expected 8-bit or float")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255):  # also refuses NaN
        raise item.error(f"the image's values are {low:g} to {high:g}, expected [0,255] or [0,1]: not normalised")
    scale = 255 if array.dtype.kind == "f" and high <= 1 else 1
    return np.rint(array.astype(np.float64) * scale).astype(np.uint8)


def _load(path: Path, item: Item) -> Any:  # noqa: ANN401 - arrays, tensors or a mapping of them
    """Load a file of arrays without unpickling objects."""
    try:
        check_arrays(path)
        if path.suffix.lower() in (".pth", ".pt"):
            return torch.load(path, map_location="cpu", weights_only=True)
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                return {name: content[name] for name in content.files}
    except Exception as error:  # damaged bytes make the two libraries raise almost anything
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        if "allow_pickle" in reason:  # NumPy's advice for any file that it does not know
            reason = "it is not a file of arrays, or holds Python objects, which are never unpickled"
        raise item.error(f"cannot read {path.name} ({reason})") from None
    return content


def _array(value: object, item: Item, name: str) -> NDArray[Any]:
    """Return an array, tensor or number as an array."""
    if isinstance(value, Tensor):
        if value.numel() * value.element_size() > MOST_BYTES:  # an expanded view is larger than its file
            raise item.error(f"{name} has shape {tuple(value.shape)}: more than {MOST_BYTES} bytes")
        return value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
    if isinstance(value, np.ndarray | int | float):
        return np.asarray(value)
    raise item.error(f"{name} is a {type(value).__name__}, expected numbers")
