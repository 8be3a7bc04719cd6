"""Loaders that count what they leave out, and a training loader that can go on in the middle of an epoch."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from harmonizer.data.batch import Batch
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.sampling import EvaluationBatches, TrainBatches

log = logging.getLogger(__name__)

HELD_BACK = {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
REPEATED = 'put "repeated_keys": true into their manifest, so that samples are named by shard and key'
NAMED = 5  # damaged samples that the log names, for each pass over the data


class BatchLoader(DataLoader[Any]):
    """Load batches; damaged samples are left out where the data set says so, named in the log and counted.

    Args:
        dataset: Samples.
        batches: Their order.
        seed: Of the workers.
        num_workers: Loading processes; 0 loads in this one. The batches do not depend on it.
        start_method: Of the workers: ``fork``, ``spawn`` or ``forkserver``; None is the platform's.

    Attributes:
        skipped: Samples left out since the start of the last iteration.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batches: TrainBatches | EvaluationBatches | list[list[SampleIndex]],
        *,
        seed: int = 0,
        num_workers: int = 0,
        start_method: str | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_as_loaded,
            worker_init_fn=_obey_only_the_parent,
            # A generator of its own: starting an epoch leaves the global one, and so dropout, as it was.
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context=start_method if num_workers else None,
        )
        self.skipped = 0

    def __len__(self) -> int:
        return max(1, super().__len__())  # at 0, Lightning leaves out the loop and, on this rank only, its collectives

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.skipped = 0
        with _signals_held_back():
            batches = super().__iter__()
        names: set[str] = set()
        for batch, problems in batches:
            for problem in problems:
                self.skipped += 1
                if self.skipped <= NAMED:
                    log.warning("skipped: %s%s", problem, "; more are counted only" * (self.skipped == NAMED))
            if isinstance(self.batch_sampler, EvaluationBatches):
                for name in batch.keys:  # metrics and results would take two images for one
                    if name in names:
                        place = self.dataset.folders[0].location  # type: ignore[attr-defined]
                        raise ValueError(f"two samples of {place} are named {name!r}; {REPEATED}")
                    names.add(name)
            if batch.keys:
                yield batch
            else:
                self._lost(problems)

    def _lost(self, problems: list[str]) -> None:
        """Deal with a batch of which no sample can be used: an evaluation goes on without it."""


class TrainLoader(BatchLoader):
    """Load training batches; its state is the epoch and the number of batches handed out in it.

    A resumed run sees the samples that an uninterrupted one would have seen, with any number of workers. With another
    number of processes or another batch size, the batches of an epoch are others: then it goes on with the next epoch,
    and is refused where there is none.

    Args:
        dataset: Samples.
        batches: Their order.
        epochs: How many there are; None knows no end.
        num_workers: As for :class:`BatchLoader`.
        start_method: As for :class:`BatchLoader`.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batches: TrainBatches,
        *,
        epochs: int | None = None,
        num_workers: int = 0,
        start_method: str | None = None,
    ) -> None:
        super().__init__(dataset, batches, seed=batches.seed, num_workers=num_workers, start_method=start_method)
        self.batches = batches
        self.epochs = epochs
        self.handed_out = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.handed_out = self.batches.skip
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch comes from; Lightning keeps it in checkpoints."""
        finished, batch = divmod(self.handed_out, len(self))
        return {"epoch": self.batches.epoch + finished, "batch": batch} | self._shape()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there with the next iteration.

        Raises:
            ValueError: Nothing would be left to train.
        """
        self.batches.epoch = int(state["epoch"])
        self.batches.skip = int(state["batch"])
        changes = [
            f"{name} ({state[name]} -> {now})" for name, now in self._shape().items() if state.get(name, now) != now
        ]
        if changes and self.batches.skip:
            location = f"from the middle of epoch {self.batches.epoch} ({self.batches.skip} batches in)"
            found = f"the checkpoint is {location} of a run with other {', '.join(changes)}"
            if self.epochs is not None and self.batches.epoch == self.epochs - 1:
                raise ValueError(f"{found}, and that epoch is the last: finish it as it was begun")
            if self.batches.rank == 0:
                log.warning("%s: the rest of that epoch is skipped, and training continues with the next one", found)
            self.batches.skip = len(self)

    def _shape(self) -> dict[str, int]:
        """Return what an epoch's batches depend on, beside seed and data."""
        return {"processes": self.batches.world, "batch size": self.batches.batch_size, "steps an epoch": len(self)}

    def _lost(self, problems: list[str]) -> None:
        """Refuse to train with fewer steps than on the other processes."""
        raise ValueError(f"no sample of a whole batch can be used; the first: {problems[0]}")


def _as_loaded(loaded: Any) -> Any:  # noqa: ANN401 - a LoadedBatch; the data set has collated it already
    """Return a loaded batch as it is."""
    return loaded


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start processes that a scheduler's signals, sent to all processes of a job, do not end: the training ends them.

    They inherit the mask, from their first instruction on; :func:`_obey_only_the_parent` then takes the signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_only_the_parent(worker: int) -> None:
    """End a loading process when the training terminates it, as it does when it leaves, and at no one else's signal."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        while True:
            sent = signal.sigwaitinfo(HELD_BACK)
            if parent is not None and sent.si_signo == signal.SIGTERM and sent.si_pid == parent.pid:
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
