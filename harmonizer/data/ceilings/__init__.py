"""How well people agree on each image: the ceiling for a model's alignment, and the floor of mismatched images.

Two kinds, never mixed: ``split_half``, stepped up by Spearman-Brown, which the converter writes into the manifest; and
``clickme_v2``, as ClickMe's code of 2026 computes it, which ``python -m harmonizer.data.ceilings FOLDER`` writes.
"""
