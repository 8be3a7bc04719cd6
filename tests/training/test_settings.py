"""LossSettings and OptimSettings validate themselves; module, recipe and checkpoint hold both in one mapping."""

from dataclasses import FrozenInstanceError, asdict, fields

import hydra
import lightning as L
import pytest
from shard_data import CLASSES

from configs.build import build
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.settings import LossSettings, OptimSettings, split_settings

NAN = float("nan")
WRONG = [
    (LossSettings, {"harmonizer_weight": -1.0}, "expected harmonizer_weight >= 0, got -1.0"),
    (LossSettings, {"harmonizer_weight": NAN}, "expected harmonizer_weight >= 0, got nan"),
    (LossSettings, {"harmonize_every": 0}, "expected harmonize_every >= 1, got 0"),
    (LossSettings, {"saliency_batch": "both"}, "expected saliency_batch to be one of auto, joint, split, got 'both'"),
    (LossSettings, {"levels": 0}, "expected levels >= 1, got 0"),
    (
        LossSettings,
        {"level_metric": "mae"},
        "mse, relative_mse, cosine, bce, masked_bce, contrastive, got 'mae'",
    ),
    (LossSettings, {"scale_match": "none"}, "scale_match to be one of released, original, attached, got 'none'"),
    (LossSettings, {"std": "sample"}, "expected std to be one of population, unbiased, got 'sample'"),
    (LossSettings, {"top_k": 0.0}, r"expected top_k in \(0,1\], got 0.0"),
    (LossSettings, {"saliency_of": "loss"}, "expected saliency_of to be one of logit, log_odds, log_probs, got 'loss'"),
    (LossSettings, {"saliency_reduction": ["l3"]}, "expected a reduction of 'mean', .* got 'l3'"),
    (LossSettings, {"label_smoothing": 1.0}, r"expected label_smoothing in \[0,1\), got 1.0"),
    (OptimSettings, {"optimizer": "adamv"}, "timm has no optimizer 'adamv'; try adamw or sgd"),
    (OptimSettings, {"lr": 0}, "expected lr > 0, got 0"),
    (OptimSettings, {"lr_batch": 0}, "expected lr_batch >= 1, or null, got 0"),
    (OptimSettings, {"layer_decay": 1.5}, r"expected layer_decay in \(0,1\], or null, got 1.5"),
    (OptimSettings, {"momentum": 1.0}, r"expected momentum in \[0,1\), got 1.0"),
    (OptimSettings, {"schedule": "cosin"}, "expected schedule to be one of constant, cosine, .* got 'cosin'"),
]
KINDS = [
    (LossSettings, {"levels": 2.5}, "expected a whole number for levels, got 2.5"),
    (LossSettings, {"top_k": "half"}, "expected a number for top_k, got 'half'"),
    (OptimSettings, {"lr": True}, "expected a number for lr, got True"),
    (OptimSettings, {"lr_batch": "x"}, "expected a whole number for lr_batch, or null, got 'x'"),
    (OptimSettings, {"warmup_epochs": None}, "expected a number for warmup_epochs, got None"),
]


def module_config(*words):
    with hydra.initialize_config_module("configs", version_base="1.3"):
        return hydra.compose("train", [*words]).module


@pytest.mark.parametrize(("kind", "settings", "message"), WRONG)
def test_errors_name_a_value_out_of_range(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize(("kind", "settings", "message"), KINDS)
def test_errors_name_a_value_of_the_wrong_type(kind, settings, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        kind(**settings)


def test_settings_are_frozen_and_accept_null_for_none():
    settings = OptimSettings(lr=1, lr_batch=None, layer_decay=None, milestones=(3, 4))
    assert settings.milestones == [3, 4]
    with pytest.raises(FrozenInstanceError):
        settings.lr = 2.0


def test_errors_name_an_unknown_setting():
    with pytest.raises(TypeError, match="'lrr'"):
        split_settings({"lrr": 1})


def test_the_checkpoint_holds_all_settings_in_one_mapping():
    module = HarmonizerModule("test_vit", CLASSES, 32, lr=0.5, saliency_reduction="l2")
    assert module.optim_settings == OptimSettings(lr=0.5)
    assert module.loss_settings == LossSettings(saliency_reduction="l2")
    kept = asdict(module.loss_settings) | asdict(module.optim_settings)
    assert kept.items() <= dict(module.hparams).items()
    assert split_settings(kept) == (module.loss_settings, module.optim_settings)


def test_train_yaml_names_every_setting():
    module = module_config()
    assert {field.name for kind in (LossSettings, OptimSettings) for field in fields(kind)} <= module.keys()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("recipe.lr=-1", "expected recipe.lr > 0, got -1"),
        ("layer_decay=2.0", r"expected layer_decay in \(0,1\], or null, got 2.0"),
        ("recipe.level_metric=mae", "expected recipe.level_metric to be one of mse, .* got 'mae'"),
    ],
)
def test_errors_name_the_key_that_was_typed(word, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(module_config("model=test_vit", word), classes=CLASSES, image_size=32)


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ([], "mse"),
        (["pretrained=true"], "relative_mse"),
        (["weights=FILE.pth"], "relative_mse"),
        (["pretrained=true", "module.level_metric=mse"], "mse"),
        (["pretrained=true", "recipe.level_metric=cosine"], "cosine"),
    ],
)
def test_training_from_weights_compares_maps_by_relative_error(words, metric):
    assert module_config(*words).level_metric == metric


@pytest.mark.parametrize("data", ["demo", "folder", "mixed"])
def test_training_from_weights_uses_a_tenth_of_the_rate(data, tmp_path):
    scratch = module_config(f"data={data}").lr
    names = f"model={tmp_path}", "model=torchvision:resnet18.DEFAULT", "model=hf-hub:ORG/NAME"
    for words in (["pretrained=true"], ["weights=FILE.pth"], *([name] for name in names)):
        config = module_config(f"data={data}", *words)
        assert (config.lr, config.level_metric) == (pytest.approx(scratch / 10), "relative_mse")
        assert module_config(f"data={data}", *words, "recipe.lr=0.02").lr == 0.02
    assert module_config(f"data={data}", "model=torchvision:resnet18").lr == scratch
    assert module_config("recipe=modern", "pretrained=true").lr == pytest.approx(0.0006)


def test_a_schedule_without_cycles_refuses_a_restart():
    with pytest.raises(ValueError, match=r"^expected restart 1 with schedule step, got 0.7; try schedule=cosine$"):
        OptimSettings(schedule="step", restart=0.7)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("warmup_epochs", "restart"),
        ("harmonizer_warmup_epochs", "harmonizer_start"),
        ("adversarial_warmup_epochs", "adversarial_start"),
    ],
)
def test_a_warmup_longer_than_its_part_of_training_is_refused(name, start):
    module = build(module_config("model=test_vit"), classes=CLASSES, image_size=32, **{name: 4.0, start: 0.5})
    with pytest.raises(ValueError, match=rf"expected {name} <= 3, the training's epochs from its start, got 4"):
        module.check_trainer(L.Trainer(max_epochs=6, logger=False, enable_checkpointing=False, accelerator="cpu"))
