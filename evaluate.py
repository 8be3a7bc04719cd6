"""Measure one model or a list of models; see ``python evaluate.py --help``."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, open_dict

from configs.build import build, build_all
from harmonizer.cli import clear_errors, command_line
from harmonizer.cli.console import print_results_next
from harmonizer.results import lock_results


def evaluate(config: DictConfig) -> Path:
    """Measure one model; return its results folder."""
    spec = build(config.spec)
    with lock_results(Path(config.results), spec.label, ranks=True):
        return measure(config, spec)


def measure(config: DictConfig, spec: Any, *, skip_done: bool = False, **details: object) -> Path | None:  # noqa: ANN401
    """Measure a model, resuming an interrupted evaluation; return None if it is already done."""
    data = build(config.data, model=spec.source, image_size=config.attack_size or spec.image_size, **config.geometry)
    callbacks = build_all(config.callbacks)
    writer = build(config.writer, spec=spec, **details)
    if skip_done and writer.is_done(data, callbacks["evaluation"].protocol):
        return None
    build(config.numerics)
    build(config.seeding)
    trainer = build(config.trainer, callbacks=[*callbacks.values(), writer], logger=False)
    module = spec.build(data.classes, data, trainer.strategy.root_device)
    trainer.validate(module, data, verbose=False)
    return Path(writer.folder)


def sweep(config: DictConfig) -> int:
    """Measure a list of models, with a progress bar instead of tables; return the exit status."""
    if config.trainer.devices != 1:
        raise ValueError("expected a sweep with one device; start it once per device, without --trainer")
    with open_dict(config):
        config.trainer.enable_progress_bar = False
        del config.callbacks.progress, config.callbacks.table
    resolve_model, one = partial(build, config.spec), partial(measure, config, skip_done=True)
    return int(build(config.sweeper, resolve_model=resolve_model, measure=one))


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
@clear_errors
def main(config: DictConfig) -> None:
    """Run the command."""
    if config.sweep.models or config.sweep.file or config.sweep.folder:
        sys.exit(sweep(config))
    print_results_next(config.results, evaluate(config))


if __name__ == "__main__":
    command_line(main)
