"""Write an evaluation's results folder."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from callbacks.alignment import FeatureAlignment
from callbacks.health import Health
from callbacks.robustness import Robustness
from callbacks.summary import callbacks_of, card_of, data_of, find, images_measured, request_of, summarise
from harmonizer.checkpoint import Subject
from harmonizer.data.datamodule import ShardData
from harmonizer.data.loader import REPEATED
from harmonizer.models import evaluation_saliency, weights_digest
from harmonizer.module import HarmonizerModule
from harmonizer.report.families import FAMILIES
from harmonizer.results import (
    COLUMNS,
    Work,
    clear_leftovers,
    different_settings,
    folder_name,
    load_results,
    refuse_existing,
    write_results,
)


class ResultsWriter(L.Callback):
    """Gather the rows of the measuring callbacks over all processes and write the results folder.

    Rows are kept on the disk as they come (:class:`harmonizer.results.Work`): an evaluation that is interrupted and
    started again goes on where it was, and ends with the same results.

    Args:
        results: Folder of results folders; the model's own is named by its label. See :mod:`harmonizer.results`.
        subject: What is measured.
        data_name: Of the data set.
        overwrite: Replace results that are there.
        family: Of the model; None takes it from its training or guesses it from its name.
        report: Called with (images measured, images to measure) as the measurement goes on.
    """

    def __init__(
        self,
        results: str | Path,
        *,
        subject: Subject,
        data_name: str,
        overwrite: bool = False,
        family: str | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        if family is not None and family not in FAMILIES:
            raise ValueError(f"expected a family of {', '.join(FAMILIES)}, got {family!r} for {subject.label}")
        self.folder = Path(results) / folder_name(subject.label)
        self.subject = subject
        self.data_name = data_name
        self.overwrite = overwrite
        self.family = family
        self.report = report
        self.work: Work | None = None
        self.start = 0.0

    def is_done(self, data: ShardData, callbacks: Sequence[L.Callback]) -> bool:
        """Tell whether the folder holds what these callbacks would measure on these data.

        Raises:
            FileExistsError: It holds other results, which are not to be overwritten.
            ValueError: They are damaged.
        """
        if not self.folder.exists():
            return False
        summary = load_results(self.folder).summary
        wanted = request_of(self.subject, data, find(callbacks, Robustness))
        if wanted["model"]["seed"] == 0:  # the default, which earlier versions did not write down
            summary["model"].setdefault("seed", 0)
        different = different_settings(wanted, summary)
        if different and not self.overwrite:
            raise FileExistsError(
                f"{self.folder} holds results with other {', '.join(different)}; add overwrite=true to replace them, "
                "or choose results=FOLDER"
            )
        if not different:
            clear_leftovers(self.folder, done=True)
        return not different

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to measure for nothing; take up the work of an interrupted evaluation."""
        refuse_existing(self.folder, overwrite=self.overwrite)
        assert isinstance(pl_module, HarmonizerModule)
        callbacks, data = callbacks_of(trainer), data_of(trainer)
        robustness = find(callbacks, Robustness)
        if callbacks.index(find(callbacks, FeatureAlignment)) > callbacks.index(robustness):
            raise ValueError("expected the FeatureAlignment callback before Robustness, which makes whole rows of both")
        weights = weights_digest(pl_module.model)
        request = request_of(self.subject, data, robustness) | {
            "weights_sha256": weights,
            "at_once": robustness.at_once,
        }
        self.work = Work(self.folder, request, rank=trainer.global_rank, world=trainer.world_size)
        trainer.strategy.barrier()
        self.work.start()
        robustness.known = self.work.rows.copy()
        robustness.known_examples = {key: _tensors(example) for key, example in self.work.examples.items()}
        robustness.tolerance.eps_max = self.work.state.get("eps_max", robustness.tolerance.eps_max)
        robustness.after_each = lambda keys: self._keep(trainer, keys)
        if health := [callback for callback in callbacks if isinstance(callback, Health)]:
            health[0].card = self.work.state.get("health")
        self.start = time.monotonic() - self.work.state.get("seconds", 0.0)

    def _keep(self, trainer: L.Trainer, keys: Sequence[str]) -> None:
        """Keep the rows of a few images, and report."""
        assert self.work is not None
        robustness = find(callbacks_of(trainer), Robustness)
        rows = self._rows(trainer)
        examples = robustness.examples if trainer.is_global_zero else {}
        kept = {key: {name: np.asarray(value) for name, value in e.items()} for key, e in examples.items()}
        self.work.keep([rows[key] for key in keys], kept, self._state(trainer))
        if self.report is not None:
            self.report(len(rows) * trainer.world_size, images_measured(data_of(trainer), robustness))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the logits; not needed
        batch: Any,  # noqa: ANN401 - a Batch; Lightning types it so
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the health card, which comes with the first batch."""
        if batch_idx == 0 and trainer.is_global_zero and self.work is not None:
            self.work.save(self._state(trainer))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, in one process."""
        if trainer.sanity_checking:
            return
        assert self.work is not None
        self.work.close()
        rows = _gathered(self._rows(trainer))
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, HarmonizerModule)
        robustness = find(callbacks_of(trainer), Robustness)
        ordered = [rows[key] for key in sorted(rows)]
        summary = summarise(
            trainer,
            pl_module,
            ordered,
            subject=self.subject,
            accuracy=accuracy,
            data_name=self.data_name,
            family=self.family,
            seconds=time.monotonic() - self.start,
        )
        table = [{name: row[name] for name in COLUMNS} for row in ordered]
        write_results(self.folder, summary, table, _examples(pl_module, robustness), overwrite=self.overwrite)
        self.work.remove()

    def _rows(self, trainer: L.Trainer) -> dict[str, dict[str, Any]]:
        """Return this process's rows: those of the attack with feature alignment; kept ones as they were."""
        robustness, alignment = find(callbacks_of(trainer), Robustness), find(callbacks_of(trainer), FeatureAlignment)
        undefined = {"feature_alignment": np.nan}
        return {
            key: alignment.rows.get(key, undefined) | row  # a kept row has its own feature alignment
            for key, row in robustness.rows.items()
        }

    def _state(self, trainer: L.Trainer) -> dict[str, Any]:
        """Return the numbers that rows do not hold."""
        eps_max = find(callbacks_of(trainer), Robustness).tolerance.eps_max
        return {"eps_max": eps_max, "health": card_of(trainer), "seconds": time.monotonic() - self.start}


def _tensors(example: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a kept example back into what Robustness made it of."""
    return {name: torch.from_numpy(array) if array.ndim else array.item() for name, array in example.items()}


def _gathered(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge every process's rows, each image once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    gathered: list[dict[str, dict[str, Any]]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, rows)
    merged = {key: row for part in gathered for key, row in part.items()}
    if len(merged) < sum(map(len, gathered)):
        twice = next(key for key, count in Counter(key for part in gathered for key in part).items() if count > 1)
        raise ValueError(f"two samples are named {twice!r}; {REPEATED}")
    return merged


def _examples(module: HarmonizerModule, robustness: Robustness) -> dict[str, np.ndarray] | None:
    """Stack the attacked examples, with their saliency."""
    kept = robustness.examples
    if not kept:
        return None
    arrays = {name: torch.stack([e[name] for e in kept.values()]) for name in ("image", "human", "adversarial")}
    labels = torch.tensor([example["label"] for example in kept.values()])
    device = module.device
    saliency = evaluation_saliency(module.model, arrays["image"].to(device), labels.to(device)).cpu()
    arrays["saliency"] = saliency
    return {"keys": np.array(list(kept)), **{name: array.numpy() for name, array in arrays.items()}}
