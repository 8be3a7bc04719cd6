"""The data module: training and validation shards of one folder, split over processes."""

from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from harmonizer.data.adopt import load_manifest
from harmonizer.data.dataset import ShardDataset
from harmonizer.data.demo import ensure_demo
from harmonizer.data.loader import TrainLoader, evaluation_loader
from harmonizer.data.manifest import Manifest
from harmonizer.data.sampling import EvaluationBatches, TrainBatches
from harmonizer.data.transforms import JointTransform
from harmonizer.models import evaluation_geometry, model_image_size


class ShardData(L.LightningDataModule):
    """Shards in ``folder/train`` and ``folder/val``.

    Args:
        folder: Holds the two.
        model: timm name, whose own geometry fills in what is None below.
        image_size: Height and width in pixels that the pictures are brought to.
        batch_size: Training batch of one process.
        steps_per_epoch: Training batches of one process in an epoch; None takes all that the samples give.
        eval_batch_size: Evaluation batch of one process. Scores depend on it only by float rounding.
        crop_scale: Random-crop area in training, as a share of the image; None takes the evaluation geometry.
        crop_aspect: Aspect ratio of a random crop, smallest and largest.
        crop_ratio: timm's ``crop_pct`` in evaluation.
        flip: Probability of a horizontal flip in training.
        rotation: Largest angle of a random rotation in training, in degrees.
        interpolation: Of the images, ``"bilinear"`` or ``"bicubic"``.
        num_workers: Loading processes for each of training and validation.
        seed: Of order and augmentation.

    Raises:
        FileNotFoundError: A folder or its manifest is missing.
        ValueError: A manifest is damaged, the two splits name other classes, or a setting is out of range.
    """

    # A rank without a validation batch is fine: no collective runs inside the loops.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str,
        batch_size: int,
        image_size: int | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 64,
        crop_scale: tuple[float, float] | None = None,
        crop_aspect: tuple[float, float] = (3 / 4, 4 / 3),
        crop_ratio: float | None = None,
        flip: float = 0.0,
        rotation: float = 0.0,
        interpolation: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"expected batch sizes of at least 1, got {batch_size} and {eval_batch_size}")
        self.folder = Path(folder)
        self.image_size = image_size or model_image_size(model)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        own_ratio, own_interpolation = evaluation_geometry(model)
        ratio = own_ratio if crop_ratio is None else crop_ratio
        interpolation = interpolation or own_interpolation
        self.train_transform = JointTransform(
            self.image_size,
            scale=crop_scale,
            ratio=crop_aspect,
            flip=flip,
            rotation=rotation,
            crop_ratio=ratio,
            interpolation=interpolation,
        )
        self.eval_transform = JointTransform(self.image_size, crop_ratio=ratio, interpolation=interpolation)
        self.manifest: Manifest = load_manifest(self.folder / "val")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.manifest.classes

    def train_dataloader(self) -> TrainLoader:
        """Return this process's training batches."""
        rank, world = self._place()
        dataset = ShardDataset(self.folder / "train", self.train_transform)
        if dataset.manifest.classes != self.classes:
            raise ValueError(f"the train and val shards in {self.folder} name different classes")
        batches = TrainBatches(
            len(dataset), self.batch_size, seed=self.seed, rank=rank, world=world, steps=self.steps_per_epoch
        )
        return TrainLoader(dataset, batches, num_workers=self.num_workers)

    def train_batches(self) -> int:
        """Return the number of training batches of one process in an epoch."""
        _, world = self._place()
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        samples = load_manifest(self.folder / "train").samples
        if samples < self.batch_size * world:
            raise ValueError(
                f"{samples} training samples are fewer than one batch of {self.batch_size} on each of {world} "
                "processes; lower batch_size"
            )
        return samples // (self.batch_size * world)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the validation samples."""
        rank, world = self._place()
        dataset = ShardDataset(self.folder / "val", self.eval_transform)
        batches = EvaluationBatches(len(dataset), self.eval_batch_size, rank=rank, world=world)
        return evaluation_loader(dataset, batches, num_workers=self.num_workers)

    def _place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes, both known in the main process."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def demo_data(**settings: object) -> ShardData:
    """Return the embedded demo data, generated on first use; settings as for :class:`ShardData`."""
    return ShardData(ensure_demo(), **settings)  # type: ignore[arg-type]
