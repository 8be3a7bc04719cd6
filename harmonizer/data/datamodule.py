"""The data module: training and validation shards, from one folder or a mixture of several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from harmonizer.data.batch import Batch
from harmonizer.data.convert.readers.record import Stack
from harmonizer.data.dataset import OnError, SampleFolder, SampleIndex, ShardDataset
from harmonizer.data.demo.dataset import ensure_demo
from harmonizer.data.direct.folder import Reading
from harmonizer.data.direct.layout import Location, find_split
from harmonizer.data.human_map import Method
from harmonizer.data.loader import BatchLoader, TrainLoader
from harmonizer.data.mixture import Mixture, Part
from harmonizer.data.opener import Opener, Source, exists, open_manifests, parse_sources
from harmonizer.data.sampling import EvaluationBatches, TrainBatches, count_steps
from harmonizer.data.shards.manifest import Manifest
from harmonizer.data.shards.remote import GIGABYTE, RemoteCache
from harmonizer.data.transforms import JointTransform
from harmonizer.models import Architecture, resolve
from harmonizer.run import usable_cores

MOST_WORKERS = 8  # per process, by default


class ShardData(L.LightningDataModule):
    """Shards in ``folder/train`` and ``folder/val``, or images that are read directly (:mod:`harmonizer.data.direct`).

    Args:
        folder: Parent of the two: a path, or an address (http(s), any protocol of fsspec). None is that of the first
            source. For evaluation only, also a folder of class folders, a CSV table, or a Hugging Face dataset.
        model: Name of a model, whose geometry replaces None below; see :mod:`harmonizer.models.sources`.
        sources: Training data in place of ``folder/train``, mixed by weight: a list or mapping of entries {folder,
            weight}, whose folders hold a ``train`` each. An epoch holds exactly its share of each.
        image_size: Height and width in pixels of the loaded images.
        batch_size: Training batch size per process.
        steps_per_epoch: Training batches per process and epoch; None uses all samples.
        eval_batch_size: Evaluation batch size per process. It affects scores only by float rounding.
        crop_scale: Area of a random crop in training, as a share of the image; None takes the evaluation geometry.
        crop_aspect: Smallest and largest aspect ratio of a random crop.
        crop_ratio: timm's ``crop_pct`` in evaluation.
        crop_mode: timm's crop mode in evaluation: ``"center"``, ``"squash"`` or ``"border"``.
        flip: Probability of a horizontal flip in training.
        rotation: Largest angle in degrees of a random rotation in training.
        jitter: Largest relative change of brightness, contrast and saturation in training.
        mixup: Alpha of mixup of training images and maps; 0 turns it off.
        interpolation: Interpolation of the images; see :class:`JointTransform`.
        stretch: Stretch evaluation images to their own least and largest value.
        num_workers: Loading processes per process, for each of training and validation; the batches do not depend on
            it. None takes one for each usable core, at most eight.
        start_method: Start method of the workers: ``fork``, ``spawn`` or ``forkserver``; None is the platform's.
        seed: Seed of order and augmentation.
        on_error: What to do with an unusable sample: ``fail`` ends the run; ``skip`` skips and counts it.
        verify: Compare the checksums of all shards on disk with their manifest before the first batch.
        repeat: Use samples of a small source more than once per epoch if its weight requires it.
        shuffle_window_shards: Shuffle the shards, and samples only within this many successive shards, so that the
            cache of a remote folder needs to hold few at a time; None shuffles all samples.
        cache: Folder of fetched shards; None is the user's cache.
        cache_gb: Bound on its size in 10^9 bytes.
        allow_pipe: Accept addresses ``pipe:COMMAND``. COMMAND is run without a shell, with the file name for ``{}``.
        maps: Folder of human maps for images that are not shards; None looks next to the images.
        classes: Classes of such images: ``imagenet``, a number or a file of names; None takes the names of the folders
            or labels.
        prepare: Preparation of the maps of such images; None is fel2022 for maps of ClickMe's sizes, none for others.
        stack: Meaning of stacks of maps of such images: ``participants``, ``thresholds`` or ``mean``.

    Raises:
        FileNotFoundError: A folder or its manifest is missing.
        ValueError: A manifest is damaged, folders have different classes, or a setting is out of range.
    """

    def __init__(
        self,
        folder: Any = None,  # noqa: ANN401 - a path or an address; or a dataset of an optional package
        *,
        model: str | Architecture,
        batch_size: int,
        sources: Mapping[str, Any] | Sequence[Any] | None = None,
        image_size: int | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 64,
        crop_scale: tuple[float, float] | None = None,
        crop_aspect: tuple[float, float] = (3 / 4, 4 / 3),
        crop_ratio: float | None = None,
        crop_mode: str | None = None,
        flip: float = 0.0,
        rotation: float = 0.0,
        jitter: float = 0.0,
        mixup: float = 0.0,
        interpolation: str | None = None,
        stretch: bool = False,
        num_workers: int | None = 0,
        start_method: str | None = None,
        seed: int = 0,
        on_error: OnError = "fail",
        verify: bool = False,
        repeat: bool = False,
        shuffle_window_shards: int | None = None,
        cache: str | Path | None = None,
        cache_gb: float = 100,
        allow_pipe: bool = False,
        maps: str | Path | None = None,
        classes: str | int | None = None,
        prepare: Method | None = None,
        stack: Stack | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"expected batch sizes >= 1, got {batch_size} and {eval_batch_size}")
        if folder is None and not sources:
            raise ValueError("expected data.folder or data.sources")
        if image_size is not None and image_size < 1:
            raise ValueError(f"expected data.image_size >= 1, or null for the model's own, got {image_size}")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"expected data.num_workers >= 0, or null for one per core, got {num_workers}")
        self.image_size = resolve(model).image_size if image_size is None else image_size
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.eval_batch_size = eval_batch_size
        num_workers = min(usable_cores(), MOST_WORKERS) if num_workers is None else num_workers
        self.workers: dict[str, Any] = {"num_workers": num_workers, "start_method": start_method}
        self.seed = seed
        self.on_error = on_error
        self.repeat = repeat
        self.shuffle_window_shards = shuffle_window_shards
        self.mixup = mixup
        remote = RemoteCache(None if cache is None else Path(cache), int(cache_gb * GIGABYTE), allow_pipe)
        reading = Reading(maps, classes, prepare, stack)
        self._opener = Opener(remote, reading, on_error=on_error, verify=verify)
        asked = {"crop_ratio": crop_ratio, "crop_mode": crop_mode, "interpolation": interpolation}
        geometry = resolve(model).geometry | {name: value for name, value in asked.items() if value is not None}
        self.train_transform = JointTransform(
            self.image_size,
            scale=crop_scale,
            ratio=crop_aspect,
            flip=flip,
            rotation=rotation,
            jitter=jitter,
            **geometry,
        )
        self.eval_transform = JointTransform(self.image_size, **geometry, stretch=stretch)
        if sources:
            self.sources = parse_sources(sources, "train")
            self.val: Location = (
                parse_sources(sources, "val")[0].location if folder is None else find_split(folder, "val")
            )
        else:
            assert folder is not None
            self.sources, self.val = [Source(find_split(folder, "train"), 1.0)], find_split(folder, "val")
        self._training: list[Manifest] | None = None
        # Shards without class names number their classes, and only the training shards may hold the largest number.
        complete = self._opener.has_names(self.val) or not all(exists(source.location) for source in self.sources)
        self.manifest: Manifest = open_manifests([self.val], self._opener)[0] if complete else self._manifests()[0]
        if self._opener.has_repeated_keys(self.val, self.manifest):
            self.manifest = replace(self.manifest, repeated_keys=True)
        self._evaluation: BatchLoader | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.manifest.classes

    @property
    def is_direct(self) -> bool:
        """Whether the validation images are read directly."""
        return self._opener.direct(self.val) is not None

    @property
    def skipped(self) -> int:
        """Validation samples that this process has skipped since the start of the last pass over them."""
        return 0 if self._evaluation is None else self._evaluation.skipped

    def train_dataloader(self) -> TrainLoader:
        """Return this process's training batches."""
        rank, world = self._place()
        dataset = ShardDataset(self._training_folders(), self.train_transform, on_error=self.on_error, mixup=self.mixup)
        batches = TrainBatches(
            self._mixture(), self.batch_size, seed=self.seed, rank=rank, world=world, steps=self.steps_per_epoch
        )
        epochs = None if self.trainer is None else self.trainer.max_epochs
        return TrainLoader(dataset, batches, epochs=epochs, **self.workers)

    def probe_dataloader(self, most: int) -> BatchLoader:
        """Return at most ``most`` training samples, drawn with seed 0, in order and prepared as in evaluation."""
        dataset = ShardDataset(self._training_folders(), self.eval_transform, on_error=self.on_error)
        drawn = np.sort(np.random.default_rng(0).permutation(len(dataset))[:most])
        chosen, size = [SampleIndex(index, 0) for index in drawn.tolist()], self.eval_batch_size
        return BatchLoader(dataset, [chosen[i : i + size] for i in range(0, len(chosen), size)], **self.workers)

    def train_batches(self) -> int:
        """Return the number of training batches of one process in an epoch."""
        _, world = self._place()
        return count_steps(self._mixture(), self.batch_size, world=world, steps=self.steps_per_epoch)

    def val_dataloader(self) -> BatchLoader:
        """Return this process's share of the validation samples."""
        rank, world = self._place()
        folder = self._opener.folder(self.val, self.manifest)
        dataset = ShardDataset([folder], self.eval_transform, on_error=self.on_error)
        batches = EvaluationBatches(len(dataset), self.eval_batch_size, rank=rank, world=world)
        self._evaluation = BatchLoader(dataset, batches, **self.workers)
        return self._evaluation

    def spread_samples(self, count: int) -> Batch:
        """Return ``count`` evenly spaced validation samples, prepared as in evaluation; damaged ones are skipped."""
        dataset = ShardDataset([self._opener.folder(self.val, self.manifest)], self.eval_transform, on_error="skip")
        step = max(len(dataset) // count, 1)
        return dataset.__getitems__([SampleIndex(at, 0) for at in range(0, len(dataset), step)][:count]).batch

    def require_maps(self) -> None:
        """Check that training has at least one human map.

        Raises:
            ValueError: No training sample has a map.
        """
        training = self.training()
        if not any(shard.maps for _, manifest in training for shard in manifest.shards):
            locations, samples = ", ".join(place for place, _ in training), sum(found.samples for _, found in training)
            raise ValueError(
                f"expected human maps to harmonize with, but none of the {samples} samples in {locations} has one; "
                "convert them with --maps, or omit --harmonize"
            )

    def training(self) -> list[tuple[str, Manifest]]:
        """Return each training folder with its manifest."""
        return [(str(source.location), found) for source, found in self._opened()]

    def digests(self) -> dict[str, str]:
        """Return the sha256 of each training folder's manifest, by the folder."""
        return {location: found.digest() for location, found in self.training()}

    def _manifests(self) -> list[Manifest]:
        """Return the manifests of the validation shards and of each source, which must have the same classes."""
        if self._training is None:
            self._training = open_manifests([self.val, *(source.location for source in self.sources)], self._opener)
        return self._training

    def _opened(self) -> list[tuple[Source, Manifest]]:
        """Return each source with its manifest."""
        return list(zip(self.sources, self._manifests()[1:], strict=True))

    def _training_folders(self) -> list[SampleFolder]:
        """Return the opened training folders."""
        return [self._opener.folder(source.location, manifest) for source, manifest in self._opened()]

    def _mixture(self) -> Mixture:
        """Return the mixture of the sources."""
        parts = [Part([shard.samples for shard in found.shards], source.weight) for source, found in self._opened()]
        return Mixture(parts, seed=self.seed, shuffle_window_shards=self.shuffle_window_shards, repeat=self.repeat)

    def _place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def demo_data(**settings: object) -> ShardData:
    """Return the embedded demo data, generated on first use; settings as for :class:`ShardData`."""
    return ShardData(ensure_demo(), **settings)  # type: ignore[arg-type]
