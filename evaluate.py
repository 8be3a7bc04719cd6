"""Measure one checkpoint or timm model; ``python evaluate.py --help`` tells how."""

import sys
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from harmonizer.cli import clear_errors, command_line


def evaluate(config: DictConfig) -> Path:
    """Measure one model; return the results folder that it wrote."""
    subject = instantiate(config.subject)
    data = instantiate(config.data, model=subject.model, image_size=subject.image_size)
    module = subject.build(data.classes)
    callbacks = list(instantiate(config.callbacks).values())
    writer = instantiate(config.writer, subject=subject)
    trainer = instantiate(config.trainer, callbacks=[*callbacks, writer], logger=False)
    trainer.validate(module, data, verbose=False)
    return Path(writer.folder)


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
@clear_errors
def main(config: DictConfig) -> None:
    """Evaluate as the command line says."""
    folder = evaluate(config)
    sys.stdout.write(f"results: {folder}\n")


if __name__ == "__main__":
    command_line(main)
