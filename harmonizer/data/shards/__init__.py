"""Shards: tar files with a manifest, written, checked, found and read."""
