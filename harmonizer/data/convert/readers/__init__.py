"""What the converter reads: TFRecord files, image folders, NPZ and ``.pth`` samples, and tables.

``find`` lists the samples of all sources without reading them, ``read`` reads one.
"""
