"""Tar files as other tools write them, and damaged ones."""

import io
import tarfile

import numpy as np
from shard_data import png

from harmonizer.data.adopt import load_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.transforms import JointTransform

IMAGE = png(np.zeros((4, 4, 3), np.uint8))

PLAIN = JointTransform(4)


def entry(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(path, entries, **settings):
    with tarfile.open(path, "w", **settings) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def members(key, label, extension="png"):
    return [entry(f"{key}.{extension}", IMAGE), entry(f"{key}.cls", b"%d" % label)]


def adopted(folder):
    """Open a folder of shards that another tool wrote."""
    return ShardFolder(folder, manifest=load_manifest(folder, cache=folder.with_name(f"{folder.name}-cache")))


JUNK = [
    entry("./d", type=tarfile.DIRTYPE),
    entry("old/", type=tarfile.AREGTYPE),
    entry("._a.png", b"Mac"),
    entry("d/._a.cls", b"Mac"),
    entry(".DS_Store", b"x"),
    entry("README", b"x"),
    entry("latest", type=tarfile.SYMTYPE, linkname="a.png"),
]
