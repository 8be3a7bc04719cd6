"""Read samples of shards by index: decoded, checked and transformed."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from harmonizer.data.augment import mix_pairs
from harmonizer.data.batch import Batch
from harmonizer.data.image import decode_image, decode_rgb, same_shape
from harmonizer.data.shards.manifest import Manifest
from harmonizer.data.shards.reader import RawSample, ShardFolder
from harmonizer.data.shards.tar_index import has, image_extension, parse_label
from harmonizer.data.shards.writer import HEATMAP, IMAGE_EXTENSIONS, LABEL, MAP_MODES
from harmonizer.data.transforms import JointTransform

T = TypeVar("T")

OnError = Literal["fail", "skip"]


class SampleIndex(NamedTuple):
    """Index of a sample, and the seed of its augmentation, a function of seed, epoch and index only."""

    sample: int
    seed: int


class Item(NamedTuple):
    """One decoded sample: image (3,H,W) and human map (H,W) float32 in [0,1]."""

    image: Tensor
    label: int
    human_map: Tensor
    has_map: bool
    key: str


class LoadedBatch(NamedTuple):
    """A batch, and the problems of the samples that were skipped."""

    batch: Batch
    problems: list[str]


class DamagedSample(ValueError):
    """An unusable sample; the message names its shard, key and member."""


class SampleFolder(Protocol):
    """Random access to samples: a folder of shards, or images that are read directly."""

    manifest: Manifest

    @property
    def location(self) -> object:
        """Location for messages."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> RawSample:
        """Read a sample."""


class ShardDataset(Dataset[Item]):
    """Folders of shards with random access; samples are numbered through all of them.

    Args:
        folders: Opened folders, or the path of a folder of shards.
        transform: Transform of decoded images to tensors of one size.
        on_error: What to do with an unusable sample: ``fail`` raises its error, ``skip`` omits it from its batch.
        mixup: Alpha of mixup within a batch (:func:`harmonizer.data.augment.mix_pairs`); 0 turns it off.

    Raises:
        FileNotFoundError: A folder, its manifest or a shard is missing.
        ValueError: A manifest or a shard is damaged, there is no sample, or a setting is out of range.
    """

    def __init__(
        self,
        folders: Path | Sequence[SampleFolder],
        transform: JointTransform,
        *,
        on_error: OnError = "fail",
        mixup: float = 0.0,
    ) -> None:
        super().__init__()
        if on_error not in ("fail", "skip") or mixup < 0:
            raise ValueError(f"expected on_error fail or skip and mixup >= 0, got {on_error!r} and {mixup}")
        self.folders: list[SampleFolder] = [ShardFolder(folders)] if isinstance(folders, Path) else list(folders)
        self.manifest = self.folders[0].manifest
        self.transform = transform
        self.on_error = on_error
        self.mixup = mixup
        self._ends = list(accumulate(map(len, self.folders)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, at: SampleIndex) -> Item:
        size = self.transform.size
        image, human = torch.empty(3, size, size), torch.zeros(size, size)
        label, has_map, key = self._load(at, image, human)
        return Item(image, label, human, has_map, key)

    def __getitems__(self, indices: Sequence[SampleIndex]) -> LoadedBatch:
        """Load a batch; each sample is written directly to its place."""
        count, size = len(indices), self.transform.size
        # NumPy allocates huge pages, and zeros that are never written cost nothing.
        images = torch.from_numpy(np.empty((count, 3, size, size), np.float32))
        human = torch.from_numpy(np.zeros((count, size, size), np.float32))
        found: list[tuple[int, bool, str]] = []
        seeds: list[int] = []
        problems: list[str] = []
        for at in indices:
            try:
                found.append(self._load(at, images[len(found)], human[len(found)]))
                seeds.append(at.seed)
            except DamagedSample as error:
                if self.on_error == "fail":
                    raise
                human[len(found)] = 0
                problems.append(str(error))
        batch = Batch(
            images=images[: len(found)],
            labels=torch.tensor([label for label, _, _ in found], dtype=torch.int64),
            human_map=human[: len(found)],
            has_map=torch.tensor([has_map for _, has_map, _ in found], dtype=torch.bool),
            keys=[key for _, _, key in found],
        )
        return LoadedBatch(mix_pairs(batch, self.mixup, seeds) if self.mixup and found else batch, problems)

    def _load(self, at: SampleIndex, pixels: Tensor, importance: Tensor) -> tuple[int, bool, str]:
        """Write a sample's image and map; return its label, whether it has a map, and its key."""
        which = bisect_right(self._ends, at.sample)
        folder = self.folders[which]
        sample = folder.read(at.sample - ([0, *self._ends][which]))
        label = _label(sample, len(folder.manifest.classes))
        extension = image_extension(sample.members)
        if extension is None:
            expected = f"expected one of {', '.join(IMAGE_EXTENSIONS)}"
            raise DamagedSample(f"{sample} has no image, {has(sample.members)}; {expected}")
        image = _decode(sample, extension, decode_rgb)
        human = _decode(sample, HEATMAP, decode_image) if HEATMAP in sample.members else None
        if human is not None and human.mode not in MAP_MODES:
            raise DamagedSample(f"{sample}: its human map has mode {human.mode}, expected 8- or 16-bit grey")
        size = (image.shape[1], image.shape[0])
        if human is not None and not same_shape(size, human.size):
            raise DamagedSample(f"{sample}: image is {size} and its human map {human.size} pixels")
        try:
            self.transform.write(image, human, seed=at.seed, pixels=pixels, importance=importance)
        except ValueError as error:
            raise DamagedSample(f"{sample}: {error}") from None
        return label, human is not None, f"{sample.shard}/{sample.key}" if len(self.folders) > 1 else sample.name


def _decode(sample: RawSample, extension: str, decoder: Callable[[bytes], T]) -> T:
    """Decode one image, completely."""
    try:
        return decoder(sample.members[extension])
    except ValueError as error:
        raise DamagedSample(f"{sample}: cannot decode .{extension} ({error}); write the shard again") from None


def _label(sample: RawSample, classes: int) -> int:
    """Return the sample's label, checked against the number of classes."""
    if LABEL not in sample.members:
        raise DamagedSample(f"{sample} has no .{LABEL}, {has(sample.members)}; every sample needs a label")
    try:
        label = parse_label(sample.members[LABEL])
    except ValueError as error:
        raise DamagedSample(f"{sample}: .{LABEL} is {error}") from None
    if not 0 <= label < classes:
        raise DamagedSample(f"{sample}: label {label} is out of range; the manifest names {classes} classes")
    return label
