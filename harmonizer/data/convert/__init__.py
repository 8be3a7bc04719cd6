"""Turn published data into shards: ``python -m harmonizer.data.convert SOURCE... --out DIR``.

A source is a file, a folder or an http(s) address: TFRecord files of ClickMe or ImageNet, a folder with one subfolder
of images a class, NPZ or ``.pth`` files with image, label and heatmap, or a CSV table with the columns image, label
and map. The folder appears when it is complete; after an interruption the same command goes on. The same sources and
options give the same bytes, for any number of workers.

Exit status: 0 done; 1 not done, the message says why; 2 wrong usage; 3 done, but samples were left out.
"""
