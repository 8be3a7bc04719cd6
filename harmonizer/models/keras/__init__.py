"""Weights that Keras wrote, by the names that timm's models have."""

from harmonizer.models.keras.architectures import ARCHITECTURES, Architecture
from harmonizer.models.keras.hdf5 import KerasFile, open_weights
from harmonizer.models.keras.mapping import check_config, count_classes, find_architecture, to_timm

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "KerasFile",
    "check_config",
    "count_classes",
    "find_architecture",
    "open_weights",
    "to_timm",
]
