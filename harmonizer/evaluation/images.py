"""Images to measure, from tensors, batches, files or the demo."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData, demo_data
from harmonizer.data.direct.folder import Reading
from harmonizer.data.direct.huggingface import is_dataset
from harmonizer.models import Architecture, PixelModel

DEMO, DEMO_SIZE = "demo", 64  # the demo images' own size in pixels
CHUNK = 64  # images of tensors in one batch


@dataclass
class Images:
    """Batches, with name, number and digest of the data for a summary."""

    batches: Iterable[Batch]  # can be iterated over once
    name: str = "own images"  # name of the data
    total: int | None = None  # number of images; None if unknown before the end
    shards: ShardData | None = None  # data module of the images; None for tensors
    _digest: Any = field(default_factory=hashlib.sha256)

    def seen(self, batch: Batch) -> None:
        """Add measured images to the digest."""
        for values in (batch.images, batch.labels, batch.human_map):
            self._digest.update(str(tuple(values.shape)).encode())
            self._digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())

    @property
    def digest(self) -> str:
        """The sha256 of the manifest, or of the measured images, labels and maps."""
        return self.shards.manifest.digest() if self.shards else str(self._digest.hexdigest())


def images_of(data: Any, model: torch.nn.Module, reading: Reading | None = None) -> Images:  # noqa: ANN401 - see below
    """Return images in batches, from ``data`` as in :func:`harmonizer.evaluate`.

    Raises:
        TypeError: The data have another type.
        ValueError: Shapes do not match, or images are not in [0,1].
    """
    if isinstance(data, str | Path) or is_dataset(data):
        built = model if isinstance(model, PixelModel) else None
        architecture, size = (built.architecture, built.image_size) if built else (None, None)
        data = _opened(data, architecture, size, reading)
    elif reading is not None and reading.given():
        raise ValueError(f"expected {reading.given()} with images from files only, got {type(data).__name__}")
    if isinstance(data, ShardData):
        return Images(data.val_dataloader(), str(data.val), data.manifest.samples, data)
    if isinstance(data, tuple | list) and not isinstance(data, Batch) and len(data) in (2, 3):
        data = _batch(data, 0) if all(_is_array(part) for part in data) else data
    if isinstance(data, Batch):
        count = len(data.labels)
        return Images((data.part(start, start + CHUNK) for start in range(0, count, CHUNK)), total=count)
    if isinstance(data, Iterable) and not _is_array(data):
        return Images(_numbered(data))
    raise TypeError(
        "expected (images, labels) or (images, labels, maps), an iterable of such batches, a folder, a table, "
        f"a dataset or 'demo', got {type(data).__name__}"
    )


def probe_images(
    data: Any,  # noqa: ANN401 - as for harmonizer.evaluate
    architecture: Architecture | None,
    size: int,
    most: int,
) -> tuple[Iterable[Batch], int, tuple[str, ...] | None, list[str]]:
    """Return the images that a probe is fitted to: the training split of shards, or other images unchanged.

    Args:
        data: Data as in :func:`harmonizer.evaluate`.
        architecture: Architecture of the model, which decides the preparation of images from files.
        size: Height and width of these in pixels.
        most: Largest number of images of the training split.

    Returns:
        Batches, number of classes, class names (None where the data have none) and sha256 digests of the data.
    """
    if isinstance(data, str | Path) or is_dataset(data):
        data = _opened(data, architecture, size)
    if isinstance(data, ShardData):
        digests = sorted(data.digests().values())
        return data.probe_dataloader(most), len(data.classes), tuple(data.classes), digests
    source = images_of(data, torch.nn.Identity())
    found = list(source.batches)
    for batch in found:
        source.seen(batch)
    return found, 1 + max((int(batch.labels.max()) for batch in found), default=0), None, [source.digest]


def _opened(
    place: Any,  # noqa: ANN401 - a path, or a dataset of an optional package
    architecture: Architecture | None,
    size: int | None,
    reading: Reading | None = None,
) -> ShardData:
    """Open shards or other images from files, with the model's image preparation."""
    settings: dict[str, Any] = {"model": architecture, "batch_size": CHUNK, "image_size": size}
    if architecture is None:
        settings |= {"model": "resnet50", "crop_ratio": 1.0, "interpolation": "bilinear"}  # model only fills defaults
    settings |= vars(reading) if reading is not None else {}
    if isinstance(place, str) and place == DEMO:
        settings |= {"crop_ratio": 1.0, "interpolation": "bilinear", "image_size": size or DEMO_SIZE}
        return demo_data(**settings)
    if settings["image_size"] is None:
        raise ValueError(
            f"expected a model with an image size to read {place}, got one without; try harmonizer.wrap(model, size=N)"
        )
    return ShardData(place, **settings)


def _is_array(value: object) -> bool:
    """Return whether a value is a tensor or a NumPy array."""
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _numbered(batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield batches; images without names are numbered."""
    count = 0
    for item in batches:
        batch = item if isinstance(item, Batch) else _batch(item, count)
        count += len(batch.labels)
        yield batch


def _batch(parts: Any, first: int) -> Batch:  # noqa: ANN401 - two or three tensors or arrays
    """Return a batch of (images, labels) or (images, labels, maps), with images numbered from ``first``."""
    if not isinstance(parts, tuple | list) or len(parts) not in (2, 3) or not all(map(_is_array, parts[:2])):
        raise TypeError(f"expected batches (images, labels) or (images, labels, maps), got {type(parts).__name__}")
    images, labels = torch.as_tensor(parts[0]), torch.as_tensor(parts[1])
    human = torch.as_tensor(parts[2]) if len(parts) == 3 and parts[2] is not None else None
    if not images.is_floating_point():
        raise ValueError(f"expected images as floats in [0,1], got {images.dtype}; try images / 255")
    if images.numel() and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise ValueError(
            f"expected images in [0,1], got values from {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "try harmonizer.wrap(model, mean, std) for the normalisation"
        )
    if human is not None:
        human = (human.squeeze(1) if human.ndim == 4 else human).to(images.dtype)
    keys = [str(first + number) for number in range(len(images))]
    return Batch.of(images, labels.long(), human, keys=keys)
