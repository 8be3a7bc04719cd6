"""Use shards made elsewhere without conversion: ``python -m harmonizer.data.adopt FOLDER``.

A folder of WebDataset shards without a manifest, for example ImageNet's jpg, cls and json, is read once, and its
manifest is kept in a cache, so the folder may be read-only. Training and evaluation do the same on first use. A folder
whose names, sizes or modification times change is read again.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from harmonizer.cli.arguments import parser_of
from harmonizer.data.class_names import parse_classes
from harmonizer.data.convert.readers.names import natural
from harmonizer.data.progress import show_progress
from harmonizer.data.shards.manifest import NAME, Manifest, read_manifest, write_manifest
from harmonizer.data.shards.tar_index import any_repeated
from harmonizer.data.shards.validate import validate_shards
from harmonizer.files import cache_folder
from harmonizer.untrusted import MOST_CLASSES, is_name, shortened

log = logging.getLogger(__name__)

COMPRESSED = (
    *(".tgz", ".tbz", ".tbz2", ".txz", ".tlz", ".tzst"),
    *(f".tar.{kind}" for kind in ("gz", "bz2", "xz", "zst", "lz4", "lz", "lzma", "z", "7z", "br")),
)
FEW = 3  # names in a message


def load_manifest(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Read a folder's manifest, or make one.

    Args:
        folder: Folder of shards.
        classes: Class names for a folder without a manifest; None numbers them up to the largest label.
        cache: Cache of manifests; None is the user's.
        advance: Called with the number of shards read since the last call.

    Raises:
        FileNotFoundError: The folder does not exist or holds no shards.
        ValueError: A shard is damaged or compressed, or its samples lack an image or a label.
        OSError: A shard is a FIFO or a device.
    """
    if os.path.lexists(folder / NAME):  # a broken link is an error, so that its classes do not become numbers
        return read_manifest(folder)
    shards = find_shards(folder)
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    identity = (str(folder.resolve()), classes and tuple(classes), states)
    entry = (cache or cache_folder("manifests")) / sha256(repr(identity).encode()).hexdigest()[:32]
    if (entry / NAME).is_file():
        return read_manifest(entry)

    reports = []
    for report in validate_shards(shards, decode=False, classes=None if classes is None else len(classes)):
        if report.problems:
            more = f" (and {len(report.problems) - 1} more problems in this shard)" if report.problems[1:] else ""
            raise ValueError(report.problems[0] + more)
        reports.append(report)
        advance(1)
    for title, found in (
        ("members belong to no sample and are skipped", [name for s in reports for name in s.passed_over]),
        ("images are not read because of a dot in their names", [name for s in reports for name in s.dotted]),
    ):
        if found:
            log.warning("%s: %s: %s", folder, title, name_some(found))
    labels = {label for report in reports for label in report.labels}
    if max(labels, default=0) >= MOST_CLASSES:
        raise ValueError(f"{folder}: expected labels below {MOST_CLASSES}, got {shortened(max(labels))}")
    names = tuple(classes) if classes is not None else tuple(str(n) for n in range(max(labels, default=-1) + 1))
    maps = "as found in the shards" if any(report.shard.maps for report in reports) else "no maps"
    manifest = Manifest(
        classes=names,
        maps=maps,
        shards=tuple(report.shard for report in reports),
        repeated_keys=any_repeated([sample.key for sample in report.samples] for report in reports),
    )
    entry.mkdir(parents=True, exist_ok=True)
    write_manifest(entry, manifest)
    return manifest


def find_shards(folder: Path) -> list[Path]:
    """Return a folder's tar files in natural order.

    Raises:
        FileNotFoundError: The folder does not exist or holds no tar file.
        ValueError: A shard is compressed, and would be skipped.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder at {folder}")
    names = sorted((path.name for path in folder.iterdir() if not path.name.startswith(".")), key=natural)
    if compressed := [name for name in names if name.lower().endswith(COMPRESSED)]:
        raise ValueError(
            f"{folder} holds compressed shards, expected .tar, got {name_some(compressed)}; decompress them or move "
            "them elsewhere"
        )
    shards = [folder / name for name in names if name.lower().endswith(".tar")]
    if not shards:
        raise FileNotFoundError(
            f"{folder} holds no {NAME}, tar files or images; expected a folder of shards or of class folders"
        )
    return shards


def has_shards(folder: Path) -> bool:
    """Return whether a folder on disk holds a manifest or tar files."""
    return os.path.lexists(folder / NAME) or any(path.name.lower().endswith(".tar") for path in folder.iterdir())


def name_some(names: Sequence[str]) -> str:
    """Return the number of names and the first few, for messages.

    >>> name_some(["a", "b", "c", "d"])
    '4 (a, b, c, ...)'
    """
    listed = [name if is_name(name) else repr(name) for name in names[:FEW]]
    return f"{len(names)} ({', '.join([*listed, '...'] if len(names) > FEW else listed)})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = parser_of("harmonizer.data.adopt", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--classes", metavar="imagenet|N|FILE", help="class names (default: numbers)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="cache of manifests (default: the user's cache)")
    given = parser.parse_args(arguments)
    try:
        classes = None if given.classes is None else parse_classes(given.classes)
        with show_progress() as progress, progress.task("reading shards") as advance:
            manifest = load_manifest(given.folder, classes=classes, cache=given.cache, advance=advance)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"adopt: {error}\n")
        return 1
    maps = sum(shard.maps for shard in manifest.shards)
    counts = f"{manifest.samples} samples, {maps} with maps, in {len(manifest.shards)} shards"
    sys.stdout.write(f"{given.folder}: {counts}, {len(manifest.classes)} classes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
