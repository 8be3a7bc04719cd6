"""Read samples of shards by their position: decoded, checked and transformed."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from harmonizer.data.adopt import load_manifest
from harmonizer.data.batch import Batch
from harmonizer.data.manifest import Manifest
from harmonizer.data.shards import HEATMAP, IMAGE_EXTENSIONS, LABEL
from harmonizer.data.tar_index import Member, Sample, index_shard
from harmonizer.data.transforms import JointTransform


class Position(NamedTuple):
    """Which sample to read, and the seed of its augmentation: a function of seed, epoch and index only."""

    number: int
    seed: int


class Item(NamedTuple):
    """One decoded sample: image (3,H,W) and human map (H,W) float32 in [0,1]."""

    image: Tensor
    label: int
    human: Tensor
    has_map: bool
    key: str


class ShardDataset(Dataset[Item]):
    """A folder of shards with random access.

    Args:
        folder: Shards and their manifest.
        transform: From decoded pictures to tensors of one size.

    Raises:
        FileNotFoundError: The folder, its manifest or a shard is missing.
        ValueError: The manifest or a shard is damaged, or there is no sample.
    """

    def __init__(self, folder: Path, transform: JointTransform) -> None:
        super().__init__()
        self.manifest: Manifest = load_manifest(folder)
        self.samples: list[Sample] = []
        for shard in self.manifest.shards:
            self.samples += index_shard(folder / shard.file, shard)
        if not self.samples:
            raise ValueError(f"{folder} holds no samples")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> Item:
        sample = self.samples[position.number]
        image = _decode(sample, _find_image(sample)).convert("RGB")
        human = _decode(sample, HEATMAP) if HEATMAP in sample.members else None
        if human is not None and not _same_shape(image.size, human.size):
            raise ValueError(f"{_name(sample)}: image is {image.size} and its human map {human.size} pixels")
        label = _label(sample, len(self.manifest.classes))
        pixels, importance = self.transform(image, human, seed=position.seed)
        return Item(pixels, label, importance, human is not None, sample.key)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items into a batch."""
    return Batch(
        images=torch.stack([item.image for item in items]),
        labels=torch.tensor([item.label for item in items]),
        human=torch.stack([item.human for item in items]),
        has_map=torch.tensor([item.has_map for item in items]),
        keys=[item.key for item in items],
    )


def _same_shape(image: tuple[int, int], human: tuple[int, int]) -> bool:
    """Tell whether two sizes have one aspect ratio, up to the rounding of the smaller one to whole pixels."""
    return abs(image[0] * human[1] - image[1] * human[0]) <= max(*image, *human)


def _read(sample: Sample, extension: str) -> bytes:
    """Read one member's bytes."""
    member: Member = sample.members[extension]
    with sample.shard.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), member.size, member.offset)


def _find_image(sample: Sample) -> str:
    """Return the extension of the sample's image."""
    for extension in IMAGE_EXTENSIONS:
        if extension in sample.members:
            return extension
    raise ValueError(f"{_name(sample)} has no image; expected one of {', '.join(IMAGE_EXTENSIONS)}")


def _decode(sample: Sample, extension: str) -> Image.Image:
    """Decode one picture, completely."""
    try:
        picture = Image.open(io.BytesIO(_read(sample, extension)))
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_name(sample)}: cannot decode .{extension} ({error}); write the shard again") from None
    return picture


def _label(sample: Sample, classes: int) -> int:
    """Return the sample's label, checked against the number of classes."""
    if LABEL not in sample.members:
        raise ValueError(f"{_name(sample)} has no .{LABEL}; a sample without a label cannot be used")
    text = _read(sample, LABEL)
    try:
        label = int(text)
    except ValueError:
        raise ValueError(f"{_name(sample)}: .{LABEL} is {text[:20]!r}, expected an integer") from None
    if not 0 <= label < classes:
        raise ValueError(f"{_name(sample)}: label {label} is out of range; the manifest names {classes} classes")
    return label


def _name(sample: Sample) -> str:
    """Name a sample in an error message."""
    return f"sample {sample.key!r} of {sample.shard}"
