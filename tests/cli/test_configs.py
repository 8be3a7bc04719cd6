"""Every config composes, and all its parts can be instantiated."""

import re
import warnings
from pathlib import Path

import hydra
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from shard_data import write_folder

import train  # noqa: F401 - registers the resolver that recipes use
from configs.build import build, build_all
from harmonizer.cli.suggest import _settings, known_settings

CONFIGS = Path(__file__).parents[2] / "configs"


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
def test_every_config_choice_can_be_instantiated(program, choice, folder, tmp_path, monkeypatch):
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
    overrides += ["pretrained=false"]  # nothing is downloaded
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
        spec = build(config.spec)
        writer = build(config.writer, spec=spec)
        assert writer.folder.parent.name == "results"
    callbacks = list(build_all(config.callbacks).values())
    if choice == "trainer=ddp":
        config.trainer.devices = 1  # on a CPU, devices=auto has no fixed number
    trainer = build(config.trainer, callbacks=callbacks, logger=False)
    assert trainer.num_devices == 1


def test_control_and_harmonized_have_separate_run_folders():
    folders = [compose("train", f"harmonize={value}", "seed=3").folder for value in ("true", "false")]
    assert folders == ["runs/resnet50/harmonized/seed-3", "runs/resnet50/control/seed-3"]


def test_command_line_overrides_experiment_overrides_recipe():
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
    settings = OmegaConf.to_container(compose("train", "++model_args.drop_path_rate=0.1").module, resolve=True)
    settings |= settings.pop("model_args")
    assert settings["drop_path_rate"] == 0.1
    assert all(value is None or isinstance(value, str | int | float | bool | list) for value in settings.values())
    assert torch.is_grad_enabled()


def test_an_experiment_sets_only_known_settings():
    known = known_settings("train")
    for path in (CONFIGS / "experiment").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        groups = [name.removeprefix("override /") for item in content.pop("defaults", []) for name in item]
        names = {name for name in _settings(content, "") if not name.startswith("model_args.")}
        assert names <= set(known), path
        assert set(groups) <= set(known), path


def test_finetune_vit_has_the_settings_of_its_sources():
    config = compose("train", "experiment=finetune_vit", "data.folder=x", "harmonize=true")
    module = OmegaConf.to_container(config.module, resolve=True)
    expected = {"lr": 5e-4, "lr_batch": 256, "layer_decay": 0.65, "weight_decay": 0.05, "warmup_epochs": 5}
    expected |= {"optimizer": "adamw", "pretrained": True, "model_args": {"drop_path_rate": 0.1, "global_pool": "avg"}}
    assert {name: module[name] for name in expected} == expected
    assert config.trainer.max_epochs == 100
    small = {"model": "test_vit", "pretrained": False}
    vit = build(config.module, classes=["a", "b"], image_size=32, **small)
    assert vit.model.backbone.global_pool == "avg"
    assert [block.drop_path1.drop_prob for block in vit.model.backbone.blocks if hasattr(block.drop_path1, "drop_prob")]


def test_the_demo_sweep_measures_all_images_by_default():
    config = compose("evaluate", "sweep=demo")
    assert config.images is None  # of 500 images, a tenth are classified correctly and attacked
    assert [entry.model for entry in config.sweep.models] == ["test_resnet", "test_vit", "test_byobnet"]
    assert compose("evaluate", "sweep=demo", "images=24").images == 24


@pytest.mark.parametrize(
    ("program", "words", "part", "message"),
    [
        (
            "evaluate",
            ["images=a"],
            "callbacks",
            "images to be a whole number or null, got 'a'",
        ),
        ("train", ["recipe.batch_size=1.5"], "data", "recipe.batch_size to be a whole number, got 1.5"),
        ("train", ["recipe.batch_size=true"], "data", "recipe.batch_size to be a whole number, got True"),
        ("train", ["data=folder", "data.folder=x", "+data.repeat=3"], "data", "data.repeat to be true or false, got 3"),
        ("train", ["recipe.lr=fast"], "module", "recipe.lr to be a number, got 'fast'"),
        ("evaluate", ["overwrite=maybe"], "writer", "overwrite to be true or false, got 'maybe'"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(program, words, part, message):
    config = compose(program, *words)
    with pytest.raises(TypeError, match=f"^expected {message}$"):
        (build_all if part == "callbacks" else build)(config[part])


def leaves(node, path=()):
    """Yield the dotted keys below a node, without nodes to instantiate: all their keys are arguments."""
    if OmegaConf.is_dict(node) and len(node):
        if "_target_" not in node:
            for name in node:
                yield from leaves(node._get_node(name), (*path, name))
    else:
        yield ".".join(map(str, path))


READ_BY_CODE = re.compile(r"\bconfig\.((?:\w+\.)*\w+)")
READ_BY_CONFIGS = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)|,\$\{([\w.]+)")


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize("data", options("data"))
def test_every_config_key_is_read(program, data):
    code = "".join((CONFIGS.parent / f"{name}.py").read_text() for name in ("train", "evaluate"))
    raw = "".join(path.read_text() for path in CONFIGS.rglob("*.yaml"))
    read = set(READ_BY_CODE.findall(code)) | {name for pair in READ_BY_CONFIGS.findall(raw) for name in pair if name}
    read = {name.rstrip(".") for name in read}
    config = compose(program, f"data={data}")
    unread = [key for key in leaves(config) if not any(key == name or key.startswith(f"{name}.") for name in read)]
    assert not unread, unread
