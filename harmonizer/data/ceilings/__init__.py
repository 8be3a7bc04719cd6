"""Agreement between people on each image: the ceiling of a model's alignment, and the floor of mismatched images.

There are two kinds, which are never mixed: ``split_half``, stepped up by Spearman-Brown, which the converter writes
into the manifest; and ``clickme_v2``, as in ClickMe's code of 2026, which ``python -m harmonizer.data.ceilings FOLDER``
writes.
"""
