"""Training options: when to harmonize, precision, initial weights, learning rates."""

import lightning as L
import pytest
import timm
import torch
from safetensors.torch import save_file
from shard_data import CLASSES, write_folder
from torch import nn
from trainings import fit, shards

from callbacks.plan import TrainingPlan
from harmonizer.evaluation.checkpoint import restore
from harmonizer.export import export
from harmonizer.functional import harmonizer_loss
from harmonizer.models import build_model
from harmonizer.models.weights import read_weights
from harmonizer.training.double_backward import has_batch_statistics, logits_and_gradient
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.optim import build_optimizer, undecayed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=48, val=6, unmapped=2)


def built(model="test_efficientnet_gn", **settings):
    torch.manual_seed(0)
    return HarmonizerModule(model, CLASSES, 32, **{"harmonize": True, "seed": 3, "levels": 3} | settings)


def batch_of(folder):
    return next(iter(shards(folder).train_dataloader()))


class Losses(L.Callback):
    """Keep the losses of each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append({name: float(value) for name, value in pl_module.measured.items()})


def test_lambda_rises_and_every_third_step_is_harmonized(folder, tmp_path):
    losses = Losses()
    module = built(harmonizer_weight=4.0, harmonizer_warmup_epochs=1.0, harmonize_every=3)
    fit(module, shards(folder), tmp_path, losses)
    factors = [0.0, 2.0, 4.0, 4.0]  # at steps 0, 3, 6, 9; an epoch has six steps
    for step, seen in enumerate(losses.seen):
        factor = factors[step // 3] if step % 3 == 0 else 0.0
        assert ("harmonizer_loss" in seen) == (factor > 0)
        expected = seen["cross_entropy"] + factor * seen.get("harmonizer_loss", 0.0)
        assert seen["loss"] == pytest.approx(expected)


def test_auto_splits_models_without_batch_statistics():
    for model, coupled in {"test_resnet": True, "test_efficientnet_gn": False, "test_vit": False}.items():
        module = built(model)
        assert has_batch_statistics(module.model) == coupled
        assert module.joint == coupled
    assert not built("test_resnet", saliency_batch="split").joint
    assert built("test_vit", saliency_batch="joint").joint


def test_a_split_batch_keeps_sample_order_and_denominator(folder):
    batch = batch_of(folder)
    assert 0 < batch.has_map.sum() < len(batch.labels)
    model = built().model.double()
    batch = batch._replace(images=batch.images.double(), human_map=batch.human_map.double())
    (logits, gradient), (split_logits, split_gradient) = (
        logits_and_gradient(model, batch, joint=joint) for joint in (True, False)
    )
    torch.testing.assert_close(split_logits, logits)
    torch.testing.assert_close(split_gradient[batch.has_map], gradient[batch.has_map])
    assert not split_gradient[~batch.has_map].any()
    losses = [harmonizer_loss(values.mean(1), batch.human_map, batch.has_map) for values in (gradient, split_gradient)]
    torch.testing.assert_close(*losses)


def test_with_batchnorm_a_split_batch_has_its_own_statistics(folder):
    batch, model = batch_of(folder), built("test_resnet").model
    joint, split = (logits_and_gradient(model, batch, joint=joint)[0] for joint in (True, False))
    assert (joint - split).abs().max() > 1e-3


@pytest.mark.parametrize("model", ["test_efficientnet_gn", "test_vit"])
def test_under_autocast_the_loss_is_computed_in_float32(folder, model):
    batch = batch_of(folder)
    gradients = {}
    for precision in ("32-true", "bf16-mixed"):
        module = built(model, harmonizer_weight=3.0)
        module.log = lambda *args, **kwargs: None
        module.train()
        context = torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true")
        with context:
            module.training_step(batch, 0).backward()
        assert all(value.dtype == torch.float32 for value in module.measured.values())
        gradients[precision] = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    exact, rounded = gradients.values()
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.98
    assert torch.isfinite(rounded).all()


def test_losses_in_bf16_mixed_are_close_to_those_in_float32(folder, tmp_path):
    seen = {}
    for precision in ("32-true", "bf16-mixed"):
        losses = Losses()
        fit(built("test_vit"), shards(folder), tmp_path / precision, losses, precision=precision)
        seen[precision] = torch.tensor([[step["cross_entropy"], step["harmonizer_loss"]] for step in losses.seen])
    torch.testing.assert_close(seen["bf16-mixed"], seen["32-true"], atol=0.03, rtol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_training_starts_from_a_weights_file_with_a_new_head(tmp_path, suffix):
    torch.manual_seed(1)
    source = build_model("test_vit", num_classes=5, image_size=32).backbone
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        save_file(source.state_dict(), path)
    loaded = built("test_vit", weights=str(path)).model.backbone.state_dict()
    for name, value in source.state_dict().items():
        if name.startswith("head."):
            assert loaded[name].shape[0] == len(CLASSES)
        else:
            assert torch.equal(loaded[name], value), name
    same = build_model("test_vit", num_classes=5, image_size=32, weights=str(path)).backbone.state_dict()
    assert all(torch.equal(same[name], value) for name, value in source.state_dict().items())


def test_unusable_weights_files_are_refused(tmp_path):
    save_file(build_model("test_resnet", num_classes=5).backbone.state_dict(), tmp_path / "resnet.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "resnet.safetensors").read_bytes()[:5000])
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pth")
    messages = {
        "resnet.safetensors": "test_vit cannot work with",
        "half.safetensors": "truncated or damaged",
        "none.pth": "holds no weights",
        "pickled.pth": "it is not loaded",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message):
            built("test_vit", weights=str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_weights(tmp_path / "missing.pth")


def test_layer_decay_lowers_early_rates_and_keeps_weight_decay(folder, tmp_path):
    module = built("test_vit", layer_decay=0.5, weight_decay=0.1, lr=0.1)
    backbone = module.model.backbone
    optimizer = build_optimizer(backbone, module.optim_settings, lr=0.1)
    names = {id(value): name for name, value in backbone.named_parameters()}
    scales, decays = {}, {}
    for group in optimizer.param_groups:
        for value in group["params"]:
            scales[names[id(value)]], decays[names[id(value)]] = group["lr_scale"], group["weight_decay"]
    assert len(scales) == len(names)
    assert scales["head.weight"] == 1.0
    assert scales["blocks.1.mlp.fc1.weight"] == 2 * scales["blocks.0.mlp.fc1.weight"]
    assert scales["patch_embed.proj.weight"] < scales["blocks.0.mlp.fc1.weight"]
    assert {name for name, decay in decays.items() if decay == 0} == undecayed(backbone) & decays.keys()
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append({group["lr"] / group["lr_scale"] for group in trainer.optimizers[0].param_groups})

    fit(module, shards(folder), tmp_path, Watch(), max_epochs=1)
    assert all(max(found) == pytest.approx(min(found)) for found in rates)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"saliency_batch": "both"}, "auto, joint, split, got 'both'"),
        ({"harmonize_every": 0}, "harmonize_every >= 1"),
        ({"lr_batch": 0}, "expected lr_batch"),
        ({"model_args": {"drop_path_rat": 0.1}}, "no argument drop_path_rat; try model_args.drop_path_rate"),
        ({"model_args": {"img_size": 64}}, "got img_size: use data.image_size"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, "got checkpoint_path: use weights=FILE"),
        ({"model_args": {"depth": 10**9}}, "model_args.depth up to 10000"),
        ({"model_args": {"num_heads": 7}}, "test_vit cannot work with .*model_args.num_heads=7"),
        ({"layer_decay": 0.0}, r"layer_decay in \(0,1\]"),
        ({"harmonizer_warmup_epochs": -1.0}, "harmonizer_warmup_epochs"),
    ],
)
def test_errors_name_the_invalid_option(settings, message):
    with pytest.raises(ValueError, match=message):
        built("test_vit", **settings)


@pytest.mark.parametrize("model", ["test_resnet", "test_byobnet", "test_efficientnet_gn", "test_convnext"])
def test_errors_name_an_unknown_model_argument(model):
    with pytest.raises(ValueError, match=f"{model} .*no_such_thing"):
        built(model, model_args={"no_such_thing": 1})


def test_model_arguments_must_be_plain_values():
    with pytest.raises(TypeError, match=r"number, true, false or text for model_args.drop_path_rate, got \[0.1\]"):
        built("test_vit", model_args={"drop_path_rate": [0.1]})


def test_checkpoints_and_exports_restore_model_args(folder, tmp_path):
    arguments = {"drop_path_rate": 0.3, "global_pool": "avg", "qkv_bias": False}
    module = built("test_vit", model_args=arguments, saliency_batch="split")
    assert module.model.backbone.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    fit(module, shards(folder), tmp_path, max_epochs=1)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]["model_args"]
    assert saved == arguments
    restored = restore(tmp_path / "last.ckpt")
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = module.eval().cpu()(images)
        assert torch.equal(restored.eval()(images), expected)
        out = export(tmp_path / "last.ckpt", tmp_path / "model")
        loaded = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        pixel = restored.model
        torch.testing.assert_close(loaded((images - pixel.mean) / pixel.std), expected)
    assert loaded.global_pool == "avg"
    assert loaded.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)


def test_drop_path_second_derivatives_equal_those_of_torch(folder):
    batch = batch_of(folder)
    model = built("test_vit", model_args={"drop_path_rate": 0.5}).model
    found = []
    for second_order in (True, False):
        model.second_order = second_order
        for block in model.backbone.blocks:
            block.attn.fused_attn = second_order  # torch's fused attention has no second derivative
        torch.manual_seed(7)
        images = batch.images.clone().requires_grad_()
        logits = model.train()(images)
        (gradient,) = torch.autograd.grad(logits.square().sum(), images, create_graph=True)
        found.append((logits, gradient, torch.autograd.grad(gradient.square().sum(), model.backbone.head.weight)[0]))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_scales_with_samples_per_step(folder, tmp_path, capsys):
    rates = {}

    class Watch(L.Callback):
        def on_train_start(self, trainer, pl_module):
            rates[pl_module.hparams["lr_batch"]] = trainer.lr_scheduler_configs[0].scheduler.base_values[0]

    data = shards(folder)
    for lr_batch in (None, 4 * data.batch_size):
        module = built(lr=0.1, lr_batch=lr_batch)
        plan = TrainingPlan(None, "squares", tmp_path, attack="pgd")
        fit(module, shards(folder), tmp_path / str(lr_batch), Watch(), plan, max_epochs=1, accumulate_grad_batches=2)
    assert rates == {None: pytest.approx(0.1), 4 * data.batch_size: pytest.approx(0.05)}
    out = " ".join(capsys.readouterr().out.split())
    assert "lr 0.1 (cosine), 1 epochs" in out and "lr 0.05 (cosine), 1 epochs" in out
    assert f"{2 * data.batch_size} samples per step: {data.batch_size} x 1 process x 2 accumulated" in out
    assert f"learning rate 0.05, scaled from 0.1 for {4 * data.batch_size} (lr_batch)" in out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"every_n_epochs": 0}, "attack none during training"),
        ({"images": 5, "every_n_epochs": 3}, "attack pgd on 5 validation images, every 3 epochs and after the last"),
        (
            {"images": 10**6, "decision": "animate"},
            "attack pgd, decision animate on 6 validation images, after each epoch",
        ),
    ],
)
def test_the_plan_states_when_validation_attacks_which_images(settings, said, folder, tmp_path, capsys):
    plan = TrainingPlan(None, "squares", tmp_path, attack="pgd", **settings)
    fit(built(), shards(folder), tmp_path, plan, max_epochs=1)
    assert said in " ".join(capsys.readouterr().out.split())
