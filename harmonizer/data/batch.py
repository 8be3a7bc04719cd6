"""The one schema of a batch: what loaders produce, and models, attacks and metrics consume."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images with their labels and human maps.

    Attributes:
        images: (B,3,H,W) float32 in [0,1].
        labels: (B,) int64 in [0,K).
        human: (B,H,W) float32 >= 0; zero where there is no map.
        has_map: (B,) bool.
        keys: B names of samples, unique within a data set: keys, with their shards where keys are repeated, and with
            folder and shard where training mixes several folders.
        partners: (B,) int64 labels of the samples that were mixed in; None without mixing.
        shares: (B,) float32 share of the sample that ``labels`` and ``keys`` name; None without mixing.
    """

    images: Tensor
    labels: Tensor
    human: Tensor
    has_map: Tensor
    keys: list[str]
    partners: Tensor | None = None
    shares: Tensor | None = None
