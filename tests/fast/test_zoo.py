"""Derivatives of one small network from each of many families, compared with torch's own."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.fast import FastPath, fast

MODELS = (
    "convit_tiny",
    "cpubone_nano",
    "cs3darknet_focus_s",
    "csatv2",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "dla34",
    "dpn48b",
    "edgenext_xx_small",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "fasternet_t0",
    "fastvit_s12",
    "hgnetv2_b0",
    "hrnet_w18_small",
    "inception_next_atto",
    "lcnetv2_small",
    "legacy_seresnet18",
    "lowformer_b0",
    "mambaout_femto",
    "mobileone_s1",
    "mobilevit_xxs",
    "nf_regnet_b0",
    "poolformerv2_s12",
    "pvt_v2_b0",
    "regnety_040_sgn",
    "repvit_m0_9",
    "resnest26d",
    "resnetv2_18",
    "rexnet_150",
    "selecsls42",
    "skresnet18",
    "starnet_s050",
    "swiftformer_s",
    "tiny_vit_5m_224",
    "tresnet_m",
)


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """A network in float64 without dropout, and images of its size."""
    torch.manual_seed(0)
    config = timm.get_pretrained_cfg(request.param)
    model = timm.create_model(request.param, num_classes=5).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "DropPath":
            module.p = module.drop_prob = 0.0
    return model, torch.rand(4, 3, *[config.input_size[-1] if config.fixed_input_size else 96] * 2).double()


def compare(found, expected, rtol=1e-7):
    """Compare gradients by name; a missing one counts as zero, and some are zero up to rounding."""
    largest = max(float(value.norm()) for value in expected.values() if value is not None)
    for name, value in expected.items():
        pair = [v if v is not None else torch.zeros(()).double() for v in (found[name], value)]
        assert float((pair[0] - pair[1]).norm()) <= rtol * (float(pair[1].norm()) + 1e-6 * largest), name


@pytest.mark.slow
def test_double_backprop_equals_torchs_in_each_mode(network):
    model, images = network
    found = []
    for mode in (None, "core", "auto"):
        copied, leaf = copy.deepcopy(model).train(), images.clone().requires_grad_()
        torch.manual_seed(1)  # for dropout that is called as a function
        paths = FastPath(copied).training(twice=True)
        with fast(mode or "off"), paths if mode else sdpa_kernel(SDPBackend.MATH):
            logits = copied(leaf)
        (gradient,) = torch.autograd.grad(logits[:, 0].square().sum(), leaf, create_graph=True)
        (gradient.square().sum() + F.cross_entropy(logits, torch.tensor([1, 2, 0, 3]))).backward()
        parameters = {name: parameter.grad for name, parameter in copied.named_parameters()}
        found.append({"logits": logits.detach(), "image": gradient.detach()} | parameters)
    compare(found[1], found[0])
    compare(found[2], found[0])


@pytest.mark.slow
def test_the_image_gradient_equals_torchs_in_each_mode(network):
    model, images = network
    model.train()
    with torch.no_grad():
        model(images)  # running statistics other than 0 and 1
    model.eval()
    found = []
    for mode in ("off", "core", "auto"):
        leaf = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        with fast(mode), FastPath(model).attack(on_cpu=True):
            logits = model(leaf)
        gradient = torch.autograd.grad(logits.square().sum(), leaf)[0]
        found.append({"logits": logits.detach(), "image": gradient})
    compare(found[1], found[0])
    compare(found[2], found[0])
