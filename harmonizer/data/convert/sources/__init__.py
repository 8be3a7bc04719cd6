"""What ``harmonizer.data.convert`` reads: TFRecord files, image folders, NPZ and ``.pth`` samples, and tables.

``find`` lists the samples of all sources without reading them, ``read`` reads one.
"""

from harmonizer.data.convert.sources.find import Found, find
from harmonizer.data.convert.sources.item import Item, Record
from harmonizer.data.convert.sources.read import read

__all__ = ["Found", "Item", "Record", "find", "read"]
