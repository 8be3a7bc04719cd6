"""Example figures: image, human map, saliency and attack side by side, as PNG and in loggers for images."""

from pathlib import Path

import lightning as L
import matplotlib as mpl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.evaluation import EvaluationHooks
from harmonizer.data.image import decode_rgb
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.summary import Outcome
from harmonizer.files import replacing
from harmonizer.functional import attack_map
from harmonizer.models import evaluation_saliency
from harmonizer.training.module import HarmonizerModule
from harmonizer.untrusted import file_name, inside

PANEL = 2.2  # inches
DPI = 150


class Gallery(L.Callback, EvaluationHooks):
    """Draw the first attacked images of each evaluation as PNG files, and in TensorBoard or W&B if used.

    Args:
        folder: Folder of the files, which the next evaluation replaces.
        images: Number of images, limited to the examples of the evaluation.
    """

    def __init__(self, folder: str | Path, *, images: int = 6) -> None:
        self.folder = Path(folder)
        self.images = images

    def on_evaluation_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outcome: Outcome, progress: Progress
    ) -> None:
        """Draw the examples, in the first process."""
        if not trainer.is_global_zero:
            return
        module = pl_module
        assert isinstance(module, HarmonizerModule)
        self.folder.mkdir(parents=True, exist_ok=True)
        for key, example in list(progress.examples.items())[: self.images]:
            image, adversarial = example["image"][None], example["adversarial"][None]
            label = torch.tensor([example["label"]], device=module.device)
            saliency = evaluation_saliency(module.model, image.to(module.device), label)[0].cpu()
            row = progress.rows[key]
            classes = module.hparams["classes"]
            figure = _panels(
                image[0],
                {
                    f"{classes[row.label]}: human map": example["human"],
                    "saliency": saliency,
                    f"attack, L2 {row.l2:.2f}": attack_map(adversarial, image)[0],
                },
                {f"attacked: {classes[row.prediction]}": adversarial[0]},
            )
            path = inside(self.folder, f"{file_name(key)}.png")
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=DPI, format="png")
            _send(trainer, f"examples/{key}", path)


def _send(trainer: L.Trainer, name: str, path: Path) -> None:
    """Log an image with the loggers that support images."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            array = decode_rgb(path.read_bytes())
            logger.experiment.add_image(name, array, trainer.global_step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step=trainer.global_step)


def _panels(image: Tensor, maps: dict[str, Tensor], images: dict[str, Tensor]) -> Figure:
    """Draw an image (3,H,W), maps (H,W) over it, and further images (3,H,W), with titles."""
    panels = [("image", _as_array(image))]
    panels += [(title, _overlaid(image, values)) for title, values in maps.items()]
    panels += [(title, _as_array(array)) for title, array in images.items()]
    figure = Figure(figsize=(PANEL * len(panels), PANEL + 0.25), layout="constrained")
    for axes, (title, array) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(array, interpolation="lanczos")
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_axis_off()
    return figure


def _as_array(image: Tensor) -> np.ndarray:
    """Return (H,W,3) in [0,1]."""
    array: np.ndarray = image.permute(1, 2, 0).clamp(0, 1).numpy()
    return array


def _overlaid(image: Tensor, values: Tensor) -> np.ndarray:
    """Overlay a coloured map, scaled to its 99th percentile, on the grey image; opacity grows with the map."""
    scale = max(float(torch.quantile(values.flatten().float(), 0.99)), 1e-12)
    strength = (values / scale).clamp(0, 1).numpy()
    grey = 0.35 + 0.5 * _as_array(image).mean(2, keepdims=True)
    colour = mpl.colormaps["inferno"](0.15 + 0.85 * strength)[..., :3]
    cover = 0.25 + 0.65 * strength[..., None]
    blended: np.ndarray = (1 - cover) * grey + cover * colour
    return blended.clip(0, 1)
