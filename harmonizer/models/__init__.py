"""Models that take images in [0,1]: built by name, with weights from files and the normalisation inside."""

from harmonizer.models import resnet50v2 as _resnet50v2  # noqa: F401 - registers the model with timm
from harmonizer.models.architecture import Architecture
from harmonizer.models.build import backbone_shapes, build_model
from harmonizer.models.pixel_model import PixelModel, weights_digest
from harmonizer.models.saliency import evaluation_saliencies, evaluation_saliency
from harmonizer.models.sources import resolve

__all__ = [
    "Architecture",
    "PixelModel",
    "backbone_shapes",
    "build_model",
    "evaluation_saliencies",
    "evaluation_saliency",
    "resolve",
    "weights_digest",
]
