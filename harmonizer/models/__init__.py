"""Models that take images in [0,1]: timm's by name, their weights from files, their normalisation inside."""

from harmonizer.models import resnet50v2 as _resnet50v2  # noqa: F401 - registers the model with timm
from harmonizer.models.pixel_model import (
    PixelModel,
    backbone_shapes,
    build_model,
    check_model_name,
    evaluation_geometry,
    evaluation_saliency,
    model_classes,
    model_image_size,
    weights_digest,
)

__all__ = [
    "PixelModel",
    "backbone_shapes",
    "build_model",
    "check_model_name",
    "evaluation_geometry",
    "evaluation_saliency",
    "model_classes",
    "model_image_size",
    "weights_digest",
]
