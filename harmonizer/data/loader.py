"""Loaders that count skipped samples, and a training loader that can resume in the middle of an epoch."""

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
NAMED = 5  # damaged samples named in the log, per pass over the data


class BatchLoader(DataLoader[Any]):
    """Load batches; damaged samples that the data set skips are logged and counted.

    Args:
        dataset: Samples.
        batches: Indices of the samples of each batch.
        seed: Seed of the workers.
        num_workers: Loading processes; 0 loads in this one. The batches do not depend on it.
        start_method: Start method of the workers: ``fork``, ``spawn`` or ``forkserver``; None is the platform's.

    Attributes:
        skipped: Samples skipped since the start of the last iteration.
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
            worker_init_fn=_ignore_other_signals,
            # With a separate generator, starting an epoch does not change the global one, and so dropout.
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context=start_method if num_workers else None,
        )
        self.skipped = 0

    def __len__(self) -> int:
        return max(1, super().__len__())  # at 0, Lightning skips the loop and, on this rank only, its collectives

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
                for name in batch.keys:  # metrics and results would merge two images of the same name
                    if name in names:
                        place = self.dataset.folders[0].location  # type: ignore[attr-defined]
                        raise ValueError(f"two samples of {place} are named {name!r}; {REPEATED}")
                    names.add(name)
            if batch.keys:
                yield batch
            else:
                self._on_empty_batch(problems)

    def _on_empty_batch(self, problems: list[str]) -> None:
        """Handle a batch without usable samples; an evaluation continues without it."""


class TrainLoader(BatchLoader):
    """Load training batches; the state is the epoch and the number of batches already yielded in it.

    A resumed run gets the same samples as an uninterrupted one, with any number of workers. Another number of processes
    or another batch size changes the batches of an epoch: the run then resumes with the next epoch, or is refused if
    there is none.

    Args:
        dataset: Samples.
        batches: Indices of the samples of each batch.
        epochs: Number of epochs; None is unlimited.
        workers: ``num_workers`` and ``start_method`` of :class:`BatchLoader`.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batches: TrainBatches,
        *,
        epochs: int | None = None,
        **workers: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(dataset, batches, seed=batches.seed, **workers)
        self.batches = batches
        self.epochs = epochs
        self.handed_out = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.handed_out = self.batches.skip
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the next batch, which Lightning stores in checkpoints."""
        finished, batch = divmod(self.handed_out, len(self))
        return {"epoch": self.batches.epoch + finished, "batch": batch} | self._shape()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the position of the next iteration.

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
                raise ValueError(f"{found}, and that epoch is the last; finish it with the old settings")
            if self.batches.rank == 0:
                log.warning("%s: the rest of that epoch is skipped, and training continues with the next one", found)
            self.batches.skip = len(self)

    def _shape(self) -> dict[str, int]:
        """Return the settings on which an epoch's batches depend, besides seed and data."""
        return {"processes": self.batches.world, "batch size": self.batches.batch_size, "steps an epoch": len(self)}

    def _on_empty_batch(self, problems: list[str]) -> None:
        """Raise an error, because this process would take fewer steps than the others."""
        raise ValueError(f"no sample of a batch can be used; the first problem: {problems[0]}")


def _as_loaded(loaded: Any) -> Any:  # noqa: ANN401 - a LoadedBatch, already collated by the data set
    """Return a loaded batch unchanged."""
    return loaded


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start processes that do not end at a scheduler's signals, which all processes of a job get.

    They inherit the signal mask; :func:`_ignore_other_signals` then handles the signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_other_signals(worker: int) -> None:
    """End a loading process at SIGTERM from its parent, and ignore signals from all other processes."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        while True:
            sent = signal.sigwaitinfo(HELD_BACK)
            if parent is not None and sent.si_signo == signal.SIGTERM and sent.si_pid == parent.pid:
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
