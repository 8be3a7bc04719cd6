"""The LightningModule: the control is plain training; harmonizing adds its loss and nothing else."""

import math

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from shard_data import CLASSES, write_folder
from timm.layers import use_fused_attn
from trainings import QUIET

import harmonizer.training.module
from harmonizer.data.batch import Batch
from harmonizer.data.class_names import imagenet_classes
from harmonizer.data.datamodule import ShardData
from harmonizer.functional import harmonizer_loss, input_saliency
from harmonizer.models import build_model
from harmonizer.training.double_backward import logits_and_gradient
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.optim import weight_decay_groups

MODELS = ("test_resnet", "test_vit", "test_efficientnet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"))


def data_of(folder, **settings):
    return ShardData(folder, model="test_resnet", image_size=32, batch_size=8, crop_ratio=1.0, **settings)


def run(module, data, tmp_path, **settings):
    trainer = L.Trainer(max_epochs=2, default_root_dir=tmp_path, **QUIET | settings)
    trainer.fit(module, data)
    return trainer


def built(model, **settings):
    torch.manual_seed(0)
    return HarmonizerModule(model, CLASSES, 32, **settings)


@pytest.mark.parametrize("model", MODELS)
def test_the_control_equals_plain_training_bit_for_bit(folder, tmp_path, model):
    control = built(model, lr=1e-3, schedule="constant", weight_decay=0.01)
    run(control, data_of(folder), tmp_path)

    torch.manual_seed(0)
    plain = build_model(model, num_classes=3, image_size=32)
    optimizer = torch.optim.AdamW(weight_decay_groups(plain.backbone, 0.01), lr=1e-3)
    loader = data_of(folder).train_dataloader()
    for epoch in range(2):
        loader.batches.set_epoch(epoch)
        for batch in loader:
            loss = F.cross_entropy(plain(batch.images), batch.labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for (name, expected), actual in zip(plain.state_dict().items(), control.model.state_dict().values(), strict=True):
        assert torch.equal(expected, actual), name


@pytest.mark.parametrize("model", MODELS)
def test_a_harmonized_step_sums_the_gradients_of_both_losses(folder, model):
    module = built(model, harmonize=True, harmonizer_weight=3.0, levels=4)
    module.log = lambda *args, **kwargs: None
    batch = next(iter(data_of(folder).train_dataloader()))
    module.train()
    module.training_step(batch, 0).backward()

    torch.manual_seed(0)
    plain = build_model(model, num_classes=3, image_size=32, second_order=True)
    images = batch.images.detach().clone().requires_grad_()
    logits = plain(images)
    saliency = input_saliency(logits, images, batch.labels, create_graph=True)
    agreement = harmonizer_loss(saliency, batch.human_map, batch.has_map, levels=4)
    (F.cross_entropy(logits, batch.labels, label_smoothing=0.1) + 3 * agreement).backward()
    for (name, a), b in zip(module.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    assert agreement > 0


def test_double_backprop_agrees_with_finite_differences():
    # The harmonizer's gradient through an attention model, along a random direction of its parameters.
    torch.manual_seed(0)
    model = build_model("test_vit", num_classes=3, image_size=32, second_order=True).double()
    images, labels = torch.rand(2, 3, 32, 32).double().requires_grad_(), torch.tensor([0, 2])
    target = torch.rand(2, 32, 32).double()
    parameters = list(model.parameters())

    def loss():
        saliency = input_saliency(model(images), images, labels, create_graph=True)
        return (saliency * 100 - target).square().mean()

    gradient = torch.autograd.grad(loss(), parameters, allow_unused=True)
    direction = [torch.randn_like(value) for value in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True) if g is not None)
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for value, d in zip(parameters, direction, strict=True):
                value.add_(d, alpha=sign * step)
        values.append(loss().item())
        with torch.no_grad():
            for value, d in zip(parameters, direction, strict=True):
                value.sub_(d, alpha=sign * step)
    assert slope.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_a_batch_without_maps_gives_a_plain_step(folder):
    batch = next(iter(data_of(folder).train_dataloader()))
    batch = batch._replace(has_map=torch.zeros_like(batch.has_map))
    gradients = []
    for harmonize in (True, False):
        module = built("test_resnet", harmonize=harmonize)
        module.log = lambda *args, **kwargs: None
        module.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_rate_follows_warmup_and_cosine_and_losses_are_logged(folder, tmp_path):
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module = built("test_resnet", harmonize=True, lr=0.01, warmup_epochs=0.5, optimizer="sgd")
    trainer = run(module, data_of(folder), tmp_path, callbacks=[Watch()])
    steps, warm = 12, 3
    expected = [0.01 * i / warm for i in range(warm)]
    expected += [0.01 * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(warm, steps)]
    assert rates == pytest.approx(expected)
    assert {"train/cross_entropy", "train/harmonizer_loss", "train/loss", "val/accuracy"} <= set(
        trainer.callback_metrics
    )


def test_each_epoch_has_a_different_order(folder, tmp_path):
    seen = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(tuple(batch.keys))

    run(built("test_resnet"), data_of(folder), tmp_path, callbacks=[Watch()])
    assert len(seen) == 12
    first, second = ([key for batch in part for key in batch] for part in (seen[:6], seen[6:]))
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnt50"}, "did you mean resnet50"),
        ({"model": "resnet50.nowhere"}, "no weights 'resnet50.nowhere'"),
        ({"model": "test_efficientnet", "image_size": 0}, "image_size >= 1"),
        ({"classes": ("red",)}, "num_classes >= 2"),
        ({"model": "maxvit_rmlp_pico_rw_256", "image_size": 40}, "maxvit_rmlp_pico_rw_256 cannot work with"),
        ({"optimizer": "adamv"}, "no optimizer 'adamv'"),
        ({"schedule": "cosin"}, "got 'cosin'"),
        ({"lr": -1.0}, "lr > 0"),
        ({"harmonizer_weight": -1.0}, "harmonizer_weight"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_errors_name_the_invalid_setting(settings, message):
    arguments = {"model": "test_resnet", "classes": CLASSES, "image_size": 32} | settings
    with pytest.raises(ValueError, match=message):
        HarmonizerModule(**arguments)


def test_weight_decay_spares_norms_and_tokens_but_not_biases():
    model = build_model("test_vit", num_classes=3, image_size=32).backbone
    decayed, exempt = weight_decay_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = {names[id(parameter)] for parameter in exempt["params"]}
    assert exempt["weight_decay"] == 0
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.norm1.bias"} <= spared
    assert "head.bias" not in spared
    assert len(spared) + len(decayed["params"]) == len(names)


def test_attention_is_fused_unless_activations_are_recomputed():
    def fused(model, images):
        model(images)
        return {block.attn.fused_attn for block in model.backbone.blocks}

    images = torch.rand(2, 3, 32, 32)
    options = {"num_classes": 3, "image_size": 32, "second_order": True}
    recomputing = build_model("test_vit", checkpoint_gradients=True, **options)
    assert fused(recomputing, images) == {False}  # the backward pass recomputes it and must get the same values
    assert fused(recomputing.eval(), images) == {True}  # attacks
    assert fused(build_model("test_vit", **options), images.requires_grad_()) == {True}
    assert use_fused_attn()


@pytest.mark.parametrize("saliency_batch", ["joint", "split"])
@pytest.mark.parametrize(
    ("reductions", "metric"), [("l2", "mse"), (["mean", "l2"], "mse"), (["mean", "l2"], "contrastive")]
)
def test_a_step_of_the_modern_recipe_is_the_sum_of_its_parts(folder, saliency_batch, reductions, metric):
    # Log-odds, their gradient and its norm, written out; the penalty sums over mapped samples, divided by all samples.
    settings = {
        "saliency_of": "log_odds",
        "saliency_reduction": reductions,
        "gradient_penalty": 0.3,
        "level_metric": metric,
    }
    module = built("test_vit", harmonize=True, harmonizer_weight=2.0, saliency_batch=saliency_batch, **settings)
    module.log = lambda *args, **kwargs: None
    batch = next(iter(data_of(folder).train_dataloader()))
    has_map = torch.arange(len(batch.labels)) % 2 == 0
    batch = batch._replace(has_map=has_map)
    module.train()
    module.training_step(batch, 0).backward()

    torch.manual_seed(0)
    plain = build_model("test_vit", num_classes=3, image_size=32, second_order=True)
    images = batch.images.detach().clone().requires_grad_()
    share = plain(images).softmax(1)[torch.arange(len(images)), batch.labels]
    gradient = torch.autograd.grad((share / (1 - share)).log().sum(), images, create_graph=True)[0]
    norms = torch.stack([pixels.norm(dim=0) for pixels in gradient])
    agreement = harmonizer_loss(norms, batch.human_map, has_map, metric=metric)
    if reductions != "l2":
        signed = harmonizer_loss(sum(gradient.unbind(1)) / 3, batch.human_map, has_map, metric=metric)
        agreement = (signed + agreement) / 2
    size = sum(gradient[i].norm() ** 2 for i in range(len(images)) if has_map[i]) / len(images)
    agreement = agreement + 0.3 * size
    loss = F.cross_entropy(plain(images), batch.labels, label_smoothing=0.1) + 2 * agreement
    loss.backward()
    for (name, a), b in zip(module.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=2e-4, atol=1e-6, msg=name)


def test_a_batch_of_one_is_refused_with_batch_normalisation(folder):
    batch = next(iter(data_of(folder).train_dataloader()))
    single = Batch(*(part[:1] for part in batch[:5]))
    with pytest.raises(ValueError, match=rf"at least 2 images .* test_resnet, got {single.keys[0]} alone; try recipe"):
        built("test_resnet").training_step(single, 0)


def test_with_batchnorm_a_single_mapped_sample_runs_jointly(folder):
    batch = next(iter(data_of(folder).train_dataloader()))
    batch = batch._replace(has_map=torch.arange(8) == 3)
    gradients = [
        logits_and_gradient(built("test_resnet", harmonize=True).model, batch, joint=joint)[1]
        for joint in (True, False)
    ]
    assert torch.equal(gradients[0][3], gradients[1][3])


def test_nonfinite_logits_count_as_misclassified():
    module = built("test_resnet").eval()
    answers = torch.tensor([[torch.nan] * 3, [torch.inf, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    module.model.forward = lambda images: answers  # argmax gives class 0 for each of the first three
    module.validation_step(Batch.of(torch.zeros(4, 3, 32, 32), torch.tensor([0, 0, 0, 1])), 0)
    assert float(module.accuracy.compute()) == 0.5


def test_timms_head_is_kept_only_in_imagenets_class_order(monkeypatch, capsys):
    def without_download(name, *, pretrained, **settings):
        return build_model(name, **settings)

    monkeypatch.setattr(harmonizer.training.module, "build_model", without_download)
    swapped = [*imagenet_classes()[1::-1], *imagenet_classes()[2:]]
    with pytest.raises(ValueError, match=r"label 0 is 'n01443537 goldfish'.*--classes imagenet"):
        HarmonizerModule("test_resnet", swapped, 32, pretrained=True)
    HarmonizerModule("test_resnet", swapped, 32)
    HarmonizerModule("test_resnet", swapped[:999], 32, pretrained=True)
    HarmonizerModule("test_resnet", imagenet_classes(), 32, pretrained=True)
    assert not capsys.readouterr().out
    HarmonizerModule("test_resnet", [f"place {number}" for number in range(1000)], 32, pretrained=True)
    assert "test_resnet: only 0 of the data's 1000 class names are known" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_gradient_clipping_requires_a_positive_norm(value):
    trainer = L.Trainer(accelerator="cpu", logger=False, max_epochs=1, gradient_clip_val=value)
    with pytest.raises(ValueError, match="expected gradient_clip above 0, or null for none"):
        built("test_resnet").check_trainer(trainer)
