"""Our ResNet50V2 is registered in timm and can be trained with harmonization."""

import pytest
import timm
import torch

from harmonizer.functional import input_saliency
from harmonizer.models import build_model


def test_resnet50v2_has_the_parameters_and_strides_of_keras():
    with torch.device("meta"):
        model = timm.create_model("resnet50v2")
    assert sum(value.numel() for value in model.parameters()) == 25_568_360  # keras.applications: trainable
    strides = [[block.conv2.stride[0] for block in stage.blocks] for stage in model.stages]
    assert strides == [[1, 1, 2], [1, 1, 1, 2], [1, 1, 1, 1, 1, 2], [1, 1, 1]]
    with pytest.raises(ValueError, match="output_stride=32"):
        timm.create_model("resnet50v2", output_stride=8)


def test_features_have_the_reductions_in_feature_info():
    model = timm.create_model("resnet50v2", features_only=True)
    sizes = [value.shape[-1] for value in model(torch.rand(1, 3, 64, 64))]
    assert sizes == [64 // reduction for reduction in model.feature_info.reduction()]


def test_the_fast_path_has_the_gradients_of_the_plain_path():
    torch.manual_seed(0)
    model = build_model("resnet50v2", num_classes=5, image_size=64, second_order=True).double().train()
    images, labels = torch.rand(2, 3, 64, 64, dtype=torch.float64), torch.tensor([1, 2])

    def gradients():
        inputs = images.clone().requires_grad_()
        logits = model(inputs)
        input_saliency(logits, inputs, labels, create_graph=True).square().mean().backward()
        found = [value.grad.clone() for value in model.parameters() if value.grad is not None]
        model.zero_grad()
        return found

    fast = gradients()
    model.second_order = False
    for one, other in zip(fast, gradients(), strict=True):
        torch.testing.assert_close(one, other)
