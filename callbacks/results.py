"""Write the results folder of an evaluation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import torch

from callbacks.evaluation import EvaluationHooks, data_of
from callbacks.plan import evaluation_facts
from harmonizer.cli.console import show_facts, show_lines
from harmonizer.data.datamodule import ShardData
from harmonizer.evaluation.examples import stack_examples
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.summary import Outcome, Protocol, request_of, summarise
from harmonizer.models import weights_digest
from harmonizer.results import (
    SUMMARY,
    Row,
    Work,
    clear_leftovers,
    different_settings,
    folder_name,
    load_results,
    refuse_existing,
    write_results,
)
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import FEWEST, Status
from harmonizer.training.module import HarmonizerModule


class ResultsWriter(L.Callback, EvaluationHooks):
    """Write the results folder of an evaluation.

    Rows are saved continuously (:class:`harmonizer.results.Work`), so that an interrupted evaluation resumes and ends
    with the same results.

    Args:
        results: Folder of results folders; the model's own is named by its label. See :mod:`harmonizer.results`.
        spec: Specification of the model.
        data_name: Name of the data set.
        overwrite: Replace existing results.
        family: Family of the model; None derives it from the training settings or the name.
        report: Function that gets the numbers of images measured and to measure; None prints the plan instead.

    Raises:
        ValueError: The family is unknown.
    """

    def __init__(
        self,
        results: str | Path,
        *,
        spec: ModelSpec,
        data_name: str,
        overwrite: bool = False,
        family: str | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        if family is not None and family not in FAMILIES:
            raise ValueError(f"expected a family of {', '.join(FAMILIES)}, got {family!r} for {spec.label}")
        self.folder = Path(results) / folder_name(spec.label)
        self.spec = spec
        self.data_name = data_name
        self.overwrite = overwrite
        self.family = family
        self.report = report
        self.work: Work | None = None
        self._before = 0.0  # seconds that interrupted evaluations took
        self._began = 0.0

    def is_done(self, data: ShardData, protocol: Protocol) -> bool:
        """Return whether the folder holds the results of this protocol on these data.

        Raises:
            FileExistsError: It holds other results, and ``overwrite`` is false.
            ValueError: The results are damaged.
        """
        if not (self.folder / SUMMARY).is_file():
            return False
        summary = load_results(self.folder).summary
        wanted = request_of(self.spec, data, protocol)
        if wanted["model"]["seed"] == 0:  # the default, which earlier versions did not record
            summary["model"].setdefault("seed", 0)
        different = different_settings(wanted, summary)
        different += [
            f"scores (without {name})" for name in protocol.scores if name not in (summary.get("scores") or {})
        ]
        if different and not self.overwrite:
            raise FileExistsError(
                f"{self.folder} holds results with other {', '.join(different)}; add overwrite=true to replace them, "
                "or choose results=FOLDER"
            )
        if not different:
            clear_leftovers(self.folder, done=True)
        return not different

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to start if results exist and ``overwrite`` is false."""
        refuse_existing(self.folder, overwrite=self.overwrite)

    def on_evaluation_start(self, trainer: L.Trainer, pl_module: L.LightningModule, progress: Progress) -> None:
        """Load the rows of an interrupted evaluation."""
        assert isinstance(pl_module, HarmonizerModule)
        request = request_of(self.spec, data_of(trainer), progress.protocol)
        request |= {"weights_sha256": weights_digest(pl_module.model), "at_once": progress.at_once}
        scores = progress.protocol.scores
        request |= {"scores": list(scores)} if scores else {}
        self.work = Work(self.folder, request, rank=trainer.global_rank, world=trainer.world_size, extra=scores)
        trainer.strategy.barrier()
        self.work.start()
        progress.rows |= self.work.rows
        for key, kept in self.work.examples.items():
            tensors = {name: torch.from_numpy(array) if array.ndim else array.item() for name, array in kept.items()}
            progress.examples[key] = tensors
        progress.eps_max = self.work.state.get("eps_max", progress.eps_max)
        progress.health = self.work.state.get("health")
        self._before, self._began = self.work.state.get("seconds", 0.0), time.monotonic()
        if self.report is None and trainer.is_global_zero:
            there = f", {len(self.work.rows)} of {progress.total} images already measured" if self.work.rows else ""
            facts = evaluation_facts(trainer, pl_module, progress, self.spec, self.data_name)
            show_facts(facts | {"results": f"{self.folder}{there}"})

    def on_images_attacked(self, trainer: L.Trainer, done: int, progress: Progress) -> None:
        """Report the progress."""
        if self.report is not None:
            self.report(min(done, progress.total), progress.total)

    def on_rows(
        self, trainer: L.Trainer, pl_module: L.LightningModule, rows: Sequence[Row], progress: Progress
    ) -> None:
        """Save rows, examples and the state that rows do not hold."""
        assert self.work is not None
        examples = progress.examples if trainer.is_global_zero else {}
        kept = {key: {name: np.asarray(value) for name, value in e.items()} for key, e in examples.items()}
        state = {"eps_max": progress.eps_max, "health": progress.health, "seconds": self._seconds()}
        self.work.keep(rows, kept, state)

    def on_evaluation_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outcome: Outcome, progress: Progress
    ) -> None:
        """Write the results, in the first process."""
        assert self.work is not None
        self.work.close()
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, HarmonizerModule)
        summary = summarise(
            replace(outcome, seconds=self._seconds()),
            pl_module,
            data_of(trainer),
            protocol=progress.protocol,
            spec=self.spec,
            data_name=self.data_name,
            family=self.family,
        )
        examples = stack_examples(
            pl_module.model,
            progress.examples,
            pl_module.device,
            rows=progress.rows,
            classes=pl_module.hparams["classes"],
        )
        write_results(self.folder, summary, outcome.rows, examples, overwrite=self.overwrite)
        self.work.remove()
        self._warn_of_few(outcome, samples=data_of(trainer).manifest.samples)

    def _warn_of_few(self, outcome: Outcome, *, samples: int) -> None:
        """Print a note if too few images were attacked for an interval."""
        attacked = sum(row.status != Status.WRONG for row in outcome.rows)
        if attacked < FEWEST:
            more = "; measure more with a larger images=N" if len(outcome.rows) < samples else ""
            show_lines(
                f"note: {self.spec.label}: {attacked} of {len(outcome.rows)} images are classified correctly and "
                f"attacked; the tolerance of fewer than {FEWEST} images is not informative{more}"
            )

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began
