"""Attack validation images once; feed perturbation tolerance and adversarial alignment."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.ceilings import image_ceilings
from callbacks.selection import Selection, parts
from harmonizer.attacks import AttackResult, check_attack, minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.metrics import AdversarialAlignment, PerturbationTolerance
from harmonizer.metrics.masks import alignment_by_mask
from harmonizer.module import HarmonizerModule
from harmonizer.statistics import FOUND, STATUSES

log = logging.getLogger(__name__)


class Robustness(L.Callback):
    """Measure how large the smallest fooling perturbation is, and how well it agrees with the human map.

    Logs ``val/tolerance_median``, ``val/tolerance_mean`` (of min(r, eps_max)), ``val/share_found``,
    ``val/share_censored``, ``val/share_wrong`` and ``val/adversarial_alignment`` (also ``_of_ceiling``), each over all
    processes.

    An interrupted evaluation goes on: images whose rows are put into ``known`` beforehand are not attacked again.

    Args:
        attack: Name, as :func:`harmonizer.attacks.minimal_radius` takes it.
        settings: The attack's settings.
        images: How many of the first validation images; None takes all.
        every_n_epochs: In training; see :class:`callbacks.selection.Selection`.
        at_once: Images attacked in one call, after which their rows can be kept; None takes a batch, and fewer on a
            CPU, which gains nothing from more.

    Attributes:
        known: Rows of an interrupted evaluation, by key; set before the validation starts.
        known_examples: Examples likewise.
        after_each: Called with the keys of the images of each call, when their rows are there.
        rows: Per image, by key: the attack's columns of :data:`harmonizer.results.COLUMNS`, and ``has_map``.
        examples: The first found images that have a map, by key: image, human map and adversarial on the CPU.
    """

    EXAMPLES = 8
    ON_CPU = 32

    def __init__(
        self,
        attack: str,
        settings: Mapping[str, Any] | None = None,
        *,
        images: int | None = None,
        every_n_epochs: int = 1,
        at_once: int | None = None,
    ) -> None:
        if at_once is not None and at_once < 1:
            raise ValueError(f"expected robustness.at_once >= 1 or null, got {at_once}")
        self.at_once = at_once
        self.attack = attack
        self.settings = dict(settings or {})
        check_attack(attack, self.settings)  # now, not after the first epochs
        self.selection = Selection(images, every_n_epochs)
        self.tolerance = PerturbationTolerance(self.settings.get("eps_max", 10.0))
        self.alignment = AdversarialAlignment()
        self.known: dict[str, dict[str, Any]] = {}
        self.known_examples: dict[str, dict[str, Any]] = {}
        self.after_each: Callable[[Sequence[str]], None] = lambda keys: None
        self.rows: dict[str, dict[str, Any]] = {}
        self.examples: dict[str, dict[str, Any]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation."""
        if self.selection.start(trainer):
            self.rows, self.examples = {}, dict(self.known_examples)
        self.tolerance = self.tolerance.to(pl_module.device)
        self.alignment = self.alignment.to(pl_module.device)
        self.tolerance.reset()
        self.alignment.reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the logits; not needed
        batch: Any,  # noqa: ANN401 - a Batch; Lightning types it so
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Attack the batch, outside of the metrics: torchmetrics disables gradients."""
        chosen = self.selection.take(trainer, batch)
        if chosen is None:
            return
        assert isinstance(pl_module, HarmonizerModule)
        size = self.at_once or (self.ON_CPU if pl_module.device.type == "cpu" else len(chosen.labels))
        for few in parts(chosen, size):
            ceilings = image_ceilings(trainer, few.keys)
            if all(key in self.known for key in few.keys):
                self._recall(few, ceilings)
            else:  # all of them again if one is missing: the same company gives the same bits
                self._attack(pl_module, few, ceilings)
            self.after_each(few.keys)

    def _attack(self, module: HarmonizerModule, batch: Batch, ceilings: Tensor | None) -> None:
        """Attack images and keep what comes out."""
        result = minimal_radius(
            module.model, batch.images, batch.labels, attack=self.attack, keys=batch.keys, **self.settings
        )
        self.tolerance.eps_max = result.eps_max
        self.tolerance.update(result.status, result.l2, batch.keys)
        self.alignment.update(
            result.adversarial,
            batch.images,
            batch.human,
            status=result.status,
            has_map=batch.has_map,
            ceilings=ceilings,
            keys=batch.keys,
        )
        self._keep(batch, result)

    def _recall(self, batch: Batch, ceilings: Tensor | None) -> None:
        """Take the rows of images that an earlier process attacked."""
        rows = [self.known[key] for key in batch.keys]
        for row, has_map in zip(rows, batch.has_map.tolist(), strict=True):
            self.rows[row["key"]] = row | {"has_map": has_map}
        status = torch.tensor([STATUSES.index(row["status"]) for row in rows])
        self.tolerance.update(status, torch.tensor([row["l2"] for row in rows], dtype=torch.float64), batch.keys)
        counts = (status == FOUND) & batch.has_map.cpu()
        correlations = torch.tensor([row["alignment"] for row in rows], dtype=torch.float64)[counts]
        keys = [key for key, counted in zip(batch.keys, counts.tolist(), strict=True) if counted]
        self.alignment.add(correlations, ceilings=None if ceilings is None else ceilings[counts], keys=keys)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores; every process takes part."""
        if not self.selection.due:
            return
        tolerance, alignment = self.tolerance.compute(), self.alignment.compute()
        images = max(float(tolerance["n"]), 1)
        scores = {
            "tolerance_median": tolerance["median"],
            "tolerance_mean": tolerance["restricted_mean"],
            "tolerance_mean_se": tolerance["restricted_mean_se"],
            "adversarial_alignment": alignment["mean"],
            "adversarial_alignment_se": alignment["se"],
            "adversarial_alignment_of_ceiling": alignment["share_of_ceiling"],
            **{f"share_{status}": tolerance[f"n_{status}"] / images for status in STATUSES},
        }
        for name, value in scores.items():
            pl_module.log(f"val/{name}", float(value), rank_zero_only=True)

    def _keep(self, batch: Batch, result: AttackResult) -> None:
        """Keep the batch's rows and, while there is room, its examples."""
        scale = batch.images[0].numel() ** -0.5
        counts = (result.status == FOUND) & batch.has_map
        masks = alignment_by_mask(result.adversarial, batch.images, batch.human, counts)
        for i, key in enumerate(batch.keys):
            status = STATUSES[int(result.status[i])]
            self.rows[key] = {
                "key": key,
                "label": int(batch.labels[i]),
                "prediction": int(result.prediction[i]),
                "status": status,
                "eps": float(result.eps[i]),
                "l2": float(result.l2[i]),
                "rms": float(result.l2[i]) * scale,
                "linf": float(result.linf[i]),
                "alignment": float(self.alignment.latest[i]),
                "forwards": int(result.forwards[i]),
                "backwards": int(result.backwards[i]),
                "has_map": bool(batch.has_map[i]),
                **{f"alignment_{mask}": float(values[i]) for mask, values in masks.items()},
            }
            if status == "found" and batch.has_map[i] and len(self.examples) < self.EXAMPLES:
                arrays = {"image": batch.images, "human": batch.human, "adversarial": result.adversarial}
                self.examples[key] = {name: array[i].float().cpu() for name, array in arrays.items()}
                self.examples[key]["label"] = int(batch.labels[i])
