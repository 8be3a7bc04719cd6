"""Train one model, or a control and a harmonized model to compare; see ``python train.py --help``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from configs.build import build, build_all
from evaluate import evaluate
from harmonizer.cli import clear_errors, command_line, translate
from harmonizer.evaluation.compare import show_comparison
from harmonizer.results.families import WITHOUT_MAPS
from harmonizer.run import LAST, create_run_dir


def fit(config: DictConfig) -> Path:
    """Train one model, resuming an interrupted run; return its last checkpoint."""
    build(config.numerics)
    build(config.seeding)
    data = build(config.data)
    if (config.harmonize or config.pair) and config.supervision not in WITHOUT_MAPS:
        data.require_maps()
    module = build(config.module, classes=list(data.classes), image_size=data.image_size)
    callbacks, loggers = (list(build_all(part).values()) for part in (config.callbacks, config.logger))
    trainer = build(config.trainer, callbacks=callbacks, logger=loggers)
    module.check_trainer(trainer)
    with create_run_dir(Path(config.folder), OmegaConf.to_container(config, resolve=True), overwrite=config.overwrite):
        trainer.fit(module, data, ckpt_path=None if config.overwrite else build(config.resume), weights_only=True)
    return Path(config.folder) / LAST


def fit_pair(config: DictConfig) -> None:
    """Train control and harmonized with the same budget, evaluate both and print the comparison."""
    results = []
    if "{harmonize}" not in OmegaConf.to_container(config)["folder"]:  # one subfolder for each
        config.folder += "/${oc.select:condition.${harmonize}}"
    for harmonize in (False, True):
        config.harmonize = harmonize
        words = [f"ckpt={fit(config)}", "overwrite=true", "trust=true"]  # the user typed the model
        evaluation = hydra.compose("evaluate", translate(words))
        with open_dict(evaluation):
            for key in ("data", "budget", "attack", "results", "trainer", "fast"):
                evaluation[key] = config[key]
        results.append(evaluate(evaluation))
    show_comparison(*results)


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
@clear_errors
def main(config: DictConfig) -> None:
    """Run the command."""
    if config.pair:
        fit_pair(config)
    else:
        fit(config)


if __name__ == "__main__":
    command_line(main)
