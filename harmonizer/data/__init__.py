"""Batches, shards, transforms, the data module and the embedded demo data."""

from harmonizer.data.batch import Batch
from harmonizer.data.human_map import prepare_human_map

__all__ = ["Batch", "prepare_human_map"]
