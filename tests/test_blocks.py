"""timm's transformer blocks, run as fewer functions, against the same blocks run by timm."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.attacks import minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.models import PixelModel
from harmonizer.saliency_batch import logits_and_gradient

SMALL = {"embed_dim": 32, "num_heads": 2, "depth": 2, "num_classes": 4, "patch_size": 8}
NETWORKS = {
    "class token": {"img_size": 32},
    "many tokens": {"img_size": 64},
    "average": {"img_size": 32, "global_pool": "avg"},
    "layer scale": {"img_size": 32, "init_values": 0.5},
    "without bias": {"img_size": 32, "qkv_bias": False},
    "normed queries": {"img_size": 32, "qk_norm": True},
    "no last norm": {"img_size": 32, "final_norm": False},
    "registers": {"img_size": 32, "reg_tokens": 2},
    "another activation": {"img_size": 32, "act_layer": nn.SiLU},
}
ALL_PARTS = ("class token", "many tokens", "average", "layer scale", "without bias", "no last norm", "registers")


def network(second_order=True, **settings):
    torch.manual_seed(0)
    backbone = timm.models.vision_transformer.VisionTransformer(**SMALL, **settings)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)  # or most gradients are as good as zero
    return PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=second_order).double().train()


def batch_for(model, mapped=(1, 0, 1, 0, 0)):
    size = model.backbone.patch_embed.img_size[0]
    images = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1, 2, 3, 1])
    return Batch(images, labels, torch.rand(5, size, size).double(), torch.tensor(mapped).bool(), list("abcde"))


def gradients(model, batch, *, joint, timms=False):
    """Logits, the gradient of the images that have a map, and all parameters' gradients, of both."""
    if timms:
        model = copy.deepcopy(model)
        model.blocks, model.second_order = None, False
    model.zero_grad()
    with sdpa_kernel(SDPBackend.MATH if timms else [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        logits, gradient = logits_and_gradient(model, batch._replace(images=batch.images.clone()), joint=joint)
    part = gradient[batch.has_map]
    (F.cross_entropy(logits, batch.labels) + part.square().sum() + part.sin().mean()).backward()
    return [logits.detach(), part.detach(), *[parameter.grad.clone() for parameter in model.parameters()]]


def assert_equal(found, expected):
    largest = max(float(value.abs().max()) for value in expected)  # some gradients are zero but for rounding
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12 * largest)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_gradients_are_those_of_timms_blocks(name):
    model = network(**NETWORKS[name])
    batch = batch_for(model, mapped=(1,) * 5)
    assert_equal(gradients(model, batch, joint=True), gradients(model, batch, joint=True, timms=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_so_are_those_of_a_split_batch(name):
    model = network(**NETWORKS[name])
    assert model.can_lead == (name in ALL_PARTS)
    batch = batch_for(model)
    assert_equal(gradients(model, batch, joint=False), gradients(model, batch, joint=False, timms=True))


def test_a_split_batch_runs_once_where_the_first_samples_can_be_told():
    model = network(img_size=32)
    seen = []
    model.backbone.patch_embed.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    logits_and_gradient(model, batch_for(model), joint=False)
    assert seen == [5]


@pytest.mark.parametrize("differentiated", [False, True])
def test_of_the_last_block_the_class_token_alone_is_computed(differentiated):
    model = network(img_size=32)
    images = batch_for(model).images.requires_grad_(differentiated)
    seen = []
    model.backbone.norm.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.shape[1]))
    found = model(images)
    assert seen == [1]
    expected = model.eval()(images)  # as timm computes it, to the last digit
    assert seen == [1, 17]
    torch.testing.assert_close(found, expected)


def test_so_it_is_in_an_attack():
    model = network(img_size=32).eval()
    images, labels = batch_for(model).images, model(batch_for(model).images).argmax(1)
    seen = []
    handle = model.backbone.norm.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.shape[1]))
    found = minimal_radius(model, images, labels, attack="linsley2023", keys=list("abcde"))
    handle.remove()
    assert set(seen) == {1}
    model.backbone.__class__ = type("Another", (type(model.backbone),), {})
    expected = minimal_radius(model, images, labels, attack="linsley2023", keys=list("abcde"))
    torch.testing.assert_close(found.l2, expected.l2, equal_nan=True)


def test_whole_tokens_where_the_head_reads_them():
    averages = network(img_size=32, global_pool="avg")
    seen = []
    averages.backbone.norm.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.shape[1]))
    averages.backbone.fc_norm.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.ndim))
    averages(batch_for(averages).images)
    assert seen == [17, 2]


def test_hooks_of_inner_layers_are_called():
    model = network(img_size=32)
    batch, seen = batch_for(model, mapped=(1,) * 5), []
    layers = [model.backbone.blocks[0].mlp.fc1, model.backbone.blocks[0].attn.qkv, model.backbone.blocks[1].norm2]
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, outputs: seen.append(module))
    found = gradients(model, batch, joint=True)
    assert [id(layer) for layer in seen] == [id(layers[1]), id(layers[0]), id(layers[2])]
    assert not model.can_lead
    assert_equal(found, gradients(model, batch, joint=True, timms=True))


def test_dropout_is_not_left_out():
    model = network(img_size=32, proj_drop_rate=0.5)
    images = batch_for(model).images.requires_grad_()
    assert not model.can_lead
    assert (model(images) - model(images)).abs().max() > 1e-3
    assert model.eval().blocks.can_lead


def test_layers_that_compute_their_weights_run_as_always():
    model = network(img_size=32)
    nn.utils.parametrizations.weight_norm(model.backbone.blocks[0].mlp.fc1)
    nn.utils.parametrizations.weight_norm(model.backbone.blocks[1].attn.qkv)
    batch = batch_for(model, mapped=(1,) * 5)
    assert_equal(gradients(model, batch, joint=True), gradients(model, batch, joint=True, timms=True))


def test_a_model_is_left_as_it_was_found():
    model = network(img_size=32)
    batch = batch_for(model)
    with pytest.raises(RuntimeError):
        model(batch.images[:, :2].requires_grad_())
    assert not any("forward" in vars(module) for module in model.modules())
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert copied.blocks.parts[0] is copied.backbone.blocks[0].attn
    assert copied(batch.images).abs().max() > 0 and not model(batch.images).any()


def test_under_autocast_the_gradients_stay_near():
    model = network(img_size=32).float()
    batch = batch_for(model, mapped=(1,) * 5)
    batch = batch._replace(images=batch.images.float())
    exact = torch.cat([value.flatten() for value in gradients(model, batch, joint=True)[2:]])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.cat([value.flatten() for value in gradients(model, batch, joint=True)[2:]])
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.98
