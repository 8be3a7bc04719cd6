"""timm's transformer blocks, run as fewer functions, compared with the same blocks run by timm."""

import copy
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.attacks import Status, minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.fast.blocks import timm_blocks as blocks
from harmonizer.models import PixelModel, build_model
from harmonizer.training.double_backward import logits_and_gradient

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
        nn.init.normal_(parameter, std=0.3)  # otherwise most gradients are almost zero
    return PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=second_order).double().train()


def batch_for(model, mapped=(1, 0, 1, 0, 0)):
    size = model.backbone.patch_embed.img_size[0]
    images = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1, 2, 3, 1])
    return Batch(images, labels, torch.rand(5, size, size).double(), torch.tensor(mapped).bool(), list("abcde"))


def gradients(model, batch, *, joint, timms=False):
    """Return the logits, the gradient of the images with a map, and the parameter gradients of a loss on both."""
    if timms:
        model = copy.deepcopy(model)
        model.fast, model.second_order = None, False
    model.zero_grad()
    with sdpa_kernel(SDPBackend.MATH if timms else [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        logits, gradient = logits_and_gradient(model, batch._replace(images=batch.images.clone()), joint=joint)
    part = gradient[batch.has_map]
    (F.cross_entropy(logits, batch.labels) + part.square().sum() + part.sin().mean()).backward()
    return [logits.detach(), part.detach(), *[parameter.grad.clone() for parameter in model.parameters()]]


def assert_equal(found, expected):
    largest = max(float(value.abs().max()) for value in expected)  # some gradients are zero up to rounding
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12 * largest)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_gradients_equal_those_of_timms_blocks(name):
    model = network(**NETWORKS[name])
    batch = batch_for(model, mapped=(1,) * 5)
    assert_equal(gradients(model, batch, joint=True), gradients(model, batch, joint=True, timms=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_split_batch_has_the_gradients_of_timms_blocks(name):
    model = network(**NETWORKS[name])
    assert model.supports_prefix == (name in ALL_PARTS)
    batch = batch_for(model)
    assert_equal(gradients(model, batch, joint=False), gradients(model, batch, joint=False, timms=True))


def test_a_split_batch_runs_once_and_saves_memory():
    model = network(img_size=32)
    seen, kept = [], []
    model.backbone.patch_embed.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))

    def keep(tensor):
        kept.append(tensor)
        return tensor

    sizes = []
    for joint in (True, False):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits_and_gradient(model, batch_for(model, mapped=(0, 0, 1, 0, 0)), joint=joint)
        sizes.append(sum({tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}.values()))
    assert seen == [5, 5]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.fixture
def shortened(monkeypatch):
    """Output shapes, in order, of the blocks that computed only the class token."""
    seen = []

    def watched(run, *inputs, **options):
        outputs = run(*inputs, **options)
        if outputs.shape[1] == 1:
            seen.append(tuple(outputs.shape))
        return outputs

    for name in ("_class_token", "_branches"):
        monkeypatch.setattr(blocks, name, partial(watched, getattr(blocks, name)))
    return seen


@pytest.mark.parametrize("differentiated", [False, True])
def test_the_last_block_computes_only_the_class_token(shortened, differentiated):
    model = network(img_size=32)
    images = batch_for(model).images.requires_grad_(differentiated)
    found = model(images)
    assert shortened == [(5, 1, 32)]
    expected = model.eval()(images)  # as timm computes it, bitwise
    assert torch.equal(expected, model.backbone((images - 0.5) / 0.5))
    assert shortened == [(5, 1, 32)]
    torch.testing.assert_close(found, expected)


def attacked(model):
    images = batch_for(model).images
    labels = model(images).argmax(1)
    return minimal_radius(model, images, labels, attack="linsley2023", keys=list("abcde")).l2


def test_in_attacks_the_last_block_computes_one_token(shortened):
    model = network(img_size=32).eval()
    found = attacked(model)
    assert len(shortened) > 20
    model.fast = None
    before = len(shortened)
    torch.testing.assert_close(found, attacked(model), equal_nan=True)
    assert len(shortened) == before


def average_pool(model):
    model.backbone.reset_classifier(4, global_pool="avg")
    model.double()


def another_block(model):
    model.backbone.blocks.append(copy.deepcopy(model.backbone.blocks[-1]))


def the_same_block_twice(model):
    model.backbone.blocks.insert(0, model.backbone.blocks[-1])


def checkpointing(model):
    model.backbone.set_grad_checkpointing(True)


def a_hook(model):
    model.backbone.blocks[-1].attn.register_forward_pre_hook(lambda module, inputs: (0 * inputs[0],))


def a_patch(model):
    attention = model.backbone.blocks[-1].attn
    attention.forward = lambda x, **options: type(attention).forward(attention, -x)


@pytest.mark.parametrize("change", [average_pool, another_block, the_same_block_twice, checkpointing, a_hook, a_patch])
@pytest.mark.parametrize("second_order", [False, True])
def test_a_modified_model_runs_with_its_modifications(change, second_order):
    model = network(second_order, img_size=32).train()
    change(model)
    images = batch_for(model).images.requires_grad_(change is not checkpointing)
    expected = model.backbone((images - 0.5) / 0.5)
    torch.testing.assert_close(model(images), expected)
    if not second_order:
        radii = attacked(model.eval())
        model.fast = None
        torch.testing.assert_close(radii, attacked(model), equal_nan=True)


def test_a_custom_model_with_a_backbone_is_attacked_unchanged():
    class Another(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = network(img_size=32).backbone.eval()

        def forward(self, images):
            return self.backbone.head(self.backbone.forward_features(images).mean(1))

    model = Another().eval()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    labels = model(images).argmax(1)
    found = minimal_radius(model, images, labels, attack="pgd", keys=list("abcd"))
    assert not (found.status == Status.WRONG).any()


def test_with_batch_norm_a_split_batch_runs_in_two_passes():
    model = build_model("vit_small_resnet26d_224", num_classes=4, image_size=64, second_order=True).double()
    batch = Batch(
        torch.rand(4, 3, 64, 64).double(),
        torch.arange(4),
        torch.rand(4, 64, 64).double(),
        torch.tensor([True, False, True, False]),
        list("abcd"),
    )
    logits, gradient = logits_and_gradient(model, batch, joint=False)
    assert not gradient[~batch.has_map].any()
    torch.testing.assert_close(logits[batch.has_map], model(batch.images[batch.has_map].requires_grad_()))


@pytest.mark.parametrize("leads", [0, 6])
def test_num_mapped_outside_the_batch_is_refused(leads):
    model = network(img_size=32)
    with pytest.raises(ValueError, match=rf"num_mapped in \[1,5\], the number of images, got {leads}"):
        model(batch_for(model).images.requires_grad_(), num_mapped=leads)


def test_all_tokens_are_computed_if_the_head_averages_them():
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
    assert not model.supports_prefix
    assert_equal(found, gradients(model, batch, joint=True, timms=True))


def test_dropout_is_applied():
    model = network(img_size=32, proj_drop_rate=0.5)
    images = batch_for(model).images.requires_grad_()
    assert not model.supports_prefix
    assert (model(images) - model(images)).abs().max() > 1e-3
    assert model.eval().fast.blocks.supports_prefix


def test_parametrized_layers_run_unchanged():
    model = network(img_size=32)
    nn.utils.parametrizations.weight_norm(model.backbone.blocks[0].mlp.fc1)
    nn.utils.parametrizations.weight_norm(model.backbone.blocks[1].attn.qkv)
    batch = batch_for(model, mapped=(1,) * 5)
    assert_equal(gradients(model, batch, joint=True), gradients(model, batch, joint=True, timms=True))


@pytest.mark.parametrize("name", ["norm1.weight", "norm1.bias", "attn.qkv.bias", "mlp.fc1.weight", "mlp.fc2.bias"])
def test_image_dependent_parameters_propagate_the_gradient(name):
    model = network(img_size=32)
    key = f"backbone.blocks.0.{name}"
    value = dict(model.named_parameters())[key].detach()
    gradients = []
    for timms in (False, True):
        if timms:
            model.fast, model.second_order = None, False
        images = batch_for(model).images.requires_grad_()
        logits = torch.func.functional_call(model, {key: value + images.mean()}, (images,))
        gradients.append(torch.autograd.grad(logits[:, 0].sum(), images)[0])
    torch.testing.assert_close(*gradients)


def test_patches_are_undone_after_errors_and_not_shared():
    model = network(img_size=32)
    batch = batch_for(model)
    with pytest.raises(RuntimeError):
        model(batch.images[:, :2].requires_grad_())
    assert not any("forward" in vars(module) for module in model.modules())
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert copied.fast.blocks.parts[0] is copied.backbone.blocks[0].attn
    assert copied(batch.images).abs().max() > 0 and not model(batch.images).any()


def test_gradients_under_autocast_are_close_to_float32():
    model = network(img_size=32).float()
    batch = batch_for(model, mapped=(1,) * 5)
    batch = batch._replace(images=batch.images.float())
    exact = torch.cat([value.flatten() for value in gradients(model, batch, joint=True)[2:]])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.cat([value.flatten() for value in gradients(model, batch, joint=True)[2:]])
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.98
