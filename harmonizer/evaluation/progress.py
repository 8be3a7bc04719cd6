"""An evaluation while it runs: in Python and under a trainer alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from harmonizer.attacks import AttackResult, Decision
from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData
from harmonizer.evaluation.alignments import NULL, POOL, OtherMaps
from harmonizer.evaluation.examples import keep_examples
from harmonizer.evaluation.masking import MaskingReport
from harmonizer.evaluation.measure import images_at_once, measure_batch
from harmonizer.evaluation.summary import Protocol
from harmonizer.results import Row


@dataclass
class Progress:
    """An evaluation while it runs, in this process."""

    protocol: Protocol  # how images are measured
    total: int  # images to measure, over all processes
    at_once: int | None = None  # images attacked in one call; None takes what the device can use
    # per image, by key, so far; those that are there when it starts are not attacked again
    rows: dict[str, Row] = field(default_factory=dict)
    # the first found images that have a map, by key: image, human map, adversarial and label
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    eps_max: float = 10.0  # largest radius that the attack searches
    health: dict[str, Any] | None = None  # the gradient-masking report, as plain values; None before it is made
    masking: MaskingReport | None = None  # collects images for that report; None makes none
    decision: Decision | None = None  # between superclasses; None is between the classes
    others: OtherMaps | None = None  # human maps of other images, for scores that need them

    def prepare(self, classes: Sequence[str], data: ShardData | None) -> None:
        """Set what depends on the data: the decision over its classes, and human maps of other images."""
        self.decision = self.protocol.decide(classes)
        if data is not None and NULL in self.protocol.scores:
            self.others = OtherMaps.of(data.spread_samples(POOL))

    def measure(
        self, model: nn.Module, batch: Batch, device: torch.device, report: Callable[[int], None]
    ) -> Iterator[tuple[Batch, list[Row]]]:
        """Measure a batch; yield each part with its rows, once they are kept.

        Args:
            model: Maps images (B,3,H,W) in [0,1] to logits (B,K).
            batch: B images.
            device: Of the model.
            report: Called with the number of images attacked so far.
        """
        size = self.at_once or images_at_once(device, len(batch.labels))
        for start in range(0, len(batch.labels), size):
            part, before = batch.part(start, start + size), len(self.rows)
            known = [self.rows[key] for key in part.keys if key in self.rows]
            rows = measure_batch(
                model,
                part,
                self.protocol.attack,
                decision=self.decision,
                scores=self.protocol.scores,
                others=self.others,
                known=known if len(known) == len(part.keys) else None,  # else all: the same batch gives the same bits
                on_attack=lambda result, part=part: self._keep(result, part),  # type: ignore[misc]
                progress=lambda done, _, before=before: report(before + done),
                **self.protocol.settings,
            )
            self.rows |= {row.key: row for row in rows}
            if self.masking is not None:
                self.masking.collect(part, rows, self.decision)
            yield part, rows

    def _keep(self, result: AttackResult, batch: Batch) -> None:
        """Keep what rows do not hold."""
        self.eps_max = result.eps_max
        keep_examples(self.examples, batch, result)
