"""Images that are read without conversion: class folders, CSV tables and Hugging Face datasets.

Each sample is read by the converter's readers and converted in memory to the bytes that a shard would hold.
"""
