"""List the files of a source by kind, and report the files that are not used."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.convert.readers.arrays import SAMPLE_SUFFIXES
from harmonizer.data.convert.readers.images import IMAGE_SUFFIXES
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.convert.readers.walk import SPECIAL, Entry, walk

TFRECORD_SUFFIX = re.compile(r"\.tfrecords?$", re.IGNORECASE)
TFRECORD_OF_MANY = re.compile(r"-\d{5}-of-\d{5}$")
ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst|zip|7z|rar|gz|bz2|xz|zst)$", re.IGNORECASE)
TABLE = ".csv"
FEW = 4  # suffixes named in a note
UNPACK = "unpack it and give the folder (shards need no conversion: python -m harmonizer.data.adopt)"


class Listing(NamedTuple):
    """Files of a source."""

    kind: str  # TFRecord, array, image or table
    files: list[Path]  # readable files in order
    problems: list[RecordError]  # unreadable files
    notes: list[str]  # messages on ignored files


def list_source(source: Path) -> Listing:
    """List a source.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: Its files are of an unknown kind or of several kinds.
    """
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    if not source.is_dir() and not source.is_file():
        raise ValueError(f"{source} {SPECIAL}")
    entries = list(walk(source)) if source.is_dir() else [Entry(source)]
    problems = [
        RecordError(str(path), None, problem)
        for path, problem, is_file, hidden in entries
        if problem is not None and not (is_file and file_kind(path) == "other")
    ]
    taken = [entry.path for entry in entries if entry.problem is None and not entry.hidden]
    kinds: dict[str, list[Path]] = {}
    for path in taken:
        kinds.setdefault(file_kind(path), []).append(path)
    others = kinds.pop("other", [])
    if len(kinds) == 1:
        kind, files = kinds.popitem()
        hidden = [
            entry.path for entry in entries if entry.hidden and (file_kind(entry.path) != "other" or _is_dir(entry))
        ]
        return Listing(kind, files, problems, _notes(source, hidden, others))
    if not kinds and problems:
        raise problems[0]
    archives = [path for path in others if ARCHIVE.search(path.name)]
    if not kinds and archives:
        of = "" if archives[0] == source else f", one of {len(archives)} in {source},"
        raise ValueError(f"{archives[0]}{of} is an archive or compressed; {UNPACK}")
    listed = " and ".join(f"{len(members)} {kind} files" for kind, members in kinds.items()) or "none"
    raise ValueError(f"{source}: expected files of one kind (TFRecord, NPZ, .pth, images, CSV), got {listed}")


def _notes(source: Path, hidden: list[Path], others: list[Path]) -> list[str]:
    """Describe the ignored files: hidden samples and folders, archives, and files of other kinds."""
    archives = [path for path in others if ARCHIVE.search(path.name)]
    others = [path for path in others if not ARCHIVE.search(path.name)]
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in others).most_common(FEW)
    kinds = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes)
    found = (
        (hidden, "hidden files or folders, which are skipped"),
        (archives, "archives or compressed files, which are not opened; unpack those that hold samples"),
        (others, f"files of other kinds, {kinds}"),
    )
    return [f"{source}: {len(paths)} {what}; first {paths[0]}" for paths, what in found if paths]


def _is_dir(entry: Entry) -> bool:
    """Return whether a path is a folder or a link to one."""
    try:
        return entry.path.is_dir()
    except OSError:
        return False


def file_kind(file: Path) -> str:
    """Return the kind of a file by its name."""
    suffix = file.suffix.lower()
    if TFRECORD_SUFFIX.search(file.name) or TFRECORD_OF_MANY.search(file.name):
        return "TFRecord"
    if suffix in SAMPLE_SUFFIXES:
        return "array"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "table" if suffix == TABLE else "other"
