"""Every config composes, and every part of it is built."""

import warnings
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from shard_data import write_folder

import train  # noqa: F401 - knows the resolver that recipes use
from configs.build import build, build_all

CONFIGS = Path(__file__).parents[1] / "configs"


def options(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def compose(program, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(program, [f"{override}" for override in overrides])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"))


CHOICES = [
    ("train", f"{group}={option}")
    for group in ("recipe", "attack", "trainer", "logger", "experiment", "data")
    for option in options(group)
] + [("evaluate", f"{group}={option}") for group in ("attack", "trainer", "data") for option in options(group)]


@pytest.mark.parametrize(("program", "choice"), CHOICES)
def test_every_choice_is_built(program, choice, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if choice == "logger=wandb":
        pytest.importorskip("wandb", reason="wandb is an optional extra")
        monkeypatch.setenv("WANDB_MODE", "offline")
    source = [] if choice.startswith("data=") else ["data=folder"]
    places = [f"data.sources.{name}.folder={folder}" for name in ("clickme", "imagenet")]
    source += {"data=demo": [], "data=mixed": places}.get(choice, [f"data.folder={folder}"])
    if choice == "attack=library":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # foolbox's own code
            pytest.importorskip("foolbox", reason="foolbox is an optional extra")
        source += ["attack.name=foolbox:L2FMNAttack"]
    overrides = [choice, *source, "data.image_size=32", "model=test_resnet", f"folder={tmp_path / 'run'}"]
    if choice == "data=demo":
        monkeypatch.setattr("harmonizer.data.datamodule.ensure_demo", lambda: folder)
    config = compose(program, *overrides)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    data = build(config.data)
    if program == "train":
        module = build(config.module, classes=list(data.classes), image_size=data.image_size)
        assert sum(parameter.numel() for parameter in module.parameters()) > 0
        loggers = build_all(config.logger)
        assert loggers
    else:
        subject = build(config.subject)
        writer = build(config.writer, subject=subject)
        assert writer.folder.parent.name == "results"
    callbacks = build_all(config.callbacks)
    if choice == "trainer=ddp":
        config.trainer.devices = 1  # a CPU has no number of its own
    trainer = build(config.trainer, callbacks=callbacks, logger=False)
    assert trainer.num_devices == 1


def test_the_control_and_the_harmonized_run_have_folders_of_their_own():
    folders = [compose("train", f"harmonize={value}", "seed=3").folder for value in ("true", "false")]
    assert folders == ["runs/resnet50/harmonized/seed-3", "runs/resnet50/control/seed-3"]


def test_an_experiment_overrides_the_recipe_and_the_command_line_overrides_both():
    assert compose("train").attack.name == "pgd"
    plain, modern = (compose("train", f"recipe={name}").module for name in ("fel2022", "modern"))
    assert modern.lr == 2 * plain.lr
    assert compose("train", "recipe=modern", "recipe.lr=0.5").module.lr == 0.5
    pair = compose("train", "experiment=demo_pair")
    assert pair.pair
    assert pair.attack.name == "linsley2023"
    assert compose("train", "experiment=demo_pair", "model=test_vit").model == "test_vit"
    assert compose("train", "experiment=demo_pair", "recipe.lr=0.5").module.lr == 0.5


def test_settings_are_plain_values():
    settings = OmegaConf.to_container(compose("train").module, resolve=True)
    assert all(value is None or isinstance(value, str | int | float | bool | list) for value in settings.values())
    assert torch.is_grad_enabled()
