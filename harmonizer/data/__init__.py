"""Data: the batch schema, shards, transforms, the data module and the embedded demo data."""

from harmonizer.data.batch import Batch

__all__ = ["Batch"]
