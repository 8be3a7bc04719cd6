"""Which validation images a callback measures, and in which epochs."""

from collections.abc import Iterator

import lightning as L

from harmonizer.data.batch import Batch


class Selection:
    """The first images of the validation set, counted over all processes, in the epochs that are due.

    Args:
        images: How many; None takes all.
        every_n_epochs: In training, measure after every n-th epoch; 0 never. The last epoch is always measured, unless
            it is 0.
    """

    def __init__(self, images: int | None, every_n_epochs: int) -> None:
        if (images is not None and images < 1) or every_n_epochs < 0:
            raise ValueError(f"expected images >= 1 and every_n_epochs >= 0, got {images} and {every_n_epochs}")
        self.images = images
        self.every_n_epochs = every_n_epochs
        self.due = False
        self.seen = 0

    def start(self, trainer: L.Trainer) -> bool:
        """Begin a validation; tell whether it is due."""
        self.seen = 0
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or (trainer.state.fn == "fit" and not self.every_n_epochs):
            self.due = False
        else:
            self.due = trainer.state.fn != "fit" or epoch == trainer.max_epochs or epoch % self.every_n_epochs == 0
        return self.due

    def take(self, trainer: L.Trainer, batch: Batch) -> Batch | None:
        """Return the part of this process's next batch that belongs to the selection; None when there is none.

        Process r reads samples r, r + world, ... (:class:`harmonizer.data.sampling.EvaluationBatches`).
        """
        if not self.due:
            return None
        count = len(batch.labels)
        if self.images is not None:
            quota = len(range(trainer.global_rank, self.images, trainer.world_size))
            count = min(count, quota - self.seen)
        self.seen += len(batch.labels)
        if count <= 0:
            return None
        return part(batch, 0, count)


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Return samples ``start`` to ``stop`` of a batch."""
    images, labels, human, has_map, keys, *_ = batch  # validation mixes nothing
    cut = slice(start, stop)
    return Batch(images[cut], labels[cut], human[cut], has_map[cut], keys[cut])


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch into parts of ``size`` samples, the last one smaller."""
    for start in range(0, len(batch.labels), size):
        yield part(batch, start, start + size)
