"""Keras's ResNet50V2, registered with timm, which has no equal model.

timm's ``resnetv2_50`` strides in the first block of a stage. Keras strides in the last one, on its 3x3 convolution, and
its shortcut keeps every second pixel. The padding before the pooling is zero, the stem and the blocks' last
convolutions have biases, and BatchNorm's epsilon is 1.001e-5.

Reference:
    He et al. 2016, "Identity mappings in deep residual networks", arXiv:1603.05027; ``keras.applications.ResNet50V2``.
"""

from functools import partial
from typing import Any

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import DownsampleConv, PreActBottleneck, ResNetV2
from torch import Tensor, nn

EPSILON = 1.001e-5  # as in keras.applications.resnet

default_cfgs = generate_default_cfgs(
    {
        "resnet50v2": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem.conv",
            "classifier": "head.fc",
        }
    }
)


def _conv(inner: int, outer: int, size: int, stride: int = 1) -> nn.Module:
    """Return a convolution with a bias, which timm's network lacks."""
    convolution: nn.Module = create_conv2d(inner, outer, size, stride=stride, bias=True)
    return convolution


class Bottleneck(PreActBottleneck):
    """A pre-activation bottleneck whose identity shortcut follows the block's stride.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the 3x3 convolution and the shortcut.
        **settings: Settings of timm's block.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int, **settings: Any) -> None:  # noqa: ANN401
        projection = DownsampleConv if in_chs != out_chs else None
        super().__init__(in_chs, out_chs, stride=stride, proj_layer=projection, **settings)
        self.stride = stride
        self.conv3 = _conv(out_chs // 4, out_chs, 1)
        if self.downsample is not None:
            self.downsample.conv = _conv(in_chs, out_chs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,D,H/stride,W/stride)."""
        preact = self.norm1(x)
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.downsample is None else self.downsample(preact)
        x = self.conv2(self.norm2(self.conv1(preact)))
        x = self.conv3(self.norm3(x))
        outputs: Tensor = self.drop_path(x) + shortcut
        return outputs


class ResNet50V2(ResNetV2):
    """The network, with timm's methods.

    Args:
        **settings: Settings of timm's ``ResNetV2``, such as ``num_classes`` and ``drop_path_rate``.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        if settings.pop("output_stride", 32) != 32:
            raise ValueError("expected output_stride=32 for resnet50v2, which has no dilated variant")
        layers: dict[str, Any] = {
            "conv_layer": create_conv2d,
            "norm_layer": partial(BatchNormAct2d, eps=EPSILON),
        }
        super().__init__([3, 4, 6, 3], stem_type="fixed", **layers, **settings)
        self.stem.conv = _conv(self.in_chans, 64, 7, stride=2)
        stages: Any = self.stages
        features: list[dict[str, Any]] = self.feature_info[1:]
        for feature, stage in zip(features, stages, strict=True):
            feature["reduction"] = min(2 * feature["reduction"], 32)
            stride = 1 if stage is stages[-1] else 2
            last = stage.blocks[-1]
            for number, block in enumerate(stage.blocks):
                made = Bottleneck(
                    block.conv1.in_channels, last.conv3.out_channels, stride if block is last else 1, **layers
                )
                made.drop_path = block.drop_path
                stage.blocks[number] = made
        self.init_weights(settings.get("zero_init_last", False))


@register_model
def resnet50v2(pretrained: bool = False, **kwargs: Any) -> nn.Module:  # noqa: ANN401
    """Return Keras's ResNet50V2."""
    settings = {"feature_cfg": {"flatten_sequential": True}} | kwargs
    return build_model_with_cfg(ResNet50V2, "resnet50v2", pretrained, **settings)
