"""A training loader that can go on in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from harmonizer.data.batch import Batch
from harmonizer.data.dataset import ShardDataset, collate
from harmonizer.data.sampling import EvaluationBatches, TrainBatches


class TrainLoader(DataLoader[Any]):
    """Load training batches; its state is the epoch and the number of batches handed out in it.

    Args:
        dataset: Samples.
        batches: Their order.
        num_workers: Loading processes; 0 loads in this one.
    """

    def __init__(self, dataset: ShardDataset, batches: TrainBatches, *, num_workers: int = 0) -> None:
        # A generator of its own: starting an epoch leaves the global one, and so dropout, as it was.
        generator = torch.Generator().manual_seed(batches.seed)
        super().__init__(
            dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=collate, generator=generator
        )
        self.batches = batches
        self.handed_out = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.handed_out = self.batches.skip
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch comes from; Lightning keeps it in checkpoints."""
        finished, batch = divmod(self.handed_out, len(self))
        return {"epoch": self.batches.epoch + finished, "batch": batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there with the next iteration."""
        self.batches.epoch = int(state["epoch"])
        self.batches.skip = int(state["batch"])


def evaluation_loader(dataset: ShardDataset, batches: EvaluationBatches, *, num_workers: int = 0) -> DataLoader[Any]:
    """Load every sample once, in order."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=collate, generator=generator)
