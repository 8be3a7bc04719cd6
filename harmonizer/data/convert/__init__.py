"""Turn published data into shards: ``python -m harmonizer.data.convert SOURCE... --out DIR``.

A source is a file, a folder or an http(s) address: TFRecord files of ClickMe or ImageNet, a folder of images with one
subfolder per class, NPZ or ``.pth`` files with image, label and heatmap, a CSV table with the columns image, label and
map, or one with the columns image_path, clicks and user_id (raw clicks, whose images are in ``--images``). The folder
appears when it is complete. Rerun the same command to resume. The same sources and options give the same bytes with any
number of workers.

Exit status: 0 done; 1 failed, the message says why; 2 wrong usage; 3 done, but samples were skipped.
"""
