"""The state of a running evaluation, in Python and under a trainer."""

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
    """The state of a running evaluation in this process."""

    protocol: Protocol
    total: int  # number of images to measure, over all processes
    at_once: int | None = None  # images attacked in one call; None depends on the device
    rows: dict[str, Row] = field(default_factory=dict)  # rows by key; images with a row are not attacked again
    # first found images with a map, by key: image, human map, adversarial and label
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    eps_max: float = 10.0  # largest radius that the attack searches
    health: dict[str, Any] | None = None  # finished gradient-masking report, as plain values
    masking: MaskingReport | None = None  # collects images for this report; None makes none
    decision: Decision | None = None  # decision between superclasses; None decides between the classes
    others: OtherMaps | None = None  # human maps of other images, for scores that need them

    def prepare(self, classes: Sequence[str], data: ShardData | None) -> None:
        """Set the fields that depend on the data: decision and human maps of other images."""
        self.decision = self.protocol.decide(classes)
        if data is not None and NULL in self.protocol.scores:
            self.others = OtherMaps.of(data.spread_samples(POOL))

    def measure(
        self, model: nn.Module, batch: Batch, device: torch.device, report: Callable[[int], None]
    ) -> Iterator[tuple[Batch, list[Row]]]:
        """Measure a batch in parts; yield each part with its rows.

        Args:
            model: Maps images (B,3,H,W) in [0,1] to logits (B,K).
            batch: B images.
            device: Device of the model.
            report: Function that gets the number of images attacked so far.
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
                known=known if len(known) == len(part.keys) else None,  # else the whole part, for identical bits
                on_attack=lambda result, part=part: self._keep(result, part),  # type: ignore[misc]
                progress=lambda done, _, before=before: report(before + done),
                **self.protocol.settings,
            )
            self.rows |= {row.key: row for row in rows}
            if self.masking is not None:
                self.masking.collect(part, rows, self.decision)
            yield part, rows

    def _keep(self, result: AttackResult, batch: Batch) -> None:
        """Keep the results that rows do not hold."""
        self.eps_max = result.eps_max
        keep_examples(self.examples, batch, result)
