"""Print the plan of a training or an evaluation, and the results of a training."""

import sys
from pathlib import Path

import lightning as L

from callbacks.evaluation import data_of
from harmonizer.cli.console import print_next, print_rank_zero, show_facts
from harmonizer.cli.programs import program
from harmonizer.data.datamodule import ShardData
from harmonizer.data.shards.manifest import Manifest
from harmonizer.evaluation.decision import CLASSES, protocol_name
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.summary import device_name
from harmonizer.models.factories import is_code
from harmonizer.results.families import condition
from harmonizer.run import BEST, LAST
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.optim import scaled_lr
from harmonizer.training.settings import OptimSettings


class TrainingPlan(L.Callback):
    """Print the plan before a training, and its files and the next command afterwards.

    Args:
        recipe: Name of the recipe, if it has one.
        data_name: Name of the data set.
        folder: Run folder.
        attack: Name of the attack during training.
        decision: Decision that the attack has to change.
        images: Number of attacked images; None attacks all.
        every_n_epochs: Epochs between attacks; 0 never attacks.
    """

    def __init__(
        self,
        recipe: str | None,
        data_name: str,
        folder: str | Path,
        *,
        attack: str,
        decision: str = CLASSES,
        images: int | None = None,
        every_n_epochs: int = 1,
    ) -> None:
        self.recipe = recipe
        self.data_name = data_name
        self.folder = Path(folder)
        self.attack = protocol_name(attack, decision)
        self.images = images
        self.every_n_epochs = every_n_epochs

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the plan."""
        if stage == "fit" and trainer.is_global_zero:
            assert isinstance(pl_module, HarmonizerModule)
            data = data_of(trainer)
            start = f"resumes from {Path(trainer.ckpt_path).name}" if trainer.ckpt_path else "a new run"
            show_facts(
                {
                    "model": self._model(pl_module),
                    "device": _device(trainer),
                    "data": _data(data, self.data_name),
                    "training": "; ".join(f"{_samples(manifest)} from {place}" for place, manifest in data.training()),
                    "validation": f"{_samples(data.manifest)} from {data.val}",
                    "recipe": self._recipe(trainer, pl_module.optim_settings),
                    "attack": self._attack(data),
                    "run folder": f"{self.folder}, {start}",
                }
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the step of a resumed run."""
        if trainer.global_step:
            print_rank_zero(
                f"resuming in epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, after step {trainer.global_step}"
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the files and the next command, unless the training was stopped."""
        if stage != "fit" or not trainer.is_global_zero or trainer.current_epoch < (trainer.max_epochs or 0):
            return
        best = next((path for path in (self.folder / BEST, self.folder / LAST) if path.exists()), None)
        if best is not None:
            names = (BEST, LAST, "config.json", "logs", "examples")
            left = ", ".join(name for name in names if (self.folder / name).exists())
            print_rank_zero(f"done: {self.folder} holds {left}")
            print_next(*_evaluation(best))

    def _model(self, module: HarmonizerModule) -> str:
        settings = module.hparams
        loss, kind = module.loss_settings, condition(settings)
        if settings["harmonize"]:
            kind += f" (lambda {loss.harmonizer_weight:g}{_after(loss.harmonizer_start)})"
        if loss.adversarial != "none":
            attack = f"L2 {loss.adversarial_eps:g}, steps {loss.attack_steps}{_after(loss.adversarial_start)}"
            kind += f", adversarial by {loss.adversarial} ({attack})"
        start = f"from {settings['weights']}" if settings["weights"] else "from published weights"
        start = start if settings["weights"] or settings["pretrained"] else "from scratch"
        return f"{settings['model']}, {parameters(module)}, {kind}, {start}"

    def _attack(self, data: ShardData) -> str:
        if not self.every_n_epochs:
            return "none during training"
        samples = data.manifest.samples
        images = samples if self.images is None else min(self.images, samples)
        every = self.every_n_epochs
        when = "after each epoch" if every == 1 else f"every {every} epochs and after the last"
        return f"{self.attack} on {images} validation images, {when}"

    def _recipe(self, trainer: L.Trainer, settings: OptimSettings) -> str:
        data, steps = data_of(trainer), trainer.accumulate_grad_batches
        processes = f" on each of {trainer.world_size} processes" if trainer.world_size > 1 else ""
        accumulated = f", {steps} batches per step" if steps > 1 else ""
        batches = f"{data.train_batches()} batches of {data.batch_size}{processes}{accumulated}"
        lr = scaled_lr(settings.lr, settings.lr_batch, data.batch_size * trainer.world_size * steps)
        rate = f"{settings.optimizer}, lr {lr:g} ({settings.schedule})"
        return f"{self.recipe or 'of your own'}: {rate}, {trainer.max_epochs} epochs of {batches}"


def _after(start: float) -> str:
    """Return when a loss or an attack starts; empty if at once.

    >>> _after(0.7), _after(0.0)
    (', after 70 % of the steps', '')
    """
    return f", after {100 * start:g} % of the steps" if start else ""


def evaluation_facts(
    trainer: L.Trainer, module: HarmonizerModule, progress: Progress, spec: ModelSpec, data_name: str
) -> dict[str, str]:
    """Return the facts of an evaluation: model, device, data and attack."""
    data, protocol = data_of(trainer), progress.protocol
    settings = "".join(f", {name} {value}" for name, value in protocol.settings.items())
    return {
        "model": f"{spec.label}: {spec.model}, {parameters(module)}, {spec.origin}",
        "device": _device(trainer),
        "data": _data(data, data_name),
        "validation": f"{_samples(data.manifest)} from {data.val}",
        "attack": f"{protocol.name} on {progress.total} of them{settings}",
    }


def parameters(module: HarmonizerModule) -> str:
    """Format the number of parameters of a module."""
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M parameters"


def _device(trainer: L.Trainer) -> str:
    name = device_name(trainer.strategy.root_device)
    return f"{name}, {trainer.world_size} process{'es' * (trainer.world_size > 1)}, precision {trainer.precision}"


def _data(data: ShardData, name: str) -> str:
    return f"{name}, {len(data.classes)} classes, {data.image_size} x {data.image_size} px"


def _samples(manifest: Manifest) -> str:
    maps = sum(shard.maps for shard in manifest.shards)
    return f"{manifest.samples} images ({maps} with human maps)"


def _evaluation(checkpoint: Path) -> list[str]:
    """Return the command that evaluates a checkpoint on the same data."""
    words = [word for word in sys.argv[1:] if word.startswith(("data=", "data."))]
    words += [word for word in sys.argv[1:] if word.startswith("model=") and is_code(word.removeprefix("model="))]
    return [*program("evaluate"), f"ckpt={checkpoint}", *words]
