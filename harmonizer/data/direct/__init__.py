"""Images as people have them, read without conversion: class folders, CSV tables, Hugging Face datasets.

Each sample goes through the converter's readers and becomes, in memory, what a shard would hold: the same bytes.
"""
